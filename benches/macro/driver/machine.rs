//! Where a measurement ran, and who else was busy there meanwhile.

use std::fs;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

/// More than this share of one core used by others makes a figure doubtful.
pub const QUIET_CORES: f64 = 0.05;
/// Linux reports CPU times in hundredths of a second to user space, whatever its own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// What identifies the machine and the versions.
pub fn describe() -> Value {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    json!({
        "kernel": read("/proc/sys/kernel/osrelease"),
        "cores": cores,
        "cpu": field(&read("/proc/cpuinfo"), "model name"),
        "memory_kib": field(&read("/proc/meminfo"), "MemTotal").split(' ').next().unwrap_or_default(),
        "sluice": output(::tests::sluice().arg("--version")),
        "sluice_built": built(),
        "checkout": output(Command::new("git").args(["describe", "--always", "--dirty"])),
        "zookeeper": package("zookeeper"),
        "kazoo": package("python3-kazoo"),
    })
}

/// CPU time by us (this process and the children that it has waited for) and by everybody, since the start.
#[derive(Debug)]
pub struct Watch {
    began: Instant,
    everybody: f64,
    ours: f64,
}

impl Watch {
    pub fn start() -> Self {
        Self { began: Instant::now(), everybody: everybody_seconds(), ours: our_seconds() }
    }

    /// Cores that others used on average. All our children must have ended.
    pub fn cores_of_others(&self) -> f64 {
        let everybody = everybody_seconds() - self.everybody;
        let ours = our_seconds() - self.ours;
        ((everybody - ours) / self.began.elapsed().as_secs_f64()).max(0.0)
    }
}

/// User, nice and system time of all processors. Interrupts are left out: they are charged to nobody.
fn everybody_seconds() -> f64 {
    let stat = read("/proc/stat");
    let line = stat.lines().next().unwrap_or_default();
    let ticks = line.split_ascii_whitespace().skip(1).take(3).filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

fn our_seconds() -> f64 {
    // The name before it may hold spaces; it ends at the last parenthesis. What follows starts with
    // field 3, and fields 14 to 17 are utime, stime, cutime and cstime (proc(5)).
    let stat = read("/proc/self/stat");
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks =
        fields.split_ascii_whitespace().skip(11).take(4).filter_map(|field| field.parse::<f64>().ok());
    ticks.sum::<f64>() / TICKS_PER_SECOND
}

fn built() -> Option<String> {
    let binary = ::tests::sluice().get_program().to_owned();
    let modified = fs::metadata(binary).and_then(|metadata| metadata.modified()).ok()?;
    jiff::Timestamp::try_from(modified).ok().map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn package(name: &str) -> String {
    output(Command::new("dpkg-query").args(["--show", "--showformat=${Version}", name]))
}

/// Empty when the program is missing: a record without a version is better than no record.
fn output(command: &mut Command) -> String {
    let text = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// The value of the first line `name : value`.
fn field(text: &str, name: &str) -> String {
    let value = text.lines().filter_map(|line| line.split_once(':')).find(|(key, _)| key.trim() == name);
    value.map_or_else(String::new, |(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_work_is_not_charged_to_others() {
        let (watch, began) = (Watch::start(), our_seconds());
        while our_seconds() - began < 0.3 {
            std::hint::black_box(read("/proc/self/stat"));
        }
        let everybody = everybody_seconds() - watch.everybody;
        let ours = our_seconds() - watch.ours;
        assert!(ours >= 0.3 && everybody + 0.1 >= ours, "{everybody} of which {ours} is ours");
    }
}
