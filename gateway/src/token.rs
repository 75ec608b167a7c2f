//! `sluice token`: tokens for the admin API. A token is printed once; what is stored does not give it away.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Subcommand, ValueEnum};
use discovery::document::parse_duration;
use gateway::admin::auth::tokens::{new_token, parse_expiry, parse_name, parse_role};
use gateway::admin::auth::{Identity, Role};

/// A quarter: who replaces tokens by hand does it that often at best.
const DEFAULT_LIFE: &str = "90d";

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Print a token that nobody has yet, and the line to append to the file that `admin.tokens` names
    New {
        /// Whose it is; the history and the audit log call its holder so
        name: String,
        /// What it permits: to see everything, to do everything, or to see and change the apps of --app
        #[arg(long, value_enum)]
        role: RoleName,
        /// An app of a tenant; may be repeated
        #[arg(long, value_name = "ID", required_if_eq("role", "tenant"))]
        app: Vec<String>,
        /// A duration such as 90d, a time such as 2027-01-31T00:00:00Z, or never
        #[arg(long, value_name = "WHEN", default_value = DEFAULT_LIFE)]
        expires: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleName {
    Read,
    Operate,
    Tenant,
}

pub fn run(command: TokenCommand) -> anyhow::Result<()> {
    let TokenCommand::New { name, role, app, expires } = command;
    let name = parse_name(&name).map_err(anyhow::Error::msg)?;
    anyhow::ensure!(role == RoleName::Tenant || app.is_empty(), "--app is for --role tenant");
    let role = match role {
        RoleName::Read => Role::Read,
        RoleName::Operate => Role::Operate,
        RoleName::Tenant => parse_role(&format!("tenant={}", app.join(","))).map_err(anyhow::Error::msg)?,
    };
    let expires = expiry(&expires)?;
    let (token, line) = new_token(&Identity { name, role }, expires).map_err(anyhow::Error::msg)?;
    println!("{token}");
    eprintln!(
        "The token is above and is not shown again. Append this line to the file that admin.tokens names:"
    );
    eprintln!("{line}");
    Ok(())
}

fn expiry(text: &str) -> anyhow::Result<Option<i64>> {
    match parse_duration(text) {
        Ok(life) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            anyhow::ensure!(life > Duration::ZERO, "--expires: a token that has expired is none");
            Ok(Some(i64::try_from((now + life).as_secs())?))
        }
        Err(_) => {
            parse_expiry(text).map_err(|why| anyhow::anyhow!("--expires: {why}; or a duration such as 90d"))
        }
    }
}
