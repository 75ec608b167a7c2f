//! Which of an app's paths a filter is for.

use topology::PathMatch;
use topology::filters::Scope;

use super::Asked;
use crate::message::target::is_ambiguous;

/// A path that an endpoint may take for another one is never excepted.
pub(super) fn includes(scope: &Scope, asked: &Asked<'_>) -> bool {
    if is_ambiguous(asked.path) {
        return true;
    }
    let is_one = |paths: &[PathMatch]| paths.iter().any(|path| path.below(asked.path).is_some());
    (scope.paths.is_empty() || is_one(&scope.paths)) && !is_one(&scope.except)
}

pub(super) fn describe(scope: &Scope) -> String {
    let list = |verb: &str, paths: &[PathMatch]| match paths {
        [] => String::new(),
        paths => format!(", {verb} {}", paths.iter().map(PathMatch::to_string).collect::<Vec<_>>().join(" ")),
    };
    list("for", &scope.paths) + &list("except", &scope.except)
}
