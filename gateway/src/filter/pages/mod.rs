//! What the gateway itself has to say, as its reader likes it: a page, JSON (RFC 9457) or a line of text.
//!
//! The reason code is in all of them, and the request's id, by which it is found in the log.

mod format;
mod render;

use std::sync::Arc;

use topology::filters::ErrorPages as Settings;

pub use format::Format;

use super::{Asked, Changes, Decision};
use crate::message::RequestHead;
use crate::reason::{Reason, phrase};

/// From here on, what is answered looks as the app's owner wants it.
pub fn decide(settings: &Arc<Settings>, asked: &Asked<'_>, changes: &mut Changes) -> Decision {
    changes.page = Some(Page::of(asked.request, asked.head, Some(settings.clone())));
    Decision::Pass
}

pub fn describe(settings: &Settings) -> String {
    let texts: Vec<_> = settings.texts.iter().map(|(status, _)| status.to_string()).collect();
    let title = settings.title.as_deref().unwrap_or("none");
    format!("title {title:?}, texts of their own for [{}]", texts.join(", "))
}

/// How one request's answer looks, if it gets one from us.
#[derive(Debug)]
pub struct Page {
    format: Format,
    /// `None`: only for what a filter says of its own.
    settings: Option<Arc<Settings>>,
    /// What the filter that answers has to say instead of the settings.
    text: Option<Arc<str>>,
}

/// Content, and its type.
#[derive(Debug, PartialEq, Eq)]
pub struct Rendered {
    pub content_type: &'static str,
    pub body: String,
}

impl Page {
    /// For the client that sent this request.
    pub fn of(request: &RequestHead, head: &[u8], settings: Option<Arc<Settings>>) -> Self {
        Self { format: Format::of(request, head), settings, text: None }
    }

    pub fn set_text(&mut self, text: Option<Arc<str>>) {
        self.text = text;
    }

    /// `detail`: what more is known of it. `id`: the request's.
    pub fn render(&self, status: u16, reason: Reason, detail: Option<&str>, id: &str) -> Rendered {
        let settings = self.settings.as_deref();
        let text = self.text.as_deref().or_else(|| settings.and_then(|settings| settings.text_of(status)));
        let said = Said {
            status,
            phrase: phrase(status),
            reason: reason.as_str(),
            title: settings.and_then(|settings| settings.title.as_deref()),
            text,
            detail,
            id,
        };
        match self.format {
            Format::Html => Rendered { content_type: "text/html; charset=utf-8", body: render::html(&said) },
            Format::Json => Rendered { content_type: "application/problem+json", body: render::json(&said) },
            Format::Text => Rendered { content_type: "text/plain; charset=utf-8", body: render::text(&said) },
        }
    }
}

/// Everything that an answer says.
struct Said<'a> {
    status: u16,
    phrase: &'a str,
    reason: &'a str,
    title: Option<&'a str>,
    text: Option<&'a str>,
    detail: Option<&'a str>,
    id: &'a str,
}

#[cfg(test)]
mod tests;
