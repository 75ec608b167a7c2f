//! Apps, instances, hosts, and where one more would go.

use serde_json::Value;
use topology::AppId;

use crate::cli::Output;
use crate::cli::connection::Admin;
use crate::cli::failure::Failure;
use crate::cli::output::{Cell, Colour, brief, columns, list, say, say_json, text};

/// # Errors
/// [`Failure`].
pub async fn apps(admin: &Admin, output: Output) -> Result<(), Failure> {
    let row = |app: &Value| {
        let standing = text(app, "standing");
        vec![
            text(app, "id").into(),
            text(app, "version").into(),
            format!("{}/{}", app["serving"], app["wanted"]).into(),
            Cell::coloured(standing, of_standing(standing)),
            text(&app["rollout"], "status").into(),
            text(app, "reason").into(),
        ]
    };
    show(admin, "/v1/apps", &["APP", "VERSION", "SERVE", "STANDING", "ROLLOUT", "WHY"], row, output).await
}

fn of_standing(standing: &str) -> Option<Colour> {
    match standing {
        "done" => Some(Colour::Good),
        "given_up" => Some(Colour::Bad),
        _ => Some(Colour::Doubtful),
    }
}

/// # Errors
/// [`Failure`].
pub async fn instances(admin: &Admin, app: Option<&AppId>, output: Output) -> Result<(), Failure> {
    let target = app.map_or_else(|| "/v1/instances".to_owned(), |app| format!("/v1/instances?app={app}"));
    let row = |one: &Value| {
        let phase = text(one, "phase");
        let colour = if phase == "serving" { Colour::Good } else { Colour::Doubtful };
        vec![
            text(one, "app").into(),
            text(one, "version").into(),
            text(one, "instance").into(),
            text(one, "host").into(),
            text(one, "address").into(),
            Cell::coloured(phase, Some(colour)),
            text(one, "since").into(),
            text(one, "reason").into(),
        ]
    };
    let heading = ["APP", "VERSION", "INSTANCE", "HOST", "ADDRESS", "PHASE", "SINCE", "WHY"];
    show(admin, &target, &heading, row, output).await
}

/// # Errors
/// [`Failure`].
pub async fn hosts(admin: &Admin, output: Output) -> Result<(), Failure> {
    let row = |host: &Value| {
        let (state, colour) = match host {
            host if host["reachable"] != true => ("unreachable", Colour::Bad),
            host if host["drained"] == true => ("drained", Colour::Doubtful),
            host if host["cordoned"] == true => ("cordoned", Colour::Doubtful),
            _ => ("up", Colour::Good),
        };
        vec![
            text(host, "id").into(),
            text(host, "address").into(),
            Cell::coloured(state, Some(colour)),
            host["instances"].to_string().into(),
            format!("{} of {}", text(host, "memory_given"), text(host, "memory")).into(),
            format!("{} of {}", brief(&host["cpu_given"]), brief(&host["cpu"])).into(),
            text(host, "error").into(),
        ]
    };
    show(admin, "/v1/hosts", &["HOST", "ADDRESS", "STATE", "INSTANCES", "MEMORY", "CPU", "WHY"], row, output)
        .await
}

async fn show(
    admin: &Admin,
    target: &str,
    heading: &[&str],
    row: impl Fn(&Value) -> Vec<Cell>,
    output: Output,
) -> Result<(), Failure> {
    let shown = admin.get(target).await?;
    match output {
        Output::Json => say_json(&shown),
        Output::Table => {
            let rows: Vec<_> = list(&shown, "items").iter().map(row).collect();
            say(&columns(0, heading, &rows));
        }
    }
    Ok(())
}

/// # Errors
/// [`Failure::SaidDiffers`] where no host will do.
pub fn verdicts(shown: &Value, output: Output) -> Result<(), Failure> {
    let hosts = list(shown, "hosts");
    match output {
        Output::Json => say_json(shown),
        Output::Table => {
            let row = |one: &Value| {
                let (word, colour) =
                    if one["fits"] == true { ("fits", Colour::Good) } else { ("no", Colour::Bad) };
                vec![
                    text(one, "host").into(),
                    Cell::coloured(word, Some(colour)),
                    text(one, "free_memory").into(),
                    brief(&one["free_cpu"]).into(),
                    text(one, "reason").into(),
                ]
            };
            let rows: Vec<_> = hosts.iter().map(row).collect();
            say(&columns(0, &["HOST", "FITS", "FREE MEMORY", "FREE CPU", "WHY"], &rows));
        }
    }
    if hosts.iter().any(|host| host["fits"] == true) { Ok(()) } else { Err(Failure::SaidDiffers) }
}
