//! `sluice routes explain`.

use form_urlencoded::Serializer;
use serde_json::Value;

use crate::cli::Output;
use crate::cli::connection::Admin;
use crate::cli::failure::Failure;
use crate::cli::output::{Cell, Colour, brief, columns, list, painted, plain, say, say_json, text};

/// The request that is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub url: &'a str,
    pub headers: &'a [String],
    pub method: &'a str,
    pub client: Option<&'a str>,
    pub listener: Option<&'a str>,
    pub app: Option<&'a str>,
}

/// # Errors
/// [`Failure`].
pub async fn run(admin: &Admin, asked: Asked<'_>, output: Output) -> Result<(), Failure> {
    let Asked { url, headers, method, client, listener, app } = asked;
    let mut query = Serializer::new(String::new());
    query.append_pair("url", url).append_pair("method", method);
    headers.iter().for_each(|header| {
        query.append_pair("header", header);
    });
    let more = [("client", client), ("listener", listener), ("app", app)];
    for (name, value) in more.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        query.append_pair(name, value);
    }
    let told = admin.get(&format!("/v1/explain?{}", query.finish())).await?;
    match output {
        Output::Json => say_json(&told),
        Output::Table => say(&show(&told)),
    }
    Ok(())
}

fn show(told: &Value) -> String {
    let mut out = outcome(told);
    section(&mut out, "hosts", &["PATTERN", "VERDICT"], list(told, "hosts"), |step| {
        vec![text(step, "pattern").into(), verdict(step)]
    });
    section(&mut out, "routes", &["HOST", "PATH", "APP", "VERDICT", "WHY"], list(told, "routes"), |step| {
        let cell = |name| Cell::from(text(step, name));
        vec![cell("host"), cell("path"), cell("app"), verdict(step), cell("why")]
    });
    section(&mut out, "matches", &["MATCH", "VERDICT", "EFFECT", "NOT MET"], list(told, "matches"), |step| {
        let effect = match text(step, "effect") {
            "" => "as the others",
            effect => effect,
        };
        vec![text(step, "name").into(), verdict(step), effect.into(), text(step, "unmet").into()]
    });
    section(&mut out, "filters", &["FILTER", "EFFECT", "SETTINGS"], list(told, "filters"), |step| {
        let cell = |name| Cell::from(text(step, name));
        vec![cell("filter"), cell("effect"), cell("settings")]
    });
    versions(&mut out, told);
    policies(&mut out, &told["policies"]);
    out
}

fn outcome(told: &Value) -> String {
    let (request, outcome) = (&told["request"], &told["outcome"]);
    let part = |name| plain(text(request, name));
    let mut out = format!(
        "{} {}{}\n  by listener {}, from {}{}\n",
        part("method"),
        part("host"),
        part("path"),
        part("listener"),
        part("client"),
        if request["is_trusted_proxy"] == true { ", a trusted proxy" } else { "" },
    );
    let app = plain(text(told, "app"));
    let line = if outcome["is_forwarded"] == true {
        let host = match text(outcome, "sent_host") {
            "" => String::new(),
            host => format!(" with Host {}", plain(host)),
        };
        painted(&format!("goes to app {app}, for {}{host}", text(outcome, "target")), Colour::Good)
    } else {
        let by = if app.is_empty() { String::new() } else { format!(" by app {app}") };
        let reason = text(outcome, "reason");
        painted(&format!("answered {} {reason}{by}", outcome["status"]), Colour::Bad)
    };
    out.push_str(&format!("  {line}\n"));
    for (name, before) in [("location", "sent to "), ("detail", "")] {
        if let Some(said) = outcome[name].as_str() {
            out.push_str(&format!("  {before}{}\n", plain(said)));
        }
    }
    for what in list(outcome, "depends_on").iter().filter_map(Value::as_str) {
        out.push_str(&format!("  {}\n", painted(&format!("depends on {what}"), Colour::Doubtful)));
    }
    if let Some(why) = told["rejection"].as_str() {
        out.push_str(&format!("  {}\n", painted(&format!("a newer spec is rejected: {why}"), Colour::Bad)));
    }
    out
}

fn verdict(step: &Value) -> Cell {
    let verdict = text(step, "verdict");
    let colour = if verdict == "chosen" { Colour::Good } else { Colour::Faint };
    Cell::coloured(verdict.replace('_', " "), Some(colour))
}

fn section(
    out: &mut String,
    name: &str,
    heading: &[&str],
    steps: &[Value],
    row: impl Fn(&Value) -> Vec<Cell>,
) {
    if steps.is_empty() {
        return;
    }
    let rows: Vec<_> = steps.iter().map(row).collect();
    out.push_str(&format!("\n{name}\n{}", columns(2, heading, &rows)));
}

fn versions(out: &mut String, told: &Value) {
    for version in list(told, "versions") {
        let name = version["version"].as_str().map_or_else(|| "all versions".to_owned(), plain);
        let part = match (version["percent"].as_f64(), version["stands_in"] == true) {
            (_, true) => ", stands in where those before have nobody".to_owned(),
            (Some(percent), _) => format!(", {percent:.1} % of requests"),
            (None, _) => String::new(),
        };
        let endpoints = list(version, "endpoints");
        let candidates = endpoints.iter().filter(|one| one["is_candidate"] == true).count();
        out.push_str(&format!("\n{name}{part}: {candidates} of {} are candidates\n", endpoints.len()));
        out.push_str(&candidates_table(endpoints));
        if version["endpoints_truncated"] == true {
            out.push_str("  and more\n");
        }
    }
    let balance = &told["balance"];
    let Some(kind) = balance["kind"].as_str() else { return };
    let key = match (balance["key"].as_str(), balance["has_key"].as_bool(), balance["prefers"].as_str()) {
        (Some(key), Some(true), Some(prefers)) => format!(" by {key}, which prefers {prefers}"),
        (Some(key), Some(false), _) => format!(" by {key}, which the request lacks: in turn"),
        (Some(key), ..) => format!(" by {key}"),
        _ => String::new(),
    };
    let algorithm =
        balance["algorithm"].as_str().map_or_else(String::new, |name| format!(" ({})", plain(name)));
    out.push_str(&format!("\nbalance   {}{algorithm}{}\n", plain(kind), plain(&key)));
    let session = &told["session"];
    if let Some(cookie) = session["cookie"].as_str() {
        let why = plain(text(session, "why"));
        let where_to = match (session["endpoint"].as_str(), session["is_kept"] == true) {
            (Some(endpoint), true) => format!("stays with {}", plain(endpoint)),
            (Some(endpoint), false) => format!("leaves {}: {why}", plain(endpoint)),
            (None, _) => why.clone(),
        };
        out.push_str(&format!("session   by {}: {where_to}\n", plain(cookie)));
    }
    if balance["panics"] == true {
        out.push_str("panic     too few endpoints are healthy: all are candidates\n");
    }
    if balance["backups_help"] == true {
        out.push_str("backups   too few others are healthy: they are asked beside them\n");
    }
}

/// Zones and tiers are columns where there is something to tell apart.
fn candidates_table(endpoints: &[Value]) -> String {
    if endpoints.is_empty() {
        return String::new();
    }
    let has_zones = endpoints.iter().any(|one| one["zone"].is_string());
    let has_tiers = endpoints.iter().any(|one| one["tier"].as_str().is_some_and(|tier| tier != "first"));
    let mut heading = vec!["ENDPOINT", "ADDRESS", "STATE", "WEIGHT", "SHARE"];
    heading.extend(
        [("ZONE", has_zones), ("ASKED", has_tiers)].into_iter().filter(|(_, is)| *is).map(|(name, _)| name),
    );
    heading.push("WHY NOT");
    let row = |one: &Value| {
        let mut cells = endpoint(one);
        let last = cells.pop();
        if has_zones {
            cells.push(text(one, "zone").into());
        }
        if has_tiers {
            cells.push(text(one, "tier").replace('_', " ").into());
        }
        cells.extend(last);
        cells
    };
    columns(2, &heading, &endpoints.iter().map(row).collect::<Vec<_>>())
}

fn endpoint(one: &Value) -> Vec<Cell> {
    let state = text(one, "state");
    let share = match one["is_candidate"] == true {
        true => format!("{:.1} %", one["percent"].as_f64().unwrap_or_default()),
        false => String::new(),
    };
    vec![
        format!("{}/{}", text(one, "version"), text(one, "instance")).into(),
        text(one, "address").into(),
        Cell::coloured(state, Colour::of_state(state)),
        one["weight"].to_string().into(),
        share.into(),
        text(one, "why").into(),
    ]
}

fn policies(out: &mut String, policies: &Value) {
    if policies.is_null() {
        return;
    }
    let pairs = |name: &str, unit: &str| {
        let members = policies[name].as_object().into_iter().flatten();
        members.map(|(name, value)| format!("{name} {value}{unit}")).collect::<Vec<_>>().join(", ")
    };
    let words = |name: &str| list(policies, name).iter().map(brief).collect::<Vec<_>>().join(", ");
    let mut line = |name: &str, text: String| {
        if !text.is_empty() {
            out.push_str(&format!("{name:<9} {}\n", plain(&text)));
        }
    };
    let mut upstream = words("upstream_protocols");
    if let Some(profile) = policies["upstream_tls"]["profile"].as_str() {
        let name = brief(&policies["upstream_tls"]["server_name"]);
        upstream.push_str(&format!(" over TLS as {profile}, must prove {name}"));
    }
    if let Some(version) = policies["proxy_protocol"].as_str() {
        upstream.push_str(&format!(", PROXY protocol {version}"));
    }
    line("upstream", upstream);
    let hedge = policies["hedge_after"].as_f64().map(|after| format!("; asks another after {after} s"));
    let hedge = hedge.unwrap_or_default();
    line("attempts", format!("{}, on {}{hedge}", policies["attempts"], words("retry_on")));
    line("timeouts", pairs("timeouts", " s"));
    line("limits", pairs("limits", ""));
    line("tenant", brief(&policies["tenant"]));
}
