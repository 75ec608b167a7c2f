//! `sluice vip`: who holds which virtual IP, and moving them by hand.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use super::Output;
use super::connection::Admin;
use super::failure::Failure;
use super::output::{Cell, Colour, columns, list, painted, say, say_json, text};

const LIST: &str = "/v1/vips";
/// Between two looks at what is still held.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Every virtual IP as this gateway sees it: its holder, and who could take it
    #[command(visible_alias = "ls")]
    List,
    /// Hand an address over that this gateway holds
    Move {
        ip: IpAddr,
        /// Its gateway.id
        gateway: String,
    },
    /// Let go of every address that another gateway can take, and take none until `undrain`
    Drain(Drain),
    /// Take addresses again
    Undrain,
}

#[derive(Debug, Args)]
pub struct Drain {
    /// Return when this gateway holds none; end with 3 if that takes longer than SECONDS
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "60")]
    wait: Option<u64>,
}

/// # Errors
/// [`Failure`].
pub async fn run(admin: &Admin, command: &Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::List => show(admin, output).await,
        Command::Move { ip, gateway } => {
            let wanted = json!({ "gateway": gateway });
            let path = format!("{LIST}/{ip}/move");
            let moved = admin.ask(Method::POST, &path, &[], Some(&wanted)).await?.json()?;
            tell(output, &moved, &format!("{ip}  goes to {gateway}"));
            Ok(())
        }
        Command::Drain(Drain { wait }) => {
            let drained = admin.ask(Method::POST, &format!("{LIST}/drain"), &[], None).await?.json()?;
            let Some(seconds) = wait else {
                tell(output, &drained, "drained of virtual IPs");
                return Ok(());
            };
            let shown = until_free(admin, Duration::from_secs(*seconds)).await?;
            tell(output, &shown, "drained of virtual IPs; it holds none");
            Ok(())
        }
        Command::Undrain => {
            let taken = admin.ask(Method::POST, &format!("{LIST}/undrain"), &[], None).await?.json()?;
            tell(output, &taken, "takes virtual IPs again");
            Ok(())
        }
    }
}

fn tell(output: Output, said: &Value, words: &str) {
    match output {
        Output::Json => say_json(said),
        Output::Table => say(words),
    }
}

/// What the gateway says when it holds nothing any more.
async fn until_free(admin: &Admin, patience: Duration) -> Result<Value, Failure> {
    let began = Instant::now();
    loop {
        let shown = admin.get(LIST).await?;
        let held: Vec<_> = list(&shown, "items").iter().filter(|vip| vip["holding"] == true).collect();
        if held.is_empty() {
            return Ok(shown);
        }
        if began.elapsed() >= patience {
            let names = held.iter().map(|vip| text(vip, "ip")).collect::<Vec<_>>().join(", ");
            return Err(Failure::Differs(format!(
                "after {} s it still holds {names}: no other gateway can take that; it goes on until one can",
                patience.as_secs()
            )));
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn show(admin: &Admin, output: Output) -> Result<(), Failure> {
    let shown = admin.get(LIST).await?;
    if output == Output::Json {
        say_json(&shown);
        return Ok(());
    }
    let rows: Vec<_> = list(&shown, "items").iter().map(row).collect();
    say(&columns(0, &["IP", "HOLDER", "EPOCH", "STATE", "GRANTORS", "COULD HOLD IT"], &rows));
    if shown["draining"] == true {
        say(&painted(&format!("{} is drained of virtual IPs", text(&shown, "gateway")), Colour::Doubtful));
    }
    let failing = shown["checks"].as_object().into_iter().flatten().filter(|(_, is_good)| **is_good != true);
    for (check, _) in failing {
        let said = format!("{} takes none: its check {check:?} fails", text(&shown, "gateway"));
        say(&painted(&said, Colour::Bad));
    }
    Ok(())
}

fn row(vip: &Value) -> Vec<Cell> {
    let holder = text(vip, "holder");
    let (state, colour) = match (vip["holding"] == true, vip["released"] == true) {
        _ if holder.is_empty() => ("nobody's", Colour::Bad),
        (true, _) => ("held here", Colour::Good),
        (false, true) => ("released", Colour::Doubtful),
        (false, false) => ("held", Colour::Faint),
    };
    let names =
        |member: &str| list(vip, member).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    vec![
        text(vip, "ip").into(),
        holder.into(),
        vip["epoch"].to_string().into(),
        Cell::coloured(state, Some(colour)),
        names("grantors").into(),
        names("order").into(),
    ]
}
