//! What is asked for in a query, and what is said to whoever asks for nothing that there is.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use serde::Deserialize;
use topology::AppId;
use utoipa::IntoParams;

use super::problem::Problem;

/// A query, or what is wrong with it, which becomes a [`Problem`].
pub(crate) type Queried<T> = Result<Query<T>, QueryRejection>;

/// Of requests that have no parameters: one that is written all the same was meant, and is not overlooked.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// Only what concerns one app.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Narrow {
    /// Only of this app.
    #[param(example = "shop", pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$")]
    app: Option<String>,
}

impl Narrow {
    pub(crate) fn only(&self) -> Result<Option<AppId>, Problem> {
        only_app(self.app.as_deref())
    }
}

pub(crate) fn only_app(app: Option<&str>) -> Result<Option<AppId>, Problem> {
    app.map(AppId::parse).transpose().map_err(|error| Problem::malformed("app", error.to_string()))
}

/// A number of a query, and what follows it in a sentence, such as its unit. It is read here, not by serde, which would not
/// say what to write instead.
pub(crate) fn number<N>(
    name: &str,
    written: Option<&str>,
    (bounds, unit): (RangeInclusive<N>, &str),
) -> Result<Option<N>, Problem>
where
    N: FromStr + PartialOrd + Display,
{
    let Some(written) = written else { return Ok(None) };
    let read = written.parse().ok().filter(|number| bounds.contains(number));
    let wrong = || format!("write {} to {}{unit}", bounds.start(), bounds.end());
    read.map(Some).ok_or_else(|| Problem::malformed(name, wrong()))
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        let said = rejection.body_text();
        let said = said.strip_prefix("Failed to deserialize query string: ").unwrap_or(&said);
        match said.split_once(": ") {
            Some((name, why)) if is_name(name) => Self::malformed(name, why),
            _ => Self::malformed("query", said),
        }
    }
}

fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether it can be read matters")]
    struct Wanted {
        app: Option<String>,
        seal: Option<bool>,
    }

    #[test]
    fn a_query_that_cannot_be_read_is_told_by_parameter() {
        let problem = |query: &str| {
            let uri = format!("/v1/x?{query}").parse().unwrap();
            Problem::from(Query::<Wanted>::try_from_uri(&uri).unwrap_err())
        };
        let wrong = problem("seal=perhaps");
        assert_eq!((wrong.status, &*wrong.mistakes[0].field), (400, "seal"), "{wrong:?}");
        assert!(wrong.detail.contains("`true` or `false`"), "{wrong:?}");
        for query in ["since=1", "app=a&app=b"] {
            let wrong = problem(query);
            let name = query.split('=').next().unwrap();
            assert!(wrong.status == 400 && wrong.detail.contains(name), "{wrong:?}");
        }
    }

    #[test]
    fn a_number_is_within_its_bounds_or_these_are_told() {
        let read = |written| number("minutes", written, (1..=10_u32, " minutes"));
        assert_eq!((read(None).unwrap(), read(Some("10")).unwrap()), (None, Some(10)));
        for wrong in ["", "0", "11", "-1", "x", "1.5", "99999999999999999999"] {
            assert_eq!(read(Some(wrong)).unwrap_err().detail, "minutes: write 1 to 10 minutes", "{wrong}");
        }
    }
}
