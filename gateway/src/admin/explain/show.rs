//! `/v1/explain`: what becomes of a request that nobody has sent.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use topology::AppId;
use utoipa::IntoParams;

use super::question::{Asking, BadQuestion, Question};
use super::view::Explanation;
use super::{Surroundings, explain};
use crate::admin::AdminState;
use crate::admin::openapi::FindBuildProblems;
use crate::admin::problem::{FieldMistake, Problem};

/// Of a query: what fits into one head, encoded.
const MAX_HEADERS: usize = 128;

const FIELDS: [&str; 6] = ["url", "method", "header", "client", "listener", "app"];

/// What was asked, in the words of the query.
#[derive(Debug, Default, IntoParams)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// What is asked for; without a scheme, http.
    #[param(required, value_type = String, example = "https://shop.example.com/cart")]
    url: Option<String>,
    /// GET where it is absent.
    #[param(example = "GET")]
    method: Option<String>,
    /// `Name: value`, as often as there are fields.
    #[param(rename = "header", required = false, max_items = 128)]
    headers: Vec<String>,
    /// The address that it comes from; this machine's where it is absent.
    #[param(example = "192.0.2.1")]
    client: Option<String>,
    /// An HTTP listener; where it is absent: the one with the URL's port, or else the first of its scheme.
    listener: Option<String>,
    /// Only if it is this one's, and nothing of others.
    #[param(value_type = Option<String>, example = "shop", pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$")]
    app: Option<AppId>,
}

impl Wanted {
    fn read(query: &str) -> Result<Self, Vec<BadQuestion>> {
        let (mut wanted, mut mistakes) = (Self::default(), Vec::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let slot = match &*name {
                "url" => &mut wanted.url,
                "method" => &mut wanted.method,
                "client" => &mut wanted.client,
                "listener" => &mut wanted.listener,
                "app" => {
                    match AppId::parse(&value) {
                        Ok(app) => wanted.app = Some(app),
                        Err(error) => {
                            mistakes.push(BadQuestion { field: "app", message: error.to_string() });
                        }
                    }
                    continue;
                }
                "header" if wanted.headers.len() < MAX_HEADERS => {
                    wanted.headers.push(value.into_owned());
                    continue;
                }
                "header" => {
                    let message = format!("is there more often than {MAX_HEADERS} times");
                    mistakes.push(BadQuestion { field: "header", message });
                    break;
                }
                other => {
                    let nearest = discovery::document::nearest(other, FIELDS);
                    let nearest =
                        nearest.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
                    let message = format!("{other:?} is no parameter{nearest}");
                    mistakes.push(BadQuestion { field: "query", message });
                    continue;
                }
            };
            *slot = Some(value.into_owned());
        }
        if wanted.url.is_none() {
            let message = "is missing; write url=https://shop.example.com/cart".to_owned();
            mistakes.push(BadQuestion { field: "url", message });
        }
        if mistakes.is_empty() { Ok(wanted) } else { Err(mistakes) }
    }
}

/// What becomes of a request that nobody has sent, and why. 400 names all that is wrong with the question; 404: `app` is
/// asked for, and the request is not that one's. A tenant asks for one of its own apps.
#[utoipa::path(
    get, path = "/v1/explain", tag = "table", operation_id = "explain", params(Wanted),
    responses((status = 200, body = Explanation), FindBuildProblems),
)]
pub async fn show(
    State(state): State<Arc<AdminState>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let wanted = Wanted::read(query.as_deref().unwrap_or_default());
    let wanted = wanted.map_err(|mistakes| refusal(&mistakes))?;
    let asking = Asking {
        url: wanted.url.as_deref().unwrap_or_default(),
        method: wanted.method.as_deref(),
        headers: &wanted.headers,
        client: wanted.client.as_deref(),
        listener: wanted.listener.as_deref(),
    };
    let shared = state.sources.shared.clone();
    let doorways = state.sources.doorways.load_full();
    let question = Question::read(&asking, &doorways, |address| shared.is_trusted(address));
    let question = question.map_err(|mistakes| refusal(&mistakes))?;
    let told = move || {
        let table = shared.table.load_full();
        let trusts = |address| shared.is_trusted(address);
        let around = Surroundings { trusts: &trusts, rate_limits: shared.rate_limits.as_ref() };
        let told = explain(&table, &question, &around);
        match &wanted.app {
            Some(app) => told.only(app, &table).ok_or_else(|| foreign(app)),
            None => Ok(told),
        }
    };
    answer(told).await
}

/// Large answers are built where they hold nobody up.
async fn answer(
    told: impl FnOnce() -> Result<Explanation, Problem> + Send + 'static,
) -> Result<Response, Problem> {
    let build = || told().map(|told| axum::Json(told).into_response());
    tokio::task::spawn_blocking(build).await.map_err(|error| Problem::internal(&error))?
}

/// Whose it is instead, and whether it is anybody's, is not told.
fn foreign(app: &AppId) -> Problem {
    Problem::not_found(format!(
        "no such request comes to app {app}: it has not this host and path, or an app that had them first does; \
         /v1/apps?app={app} shows its hosts, paths and conflicts"
    ))
}

fn refusal(mistakes: &[BadQuestion]) -> Problem {
    let told = |mistake: &BadQuestion| FieldMistake {
        entry: String::new(),
        field: mistake.field.to_owned(),
        message: mistake.message.clone(),
    };
    let detail = format!("the question is wrong; mistakes: {}", mistakes.len());
    let problem = Problem::new(StatusCode::BAD_REQUEST, "malformed", detail);
    Problem { mistakes: mistakes.iter().map(told).collect(), ..problem }
}
