//! Routes without an app: what is answered instead of asking an endpoint.

use std::sync::Arc;

use topology::filters::Respond as Settings;

use super::{Changes, Decision};
use crate::reason::Reason;

#[derive(Debug)]
pub struct Respond(pub Arc<Settings>);

impl Respond {
    pub(super) fn decide(&self, changes: &mut Changes) -> Decision {
        changes.status = Some(self.0.status);
        changes.fixed = Some(self.0.clone());
        Decision::Refuse(Reason::FixedResponse)
    }

    pub(super) fn describe(&self) -> String {
        let Settings { status, content_type, body } = &*self.0;
        format!("{status}, {content_type}, {} bytes", body.len())
    }
}
