//! What operators say to a running gateway: a client of its admin listener or its deploy API, and nothing else.
//!
//! It decides nothing. Files are read with the code that gateways read them with, so that mistakes have lines before
//! anything is sent; all else the gateway judges.

mod certificates;
mod connection;
mod deploying;
mod dns;
mod endpoints;
mod failure;
mod output;
mod routes;
mod status;
mod vip;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use connection::{Admin, Reach};
use failure::Failure;

/// A gateway with the shipped configuration.
const DEFAULT_ADMIN: &str = "http://127.0.0.1:9901";

/// Whom to ask, and how to show what they say.
#[derive(Debug, Args)]
pub struct Common {
    /// The gateway's admin listener: http://ADDRESS, https://NAME or unix:/PATH
    #[arg(long, global = true, env = "SLUICE_ADMIN", default_value = DEFAULT_ADMIN, value_name = "URL")]
    admin: String,
    /// A file that holds the token and nothing else. Without it, the variable SLUICE_TOKEN does
    #[arg(long, global = true, env = "SLUICE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// With https: the authorities that the gateway's certificate may be of, as PEM, instead of the system's
    #[arg(long, global = true, env = "SLUICE_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// With https: this client's own certificate, its chain and its key, as PEM
    #[arg(long, global = true, env = "SLUICE_CERT", value_name = "FILE")]
    cert: Option<PathBuf>,
    /// How answers are shown
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table, value_name = "FORMAT")]
    output: Output,
}

impl Common {
    fn reach(&self) -> Reach<'_> {
        Reach {
            url: &self.admin,
            flag: "--admin",
            token_file: self.token_file.as_deref(),
            ca: self.ca.as_deref(),
            cert: self.cert.as_deref(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Table,
    /// What the gateway said
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Request {
    /// Which requests go where: look, ask why, change, and go back
    Routes {
        #[command(flatten)]
        common: Common,
        #[command(subcommand)]
        command: routes::Command,
    },
    /// Single endpoints: look, drain, weigh
    Endpoints {
        #[command(flatten)]
        common: Common,
        #[command(subcommand)]
        command: endpoints::Command,
    },
    /// Certificates: what is served, and what the registry keeps
    Certificates {
        #[command(flatten)]
        common: Common,
        #[command(subcommand)]
        command: certificates::Command,
    },
    /// Virtual IPs: who holds them, and moving them by hand
    Vip {
        #[command(flatten)]
        common: Common,
        #[command(subcommand)]
        command: vip::Command,
    },
    /// Names: what this gateway answers, and what it writes to other servers
    Dns {
        #[command(flatten)]
        common: Common,
        #[command(subcommand)]
        command: dns::Command,
    },
    /// What all gateways of the registry run, and what is doubted or rejected
    Status {
        #[command(flatten)]
        common: Common,
    },
    #[command(flatten)]
    Deploying(deploying::Request),
}

/// Ends with 0; 1 for what is wrong with what was asked, 2 where nobody answers who could say, 3 where what is differs
/// from what is wanted.
pub fn run(request: &Request) -> ExitCode {
    let output = match request {
        Request::Routes { common, .. }
        | Request::Endpoints { common, .. }
        | Request::Certificates { common, .. }
        | Request::Vip { common, .. }
        | Request::Dns { common, .. }
        | Request::Status { common } => common.output,
        Request::Deploying(request) => request.api().output,
    };
    match carry_out(request, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report(output);
            ExitCode::from(failure.code())
        }
    }
}

fn carry_out(request: &Request, output: Output) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::invalid(format!("cannot start: {error}")))?;
    let done = runtime.block_on(async {
        match request {
            Request::Routes { common, command } => {
                routes::run(&Admin::new(common.reach())?, command, output).await
            }
            Request::Endpoints { common, command } => {
                endpoints::run(&Admin::new(common.reach())?, command, output).await
            }
            Request::Certificates { common, command } => {
                certificates::run(&Admin::new(common.reach())?, command, output).await
            }
            Request::Vip { common, command } => vip::run(&Admin::new(common.reach())?, command, output).await,
            Request::Dns { common, command } => dns::run(&Admin::new(common.reach())?, command, output).await,
            Request::Status { common } => status::run(&Admin::new(common.reach())?, output).await,
            Request::Deploying(request) => {
                deploying::run(&Admin::new(request.api().reach())?, request, output).await
            }
        }
    });
    // The system's resolver may still be at it.
    runtime.shutdown_background();
    done
}
