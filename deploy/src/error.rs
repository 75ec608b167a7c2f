//! What can go wrong when the set of running instances is changed.

use std::io;
use std::sync::Arc;

use discovery::registry::RegistryError;

#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    #[error("cannot start the thread that starts processes")]
    Launcher(#[source] io::Error),
    #[error("cannot start `{command}`")]
    Start {
        command: Arc<str>,
        #[source]
        source: io::Error,
    },
    #[error("cannot signal `{command}` (process {pid})")]
    Signal {
        command: Arc<str>,
        pid: u32,
        #[source]
        source: io::Error,
    },
    #[error("cannot learn how `{command}` (process {pid}) ended")]
    Wait {
        command: Arc<str>,
        pid: u32,
        #[source]
        source: io::Error,
    },
    #[error("cannot {doing}")]
    Registry {
        doing: String,
        #[source]
        source: RegistryError,
    },
}
