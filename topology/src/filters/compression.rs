//! Which responses are made smaller, and how.

use std::fmt;
use std::sync::Arc;

/// Content codings that the gateway writes (RFC 9110 section 8.4.1, RFC 7932, RFC 8878).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    Gzip,
    Brotli,
    Zstd,
}

impl Coding {
    pub const ALL: [Self; 3] = [Self::Gzip, Self::Brotli, Self::Zstd];

    /// As Content-Encoding says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// What is worth more: the gateway's time or the client's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompressionLevel {
    Fast,
    #[default]
    Balanced,
    Small,
}

impl CompressionLevel {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fast => "fast",
            Self::Balanced => "balanced",
            Self::Small => "small",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    /// Never empty, each once. Of those that a client likes best, the first one.
    pub codings: Vec<Coding>,
    /// Never empty.
    pub types: Vec<MediaPattern>,
    /// Shorter bodies go as they are, where their length is known.
    pub min_bytes: u64,
    pub level: CompressionLevel,
}

impl Compression {
    /// A response of less fits into the packet that its head is in, and gains nothing.
    pub const DEFAULT_MIN_BYTES: u64 = 1_000;

    /// zstd packs as well as brotli at a third of the cost; gzip is what everybody reads.
    pub const DEFAULT_CODINGS: [Coding; 3] = [Coding::Zstd, Coding::Brotli, Coding::Gzip];

    /// Text in its many forms. Pictures, films, fonts and archives are packed already.
    pub const DEFAULT_TYPES: [&'static str; 9] = [
        "text/*",
        "application/json",
        "application/*+json",
        "application/javascript",
        "application/xml",
        "application/*+xml",
        "application/wasm",
        "application/x-ndjson",
        "image/svg+xml",
    ];
}

/// `text/html`, `text/*` or `application/*+json`; in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MediaPattern {
    kind: Arc<str>,
    subtype: Subtype,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subtype {
    Any,
    Exact(Arc<str>),
    /// `*+json`: what comes after the star.
    Suffix(Arc<str>),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is no media type; write text/html, text/* or application/*+json")]
pub struct BadMediaPattern;

/// As long as any registered type and its suffix.
const MAX_PATTERN_BYTES: usize = 128;

impl MediaPattern {
    /// # Errors
    /// [`BadMediaPattern`].
    pub fn parse(text: &str) -> Result<Self, BadMediaPattern> {
        let text = text.to_ascii_lowercase();
        let (kind, subtype) =
            text.split_once('/').filter(|_| text.len() <= MAX_PATTERN_BYTES).ok_or(BadMediaPattern)?;
        let is_token = |text: &str| {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
            !text.is_empty() && text.bytes().all(is_part)
        };
        let subtype = match subtype.strip_prefix('*') {
            Some("") => Subtype::Any,
            Some(suffix) if suffix.len() > 1 && suffix.starts_with('+') && is_token(suffix) => {
                Subtype::Suffix(suffix.into())
            }
            None if is_token(subtype) => Subtype::Exact(subtype.into()),
            _ => return Err(BadMediaPattern),
        };
        if is_token(kind) { Ok(Self { kind: kind.into(), subtype }) } else { Err(BadMediaPattern) }
    }

    /// Whether `content_type`, a field's value, is one of these; its parameters do not count.
    pub fn covers(&self, content_type: &[u8]) -> bool {
        let end = content_type.iter().position(|byte| *byte == b';').unwrap_or(content_type.len());
        let media = content_type[..end].trim_ascii();
        let Some(slash) = media.iter().position(|byte| *byte == b'/') else { return false };
        let (kind, subtype) = (&media[..slash], &media[slash + 1..]);
        kind.eq_ignore_ascii_case(self.kind.as_bytes())
            && match &self.subtype {
                Subtype::Any => true,
                Subtype::Exact(exact) => subtype.eq_ignore_ascii_case(exact.as_bytes()),
                Subtype::Suffix(suffix) => {
                    let start = subtype.len().checked_sub(suffix.len());
                    start.is_some_and(|start| {
                        start > 0 && subtype[start..].eq_ignore_ascii_case(suffix.as_bytes())
                    })
                }
            }
    }
}

impl fmt::Display for MediaPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subtype {
            Subtype::Any => write!(formatter, "{}/*", self.kind),
            Subtype::Exact(exact) => write!(formatter, "{}/{exact}", self.kind),
            Subtype::Suffix(suffix) => write!(formatter, "{}/*{suffix}", self.kind),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_cover_types_and_not_their_neighbours() {
        for (pattern, given, wanted) in [
            ("text/*", "Text/HTML; charset=utf-8", true),
            ("text/*", "textual/html", false),
            ("text/html", "text/html", true),
            ("text/html", "text/htmlx", false),
            ("application/*+json", "application/problem+JSON;x=y", true),
            ("application/*+json", "application/+json", false),
            ("application/*+json", "application/json", false),
            ("application/json", "application/jsonp", false),
            ("text/*", "text", false),
            ("text/*", "", false),
        ] {
            assert_eq!(
                MediaPattern::parse(pattern).unwrap().covers(given.as_bytes()),
                wanted,
                "{pattern} {given}"
            );
        }
        for pattern in Compression::DEFAULT_TYPES {
            assert_eq!(MediaPattern::parse(pattern).unwrap().to_string(), pattern);
        }
        for bad in ["", "text", "*", "*/*", "/x", "text/", "text/ht*", "text/*json", "text/a b", "text/*+"] {
            assert!(MediaPattern::parse(bad).is_err(), "{bad}");
        }
    }
}
