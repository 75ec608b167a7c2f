//! Fields that are set, added and removed.

use topology::filters::HeaderEdits;

use super::{Asked, Changes, Decision, template};

/// Of requests, for the endpoint.
#[derive(Debug)]
pub struct RequestHeaders(pub HeaderEdits);

impl RequestHeaders {
    pub(super) fn decide(&self, asked: &Asked<'_>, changes: &mut Changes) -> Decision {
        let Changes { request, consumer, .. } = changes;
        push(&self.0, asked, consumer.as_deref(), request);
        Decision::Pass
    }

    pub(super) fn describe(&self) -> String {
        describe(&self.0)
    }
}

/// Of an endpoint's responses. The lines are written when the request comes, since that is what their
/// variables are about.
#[derive(Debug)]
pub struct ResponseHeaders(pub HeaderEdits);

impl ResponseHeaders {
    pub(super) fn decide(&self, asked: &Asked<'_>, changes: &mut Changes) -> Decision {
        let Changes { response, consumer, .. } = changes;
        push(&self.0, asked, consumer.as_deref(), response);
        Decision::Pass
    }

    pub(super) fn describe(&self) -> String {
        describe(&self.0)
    }
}

fn push(edits: &HeaderEdits, asked: &Asked<'_>, consumer: Option<&str>, lines: &mut Vec<u8>) {
    for (name, value) in edits.set.iter().chain(&edits.add) {
        template::push(name, value, asked, consumer.unwrap_or(""), lines);
    }
}

/// What is gone of the head as it was.
pub(super) fn stripped(edits: Option<&HeaderEdits>) -> impl Iterator<Item = &str> {
    let set = edits.into_iter().flat_map(|edits| edits.set.iter().map(|(name, _)| &**name));
    set.chain(edits.into_iter().flat_map(|edits| edits.remove.iter().map(|name| &**name)))
}

fn describe(edits: &HeaderEdits) -> String {
    let names = |verb: &str, names: Vec<&str>| match names.as_slice() {
        [] => String::new(),
        names => format!("{verb} {} ", names.join(", ")),
    };
    let values =
        |values: &[(std::sync::Arc<str>, _)]| values.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let (set, add) = (values(&edits.set), values(&edits.add));
    let text = [
        names("set", set.iter().map(|name| &**name).collect()),
        names("add", add.iter().map(|name| &**name).collect()),
        names("remove", edits.remove.iter().map(|name| &**name).collect()),
    ];
    text.concat().trim_end().to_owned()
}
