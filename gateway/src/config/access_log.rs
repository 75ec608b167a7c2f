//! The `[gateway.access_log]` section.

use std::path::{Path, PathBuf};

use discovery::document::{Table, pick};
use discovery::spec::parse_address;

use super::AccessLogConfig;
use super::values::file_path;
use crate::access_log::{
    DEFAULT_FACILITY, FACILITIES, Format, LogTarget, Rotation, StreamAddress, SyslogAddress,
};

/// What may wait for a slow target. At 400 bytes a line, 20,000 lines a second for two seconds: longer than
/// a disk stalls or a daemon restarts, and little beside what a gateway of that traffic has in use.
const DEFAULT_BUFFER: usize = 16 << 20;
/// One batch of a worker.
const MIN_BUFFER: u64 = 128 << 10;
const MAX_BUFFER: u64 = 4 << 30;
/// Smaller files are moved more often than anybody looks.
const MIN_ROTATE_SIZE: u64 = 4 << 10;
const MAX_ROTATE_SIZE: u64 = 1 << 40;
/// A week of files, where one a day and a spare half are usual.
const DEFAULT_KEEP: u32 = 5;
/// Each rotation renames all of them.
const MAX_KEEP: u32 = 1_000;

/// The ways to say where lines go; one at most is written.
const TARGETS: [&str; 3] = ["path", "syslog", "socket"];

pub(super) fn read_access_log(gateway: &Table<'_>, base: &Path) -> AccessLogConfig {
    let Some(table) = gateway.table("access_log") else { return AccessLogConfig::default() };
    let target = read_target(&table, base);
    let format = table.choice("format", &[("json", Format::Json), ("combined", Format::Combined)]);
    let buffer = table.size("buffer", MIN_BUFFER..=MAX_BUFFER);
    let facility = table.parsed("facility", |word| pick(word, &FACILITIES));
    if table.has("facility") && !table.has("syslog") {
        table.mistake("facility", "is for syslog only; remove it");
    }
    table.finish();
    let default = AccessLogConfig::default();
    AccessLogConfig {
        target: target.unwrap_or(default.target),
        format: format.unwrap_or(default.format),
        buffer: buffer.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(default.buffer),
        facility: facility.unwrap_or(default.facility),
    }
}

impl Default for AccessLogConfig {
    fn default() -> Self {
        Self {
            target: Some(LogTarget::Stdout),
            format: Format::Json,
            buffer: DEFAULT_BUFFER,
            facility: DEFAULT_FACILITY,
        }
    }
}

/// `Some(None)`: the log is off.
fn read_target(table: &Table<'_>, base: &Path) -> Option<Option<LogTarget>> {
    let given: Vec<_> = TARGETS.into_iter().filter(|key| table.has(key)).collect();
    if let [first, others @ ..] = &given[..] {
        for other in others {
            table.mistake(
                other,
                format!("lines go to one place, and {first} says where; keep one of the two"),
            );
        }
    }
    let rotation = read_rotation(table);
    let path = table.parsed("path", |text| match text {
        "-" => Ok(Some(LogTarget::Stdout)),
        "off" => Ok(None),
        _ => file_path(base, text).map(|path| Some(LogTarget::File { path, rotation })),
    });
    if rotation.is_some() && !matches!(path, Some(Some(LogTarget::File { .. }))) {
        table.mistake("rotate_size", "only files are rotated; remove it, or write path = \"access.log\"");
    }
    let syslog = table.parsed("syslog", |text| syslog_address(base, text).map(LogTarget::Syslog));
    let socket = table.parsed("socket", |text| stream_address(base, text).map(LogTarget::Socket));
    path.or(syslog.or(socket).map(Some))
}

fn read_rotation(table: &Table<'_>) -> Option<Rotation> {
    let bytes = table.size("rotate_size", MIN_ROTATE_SIZE..=MAX_ROTATE_SIZE);
    let keep = table.integer("keep", 0..=MAX_KEEP);
    if table.has("keep") && !table.has("rotate_size") {
        table.mistake(
            "keep",
            "is for files that are rotated; write rotate_size = \"100MiB\" too, or remove it",
        );
    }
    Some(Rotation { bytes: bytes?, keep: keep.unwrap_or(DEFAULT_KEEP) })
}

fn stream_address(base: &Path, text: &str) -> Result<StreamAddress, String> {
    match text.split_once(':') {
        Some(("unix", path)) => unix_path(base, path).map(StreamAddress::Unix),
        Some(("tcp", address)) => {
            parse_address(address).map(StreamAddress::Tcp).map_err(|error| error.to_string())
        }
        _ => Err(format!("{text:?} is no socket; write \"unix:/run/log.sock\" or \"tcp:10.0.0.1:5170\"")),
    }
}

fn syslog_address(base: &Path, text: &str) -> Result<SyslogAddress, String> {
    let address = |text| parse_address(text).map_err(|error| error.to_string());
    match text.split_once(':') {
        Some(("unix", path)) => unix_path(base, path).map(SyslogAddress::Unix),
        Some(("udp", text)) => address(text).map(SyslogAddress::Udp),
        Some(("tcp", text)) => address(text).map(SyslogAddress::Tcp),
        _ => Err(format!(
            "{text:?} is no syslog; write \"unix:/dev/log\", \"udp:10.0.0.1:514\" or \"tcp:10.0.0.1:601\""
        )),
    }
}

/// Linux has room for 107 bytes of a socket's path (unix(7)).
const MAX_SOCKET_PATH_BYTES: usize = 107;

fn unix_path(base: &Path, text: &str) -> Result<PathBuf, String> {
    let path = file_path(base, text)?;
    if path.as_os_str().len() > MAX_SOCKET_PATH_BYTES {
        return Err(format!(
            "{} is too long for a socket's path: {MAX_SOCKET_PATH_BYTES} bytes",
            path.display()
        ));
    }
    Ok(path)
}
