//! What this machine has.

use std::fs;
use std::io;
use std::num::NonZero;

use crate::runtime::HostFacts;

pub(super) fn read(limitations: Vec<String>) -> io::Result<HostFacts> {
    let memory = Memory::read()?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let cpus = std::thread::available_parallelism().map_or(1, NonZero::get);
    Ok(HostFacts {
        runtime: "process".to_owned(),
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        memory: memory.total,
        memory_available: Some(memory.available),
        load: load.split(' ').next().and_then(|load| load.parse().ok()),
        limitations,
    })
}

/// In bytes.
#[derive(Debug, Clone, Copy)]
pub(in crate::runtime) struct Memory {
    pub(in crate::runtime) total: u64,
    pub(in crate::runtime) available: u64,
}

impl Memory {
    pub(in crate::runtime) fn read() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/meminfo")?;
        let field = |name: &str| -> io::Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            let missing =
                || io::Error::new(io::ErrorKind::InvalidData, format!("/proc/meminfo has no {name}"));
            Ok(kibibytes.ok_or_else(missing)?.saturating_mul(1024))
        };
        Ok(Self { total: field("MemTotal")?, available: field("MemAvailable")? })
    }
}
