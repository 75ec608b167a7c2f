//! End-to-end harness: starts the built `sluice` binary, endpoints that misbehave on request, and
//! clients that read every byte strictly.
//!
//! It knows Sluice only as its users do: configuration files, sockets, signals and admin answers. The
//! binary is `SLUICE_BIN`, or the one that `cargo build` left beside the test executables.
//!
//! Everything here panics with what it saw where a test could only do the same.

mod app;
mod bind;
mod certificate;
mod client;
mod command;
mod config;
mod cut;
mod data;
mod docker;
mod endpoint;
mod etcd;
mod eventually;
mod gate;
mod gateway;
mod kazoo;
mod load;
mod message;
mod metrics;
mod netns;
mod port;
mod process;
mod program;
mod prometheus;
mod python;
mod raw_endpoint;
mod server;
mod wire;
mod zookeeper;

pub use app::App;
pub use bind::{NameServer, dig, dig_short};
pub use certificate::{certificate, curl};
pub use client::RawClient;
pub use command::{Finished, finish};
pub use config::Config;
pub use cut::CuttableProxy;
pub use docker::{DockerHost, EngineTls, ImageRegistry, PASSWORD, USERNAME, no_docker};
pub use endpoint::{Endpoint, Reply};
pub use etcd::EtcdServer;
pub use eventually::{comes_true, eventually, settled, yields};
pub use gate::Gate;
pub use gateway::{Gateway, sluice};
pub use kazoo::{AnsweredAt, Kazoo, KazooError, KazooNode};
pub use load::{Load, LoadReport};
pub use message::{Fields, Framing, Request, Response, ResponseHead};
pub use metrics::Metrics;
pub use netns::{Host, Namespace, Switch};
pub use port::{HeldPort, ports};
pub use process::Process;
pub use program::Program;
pub use prometheus::Prometheus;
pub use python::python;
pub use raw_endpoint::{RawEndpoint, contains, read_head};
pub use server::Server;
pub use wire::Wire;
pub use zookeeper::ZooKeeperServer;

use std::time::Duration;

/// How long anything may take before a test calls it stuck. Generous: an unoptimised gateway shares two
/// cores with every other test.
pub const DEADLINE: Duration = Duration::from_secs(15);
