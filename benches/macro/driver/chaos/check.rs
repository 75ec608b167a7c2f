//! Whether a gateway's table is the one that follows from the registry, as its admin listener shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tests::{DEADLINE, Response, Wire};

use super::world::{Expected, Shown};

/// How soon after the last fault every gateway has to show it.
pub const CONVERGENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub enum Difference {
    /// It does not answer.
    Silent,
    Link(String),
    /// It says that it does not believe the registry.
    Doubt(String),
    Table(String),
}

impl Difference {
    pub fn is_doubt(&self) -> bool {
        matches!(self, Self::Doubt(_))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => write!(f, "the admin listener does not answer"),
            Self::Link(link) => write!(f, "the registry is {link}"),
            Self::Doubt(doubt) => write!(f, "the registry is doubted: {doubt}"),
            Self::Table(what) => write!(f, "{what}"),
        }
    }
}

/// # Errors
/// The first difference.
pub fn differences(admin: SocketAddr, expected: &Expected) -> Result<(), Difference> {
    let ask = |path| ask(admin, path).ok_or(Difference::Silent);
    let (table, endpoints) = (ask("/v1/table")?, ask("/v1/endpoints")?);
    if table["registry"] != "connected" {
        return Err(Difference::Link(table["registry"].to_string()));
    }
    let held = table["held"].as_array().map_or(0, Vec::len);
    if !table["doubt"].is_null() || held > 0 {
        return Err(Difference::Doubt(format!("{}, keys held: {}", table["doubt"], table["held"])));
    }
    let rejected: BTreeSet<String> = texts(&table["rejections"], "place").collect();
    compare("rejections", &expected.rejected, &rejected)?;
    let route = |route: &Value| {
        let text = |key: &str| route[key].as_str().unwrap_or_default().to_owned();
        (text("host"), text("app"))
    };
    let routes = items(&table["routes"]).map(route).filter(|(_, app)| !expected.open_apps.contains(app));
    let wanted = expected.routes.iter().filter(|(_, app)| !expected.open_apps.contains(app)).cloned();
    compare("routes", &wanted.collect(), &routes.collect())?;
    let shown: BTreeMap<_, _> = items(&endpoints["items"]).map(endpoint).collect();
    let known = |all: &BTreeMap<(String, String), Shown>| -> BTreeSet<String> {
        let known = all.iter().filter(|(key, _)| !expected.open_endpoints.contains(*key));
        known.map(|(key, shown)| format!("{key:?} {shown:?}")).collect()
    };
    compare("endpoints", &known(&expected.endpoints), &known(&shown))
}

fn endpoint(item: &Value) -> ((String, String), Shown) {
    let text = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
    let operator = &item["operator"];
    let weight = operator["weight"].as_u64();
    let operator = operator["state"].as_str().map_or("-".to_owned(), |state| format!("{state} {weight:?}"));
    let weight = item["weight"].as_u64().and_then(|weight| weight.try_into().ok()).unwrap_or_default();
    ((text("app"), text("instance")), Shown { address: text("address"), weight, operator })
}

fn compare<T: Ord + fmt::Debug>(
    what: &str,
    wanted: &BTreeSet<T>,
    found: &BTreeSet<T>,
) -> Result<(), Difference> {
    let missing: Vec<_> = wanted.difference(found).collect();
    let besides: Vec<_> = found.difference(wanted).collect();
    if missing.is_empty() && besides.is_empty() {
        return Ok(());
    }
    Err(Difference::Table(format!("{what}: missing {missing:?}, not wanted {besides:?}")))
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn texts<'a>(list: &'a Value, key: &'a str) -> impl Iterator<Item = String> + 'a {
    items(list).filter_map(move |item| item[key].as_str().map(str::to_owned))
}

fn ask(admin: SocketAddr, path: &str) -> Option<Value> {
    let mut wire = Wire::connect(admin, DEADLINE).ok()?;
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let response = Response::read(&mut wire, "GET").ok()?;
    (response.status == 200).then(|| serde_json::from_slice(&response.body).ok()).flatten()
}
