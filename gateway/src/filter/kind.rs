//! The kinds of filters, in the one order in which they act.

/// When a filter acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    RequestHead,
    ResponseHead,
    ResponseBody,
}

impl Phase {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestHead => "request head",
            Self::ResponseHead => "response head",
            Self::ResponseBody => "response body",
        }
    }
}

/// Named as in the app's file, in the metric label and in `/v1/filters`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    ErrorPages,
    Addresses,
    Maintenance,
    RateLimits,
    Cors,
    Redirects,
    Respond,
    ApiKeys,
    BasicAuth,
    Jwt,
    ForwardAuth,
    Rewrite,
    RequestHeaders,
    Faults,
    Mirror,
    ResponseHeaders,
    Compression,
}

impl Kind {
    /// In the order in which they act.
    pub const ALL: [Self; 17] = [
        Self::ErrorPages,
        Self::Addresses,
        Self::Maintenance,
        Self::RateLimits,
        Self::Cors,
        Self::Redirects,
        Self::Respond,
        Self::ApiKeys,
        Self::BasicAuth,
        Self::Jwt,
        Self::ForwardAuth,
        Self::Rewrite,
        Self::RequestHeaders,
        Self::Faults,
        Self::Mirror,
        Self::ResponseHeaders,
        Self::Compression,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::ErrorPages => "error_pages",
            Self::Addresses => "addresses",
            Self::Maintenance => "maintenance",
            Self::RateLimits => "rate_limits",
            Self::Cors => "cors",
            Self::Redirects => "redirects",
            Self::Respond => "respond",
            Self::ApiKeys => "api_keys",
            Self::BasicAuth => "basic_auth",
            Self::Jwt => "jwt",
            Self::ForwardAuth => "forward_auth",
            Self::Rewrite => "rewrite",
            Self::RequestHeaders => "request_headers",
            Self::Faults => "faults",
            Self::Mirror => "mirror",
            Self::ResponseHeaders => "response_headers",
            Self::Compression => "compression",
        }
    }

    pub fn phase(self) -> Phase {
        match self {
            Self::ResponseHeaders => Phase::ResponseHead,
            Self::Compression => Phase::ResponseBody,
            _ => Phase::RequestHead,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_shown_is_the_order_of_the_declaration() {
        assert!(Kind::ALL.iter().enumerate().all(|(at, kind)| *kind as usize == at));
        assert!(Kind::ALL.is_sorted_by_key(|kind| kind.phase() as usize));
    }
}
