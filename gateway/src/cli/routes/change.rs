//! `sluice routes diff` and `apply`; and how changes are shown.

use serde_json::{Value, json};

use super::{Files, documents};
use crate::cli::Output;
use crate::cli::connection::Admin;
use crate::cli::failure::Failure;
use crate::cli::output::{Colour, brief, list, painted, plain, say, say_error, say_json, text};
use crate::cli::wait::Waiting;

/// How a change is meant.
#[derive(Debug, Clone, Copy)]
pub struct How<'a> {
    pub dry_run: bool,
    pub message: Option<&'a str>,
    pub waiting: &'a Waiting,
}

/// # Errors
/// [`Failure`]; [`Failure::SaidDiffers`] where something differs.
pub async fn diff(admin: &Admin, files: &Files, output: Output) -> Result<(), Failure> {
    let body = json!({ "entries": documents::read(&files.files)?, "prune": files.prune, "dry_run": true });
    let outcome = admin.post("/v1/config/apply", &body).await?;
    let changes = list(&outcome, "changes");
    match output {
        Output::Json => say_json(&outcome),
        Output::Table if changes.is_empty() => say("nothing differs"),
        Output::Table => say(&differences(changes)),
    }
    warn(&outcome);
    if changes.is_empty() { Ok(()) } else { Err(Failure::SaidDiffers) }
}

/// # Errors
/// [`Failure`].
pub async fn apply(admin: &Admin, files: &Files, how: How<'_>, output: Output) -> Result<(), Failure> {
    let entries = documents::read(&files.files)?;
    let mut body = json!({ "entries": entries, "prune": files.prune, "dry_run": how.dry_run });
    if let Some(message) = how.message {
        body["message"] = message.into();
    }
    let outcome = admin.post("/v1/config/apply", &body).await?;
    conclude(admin, outcome, how, output).await
}

/// Says what a change came to, and waits for it if that is wanted.
///
/// # Errors
/// [`Failure`].
pub async fn conclude(admin: &Admin, outcome: Value, how: How<'_>, output: Output) -> Result<(), Failure> {
    let changes = list(&outcome, "changes");
    match output {
        Output::Json => say_json(&outcome),
        Output::Table if changes.is_empty() => say("nothing differs; nothing is written"),
        Output::Table => {
            say(&differences(changes));
            say(&match (how.dry_run, outcome["revision"].as_u64()) {
                (true, _) => "nothing is written: a dry run".to_owned(),
                (false, Some(revision)) => format!("written as revision {revision}"),
                (false, None) => "written".to_owned(),
            });
        }
    }
    warn(&outcome);
    if how.dry_run {
        return Ok(());
    }
    let waited = how.waiting.until_applied(admin, &outcome).await?;
    if let (Some(waited), Output::Table) = (waited, output) {
        say(&waited);
    }
    Ok(())
}

fn warn(outcome: &Value) {
    let warnings = list(outcome, "warnings").iter().filter_map(Value::as_str);
    warnings.for_each(|warning| say_error(&format!("warning: {}", plain(warning))));
}

/// An entry a paragraph, a difference a line.
pub fn differences(changes: &[Value]) -> String {
    let mut out = String::new();
    for change in changes {
        let action = text(change, "action");
        let (sign, colour) = match action {
            "create" => ("+", Colour::Good),
            "delete" => ("-", Colour::Bad),
            _ => ("~", Colour::Doubtful),
        };
        let heading = format!("{sign} {} ({action})", text(change, "key"));
        out.push_str(&format!("{}\n", painted(&heading, colour)));
        list(change, "diff").iter().for_each(|difference| out.push_str(&lines(difference)));
    }
    out
}

fn lines(difference: &Value) -> String {
    let path = match text(difference, "path") {
        "" => String::new(),
        path => format!("{path}: "),
    };
    let line = |sign: &str, name: &str, colour| {
        let value = difference.get(name).filter(|value| !value.is_null())?;
        Some(format!("{}\n", painted(&format!("  {sign} {path}{}", brief(value)), colour)))
    };
    let (before, after) = (line("-", "before", Colour::Bad), line("+", "after", Colour::Good));
    match (before, after) {
        // Of a sealed value only that it differs.
        (None, None) => format!("  ~ {path}differs\n"),
        (before, after) => before.unwrap_or_default() + &after.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_what_goes_and_what_comes() {
        let changes = [
            json!({ "key": "app/shop", "action": "update", "diff": [
                { "path": "hosts[0]", "before": "a.test", "after": "b.test" },
                { "path": "split", "after": { "v1": 1 } }] }),
            json!({ "key": "app/blog", "action": "delete", "diff": [{ "path": "", "before": {} }] }),
            json!({ "key": "certificate/x", "action": "update", "diff": [{ "path": "pem" }] }),
        ];
        let wanted = "~ app/shop (update)\n  - hosts[0]: a.test\n  + hosts[0]: b.test\n  + split: {\"v1\":1}\n\
                      - app/blog (delete)\n  - {}\n~ certificate/x (update)\n  ~ pem: differs\n";
        assert_eq!(differences(&changes), wanted);
    }
}
