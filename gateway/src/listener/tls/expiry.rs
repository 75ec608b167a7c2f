//! Warnings before a certificate expires.

use std::collections::HashMap;
use std::path::PathBuf;

use super::show_time;

/// ACME clients renew a certificate of 90 days 30 days before its end: with 14 days left, that has failed
/// for two weeks.
const WARN_BEFORE_SECONDS: i64 = 14 * DAY_SECONDS;
const DAY_SECONDS: i64 = 86_400;

/// Warns once a day about each.
#[derive(Debug, Default)]
pub(super) struct ExpiryWarnings {
    last: HashMap<(PathBuf, i64), i64>,
}

impl ExpiryWarnings {
    pub(super) fn look(&mut self, certificates: impl Iterator<Item = (PathBuf, i64)>, now: i64) {
        let mut due = HashMap::new();
        for (path, until) in certificates.filter(|(_, until)| until - now < WARN_BEFORE_SECONDS) {
            let key = (path, until);
            let last = self.last.get(&key).copied().filter(|last| now - last < DAY_SECONDS);
            if last.is_none() {
                warn(&key.0, until, now);
            }
            due.insert(key, last.unwrap_or(now));
        }
        // Of files that were renewed or removed nothing is kept.
        self.last = due;
    }

    #[cfg(test)]
    fn warned(&self) -> usize {
        self.last.len()
    }
}

fn warn(path: &std::path::Path, until: i64, now: i64) {
    let (file, not_after) = (path.display(), show_time(until));
    match (until - now).div_euclid(DAY_SECONDS) {
        ..0 => tracing::error!(%file, %not_after, "certificate expired"),
        days => tracing::warn!(%file, %not_after, days, "certificate expires soon"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_warned_about_once_a_day_until_it_is_renewed() {
        let mut warnings = ExpiryWarnings::default();
        let certificate = |until| [(PathBuf::from("a.pem"), until)].into_iter();
        let until = 100 * DAY_SECONDS;
        warnings.look(certificate(until), until - 15 * DAY_SECONDS);
        assert_eq!(warnings.warned(), 0);
        let first = until - 13 * DAY_SECONDS;
        warnings.look(certificate(until), first);
        warnings.look(certificate(until), first + 5);
        assert_eq!(warnings.last.values().collect::<Vec<_>>(), [&first]);
        warnings.look(certificate(until), first + DAY_SECONDS);
        assert_eq!(warnings.last.values().collect::<Vec<_>>(), [&(first + DAY_SECONDS)]);
        warnings.look(certificate(until + 90 * DAY_SECONDS), first + DAY_SECONDS);
        assert_eq!(warnings.warned(), 0);
    }
}
