//! What went wrong, as `application/problem+json` (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use discovery::change::ChangeError;
use discovery::document::{Mistake, Mistakes};
use discovery::registry::RegistryError;
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Denied;

/// Why a request was not carried out.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of problem it is: `urn:sluice:` and one word, which does not change.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    #[schema(value_type = String)]
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What happened, and what to do.
    pub detail: String,
    /// Everything that is wrong with the values that were sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mistakes: Vec<FieldMistake>,
    /// Of an answer beyond the body.
    #[serde(skip)]
    pub fields: Vec<(header::HeaderName, HeaderValue)>,
}

/// One thing that must be written differently.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldMistake {
    /// Which entry it is in, such as `app/shop`; empty for the request itself.
    pub entry: String,
    /// Which key of it, such as `hosts[0]`; empty for the whole.
    pub field: String,
    /// What is wrong, and what to write.
    pub message: String,
}

impl Problem {
    /// `word` is the end of its type.
    pub fn new(status: StatusCode, word: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("urn:sluice:{word}"),
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: detail.into(),
            mistakes: Vec::new(),
            fields: Vec::new(),
        }
    }

    /// A request that means nothing.
    pub fn malformed(field: &str, message: impl Into<String>) -> Self {
        let message = message.into();
        let detail = if field.is_empty() { message.clone() } else { format!("{field}: {message}") };
        let mistake = FieldMistake { entry: String::new(), field: field.to_owned(), message };
        Self { mistakes: vec![mistake], ..Self::new(StatusCode::BAD_REQUEST, "malformed", detail) }
    }

    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", detail)
    }

    /// Nobody asked for anything wrong.
    pub fn internal(error: &tokio::task::JoinError) -> Self {
        let detail = format!("the answer could not be built: {error}; the log says more");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    pub fn with(mut self, name: header::HeaderName, value: &str) -> Self {
        self.fields.extend(HeaderValue::from_str(value).ok().map(|value| (name, value)));
        self
    }

    pub fn invalid(mistakes: &Mistakes) -> Self {
        let told = |mistake: &Mistake| FieldMistake {
            entry: mistake.source.to_string(),
            field: mistake.key.clone(),
            message: mistake.message.clone(),
        };
        let detail = format!("nothing was written; mistakes: {}", mistakes.count());
        Self {
            mistakes: mistakes.iter().map(told).collect(),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail)
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let fields = self.fields.clone();
        let mut response = (status, axum::Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.extend(fields);
        response
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        let detail = error.to_string();
        match error {
            ChangeError::Invalid(mistakes) => Self::invalid(&mistakes),
            ChangeError::Missing { .. } => Self::not_found(detail),
            ChangeError::Conflict { version, .. } => {
                let now = match version {
                    Some(_) => "its ETag is in this answer",
                    None => "it does not exist",
                };
                let problem =
                    Self::new(StatusCode::PRECONDITION_FAILED, "conflict", format!("{detail}: {now}"));
                match version {
                    Some(version) => problem.with(header::ETAG, &super::entries::etag(version)),
                    None => problem,
                }
            }
            ChangeError::Stale { current } => {
                let detail = format!("{detail}: it was changed meanwhile");
                Self::new(StatusCode::PRECONDITION_FAILED, "conflict", detail)
                    .with(header::ETAG, &format!("\"{current}\""))
            }
            ChangeError::TooMany(_) | ChangeError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
            }
            ChangeError::Forgotten { .. } => Self::not_found(detail),
            ChangeError::Moved | ChangeError::Busy => Self::new(StatusCode::CONFLICT, "busy", detail),
            ChangeError::History(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "history", detail),
            ChangeError::Registry(error) => Self::registry(&error),
        }
    }
}

impl Problem {
    pub fn registry(error: &RegistryError) -> Self {
        let mut detail = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            detail.push_str(&format!(": {error}"));
            cause = error.source();
        }
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "registry", detail)
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let unauthorized = |detail: &str| {
            Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
                .with(header::WWW_AUTHENTICATE, "Bearer realm=\"sluice\"")
        };
        match denied {
            Denied::NoCredentials => unauthorized("show a token: Authorization: Bearer sluice_…"),
            Denied::BadToken => unauthorized("this token is none"),
            Denied::ExpiredToken => unauthorized("this token has expired; ask for a new one"),
            Denied::LockedOut { seconds } => {
                let detail = format!("too many wrong tokens came from your address; wait {seconds} s");
                Self::new(StatusCode::TOO_MANY_REQUESTS, "locked-out", detail)
                    .with(header::RETRY_AFTER, &seconds.to_string())
            }
            Denied::Role => Self::new(StatusCode::FORBIDDEN, "forbidden", "your role does not permit this"),
            Denied::Browser(why) => Self::new(StatusCode::FORBIDDEN, "forbidden", why),
        }
    }
}
