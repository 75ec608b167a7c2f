//! `sluice routes ls`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use topology::AppId;

use crate::cli::Output;
use crate::cli::connection::Admin;
use crate::cli::failure::Failure;
use crate::cli::output::{Cell, Colour, columns, list, painted, say, say_json, text};

/// # Errors
/// [`Failure`].
pub async fn run(admin: &Admin, app: Option<&str>, output: Output) -> Result<(), Failure> {
    let only = app.map(AppId::parse).transpose().map_err(|error| Failure::invalid(error.to_string()))?;
    let query = only.as_ref().map_or_else(String::new, |app| format!("?app={app}"));
    let apps = admin.get(&format!("/v1/apps{query}")).await?;
    if let Some(app) = only.filter(|_| list(&apps, "items").is_empty()) {
        return Err(Failure::invalid(format!("there is no app {app}")));
    }
    let routes = routes(&apps);
    match output {
        Output::Json => say_json(&json!({
            "revision": apps["revision"], "truncated": apps["truncated"], "routes": routes,
        })),
        Output::Table => {
            let rows: Vec<_> = routes.iter().map(row).collect();
            say(&columns(0, &["HOST", "PATH", "APP", "SPLIT", "ENDPOINTS", "NOTE"], &rows));
            if apps["truncated"] == true {
                let note = format!("routes of {} of {} apps", list(&apps, "items").len(), apps["total"]);
                say(&painted(&note, Colour::Doubtful));
            }
        }
    }
    Ok(())
}

/// One per host and path, ordered by both.
fn routes(apps: &Value) -> Vec<Value> {
    let mut routes: BTreeMap<(&str, &str, &str), Value> = BTreeMap::new();
    for app in list(apps, "items") {
        let names = |name| list(app, name).iter().filter_map(Value::as_str);
        for (host, path) in names("hosts").flat_map(|host| names("paths").map(move |path| (host, path))) {
            let is_it = |conflict: &&Value| text(conflict, "host") == host && text(conflict, "path") == path;
            let holder = list(app, "conflicts").iter().find(is_it).map(|conflict| &conflict["held_by"]);
            let route = json!({
                "host": host,
                "path": path,
                "app": app["id"],
                "listeners": app["listeners"],
                "split": app["split"],
                "endpoints": app["endpoints"],
                "held_by": holder,
                "rejected": !list(app, "rejections").is_empty(),
            });
            routes.insert((host, path, text(app, "id")), route);
        }
    }
    routes.into_values().collect()
}

fn row(route: &Value) -> Vec<Cell> {
    let pairs = |name: &str| route[name].as_object().into_iter().flatten();
    let split: Vec<_> = pairs("split").map(|(version, share)| format!("{version}={share}")).collect();
    let states: Vec<_> = pairs("endpoints").map(|(state, count)| format!("{count} {state}")).collect();
    let serves = pairs("endpoints").any(|(state, _)| matches!(state.as_str(), "up" | "unknown"));
    let listeners = list(route, "listeners").iter().filter_map(Value::as_str).collect::<Vec<_>>();
    let mut notes = Vec::new();
    if let Some(holder) = route["held_by"].as_str() {
        notes.push(format!("held by {holder}"));
    }
    if route["rejected"] == true {
        notes.push("a newer spec is rejected".to_owned());
    }
    if !listeners.is_empty() {
        notes.push(format!("only on {}", listeners.join(", ")));
    }
    let states = if states.is_empty() { "none".to_owned() } else { states.join(", ") };
    vec![
        text(route, "host").into(),
        text(route, "path").into(),
        text(route, "app").into(),
        split.join(" ").into(),
        Cell::coloured(states, Some(if serves { Colour::Good } else { Colour::Bad })),
        Cell::coloured(notes.join("; "), Some(Colour::Doubtful)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_and_path_is_a_route_and_says_who_holds_it() {
        let apps = json!({ "items": [
            { "id": "shop", "hosts": ["b.test", "a.test"], "paths": ["/", "/x"], "endpoints": { "up": 2 },
              "conflicts": [{ "host": "a.test", "path": "/", "held_by": "blog" }] },
            { "id": "blog", "hosts": ["a.test"], "paths": ["/"], "rejections": [{}], "endpoints": {} },
        ]});
        let routes = routes(&apps);
        let shown: Vec<_> = routes
            .iter()
            .map(|route| {
                (text(route, "host"), text(route, "path"), text(route, "app"), text(route, "held_by"))
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("a.test", "/", "blog", ""),
                ("a.test", "/", "shop", "blog"),
                ("a.test", "/x", "shop", ""),
                ("b.test", "/", "shop", ""),
                ("b.test", "/x", "shop", ""),
            ]
        );
    }
}
