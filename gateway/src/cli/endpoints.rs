//! `sluice endpoints`: what is, and what operators say of it.

use clap::Subcommand;
use form_urlencoded::byte_serialize;
use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use topology::{AppId, InstanceId, VersionId};

use super::Output;
use super::connection::Admin;
use super::failure::Failure;
use super::output::{Cell, Colour, columns, list, painted, say, say_error, say_json, text};
use super::wait::Manner;

/// When somebody else says something of the same endpoint at the same time.
const ATTEMPTS: usize = 5;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Every endpoint: its state, its weight, and why it takes nothing
    Ls {
        /// Only of this app
        app: Option<String>,
    },
    /// Nothing new goes there; what is under way ends in its own time
    Drain(Said),
    /// As its health and weight have it
    Ready(Said),
    /// Nothing new goes there, and probes do not judge it
    Maintenance(Said),
    /// Say another weight than its registrar, 0 to 65535; 0 takes none
    Weight {
        #[arg(value_name = "APP/VERSION/INSTANCE", value_parser = Target::read)]
        endpoint: Target,
        /// Without it, the registrar's holds again
        weight: Option<u16>,
        #[command(flatten)]
        manner: Manner,
    },
}

#[derive(Debug, clap::Args)]
pub struct Said {
    #[arg(value_name = "APP/VERSION/INSTANCE", required = true, value_parser = Target::read)]
    endpoints: Vec<Target>,
    #[command(flatten)]
    manner: Manner,
}

/// One endpoint's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    app: String,
    version: String,
    instance: String,
}

impl Target {
    fn read(text: &str) -> Result<Self, String> {
        let [app, version, instance] = text.split('/').collect::<Vec<_>>()[..] else {
            return Err("write APP/VERSION/INSTANCE, such as shop/v1/c1".to_owned());
        };
        AppId::parse(app).map_err(|error| error.to_string())?;
        VersionId::parse(version).map_err(|error| error.to_string())?;
        InstanceId::parse(instance).map_err(|error| error.to_string())?;
        Ok(Self { app: app.to_owned(), version: version.to_owned(), instance: instance.to_owned() })
    }

    fn shown(&self) -> String {
        let Self { app, version, instance } = self;
        format!("{app}/{version}/{instance}")
    }
}

/// What is to be said anew; the rest stays as it was said.
#[derive(Debug, Clone, Copy)]
enum News {
    State(&'static str),
    Weight(Option<u16>),
}

/// # Errors
/// [`Failure`].
pub async fn run(admin: &Admin, command: &Command, output: Output) -> Result<(), Failure> {
    let (targets, news, manner) = match command {
        Command::Ls { app } => return ls(admin, app.as_deref(), output).await,
        Command::Drain(said) => (&said.endpoints[..], News::State("drain"), &said.manner),
        Command::Ready(said) => (&said.endpoints[..], News::State("ready"), &said.manner),
        Command::Maintenance(said) => (&said.endpoints[..], News::State("maintenance"), &said.manner),
        Command::Weight { endpoint, weight, manner } => {
            (std::slice::from_ref(endpoint), News::Weight(*weight), manner)
        }
    };
    let mut outcomes = Vec::new();
    for target in targets {
        let outcome = tell(admin, target, news, manner.message.as_deref()).await?;
        if output == Output::Table {
            say(&told(target, &outcome));
        }
        outcomes.push(outcome);
    }
    warn_of_nobody(admin, targets).await?;
    // Whoever has applied the last one has applied all.
    let last = outcomes.iter().max_by_key(|outcome| outcome["registry_revision"].as_u64());
    let waited = match last {
        Some(last) => manner.waiting.until_applied(admin, last).await,
        None => Ok(None),
    };
    if output == Output::Json {
        say_json(&json!({ "outcomes": outcomes, "applied": matches!(waited, Ok(Some(_))) }));
    }
    if let (Some(waited), Output::Table) = (waited?, output) {
        say(&waited);
    }
    Ok(())
}

/// Writes the word as it is to be, unless somebody else has said something since it was read.
async fn tell(admin: &Admin, target: &Target, news: News, why: Option<&str>) -> Result<Value, Failure> {
    let Target { app, version, instance } = target;
    let path = format!("/v1/config/operators/{app}/{version}/{instance}");
    let query = why.map(|why| format!("?message={}", byte_serialize(why.as_bytes()).collect::<String>()));
    let place = format!("{path}{}", query.unwrap_or_default());
    for _ in 0..ATTEMPTS {
        let found = admin.ask(Method::GET, &path, &[], None).await?;
        let (known, etag) = match found.status {
            StatusCode::NOT_FOUND => (Value::Null, None),
            _ => {
                let etag = found.etag.clone();
                (found.json()?["value"].clone(), etag)
            }
        };
        let word = renewed(&known, news);
        let condition = match &etag {
            Some(etag) => (IF_MATCH, etag.as_str()),
            None => (IF_NONE_MATCH, "*"),
        };
        let answer = match (&word, &etag) {
            (None, None) => return Ok(json!({ "changes": [], "word": null })),
            (None, Some(_)) => admin.ask(Method::DELETE, &place, &[condition], None).await?,
            (Some(word), _) => admin.ask(Method::PUT, &place, &[condition], Some(word)).await?,
        };
        if answer.status != StatusCode::PRECONDITION_FAILED {
            let mut outcome = answer.json()?;
            outcome["word"] = word.unwrap_or_default();
            return Ok(outcome);
        }
    }
    Err(Failure::Differs(format!("{}: somebody else keeps changing it; look at it again", target.shown())))
}

/// The word after the news; `None`: it says nothing any more.
fn renewed(known: &Value, news: News) -> Option<Value> {
    let mut state = known["state"].as_str().unwrap_or("ready");
    let mut weight = known["weight"].as_u64();
    match news {
        News::State(said) => state = said,
        News::Weight(said) => weight = said.map(u64::from),
    }
    let mut word = json!({ "state": state });
    if let Some(weight) = weight {
        word["weight"] = weight.into();
    }
    (state != "ready" || weight.is_some()).then_some(word)
}

fn told(target: &Target, outcome: &Value) -> String {
    let word = &outcome["word"];
    let mut said = match word["state"].as_str() {
        None => "ready, with its registrar's weight".to_owned(),
        Some(state) => match word["weight"].as_u64() {
            None => state.to_owned(),
            Some(weight) => format!("{state}, weight {weight}"),
        },
    };
    if list(outcome, "changes").is_empty() {
        said.push_str(" (it was already)");
    }
    format!("{}  {said}", target.shown())
}

/// A typing error would go unnoticed otherwise: a word about nobody is kept.
async fn warn_of_nobody(admin: &Admin, targets: &[Target]) -> Result<(), Failure> {
    for target in targets {
        let shown = admin.get(&format!("/v1/endpoints?app={}", target.app)).await?;
        let is_it =
            |one: &Value| text(one, "version") == target.version && text(one, "instance") == target.instance;
        if shown["truncated"] != true && !list(&shown, "items").iter().any(is_it) {
            let name = target.shown();
            say_error(&format!("warning: there is no endpoint {name}; the word holds for when there is"));
        }
    }
    Ok(())
}

async fn ls(admin: &Admin, app: Option<&str>, output: Output) -> Result<(), Failure> {
    let query = match app.map(AppId::parse).transpose() {
        Ok(app) => app.map_or_else(String::new, |app| format!("?app={app}")),
        Err(error) => return Err(Failure::invalid(error.to_string())),
    };
    let shown = admin.get(&format!("/v1/endpoints{query}")).await?;
    if output == Output::Json {
        say_json(&shown);
        return Ok(());
    }
    let mut rows: Vec<_> = list(&shown, "items").iter().map(row).collect();
    rows.extend(list(&shown, "idle_words").iter().map(idle_row));
    let heading = ["APP", "VERSION", "INSTANCE", "ADDRESS", "STATE", "WEIGHT", "SINCE", "WHY"];
    say(&columns(0, &heading, &rows));
    if shown["truncated"] == true {
        let note = format!("{} of {}; name an app to see its own", rows.len(), shown["total"]);
        say(&painted(&note, Colour::Doubtful));
    }
    Ok(())
}

fn row(one: &Value) -> Vec<Cell> {
    let state = text(one, "state");
    let by_operator = if one["operator"]["weight"].is_u64() { " (operator)" } else { "" };
    vec![
        text(one, "app").into(),
        text(one, "version").into(),
        text(one, "instance").into(),
        text(one, "address").into(),
        Cell::coloured(state, Colour::of_state(state)),
        format!("{}{by_operator}", one["weight"]).into(),
        text(one, "since").into(),
        text(one, "why").into(),
    ]
}

fn idle_row(one: &Value) -> Vec<Cell> {
    let weight = one["weight"].as_u64().map_or_else(String::new, |weight| format!("{weight} (operator)"));
    vec![
        text(one, "app").into(),
        text(one, "version").into(),
        text(one, "instance").into(),
        "".into(),
        Cell::coloured("absent", Some(Colour::Faint)),
        weight.into(),
        "".into(),
        format!("operator: {}; there is no such endpoint", text(one, "state")).into(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_anew_stays_as_it_was() {
        let drained = json!({ "state": "drain", "weight": 3 });
        for (known, news, wanted) in [
            (Value::Null, News::State("drain"), Some(json!({ "state": "drain" }))),
            (drained.clone(), News::State("ready"), Some(json!({ "state": "ready", "weight": 3 }))),
            (drained.clone(), News::Weight(None), Some(json!({ "state": "drain" }))),
            (drained, News::Weight(Some(0)), Some(json!({ "state": "drain", "weight": 0 }))),
            (json!({ "state": "drain" }), News::State("ready"), None),
            (json!({ "state": "ready", "weight": 3 }), News::Weight(None), None),
        ] {
            assert_eq!(renewed(&known, news), wanted, "{known} {news:?}");
        }
    }

    #[test]
    fn an_endpoint_has_three_names() {
        assert_eq!(Target::read("shop/v1/c1").unwrap().shown(), "shop/v1/c1");
        for bad in ["shop", "shop/v1", "shop/v1/c1/x", "shop//c1", "shop/v1/../x", "a b/v1/c1"] {
            assert!(Target::read(bad).is_err(), "{bad}");
        }
    }
}
