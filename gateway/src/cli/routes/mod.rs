//! `sluice routes`.

mod change;
mod documents;
mod explain;
mod history;
mod ls;

use std::path::PathBuf;

use clap::Subcommand;

use super::Output;
use super::connection::Admin;
use super::failure::Failure;
use super::wait::Waiting;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Every route of the table in force: host, path, app
    Ls {
        /// Only of this app
        app: Option<String>,
    },
    /// What becomes of a request, by the table in force: what was chosen, what lost and why
    Explain {
        /// Such as https://shop.example.com/cart?x=1
        url: String,
        /// A field of the request, such as "X-User: 7"
        #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
        headers: Vec<String>,
        #[arg(short = 'X', long, default_value = "GET")]
        method: String,
        /// The address that asks; one of trusted_proxies is believed what it says of others
        #[arg(long, value_name = "ADDRESS")]
        client: Option<String>,
        /// The HTTP listener that is asked, instead of the one that has the URL's port or scheme
        #[arg(long, value_name = "NAME")]
        listener: Option<String>,
        /// Only if this app takes it, and nothing of others: what a tenant's token is good for
        #[arg(long, value_name = "APP")]
        app: Option<String>,
    },
    /// Where entries differ from files; ends with 3 if they do
    Diff {
        #[command(flatten)]
        files: Files,
    },
    /// Make entries what files say: all of them, or none
    Apply {
        #[command(flatten)]
        files: Files,
        /// Judge it and say what would change, and write nothing
        #[arg(long)]
        dry_run: bool,
        /// Why, for the history
        #[arg(short, long, value_name = "TEXT")]
        message: Option<String>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// What was changed, by whom and why, newest first; or one change with all its differences
    History {
        revision: Option<u64>,
        /// Only changes of this app's entries
        #[arg(long, value_name = "APP")]
        app: Option<String>,
        /// How many
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u32,
    },
    /// Make entries what they were after a revision of the history, as a new change; 0: before the first
    Rollback {
        revision: u64,
        /// Only this app's entries
        #[arg(long, value_name = "APP")]
        app: Option<String>,
        /// Say what would change, and write nothing
        #[arg(long)]
        dry_run: bool,
        /// Why, for the history
        #[arg(short, long, value_name = "TEXT")]
        message: Option<String>,
        #[command(flatten)]
        waiting: Waiting,
    },
}

#[derive(Debug, clap::Args)]
pub struct Files {
    /// App files (TOML, without endpoints), or entries by key (TOML or JSON); - reads standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Entries go that no file names, among those of the kinds that files name
    #[arg(long)]
    prune: bool,
}

/// # Errors
/// [`Failure`].
pub async fn run(admin: &Admin, command: &Command, output: Output) -> Result<(), Failure> {
    match command {
        Command::Ls { app } => ls::run(admin, app.as_deref(), output).await,
        Command::Explain { url, headers, method, client, listener, app } => {
            let (client, listener, app) = (client.as_deref(), listener.as_deref(), app.as_deref());
            explain::run(admin, explain::Asked { url, headers, method, client, listener, app }, output).await
        }
        Command::Diff { files } => change::diff(admin, files, output).await,
        Command::Apply { files, dry_run, message, waiting } => {
            let how = change::How { dry_run: *dry_run, message: message.as_deref(), waiting };
            change::apply(admin, files, how, output).await
        }
        Command::History { revision: Some(revision), .. } => history::show(admin, *revision, output).await,
        Command::History { app, limit, .. } => history::ls(admin, app.as_deref(), *limit, output).await,
        Command::Rollback { revision, app, dry_run, message, waiting } => {
            let how = change::How { dry_run: *dry_run, message: message.as_deref(), waiting };
            history::roll_back(admin, (*revision, app.as_deref()), how, output).await
        }
    }
}
