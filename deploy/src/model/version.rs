//! One version of an app: what is run, with what, and how it is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use discovery::document::Table;
use serde::{Deserialize, Serialize};

use super::probe::{Probe, read_probe};
use super::stored::millis;

/// More words than any shell takes pleasure in.
const MAX_WORDS: usize = 256;
const MAX_WORD_BYTES: usize = 8 << 10;
/// `docker inspect` of the largest images that we have seen shows some 60.
const MAX_VARIABLES: usize = 500;
const MAX_VALUE_BYTES: usize = 32 << 10;
const MAX_NAME_BYTES: usize = 256;
const MAX_FILES: usize = 100;
const MAX_VOLUMES: usize = 50;
const MAX_PATH_BYTES: usize = 1 << 10;
/// Docker's own floor.
const MIN_MEMORY: u64 = 6 << 20;
const MAX_MEMORY: u64 = 64 << 40;
/// In hundredths: 1,024 processors.
const MAX_CPU: u32 = 102_400;
const MAX_PIDS: u32 = 4_194_304;
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Immutable once an instance of it runs: a change makes another [`Release`](super::Release).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionSpec {
    pub run: Run,
    pub environment: BTreeMap<String, String>,
    /// Variables whose values are in the app's configuration: variable → name there.
    pub secrets: BTreeMap<String, String>,
    /// Files whose contents are in the app's configuration: absolute path → name there.
    pub files: BTreeMap<String, String>,
    /// What a container listens on; a process finds the port of its host in `PORT`.
    pub port: u16,
    /// `http1`, `h2`, `tcp` or `udp`, as registrations have it.
    pub protocol: String,
    pub resources: Reservation,
    pub volumes: Vec<VolumeSpec>,
    pub user: Option<String>,
    pub working_dir: Option<String>,
    pub probe: Probe,
    pub hooks: Hooks,
    /// From the decision to start until the runtime says that it runs; a pull counts.
    #[serde(with = "millis")]
    pub start_timeout: Duration,
    /// How long requests may take that were under way when all gateways had stopped sending new ones.
    #[serde(with = "millis")]
    pub drain_timeout: Duration,
    /// From the request to end until it is killed.
    #[serde(with = "millis")]
    pub stop_grace: Duration,
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Run {
    /// An image, and what it is to run where that is not what it says itself.
    Image { registry: Option<String>, repository: String, tag: String, command: Vec<String> },
    /// A program of the host and its arguments.
    Command(Vec<String>),
}

/// What an instance is held to and what the scheduler reserves for it. 0: neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reservation {
    /// In bytes.
    pub memory: u64,
    /// In thousandths of a processor.
    pub cpu: u32,
    pub cpu_shares: Option<u32>,
    pub pids: Option<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    pub source: String,
    pub target: String,
    pub read_only: bool,
}

/// Commands that are run inside an instance.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Hooks {
    /// Once it runs, before it is probed.
    pub start: Option<Hook>,
    /// Before it is asked to end.
    pub stop: Option<Hook>,
    /// After its probes have passed; it must end with 0 for the instance to be registered.
    pub status: Option<Hook>,
    /// On an operator's request; what it writes is the answer.
    pub info: Option<Hook>,
    /// When an app that this one depends on has changed.
    pub config_change: Option<Hook>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    pub command: Vec<String>,
    #[serde(with = "millis")]
    pub timeout: Duration,
}

impl Hook {
    /// What the platform's hooks have today.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
}

impl VersionSpec {
    /// Images of gigabytes come over networks of a hundred megabits.
    pub const DEFAULT_START_TIMEOUT: Duration = Duration::from_secs(300);
    /// The gateways' own limit of how long an upstream may take.
    pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
    /// Docker's.
    pub const DEFAULT_STOP_GRACE: Duration = Duration::from_secs(10);
    pub const DEFAULT_PORT: u16 = 8080;
}

pub(super) fn read_version(table: Table<'_>) -> Option<VersionSpec> {
    let wait = Duration::ZERO..=MAX_WAIT;
    let run = read_run(&table);
    let environment = read_map(&table, "env", MAX_VARIABLES, variable, any_value).unwrap_or_default();
    let secrets = read_map(&table, "secrets", MAX_VARIABLES, variable, config_name).unwrap_or_default();
    let both = secrets.keys().find(|name| environment.contains_key(*name));
    if let Some(name) = both {
        table.mistake("secrets", format!("{name} stands in env too; keep one of them"));
    }
    let spec = VersionSpec {
        environment,
        secrets,
        files: read_map(&table, "files", MAX_FILES, absolute, config_name).unwrap_or_default(),
        port: table.integer("port", 1..=u16::MAX).unwrap_or(VersionSpec::DEFAULT_PORT),
        protocol: read_protocol(&table),
        resources: read_resources(&table),
        volumes: read_volumes(&table),
        user: table.parsed("user", |text| short(text, MAX_NAME_BYTES)),
        working_dir: table.parsed("working_dir", absolute),
        probe: read_probe(&table),
        hooks: read_hooks(&table),
        start_timeout: table
            .duration("start_timeout", Duration::from_secs(1)..=MAX_WAIT)
            .unwrap_or(VersionSpec::DEFAULT_START_TIMEOUT),
        drain_timeout: table
            .duration("drain_timeout", wait.clone())
            .unwrap_or(VersionSpec::DEFAULT_DRAIN_TIMEOUT),
        stop_grace: table.duration("stop_grace", wait).unwrap_or(VersionSpec::DEFAULT_STOP_GRACE),
        run: Run::Command(Vec::new()),
    };
    table.finish();
    Some(VersionSpec { run: run?, ..spec })
}

fn read_protocol(table: &Table<'_>) -> String {
    let known = [("http1", "http1"), ("h2", "h2"), ("tcp", "tcp"), ("udp", "udp")];
    table.choice("protocol", &known).unwrap_or("http1").to_owned()
}

fn read_run(table: &Table<'_>) -> Option<Run> {
    let command = read_command(table);
    if let Some(image) = table.parsed("image", parse_image) {
        let (registry, repository, tag) = image;
        return Some(Run::Image { registry, repository, tag, command: command.unwrap_or_default() });
    }
    if table.has("image") {
        return None;
    }
    let example = "image = \"registry.local/shop:v1\", or command = [\"./shop\"]";
    table.required("command", command, example).map(Run::Command)
}

fn read_command(table: &Table<'_>) -> Option<Vec<String>> {
    table.refuse_empty("command", "write the program and its arguments");
    table.list("command", MAX_WORDS, |word| short(word, MAX_WORD_BYTES)).filter(|words| !words.is_empty())
}

/// `[registry/]repository:tag` or `[registry/]repository@sha256:…`. As Docker has it, the first segment is a registry
/// where it has a dot or a colon, or is `localhost`.
fn parse_image(text: &str) -> Result<(Option<String>, String, String), String> {
    const WANTED: &str =
        "is no image; write registry/repository:tag, such as \"registry.local:5000/shop:v1\"";
    let plain = text.len() <= MAX_PATH_BYTES
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./:@_-".contains(&byte));
    let (registry, rest) = match text.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (Some(first), rest),
        _ => (None, text),
    };
    let (repository, tag) = rest.split_once('@').or_else(|| rest.split_once(':')).ok_or(WANTED)?;
    let segments_named = repository.split('/').all(|segment| !segment.is_empty());
    let tag_named = !tag.is_empty() && !tag.contains(['/', '@']);
    if !plain || !segments_named || repository.contains([':', '@']) || !tag_named {
        return Err(WANTED.to_owned());
    }
    Ok((registry.map(str::to_owned), repository.to_owned(), tag.to_owned()))
}

fn read_resources(table: &Table<'_>) -> Reservation {
    let Some(table) = table.table("resources") else { return Reservation::default() };
    let read = Reservation {
        memory: table.size("memory", MIN_MEMORY..=MAX_MEMORY).unwrap_or(0),
        cpu: table.hundredths("cpu", 1..=MAX_CPU).unwrap_or(0) * 10,
        cpu_shares: table.integer("cpu_shares", 2..=262_144),
        pids: table.integer("pids", 1..=MAX_PIDS),
    };
    table.finish();
    read
}

fn read_volumes(table: &Table<'_>) -> Vec<VolumeSpec> {
    let mut volumes: Vec<VolumeSpec> = Vec::new();
    for table in table.tables("volumes", MAX_VOLUMES) {
        let source = table.parsed("source", |text| short(text, MAX_PATH_BYTES));
        let source = table.required("source", source, "source = \"/srv/shop\", or a volume's name");
        let target = table.parsed("target", absolute);
        let target = table.required("target", target, "target = \"/data\"");
        let read_only = table.boolean("read_only").unwrap_or(false);
        if target.as_ref().is_some_and(|target| volumes.iter().any(|other| other.target == *target)) {
            table.mistake("target", "has a volume already");
        }
        table.finish();
        if let (Some(source), Some(target)) = (source, target) {
            volumes.push(VolumeSpec { source, target, read_only });
        }
    }
    volumes
}

fn read_hooks(table: &Table<'_>) -> Hooks {
    let Some(table) = table.table("hooks") else { return Hooks::default() };
    let hook = |name| read_hook(&table, name);
    let hooks = Hooks {
        start: hook("start"),
        stop: hook("stop"),
        status: hook("status"),
        info: hook("info"),
        config_change: hook("config_change"),
    };
    table.finish();
    hooks
}

/// A list of words, or a table with `command` and `timeout`.
fn read_hook<'d>(hooks: &Table<'d>, name: &'d str) -> Option<Hook> {
    if !hooks.is_table(name) {
        hooks.refuse_empty(name, "write the program and its arguments");
        let command = hooks.list(name, MAX_WORDS, |word| short(word, MAX_WORD_BYTES))?;
        return (!command.is_empty()).then_some(Hook { command, timeout: Hook::DEFAULT_TIMEOUT });
    }
    let table = hooks.table(name)?;
    let command = read_command(&table);
    let command = table.required("command", command, "command = [\"./warm-up\"]");
    let timeout = table.duration("timeout", Duration::from_millis(100)..=MAX_WAIT);
    table.finish();
    Some(Hook { command: command?, timeout: timeout.unwrap_or(Hook::DEFAULT_TIMEOUT) })
}

/// A table whose keys are the writer's own.
pub(super) fn read_map<'d>(
    table: &Table<'d>,
    key: &'d str,
    most: usize,
    check_name: fn(&str) -> Result<String, String>,
    check_value: fn(&str) -> Result<String, String>,
) -> Option<BTreeMap<String, String>> {
    let map = table.table(key)?;
    if map.names().len() > most {
        table.mistake(key, format!("has {} entries; the limit is {most}", map.names().len()));
        return None;
    }
    let mut read = BTreeMap::new();
    for name in map.names() {
        let Some(value) = map.parsed(name, check_value) else { continue };
        match check_name(name) {
            Ok(name) => drop(read.insert(name, value)),
            Err(message) => map.mistake(name, message),
        }
    }
    Some(read)
}

fn variable(name: &str) -> Result<String, String> {
    let starts = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let rest = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match (starts && rest && name.len() <= MAX_NAME_BYTES, name) {
        (_, "PORT") => Err("is set by us: what to listen on".to_owned()),
        _ if name.starts_with("SLUICE_") => {
            Err("is set by us, as all that begin with SLUICE_; take another name".to_owned())
        }
        (true, _) => Ok(name.to_owned()),
        (false, _) => Err("is no variable; write letters, digits and _, such as \"LOG_LEVEL\"".to_owned()),
    }
}

fn any_value(value: &str) -> Result<String, String> {
    short(value, MAX_VALUE_BYTES)
        .or_else(|message| if value.is_empty() { Ok(String::new()) } else { Err(message) })
}

pub(crate) fn config_name(name: &str) -> Result<String, String> {
    let usable = (1..=MAX_NAME_BYTES).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    usable.then(|| name.to_owned()).ok_or_else(|| {
        "is no name in the configuration; write letters, digits, . _ and -, such as \"db.password\""
            .to_owned()
    })
}

fn absolute(path: &str) -> Result<String, String> {
    let usable = path.starts_with('/')
        && path.len() <= MAX_PATH_BYTES
        && !path.contains(char::is_control)
        && path.split('/').all(|segment| !matches!(segment, "." | ".."));
    usable.then(|| path.to_owned()).ok_or_else(|| "is no absolute path without . and ..".to_owned())
}

fn short(text: &str, most: usize) -> Result<String, String> {
    let usable = (1..=most).contains(&text.len()) && !text.contains('\0');
    usable.then(|| text.to_owned()).ok_or_else(|| format!("must have 1 to {most} bytes, none of them 0"))
}
