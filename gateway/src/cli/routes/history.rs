//! `sluice routes history` and `rollback`.

use serde_json::{Value, json};
use topology::AppId;

use super::change::{How, conclude, differences};
use crate::cli::Output;
use crate::cli::connection::Admin;
use crate::cli::failure::Failure;
use crate::cli::output::{Cell, columns, list, plain, say, say_json, text};

fn known(app: Option<&str>) -> Result<Option<AppId>, Failure> {
    app.map(AppId::parse).transpose().map_err(|error| Failure::invalid(error.to_string()))
}

/// # Errors
/// [`Failure`].
pub async fn ls(admin: &Admin, app: Option<&str>, limit: u32, output: Output) -> Result<(), Failure> {
    let app = known(app)?.map_or_else(String::new, |app| format!("&app={app}"));
    let shown = admin.get(&format!("/v1/history?limit={limit}{app}")).await?;
    match output {
        Output::Json => say_json(&shown),
        Output::Table => {
            let rows: Vec<_> = list(&shown, "records").iter().map(row).collect();
            say(&columns(0, &["REVISION", "TIME", "AUTHOR", "CHANGES", "MESSAGE"], &rows));
        }
    }
    Ok(())
}

fn row(record: &Value) -> Vec<Cell> {
    let changes: Vec<_> = list(record, "changes")
        .iter()
        .map(|change| format!("{} {}", text(change, "action"), text(change, "key")))
        .collect();
    vec![
        record["revision"].to_string().into(),
        text(record, "time").into(),
        text(record, "author").into(),
        changes.join(", ").into(),
        message(record).into(),
    ]
}

fn message(record: &Value) -> String {
    match (record["rolled_back_to"].as_u64(), text(record, "message")) {
        (None, message) => message.to_owned(),
        (Some(to), "") => format!("back to {to}"),
        (Some(to), message) => format!("back to {to}: {message}"),
    }
}

/// # Errors
/// [`Failure`].
pub async fn show(admin: &Admin, revision: u64, output: Output) -> Result<(), Failure> {
    let record = admin.get(&format!("/v1/history/{revision}")).await?;
    match output {
        Output::Json => say_json(&record),
        Output::Table => {
            let (time, author) = (text(&record, "time"), text(&record, "author"));
            say(&format!("revision {revision}, {} by {}", plain(time), plain(author)));
            let message = message(&record);
            if !message.is_empty() {
                say(&plain(&message));
            }
            say(&differences(list(&record, "changes")));
        }
    }
    Ok(())
}

/// `to`: a revision of the history, and the app whose entries alone are meant.
///
/// # Errors
/// [`Failure`].
pub async fn roll_back(
    admin: &Admin,
    (to, app): (u64, Option<&str>),
    how: How<'_>,
    output: Output,
) -> Result<(), Failure> {
    let mut body = json!({ "to": to, "dry_run": how.dry_run });
    if let Some(app) = known(app)? {
        body["app"] = app.as_str().into();
    }
    if let Some(message) = how.message {
        body["message"] = message.into();
    }
    let outcome = admin.post("/v1/rollback", &body).await?;
    conclude(admin, outcome, how, output).await
}
