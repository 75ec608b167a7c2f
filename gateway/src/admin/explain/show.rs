//! `/v1/explain`: what becomes of a request that nobody has sent.

use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use topology::AppId;

use super::question::{Asking, BadQuestion, Question};
use super::view::Explanation;
use super::{Surroundings, explain};
use crate::admin::AdminState;
use crate::admin::problem::{FieldMistake, Problem};

/// Of a query: what fits into one head, encoded.
const MAX_HEADERS: usize = 128;

const FIELDS: [&str; 6] = ["url", "method", "header", "client", "listener", "app"];

/// What was asked, in the words of the query.
#[derive(Debug, Default)]
struct Wanted {
    url: Option<String>,
    method: Option<String>,
    headers: Vec<String>,
    client: Option<String>,
    listener: Option<String>,
    /// Only if it is this one's, and nothing of others.
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

/// 200 with the explanation; 400 with all that is wrong with the question; 404 where `app` is asked for and the request is
/// not that one's.
pub async fn show(State(state): State<Arc<AdminState>>, RawQuery(query): RawQuery) -> Response {
    let wanted = match Wanted::read(query.as_deref().unwrap_or_default()) {
        Ok(wanted) => wanted,
        Err(mistakes) => return refuse(&mistakes),
    };
    let asking = Asking {
        url: wanted.url.as_deref().unwrap_or_default(),
        method: wanted.method.as_deref(),
        headers: &wanted.headers,
        client: wanted.client.as_deref(),
        listener: wanted.listener.as_deref(),
    };
    let shared = state.sources.shared.clone();
    let doorways = state.sources.doorways.load_full();
    let question = match Question::read(&asking, &doorways, |address| shared.is_trusted(address)) {
        Ok(question) => question,
        Err(mistakes) => return refuse(&mistakes),
    };
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
async fn answer(told: impl FnOnce() -> Result<Explanation, Problem> + Send + 'static) -> Response {
    let build = || told().map_or_else(Problem::into_response, |told| axum::Json(told).into_response());
    match tokio::task::spawn_blocking(build).await {
        Ok(response) => response,
        Err(error) => {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "explain", error.to_string()).into_response()
        }
    }
}

/// Whose it is instead, and whether it is anybody's, is not told.
fn foreign(app: &AppId) -> Problem {
    Problem::not_found(format!(
        "no such request comes to app {app}: it has not this host and path, or an app that had them first does; \
         /v1/apps?app={app} shows its hosts, paths and conflicts"
    ))
}

fn refuse(mistakes: &[BadQuestion]) -> Response {
    let told = |mistake: &BadQuestion| FieldMistake {
        entry: String::new(),
        field: mistake.field.to_owned(),
        message: mistake.message.clone(),
    };
    let detail = format!("the question is wrong; mistakes: {}", mistakes.len());
    let problem = Problem::new(StatusCode::BAD_REQUEST, "malformed", detail);
    Problem { mistakes: mistakes.iter().map(told).collect(), ..problem }.into_response()
}
