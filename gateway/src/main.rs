//! `sluice`: the command line.

mod cli;
mod demo;
mod secret;
mod signals;
mod token;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{CommandFactory as _, Parser, Subcommand};
use gateway::app::Gateway;
use gateway::config;
use gateway::handover::{self, Inheritance, Successor};
use signals::{Asked, Signals};

/// The general allocator costs a tenth of a request more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(name = "sluice", version, about = "A programmable edge gateway and load balancer")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start what the configuration file names, until SIGTERM or Ctrl-C
    Run {
        /// The start-up configuration
        #[arg(long, value_name = "FILE", default_value = "conf/sluice.toml")]
        config: PathBuf,
        /// Take the listening sockets over from the process that answers at `gateway.handover`, without a
        /// refused connection. Where none answers this is an ordinary start
        #[arg(long)]
        takeover: bool,
    },
    /// Start a new process in the place of the running one, with this binary and this configuration, and
    /// return when it serves. If it cannot, the running one goes on
    Upgrade {
        /// The start-up configuration
        #[arg(long, value_name = "FILE", default_value = "conf/sluice.toml")]
        config: PathBuf,
    },
    /// Read a configuration and everything it names, and report every mistake
    Check {
        /// The start-up configuration
        #[arg(long, value_name = "FILE", default_value = "conf/sluice.toml")]
        config: PathBuf,
    },
    /// Keep values of the registry secret from who can read it
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// Tokens for the admin API
    #[command(subcommand)]
    Token(token::TokenCommand),
    #[command(flatten)]
    Ask(cli::Request),
    /// Print what makes a shell complete this program's commands
    Completion {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Show it all on this machine: a gateway, a registry, two apps
    Demo,
    #[command(hide = true)]
    DemoInstance(demo::instance::InstanceArguments),
    /// Closes the fence and takes virtual IPs off when its gateway has ended; started by the gateway alone
    #[command(hide = true)]
    VipGuard {
        #[arg(long)]
        interface: String,
        #[arg(long)]
        table: Option<String>,
        vips: Vec<std::net::IpAddr>,
    },
    /// Looks after one instance; started by the process runtime alone
    #[command(hide = true)]
    InstanceShim,
}

fn main() -> ExitCode {
    spare_memory();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(said) => return misused(&said),
    };
    match arguments.command {
        Command::Ask(request) => cli::run(&request),
        Command::Completion { shell } => {
            complete(shell);
            ExitCode::SUCCESS
        }
        Command::Check { config } => check(&config),
        Command::Run { config, takeover } => run(&config, takeover),
        Command::Upgrade { config } => upgrade(&config),
        Command::Secret(command) => finish(secret::run(command)),
        Command::Token(command) => finish(token::run(command)),
        Command::Demo => {
            start_logging(LogStyle::Plain, "warn,sluice::health=info");
            finish(block_on(demo::run()))
        }
        Command::VipGuard { interface, table, vips } => {
            start_logging(LogStyle::Json, "info");
            finish(block_on(gateway::vips::guard(interface, table, vips)))
        }
        Command::InstanceShim => deploy::runtime::process::shim::run(),
        Command::DemoInstance(arguments) => finish(block_on(demo::instance::run(arguments))),
    }
}

/// Help and versions are no mistakes. What is one ends with 1, as every other does.
fn misused(said: &clap::Error) -> ExitCode {
    // Whoever reads it may have gone.
    let _ = said.print();
    if said.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn complete(shell: clap_complete::Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "sluice", &mut script);
    let _ = std::io::Write::write_all(&mut std::io::stdout(), &script);
}

/// The allocator asks for huge pages, and each of its threads' first allocations would then cost 2 MiB:
/// 9 of the 16 MiB of an idle gateway. No workload was measurably faster with them.
fn spare_memory() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        eprintln!("sluice: cannot turn huge pages off, more memory will be used: {error}");
    }
}

fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluice: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn check(path: &std::path::Path) -> ExitCode {
    match config::check_and_warn(path) {
        Ok((config, warnings)) => {
            warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            println!("{}: valid; listeners: {}", path.display(), config.gateway.listeners.len());
            ExitCode::SUCCESS
        }
        Err(mistakes) => {
            eprintln!("{mistakes}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: &Path, takeover: bool) -> ExitCode {
    let Some(config) = load(path) else { return ExitCode::FAILURE };
    start_logging(LogStyle::Json, "info");
    finish(block_on(serve(path.to_owned(), config, takeover)))
}

/// What stands at `path`, or a report of what is wrong with it.
fn load(path: &Path) -> Option<config::Config> {
    config::load(path).inspect_err(|mistakes| eprintln!("{mistakes}")).ok()
}

fn upgrade(path: &Path) -> ExitCode {
    let Some(config) = load(path) else { return ExitCode::FAILURE };
    finish(block_on(async {
        let socket = config.gateway.handover.context(
            "the configuration has no gateway.handover; write one such as \"/run/sluice/handover.sock\"",
        )?;
        let (former, now) = handover::upgrade::run(path, &socket).await?;
        println!(
            "process {} (sluice {}) serves as generation {}; process {} drains",
            now.pid, now.version, now.generation, former.pid
        );
        Ok(())
    }))
}

/// One thread carries the control plane.
fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the control plane's runtime")?;
    let done = runtime.block_on(work);
    // A scrape in the making does not hold up the end.
    runtime.shutdown_background();
    done
}

async fn serve(path: PathBuf, config: config::Config, takeover: bool) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    config.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    let inheritance = inherit(&config, takeover).await?;
    let mut gateway = Box::pin(Gateway::start_with(config, inheritance)).await?;
    if let Some(address) = gateway.admin_address {
        tracing::info!(%address, "admin listening");
    }
    if let Some(socket) = gateway.admin_path() {
        tracing::info!(socket = %socket.display(), "admin listening");
    }
    let mut claims = gateway.claim_watch();
    // What was refused at the start may be had later.
    claims.try_again(true);
    loop {
        tokio::select! {
            wanted = claims.changed() => {
                let again = gateway.open_ports(wanted).await;
                claims.try_again(again);
            }
            asked = signals.next() => match asked {
                Asked::Reload => gateway.reload(&path).await,
                Asked::ReopenLog => gateway.reopen_log(),
                Asked::Stop => break,
            },
            successor = gateway.next_successor() => match successor {
                Successor::Failed => gateway.catch_up(&path).await,
                Successor::Serves(taken) => {
                    gateway.drain_after(taken, async || signals.next().await.into()).await;
                    tracing::info!("stopped");
                    return Ok(());
                }
            },
        }
    }
    tracing::info!("draining; a second signal ends at once");
    gateway.shut_down(signals.stop()).await;
    tracing::info!("stopped");
    Ok(())
}

/// What this process need not open itself.
async fn inherit(config: &config::Config, takeover: bool) -> anyhow::Result<Inheritance> {
    if takeover {
        let path = config.gateway.handover.as_deref();
        let path = path.context("--takeover needs gateway.handover in the configuration")?;
        if let Some(inheritance) = Inheritance::from_process(path).await? {
            return Ok(inheritance);
        }
        tracing::info!(path = %path.display(), "nobody to take over from");
    }
    Inheritance::activated(config)
}

#[derive(Debug, Clone, Copy)]
enum LogStyle {
    Json,
    Plain,
}

/// To standard error; standard output may be the access log. `SLUICE_LOG` overrides `default` with a
/// filter such as `debug` or `info,discovery=debug`.
fn start_logging(style: LogStyle, default: &str) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("SLUICE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match style {
        LogStyle::Json => subscriber.json().flatten_event(true).init(),
        LogStyle::Plain => subscriber.with_target(false).init(),
    }
}
