//! An app that is closed, but for some.

use std::time::Duration;

use topology::filters::Maintenance as Settings;

use super::{Asked, Changes, Decision, Page};
use crate::message::edits::push_line;
use crate::reason::Reason;

#[derive(Debug)]
pub struct Maintenance(pub Settings);

impl Maintenance {
    pub fn decide(&self, asked: &Asked<'_>, changes: &mut Changes) -> Decision {
        let Settings { enabled, allow, retry_after, text } = &self.0;
        if !enabled || !allow.is_empty() && allow.iter().any(|network| network.contains(&asked.client())) {
            return Decision::Pass;
        }
        let page = changes.page.get_or_insert_with(|| Page::of(asked.request, asked.head, None));
        page.set_text(text.clone());
        push_line(b"Retry-After", seconds(*retry_after).to_string().as_bytes(), &mut changes.always);
        changes.has_retry_after = true;
        Decision::Refuse(Reason::Maintenance)
    }

    pub fn describe(&self) -> String {
        let Settings { enabled, allow, retry_after, .. } = &self.0;
        let state = if *enabled { "closed" } else { "open" };
        let allow: Vec<_> = allow.iter().map(ToString::to_string).collect();
        format!("{state}; retry after {} s; open for [{}]", seconds(*retry_after), allow.join(", "))
    }
}

/// Retry-After counts whole ones (RFC 9110 section 10.2.3).
fn seconds(duration: Duration) -> u64 {
    duration.as_secs().max(1)
}
