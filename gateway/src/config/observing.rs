//! The `[gateway.statistics]` and `[gateway.tracing]` sections.

use discovery::document::Table;
use topology::Sample;

use super::{StatisticsConfig, TracingConfig};
use crate::trace::Target;

/// A thousand services with as many clients and paths as there are counters, or ten times as many quiet ones.
const DEFAULT_MEMORY: usize = 64 << 20;
/// A few services' worth.
const MIN_MEMORY: u64 = 1 << 20;
const MAX_MEMORY: u64 = 16 << 30;
/// Collectors are built for 1 % of what a gateway sees, and few people look at more.
const DEFAULT_SAMPLE: f64 = 0.01;
const MAX_SERVICE_NAME_BYTES: usize = 128;
/// OTLP/HTTP's port, and where traces go below a base address.
const DEFAULT_PORT: u16 = 4318;
const TRACES: &str = "/v1/traces";

impl Default for StatisticsConfig {
    fn default() -> Self {
        Self { enabled: false, memory: DEFAULT_MEMORY }
    }
}

pub(super) fn read_statistics(gateway: &Table<'_>) -> StatisticsConfig {
    let default = StatisticsConfig::default();
    let Some(table) = gateway.table("statistics") else { return default };
    let enabled = table.boolean("enabled").unwrap_or(default.enabled);
    let memory = table.size("memory", MIN_MEMORY..=MAX_MEMORY);
    table.finish();
    let memory = memory.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(default.memory);
    StatisticsConfig { enabled, memory }
}

pub(super) fn read_tracing(gateway: &Table<'_>) -> Option<TracingConfig> {
    let table = gateway.table("tracing")?;
    let target = table.parsed("endpoint", collector);
    let target = table.required("endpoint", target, "endpoint = \"http://127.0.0.1:4318\"");
    let sample = table.fraction("sample").unwrap_or(DEFAULT_SAMPLE);
    let service_name = table.parsed("service_name", |text| {
        let is_name = (1..=MAX_SERVICE_NAME_BYTES).contains(&text.len()) && !text.contains(char::is_control);
        let message = || format!("is no service's name; write 1 to {MAX_SERVICE_NAME_BYTES} characters");
        is_name.then(|| text.to_owned()).ok_or_else(message)
    });
    table.finish();
    Some(TracingConfig {
        target: target?,
        sample: Sample::of(sample).unwrap_or(Sample::NONE),
        service_name: service_name.unwrap_or_else(|| "sluice".to_owned()),
    })
}

/// A base address as OpenTelemetry's exporters take it: `/v1/traces` is added to its path.
fn collector(text: &str) -> Result<Target, String> {
    let bad = |why: &str| format!("{text:?} is no collector's address{why}; write \"http://127.0.0.1:4318\"");
    let uri: http::Uri = text.parse().map_err(|_| bad(""))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => {
            return Err(bad(": spans leave in clear text, to a collector on this machine or network"));
        }
        _ => return Err(bad("")),
    }
    if uri.query().is_some() {
        return Err(bad(": it has no query"));
    }
    let authority =
        uri.authority().filter(|authority| !authority.as_str().contains('@')).ok_or_else(|| bad(""))?;
    let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(DEFAULT_PORT));
    let path = format!("{}{TRACES}", uri.path().trim_end_matches('/'));
    Ok(Target { authority: authority.to_string(), address, path })
}
