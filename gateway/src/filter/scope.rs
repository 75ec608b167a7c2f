//! Which of an app's paths something is for: a filter, or one of its matches.

use topology::PathMatch;
use topology::filters::Scope;

use super::Asked;
use crate::message::target::without_parameters;

/// Whether a request's path is one of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    No,
    /// By one reading of the path, and by another one not: who lets pass must not, who refuses must.
    Perhaps,
    Yes,
}

/// The one rule for paths that decide who may ask for what. Of a path that endpoints may take for another
/// one ([`crate::message::target::is_ambiguous`]) nothing is sure; one with semicolons is read with what follows
/// them and without.
pub fn fit(paths: &[PathMatch], asked: &Asked<'_>) -> Fit {
    if paths.iter().any(PathMatch::is_all) {
        return Fit::Yes;
    }
    if asked.has_ambiguous_path() {
        return Fit::Perhaps;
    }
    let is_one = |path: &[u8]| paths.iter().any(|known| known.below(path).is_some());
    let whole = is_one(asked.path);
    match without_parameters(asked.path) {
        Some(cut) if is_one(&cut) != whole => Fit::Perhaps,
        _ if whole => Fit::Yes,
        _ => Fit::No,
    }
}

/// A path that may be one of those that are asked about is; it is excepted only if it surely is.
pub(super) fn includes(scope: &Scope, asked: &Asked<'_>) -> bool {
    let is_asked_about = scope.paths.is_empty() || fit(&scope.paths, asked) != Fit::No;
    is_asked_about && (scope.except.is_empty() || fit(&scope.except, asked) != Fit::Yes)
}

pub(super) fn describe(scope: &Scope) -> String {
    let list = |verb: &str, paths: &[PathMatch]| match paths {
        [] => String::new(),
        paths => format!(", {verb} {}", paths.iter().map(PathMatch::to_string).collect::<Vec<_>>().join(" ")),
    };
    list("for", &scope.paths) + &list("except", &scope.except)
}
