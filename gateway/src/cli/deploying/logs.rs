//! `sluice logs`.

use clap::Args;
use futures::future::join_all;
use serde_json::Value;

use crate::cli::Output;
use crate::cli::connection::Admin;
use crate::cli::failure::Failure;
use crate::cli::output::{list, plain, say, text};

#[derive(Debug, Args)]
pub struct Wanted {
    /// An app, or one instance
    #[arg(value_name = "APP|INSTANCE")]
    target: String,
    /// Go on until it ends
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines of each
    #[arg(long, value_name = "LINES", default_value_t = 100)]
    tail: u32,
}

/// Lines of several instances come with their names in front.
///
/// # Errors
/// [`Failure`].
pub async fn run(admin: &Admin, wanted: &Wanted, output: Output) -> Result<(), Failure> {
    let all = admin.get("/v1/instances").await?;
    let named = |name: &str| {
        let found = list(&all, "items").iter().filter(|one| text(one, name) == wanted.target);
        found.map(|one| text(one, "instance").to_owned()).collect::<Vec<_>>()
    };
    let mut instances = named("instance");
    if instances.is_empty() {
        instances = named("app");
    }
    if instances.is_empty() {
        return Err(Failure::invalid(format!(
            "there is no instance of {:?}, and none is called so",
            wanted.target
        )));
    }
    let width = instances.iter().map(String::len).max().unwrap_or_default();
    let is_one = instances.len() == 1;
    let read = instances.iter().map(|instance| {
        let target = format!("/v1/instances/{instance}/logs?follow={}&tail={}", wanted.follow, wanted.tail);
        async move {
            let each = |line: &[u8]| match output {
                Output::Json => say(&String::from_utf8_lossy(line)),
                Output::Table => {
                    let line: Value = serde_json::from_slice(line).unwrap_or_default();
                    let said = plain(text(&line, "text"));
                    let name = if is_one { String::new() } else { format!("{instance:width$}  ") };
                    say(&format!("{name}{said}"));
                }
            };
            admin.lines(&target, each).await
        }
    });
    // All are read, and the first that failed is told.
    join_all(read).await.into_iter().collect()
}
