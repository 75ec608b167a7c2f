//! Named scenarios that drive a real gateway and a real ZooKeeper: `cargo bench --bench scenarios -- NAME`.

mod bad_endpoints;
mod change_latency;
mod change_under_load;
mod chaos;
mod compare;
mod fleet;
mod micro;
mod registry_outage;
mod scale;
mod soak;
mod stretches;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(about = "Drives a real gateway and keeps what it saw in benches/results")]
struct Arguments {
    #[command(subcommand)]
    scenario: Option<Scenario>,
    /// Cargo passes it to every bench.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Debug, Subcommand)]
#[command(rename_all = "snake_case")]
enum Scenario {
    /// How soon a new endpoint gets its first request, and a deleted one its last.
    ChangeLatency(change_latency::Settings),
    /// Whether changes that never end fail or delay a request.
    ChangeUnderLoad(change_under_load::Settings),
    /// Whether a ZooKeeper that is killed fails a request.
    RegistryOutage(registry_outage::Settings),
    /// What an app notices of another one's bad endpoints.
    BadEndpoints(bad_endpoints::Settings),
    /// Whether requests are lost or gateways differ, whatever happens to the registry.
    Chaos(chaos::Settings),
    /// What 100,000 hosts, 10,000 apps and 100,000 endpoints cost.
    Scale(scale::Settings),
    /// Whether anything fails or grows in the long run, whatever happens meanwhile.
    Soak(soak::Settings),
    /// What a request costs beside nginx, HAProxy and pingora-proxy.
    Compare(compare::Settings),
    /// Runs the micro benches and keeps their figures.
    Micro(micro::Settings),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().scenario {
        Some(Scenario::ChangeLatency(settings)) => change_latency::run(&settings),
        Some(Scenario::ChangeUnderLoad(settings)) => change_under_load::run(&settings),
        Some(Scenario::RegistryOutage(settings)) => registry_outage::run(&settings),
        Some(Scenario::BadEndpoints(settings)) => bad_endpoints::run(&settings),
        Some(Scenario::Chaos(settings)) => chaos::run(&settings),
        Some(Scenario::Scale(settings)) => scale::run(&settings),
        Some(Scenario::Soak(settings)) => soak::run(&settings),
        Some(Scenario::Compare(settings)) => compare::run(&settings),
        Some(Scenario::Micro(settings)) => micro::run(&settings),
        // `cargo bench` without a name runs every bench: minutes of load must be asked for.
        None => {
            println!(
                "name a scenario: change_latency, change_under_load, registry_outage, bad_endpoints, chaos, scale, soak, compare, micro"
            );
            Ok(())
        }
    }
}
