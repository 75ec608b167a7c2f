//! What runs: `sluice deploy`, `scale`, `rollout`, `ps`, `logs`, `apps`, `hosts`. A client of the deploy API.

mod config;
mod lists;
mod logs;
mod progress;
mod target;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::header::{IF_MATCH, IF_NONE_MATCH};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use topology::AppId;

use super::Output;
use super::connection::{Admin, Reach};
use super::failure::Failure;
use super::output::{list, plain, say, say_json, text};
use progress::Waiting;
use target::Target;

/// A deploy API with the shipped configuration.
const DEFAULT_API: &str = "http://127.0.0.1:9900";

/// Whom to ask, and how to show what they say.
#[derive(Debug, Args)]
pub struct Api {
    /// The deploy API: http://ADDRESS or https://NAME
    #[arg(long, global = true, env = "SLUICE_DEPLOY", default_value = DEFAULT_API, value_name = "URL")]
    api: String,
    /// A file that holds the token and nothing else. Without it, the variable SLUICE_TOKEN does
    #[arg(long, global = true, env = "SLUICE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// With https: the authorities that the API's certificate may be of, as PEM, instead of the system's
    #[arg(long, global = true, env = "SLUICE_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// With https: this client's own certificate, its chain and its key, as PEM
    #[arg(long, global = true, env = "SLUICE_CERT", value_name = "FILE")]
    cert: Option<PathBuf>,
    /// How answers are shown
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    pub output: Output,
}

impl Api {
    pub fn reach(&self) -> Reach<'_> {
        Reach {
            url: &self.api,
            flag: "--api",
            token_file: self.token_file.as_deref(),
            ca: self.ca.as_deref(),
            cert: self.cert.as_deref(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Request {
    /// Say what is to run of an app: by its file, an image, or a command
    Deploy {
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        wish: target::Wish,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Another number of instances, or other limits of each
    Scale {
        #[command(flatten)]
        api: Api,
        #[arg(value_parser = AppId::parse)]
        app: AppId,
        #[arg(required_unless_present_any = ["memory", "cpu"])]
        instances: Option<u32>,
        /// Of each instance of the version that is wanted, such as 512MiB; changed where it runs, if its host can
        #[arg(long, value_name = "SIZE")]
        memory: Option<String>,
        /// Processors, likewise
        #[arg(long, value_name = "NUMBER")]
        cpu: Option<f64>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// How an app comes from one version to the next
    Rollout {
        #[command(flatten)]
        api: Api,
        #[command(subcommand)]
        command: Rollout,
    },
    /// Values for an app's secrets and files
    Config {
        #[command(flatten)]
        api: Api,
        #[command(subcommand)]
        command: config::Config,
    },
    /// Every instance: where it runs, and how far it is
    Ps {
        #[command(flatten)]
        api: Api,
        /// Only of this app
        #[arg(value_parser = AppId::parse)]
        app: Option<AppId>,
    },
    /// What an instance, or every instance of an app, writes
    Logs {
        #[command(flatten)]
        api: Api,
        #[command(flatten)]
        wanted: logs::Wanted,
    },
    /// Every app: what is wanted of it, and whether it is so
    Apps {
        #[command(flatten)]
        api: Api,
    },
    /// Every host: what it has, and what of it is given out
    Hosts {
        #[command(flatten)]
        api: Api,
    },
}

#[derive(Debug, Subcommand)]
pub enum Rollout {
    /// How far it is
    Status {
        #[arg(value_parser = AppId::parse)]
        app: AppId,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Create and retire nothing for its sake
    Pause(Told),
    /// Go on
    Resume(Told),
    /// The stage has been long enough
    Promote(Told),
    /// Go back to what served before
    Undo {
        /// Of a rollout that is over: the version to go back to
        #[arg(long, value_name = "VERSION")]
        to: Option<String>,
        #[command(flatten)]
        told: Told,
    },
    /// Try again what was given up
    Retry(Told),
}

#[derive(Debug, Args)]
pub struct Told {
    #[arg(value_parser = AppId::parse)]
    app: AppId,
    #[command(flatten)]
    waiting: Waiting,
}

impl Request {
    pub fn api(&self) -> &Api {
        match self {
            Self::Deploy { api, .. }
            | Self::Scale { api, .. }
            | Self::Rollout { api, .. }
            | Self::Config { api, .. }
            | Self::Ps { api, .. }
            | Self::Logs { api, .. }
            | Self::Apps { api }
            | Self::Hosts { api } => api,
        }
    }
}

/// # Errors
/// [`Failure`].
pub async fn run(admin: &Admin, request: &Request, output: Output) -> Result<(), Failure> {
    match request {
        Request::Deploy { wish, waiting, .. } => deploy(admin, wish, waiting, output).await,
        Request::Scale { app, instances, memory, cpu, waiting, .. } => {
            let parts = [
                instances.map(|number| ("instances", json!(number), format!("{number} instances"))),
                memory.as_ref().map(|size| ("memory", json!(size), format!("{} of memory", plain(size)))),
                cpu.map(|number| ("cpu", json!(number), format!("{number} processors"))),
            ];
            let parts: Vec<_> = parts.into_iter().flatten().collect();
            let words: Vec<_> = parts.iter().map(|(_, _, words)| words.as_str()).collect();
            let said = format!("{app}: {} are wanted", words.join(", "));
            let body = parts.into_iter().map(|(name, value, _)| (name.to_owned(), value)).collect();
            let done = admin.post(&format!("/v1/apps/{app}/scale"), &Value::Object(body)).await?;
            tell(admin, app, &done, &said, waiting, output).await
        }
        Request::Rollout { command, .. } => rollout(admin, command, output).await,
        Request::Config { command, .. } => config::run(admin, command, output).await,
        Request::Ps { app, .. } => lists::instances(admin, app.as_ref(), output).await,
        Request::Logs { wanted, .. } => logs::run(admin, wanted, output).await,
        Request::Apps { .. } => lists::apps(admin, output).await,
        Request::Hosts { .. } => lists::hosts(admin, output).await,
    }
}

async fn deploy(
    admin: &Admin,
    wish: &target::Wish,
    waiting: &Waiting,
    output: Output,
) -> Result<(), Failure> {
    let target = Target::read(wish)?;
    let app = target.app().clone();
    let place = format!("/v1/apps/{app}");
    if wish.remove {
        let answer = admin.ask(Method::DELETE, &place, &[], None).await?.json()?;
        return tell(admin, &app, &answer, &format!("{app}: nothing is wanted any more"), waiting, output)
            .await;
    }
    let found = admin.ask(Method::GET, &place, &[], None).await?;
    let (known, tag) = match found.status {
        StatusCode::NOT_FOUND => (Value::Null, None),
        _ => {
            let known = found.json()?;
            let tag = known["etag"].as_str().map(str::to_owned);
            (known["deployment"].clone(), tag)
        }
    };
    let value = target.value(wish, &known)?;
    if wish.dry_run {
        let answer =
            admin.ask(Method::PUT, &format!("{place}?dry_run=true"), &[], Some(&value)).await?.json()?;
        return lists::verdicts(&answer, output);
    }
    let condition = match &tag {
        Some(tag) => (IF_MATCH, tag.as_str()),
        None => (IF_NONE_MATCH, "*"),
    };
    let answer = admin.ask(Method::PUT, &place, &[condition], Some(&value)).await?.json()?;
    let version = text(&value, "version");
    let version = match version.is_empty() {
        true => value["versions"].as_object().and_then(|all| all.keys().next().cloned()).unwrap_or_default(),
        false => version.to_owned(),
    };
    tell(admin, &app, &answer, &format!("{app}: {version} is wanted"), waiting, output).await
}

async fn rollout(admin: &Admin, command: &Rollout, output: Output) -> Result<(), Failure> {
    let (action, told, to) = match command {
        Rollout::Status { app, waiting } => return status(admin, app, waiting, output).await,
        Rollout::Pause(told) => ("pause", told, None),
        Rollout::Resume(told) => ("resume", told, None),
        Rollout::Promote(told) => ("promote", told, None),
        Rollout::Undo { to, told } => ("undo", told, to.as_ref()),
        Rollout::Retry(told) => ("retry", told, None),
    };
    let app = &told.app;
    let mut order = json!({ "action": action });
    if let Some(to) = to {
        order["to"] = json!(to);
    }
    let answer = admin.post(&format!("/v1/apps/{app}/rollout"), &order).await?;
    let said = match to {
        Some(to) => format!("{app}: {to} is wanted"),
        None => format!("{app}: {action}; the rollout is {}", plain(text(&answer, "status"))),
    };
    tell(admin, app, &answer, &said, &told.waiting, output).await
}

/// Says what was done, and waits where that is wanted.
async fn tell(
    admin: &Admin,
    app: &AppId,
    answer: &Value,
    said: &str,
    waiting: &Waiting,
    output: Output,
) -> Result<(), Failure> {
    if output == Output::Table {
        say(said);
    }
    let ended = waiting.until_settled(admin, app, answer["revision"].as_u64(), output).await;
    match (ended, output) {
        (Ok(Some(last)), Output::Json) => say_json(&last),
        (Ok(None), Output::Json) => say_json(answer),
        (Ok(_), Output::Table) => {}
        (Err(failure), _) => return Err(failure),
    }
    Ok(())
}

async fn status(admin: &Admin, app: &AppId, waiting: &Waiting, output: Output) -> Result<(), Failure> {
    let waited = waiting.until_settled(admin, app, None, output).await?;
    let shown = match waited {
        Some(shown) => shown,
        None => admin.get(&format!("/v1/apps/{app}/status")).await?,
    };
    if output == Output::Json {
        say_json(&shown);
        return Ok(());
    }
    say(&progress::line(&shown));
    let failures = list(&shown["rollout"], "failures");
    if !failures.is_empty() {
        say(&format!("failures: {} in all; the last ones:", shown["rollout"]["failures_total"]));
    }
    for failure in failures {
        say(&plain(&format!(
            "  {} {}: {}",
            text(failure, "at"),
            text(failure, "instance"),
            text(failure, "reason")
        )));
    }
    lists::instances(admin, Some(app), output).await
}
