//! Why a request failed: one word, the same in the access log, the metric label, the response and the docs.

use crate::message::Malformed;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident, $code:literal, $status:literal;)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            pub const ALL: &[Self] = &[$(Self::$name),*];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// What the client is answered where it can still be answered, and what is counted.
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }
        }
    };
}

reasons! {
    /// In clear text, where the listener or the app wants https.
    HttpsRequired, "https_required", 308;
    /// The message breaks a rule of RFC 9112 or RFC 9110.
    BadRequest, "bad_request", 400;
    /// A body that breaks the chunked coding, found after its head was accepted.
    BadBody, "bad_body", 400;
    /// The app wants a client certificate, and none was verified.
    ClientCertificateRequired, "client_certificate_required", 403;
    /// A connection that had to begin with a PROXY protocol header and did not.
    ProxyHeaderMissing, "proxy_header_missing", 400;
    ProxyHeaderMalformed, "proxy_header_malformed", 400;
    /// A listener that requires headers was asked by somebody who is not among `trusted_proxies`.
    ProxyHeaderUntrusted, "proxy_header_untrusted", 400;
    /// The client's address is on a list, or on none that lets it in.
    AddressDenied, "address_denied", 403;
    /// The client has asked more often than it may.
    RateLimited, "rate_limited", 429;
    /// A browser asked whether it may ask, and was told.
    CorsPreflight, "cors_preflight", 204;
    /// A browser asked for an origin that may not ask.
    CorsOriginDenied, "cors_origin_denied", 403;
    /// The app sends its clients elsewhere.
    Redirected, "redirected", 308;
    /// A route without an app says so, whatever the status.
    FixedResponse, "fixed_response", 200;
    /// What a filter needs to decide was never read, and nobody is let past it.
    FilterUnavailable, "filter_unavailable", 503;
    /// The app wants to know who the client is, which it did not say.
    CredentialsMissing, "credentials_missing", 401;
    /// What the client said of who it is, it could not prove.
    CredentialsInvalid, "credentials_invalid", 401;
    /// More passwords wait to be verified than can be.
    AuthenticationBusy, "authentication_busy", 503;
    /// The app that decides over requests said no.
    ForwardAuthDenied, "forward_auth_denied", 403;
    /// The app that decides over requests said nothing.
    ForwardAuthFailed, "forward_auth_failed", 503;
    /// The app is closed for a while.
    Maintenance, "maintenance", 503;
    /// A failure on purpose.
    FaultInjected, "fault_injected", 503;
    /// No app claims the host.
    UnknownHost, "unknown_host", 404;
    /// The host is claimed, this path of it is not.
    UnknownPath, "unknown_path", 404;
    /// A match of the app's takes the request and sends it nowhere.
    MatchRefused, "match_refused", 404;
    /// The head was not complete in time.
    HeaderTimeout, "header_timeout", 408;
    /// The client stopped sending its body.
    BodyTimeout, "body_timeout", 408;
    /// Neither side of a tunnel had said anything for its idle timeout.
    IdleTimeout, "idle_timeout", 408;
    /// The app does not let clients leave HTTP for this protocol.
    UpgradeNotAllowed, "upgrade_not_allowed", 403;
    /// The client sends its body more slowly than the listener or the app takes.
    BodyTooSlow, "body_too_slow", 408;
    /// The body is larger than the listener or the app takes.
    BodyTooLarge, "body_too_large", 413;
    UriTooLong, "uri_too_long", 414;
    /// An expectation other than 100-continue.
    ExpectationFailed, "expectation_failed", 417;
    /// The host is not one that the client verified us as (RFC 9110 section 15.5.20).
    MisdirectedRequest, "misdirected_request", 421;
    HeadTooLarge, "head_too_large", 431;
    /// A connection of an address that has as many as it may have.
    ClientConnectionLimit, "client_connection_limit", 429;
    /// A connection of an address of which one was cut off for flooding not long ago.
    ClientPenalty, "client_penalty", 429;
    /// The gateway has more to do than it can.
    Overload, "overload", 503;
    /// A connection above what the listener or the process may have.
    ConnectionLimit, "connection_limit", 503;
    /// The client went away or stopped reading before it had its response (nginx's number for it).
    ClientAbort, "client_abort", 499;
    /// CONNECT; TRACE and OPTIONS with Max-Forwards at 0.
    MethodNotSupported, "method_not_supported", 501;
    /// The endpoint's protocol has no way to leave HTTP.
    UpgradeNotSupported, "upgrade_not_supported", 501;
    /// A transfer coding other than chunked.
    CodingNotSupported, "coding_not_supported", 501;
    /// The endpoint refused the connection or could not be reached.
    ConnectFailed, "connect_failed", 502;
    /// The endpoint closed or reset the connection before its response began.
    UpstreamReset, "upstream_reset", 502;
    /// What the endpoint sent is no HTTP response, or an ambiguous one.
    UpstreamBadResponse, "upstream_bad_response", 502;
    /// The endpoint's response broke off; the client's connection was cut so that it can tell.
    UpstreamTruncated, "upstream_truncated", 502;
    /// The endpoint did not prove who it is, or no TLS could be spoken with it.
    UpstreamTlsFailed, "upstream_tls_failed", 502;
    /// The app wants TLS to its endpoints that this gateway has no settings for.
    UpstreamTlsUnknown, "upstream_tls_unknown", 502;
    /// The app has no endpoint at all.
    NoEndpoint, "no_endpoint", 503;
    /// The app has endpoints, and none of them may take traffic.
    NoHealthyEndpoint, "no_healthy_endpoint", 503;
    /// None of the app's endpoints may take traffic, and one would but for an operator's word: drain, maintenance or a
    /// weight of 0.
    EndpointsWithdrawn, "endpoints_withdrawn", 503;
    /// As many of the app's requests wait as may.
    AppOverloaded, "app_overloaded", 503;
    /// None of the app's endpoints had room in time.
    QueueTimeout, "queue_timeout", 503;
    /// The app's owner has as many requests in the gateway as it may have.
    TenantOverloaded, "tenant_overloaded", 503;
    /// The gateway stopped before the request was done.
    Shutdown, "shutdown", 503;
    /// The gateway had no socket left to ask an endpoint with.
    OutOfSockets, "out_of_sockets", 503;
    /// The endpoint did not accept the connection in time.
    ConnectTimeout, "connect_timeout", 504;
    /// The endpoint accepted the request and did not answer in time.
    UpstreamTimeout, "upstream_timeout", 504;
    /// The endpoint stopped in the middle of its response; the client's connection was cut.
    UpstreamStalled, "upstream_stalled", 504;
    /// The request, with its retries and waits, took longer than its app allows.
    RequestTimeout, "request_timeout", 504;
    /// Neither side of a tunnel said anything for too long.
    TunnelTimeout, "tunnel_timeout", 504;
    /// An operator closed the tunnel.
    TunnelClosed, "tunnel_closed", 503;
    VersionNotSupported, "version_not_supported", 505;
}

/// One place says what a client is told about a message that breaks a rule.
impl From<Malformed> for Reason {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::TooManyFields | Malformed::HeadTooLong => Self::HeadTooLarge,
            Malformed::TargetTooLong => Self::UriTooLong,
            Malformed::Version => Self::VersionNotSupported,
            Malformed::UnknownCoding => Self::CodingNotSupported,
            Malformed::Expectation => Self::ExpectationFailed,
            Malformed::Chunk | Malformed::Trailer => Self::BadBody,
            _ => Self::BadRequest,
        }
    }
}

/// The reason phrase of a status that the gateway itself answers with.
pub fn phrase(status: u16) -> &'static str {
    match status {
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        // Of a fault: any that its owner chose.
        _ => http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or(""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_a_phrase_and_every_code_is_one_word() {
        for reason in Reason::ALL {
            assert!(*reason == Reason::ClientAbort || !phrase(reason.status()).is_empty(), "{reason:?}");
            assert!(reason.as_str().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'));
        }
    }
}
