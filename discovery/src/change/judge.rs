//! What a value means, and whether it may stand.

use std::sync::Arc;

use topology::{AppId, AppSpec, CertificateName};

use super::entry::EntryKey;
use super::value::Stored;
use crate::document::{Mistake, Mistakes};
use crate::layout::parse_word_value;
use crate::secrets::{Keys, unseal};
use crate::spec::{parse_app_value, parse_route_value};

/// A value that its own kind's reader took.
#[derive(Debug)]
pub enum Parsed<'v> {
    App(&'v AppId, Arc<AppSpec>),
    /// As it is served.
    Route(AppId, Arc<AppSpec>),
    /// Its chain and key in PEM, unsealed and not looked at.
    Certificate(&'v CertificateName, &'v [u8]),
    Other,
}

/// What is wrong, by field; and what is not wrong and still hardly wanted.
#[derive(Debug, Default)]
pub struct Verdict {
    pub mistakes: Vec<(String, String)>,
    pub warnings: Vec<String>,
}

/// What only a gateway can judge: whether filters compile, whether profiles exist, whether a certificate can be served.
pub trait Judge: Send + Sync {
    fn judge(&self, entry: &EntryKey, parsed: &Parsed<'_>) -> Verdict;
}

/// Everything that is wrong with `value` at `entry` goes into `mistakes`, what is worth a warning into `warnings`.
pub(super) fn examine(
    entry: &EntryKey,
    value: &Stored,
    keys: Option<&Keys>,
    judge: &dyn Judge,
    (mistakes, warnings): (&mut Mistakes, &mut Vec<String>),
) {
    let source: Arc<str> = entry.to_string().into();
    let plain = match unseal(keys, &entry.key(), value.bytes()) {
        Ok(plain) => plain,
        Err(error) => return mistakes.append(Mistakes::one(&source, None, error.to_string())),
    };
    let parsed = match entry {
        EntryKey::App(id) => parse_app_value(&source, &plain, id).map(|spec| Parsed::App(id, Arc::new(spec))),
        EntryKey::Certificate(name) => Ok(Parsed::Certificate(name, &plain)),
        EntryKey::Operator { .. } => parse_word_value(&source, &plain).map(|_| Parsed::Other),
        EntryKey::Route(id) => {
            parse_route_value(&source, &plain).map(|spec| Parsed::Route(AppId::of_route(id), Arc::new(spec)))
        }
    };
    match parsed {
        Err(found) if value.is_sealed() => mistakes.append(names_only(&found)),
        Err(found) => mistakes.append(found),
        Ok(parsed) => {
            let verdict = judge.judge(entry, &parsed);
            for (key, message) in verdict.mistakes {
                mistakes.push(Mistake { source: source.clone(), line: None, key, message });
            }
            warnings.extend(verdict.warnings);
        }
    }
}

/// What was sealed is in no message.
fn names_only(found: &Mistakes) -> Mistakes {
    let mut told = Mistakes::default();
    for mistake in found.iter() {
        let message = "is wrong; what it says is sealed".to_owned();
        told.push(Mistake { message, ..mistake.clone() });
    }
    told
}
