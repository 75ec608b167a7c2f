//! `sluice status`: the fleet on one page.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Output;
use super::connection::Admin;
use super::failure::Failure;
use super::output::{Cell, Colour, columns, list, painted, plain, say, say_json, text};

/// # Errors
/// [`Failure`]; [`Failure::SaidDiffers`] where gateways do not run the same.
pub async fn run(admin: &Admin, output: Output) -> Result<(), Failure> {
    let revisions = admin.get("/v1/revisions").await?;
    let table = admin.get("/v1/table").await?;
    let gateways = list(&revisions, "gateways");
    let applied: BTreeSet<_> = gateways.iter().map(|gateway| gateway["applied"].as_u64()).collect();
    let agrees = applied.len() <= 1;
    match output {
        Output::Json => say_json(&status(&revisions, &table, agrees)),
        Output::Table => say(&show(&revisions, &table, agrees)),
    }
    if agrees { Ok(()) } else { Err(Failure::SaidDiffers) }
}

fn status(revisions: &Value, table: &Value, agrees: bool) -> Value {
    json!({
        "asked": table["gateway"],
        "registry": table["registry"],
        "registry_error": table["registry_error"],
        "registry_revision": revisions["registry_revision"],
        "doubt": table["doubt"],
        "held": table["held"],
        "apps": table["apps"],
        "hosts": table["hosts"],
        "rejections": table["rejections"],
        "gateways": revisions["gateways"],
        "agrees": agrees,
    })
}

fn show(revisions: &Value, table: &Value, agrees: bool) -> String {
    let link = text(table, "registry");
    let colour = if link == "connected" { Colour::Good } else { Colour::Bad };
    let mut out = format!(
        "registry  {}, revision {}{}\n",
        painted(link, colour),
        revisions["registry_revision"],
        match text(table, "registry_error") {
            "" => String::new(),
            why => format!(": {}", plain(why)),
        }
    );
    let held = list(table, "held");
    match text(table, "doubt") {
        "" if held.is_empty() => {}
        "" => out.push_str(&format!("held      {} keys of a mass loss\n", held.len())),
        doubt => out.push_str(&format!(
            "doubt     {}: {} keys are served as they were; `POST /v1/registry/accept` ends it\n",
            painted(doubt, Colour::Bad),
            held.len()
        )),
    }
    out.push_str(&format!("table     {} apps, {} hosts\n\n", table["apps"], table["hosts"]));
    out.push_str(&gateways(revisions));
    if !agrees {
        out.push_str(&format!("\n{}\n", painted("gateways run different revisions", Colour::Doubtful)));
    }
    let rejections = list(table, "rejections");
    if !rejections.is_empty() {
        out.push_str(&format!("\nrejected by {}\n", plain(text(table, "gateway"))));
        let row = |one: &Value| vec![text(one, "place").into(), text(one, "reason").into()];
        let rows: Vec<_> = rejections.iter().map(row).collect();
        out.push_str(&columns(0, &["PLACE", "REASON"], &rows));
    }
    out
}

fn gateways(revisions: &Value) -> String {
    let row = |gateway: &Value| -> Vec<Cell> {
        let rejected = gateway["rejected_total"].as_u64().unwrap_or(0);
        let colour = (rejected > 0).then_some(Colour::Bad);
        vec![
            text(gateway, "id").into(),
            text(gateway, "address").into(),
            gateway["applied"].as_u64().map_or_else(|| "?".to_owned(), |applied| applied.to_string()).into(),
            Cell::coloured(rejected.to_string(), colour),
            text(gateway, "version").into(),
        ]
    };
    let rows: Vec<_> = list(revisions, "gateways").iter().map(row).collect();
    columns(0, &["GATEWAY", "ADMIN", "APPLIED", "REJECTED", "VERSION"], &rows)
}
