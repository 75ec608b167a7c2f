//! `sluice dns`: the names that a gateway answers, and those that it writes to other servers.

use clap::Subcommand;
use serde_json::Value;

use super::Output;
use super::connection::Admin;
use super::failure::Failure;
use super::output::{Cell, Colour, columns, list, painted, say, say_json, text};

const SHOW: &str = "/v1/dns";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Every name of the zone as this gateway answers it, and what is wrong
    #[command(visible_alias = "ls")]
    List,
}

/// # Errors
/// [`Failure`].
pub async fn run(admin: &Admin, command: &Command, output: Output) -> Result<(), Failure> {
    let Command::List = command;
    let shown = admin.get(SHOW).await?;
    if output == Output::Json {
        say_json(&shown);
        return Ok(());
    }
    let rows: Vec<_> = list(&shown, "items").iter().map(row).collect();
    say(&columns(0, &["NAME", "LEADS TO", "LEFT OUT"], &rows));
    say(&painted(
        &format!("{}, serial {}, {} names", text(&shown, "zone"), shown["serial"], shown["names"]),
        Colour::Faint,
    ));
    if shown["truncated"] == true {
        say(&painted("there are more: ask GET /v1/dns?after=NAME", Colour::Doubtful));
    }
    for update in list(&shown, "updates") {
        tell_of(update);
    }
    Ok(())
}

fn row(name: &Value) -> Vec<Cell> {
    let addresses =
        |member| list(name, member).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    let target = match text(name, "alias") {
        "" => addresses("addresses"),
        alias => alias.to_owned(),
    };
    vec![text(name, "name").into(), target.into(), Cell::coloured(addresses("left_out"), Some(Colour::Bad))]
}

fn tell_of(update: &Value) {
    let (zone, server) = (text(update, "zone"), text(update, "server"));
    let (what, colour) = match (update["leads"] == true, text(update, "error")) {
        (false, _) => ("another gateway writes, or none yet".to_owned(), Colour::Faint),
        (true, "") => (format!("{} names written", update["names"]), Colour::Good),
        (true, error) => (error.to_owned(), Colour::Bad),
    };
    say(&painted(&format!("{zone} at {server}: {what}"), colour));
    for conflict in list(update, "in_the_way") {
        let said = format!("  {}: {}", text(conflict, "name"), text(conflict, "why"));
        say(&painted(&said, Colour::Doubtful));
    }
}
