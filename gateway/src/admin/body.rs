//! Reading what is sent, within bounds.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// Of a change: more than fits into one transaction, so that who sends too much is told how much would fit.
const MAX_BODY_BYTES: usize = 2 << 20;
/// For all of a body.
const PATIENCE: Duration = Duration::from_secs(30);
const PEM: &str = "application/pem-certificate-chain";

/// A body that is JSON.
pub async fn read_json<T: DeserializeOwned>(request: Request) -> Result<T, Problem> {
    let bytes = read_json_bytes(request).await?;
    serde_json::from_slice(&bytes).map_err(|error| Problem::malformed("", format!("the body: {error}")))
}

/// A body that is JSON, or a chain of certificates and its key in PEM (RFC 8555 section 9.1), which is taken for the JSON
/// text of it.
pub async fn read_json_or_pem(request: Request) -> Result<serde_json::Value, Problem> {
    if !essence(request.headers()).is_some_and(|essence| essence.eq_ignore_ascii_case(PEM)) {
        return read_json(request).await;
    }
    let bytes = read(request.into_body()).await?;
    let text = std::str::from_utf8(&bytes);
    let text = text.map_err(|error| Problem::malformed("", format!("the body is no PEM: {error}")))?;
    Ok(serde_json::Value::String(text.to_owned()))
}

/// A body that says that it is JSON, as it came.
pub async fn read_json_bytes(request: Request) -> Result<axum::body::Bytes, Problem> {
    let (parts, body) = request.into_parts();
    check_type(&parts.headers)?;
    read(body).await
}

/// The Content-Type without its parameters.
fn essence(fields: &HeaderMap) -> Option<&str> {
    let given = fields.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    given.map(|given| given.split(';').next().unwrap_or_default().trim())
}

/// `curl -d` says that it sends a form.
fn check_type(fields: &HeaderMap) -> Result<(), Problem> {
    if essence(fields).is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    let detail = "the body must be JSON; send Content-Type: application/json";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "no-json", detail))
}

async fn read(body: Body) -> Result<axum::body::Bytes, Problem> {
    let whole = axum::body::to_bytes(body, MAX_BODY_BYTES);
    match tokio::time::timeout(PATIENCE, whole).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let is_cut = std::error::Error::source(&error)
                .is_none_or(|cause| !cause.is::<http_body_util::LengthLimitError>());
            Err(match is_cut {
                true => Problem::malformed("", "the body did not come whole"),
                false => {
                    let detail =
                        format!("the body is longer than {MAX_BODY_BYTES} bytes; make several changes");
                    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
                }
            })
        }
        Err(_) => {
            let detail = format!("the body took more than {} s", PATIENCE.as_secs());
            Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", detail))
        }
    }
}
