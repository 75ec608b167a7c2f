//! Which of our formats a client likes best (RFC 9110 section 12.5.1).

use crate::message::RequestHead;
use crate::message::accept::{Weight, weighted};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Html,
    Json,
    Text,
}

/// How exactly an item of an Accept field names a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Exactness {
    Anything,
    AnyOfKind,
    Named,
}

/// What a client has said of one format: the most exact item decides.
type Liking = Option<(Exactness, Weight)>;

impl Format {
    pub fn of(request: &RequestHead, head: &[u8]) -> Self {
        let is_accept = |name: &[u8]| name.eq_ignore_ascii_case(b"accept");
        let fields = request.fields.iter().filter(|field| is_accept(field.name.within(head)));
        Self::liked(fields.map(|field| field.value.within(head)))
    }

    /// Browsers name HTML and programs JSON. Who takes anything is at a terminal, or does not look.
    fn liked<'v>(values: impl Iterator<Item = &'v [u8]>) -> Self {
        let mut likings: [Liking; 3] = [None; 3];
        for (range, weight) in weighted(values) {
            for format in [Self::Html, Self::Json, Self::Text] {
                let liking = &mut likings[format as usize];
                if let Some(exactness) = format.named_by(range)
                    && liking.is_none_or(|(former, _)| former < exactness)
                {
                    *liking = Some((exactness, weight));
                }
            }
        }
        let worth = |format: Self| {
            let (exactness, weight) = likings[format as usize].unwrap_or((Exactness::Anything, 0));
            // Of what is liked alike, what was named; of that a page; of what was not, a line of text.
            let rank = match (exactness, format) {
                (Exactness::Named, Self::Html) | (_, Self::Text) => 1,
                (Exactness::Named, Self::Json) => 2,
                _ => 0,
            };
            (weight, exactness, rank)
        };
        let best = [Self::Html, Self::Json, Self::Text].into_iter().max_by_key(|format| worth(*format));
        best.filter(|best| worth(*best).0 > 0).unwrap_or(Self::Text)
    }

    fn named_by(self, range: &[u8]) -> Option<Exactness> {
        let is = |name: &[u8]| range.eq_ignore_ascii_case(name);
        let ends_in_json = || range.len() > 5 && range[range.len() - 5..].eq_ignore_ascii_case(b"+json");
        match self {
            _ if is(b"*/*") => Some(Exactness::Anything),
            Self::Html if is(b"text/html") || is(b"application/xhtml+xml") => Some(Exactness::Named),
            Self::Json if is(b"application/json") || ends_in_json() => Some(Exactness::Named),
            Self::Json if is(b"application/*") => Some(Exactness::AnyOfKind),
            Self::Text if is(b"text/plain") => Some(Exactness::Named),
            Self::Html | Self::Text if is(b"text/*") => Some(Exactness::AnyOfKind),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_pages_programs_json_and_everybody_else_text() {
        for (accept, wanted) in [
            ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", Format::Html),
            ("application/json, text/plain, */*", Format::Json),
            ("application/json", Format::Json),
            ("application/vnd.api+json", Format::Json),
            ("application/problem+json;q=0.3", Format::Json),
            ("application/*", Format::Json),
            ("*/*", Format::Text),
            ("text/*", Format::Text),
            ("text/plain", Format::Text),
            ("image/avif,image/webp,image/*,*/*;q=0.8", Format::Text),
            ("text/html;q=0.5, application/json", Format::Json),
            ("text/html;q=0, */*", Format::Text),
            ("text/html, application/json", Format::Json),
            ("image/png", Format::Text),
            ("", Format::Text),
            ("text/html;q=x", Format::Text),
        ] {
            assert_eq!(Format::liked(std::iter::once(accept.as_bytes())), wanted, "{accept}");
        }
        assert_eq!(Format::liked(std::iter::empty()), Format::Text);
    }
}
