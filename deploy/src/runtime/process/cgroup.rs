//! What the kernel holds processes to.
//!
//! Version 2, one tree for all, is what this is made for. On machines that still give a controller to a
//! tree of version 1, its files there are used. A controller that is in neither, or that may not be
//! written to, is a limitation: it is said once, and instances run without that limit.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::runtime::Resources;

/// In microseconds. The kernel's and Docker's usual: shorter ones cost more, longer ones stall longer.
const CPU_PERIOD: u64 = 100_000;
/// A cgroup is empty some milliseconds after its processes were killed.
const EMPTY_DEADLINE: Duration = Duration::from_secs(5);
const EMPTY_POLL: Duration = Duration::from_millis(5);
/// Below every folder that we may write: what we make is in here.
const BASE: &str = "sluice";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// One tree, and which of our controllers it has.
#[derive(Debug)]
struct Tree {
    version: Version,
    /// Where instances' cgroups are made.
    base: PathBuf,
    controllers: Vec<Controller>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Controller {
    Memory,
    Cpu,
    Pids,
}

const CONTROLLERS: [Controller; 3] = [Controller::Memory, Controller::Cpu, Controller::Pids];

/// What this machine lets us limit.
#[derive(Debug)]
pub(super) struct Cgroups {
    trees: Vec<Tree>,
    pub(super) limitations: Vec<String>,
}

/// Where to read how often the kernel killed for memory.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct OomCounter {
    path: PathBuf,
}

/// One instance's cgroup, in every tree.
#[derive(Debug, Clone)]
pub(super) struct Cgroup {
    folders: Vec<(Version, Vec<Controller>, PathBuf)>,
}

/// Why a limit does not hold.
#[derive(Debug, thiserror::Error)]
pub(super) enum LimitError {
    #[error("this machine does not let us limit {0}")]
    Unsupported(&'static str),
    #[error("the instance uses {used} bytes of memory, more than {limit}")]
    InUse { used: u64, limit: u64 },
    #[error("cannot write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Controller {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
        }
    }

    fn limits(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu_shares and cpu_millis",
            Self::Pids => "pids",
        }
    }

    fn is_wanted(self, resources: &Resources) -> bool {
        match self {
            Self::Memory => resources.memory.is_some(),
            Self::Cpu => resources.cpu_shares.is_some() || resources.cpu_millis.is_some(),
            Self::Pids => resources.pids.is_some(),
        }
    }

    /// File, value; a file that may be missing is marked.
    fn settings(self, version: Version, resources: &Resources) -> Vec<(&'static str, String, bool)> {
        let or_max = |limit: Option<u64>| limit.map_or("max".to_owned(), |limit| limit.to_string());
        let or_lifted = |limit: Option<u64>| limit.map_or("-1".to_owned(), |limit| limit.to_string());
        let quota = resources.cpu_millis.map(|millis| u64::from(millis) * CPU_PERIOD / 1000);
        match (self, version) {
            (Self::Memory, Version::Two) => vec![
                ("memory.max", or_max(resources.memory), false),
                ("memory.swap.max", if resources.memory.is_some() { "0" } else { "max" }.to_owned(), true),
                // The whole instance ends when it outgrows its memory, not a part that it cannot do without.
                ("memory.oom.group", "1".to_owned(), true),
            ],
            (Self::Memory, Version::One) => vec![
                ("memory.limit_in_bytes", or_lifted(resources.memory), false),
                ("memory.memsw.limit_in_bytes", or_lifted(resources.memory), true),
            ],
            (Self::Cpu, Version::Two) => vec![
                ("cpu.max", format!("{} {CPU_PERIOD}", or_max(quota)), false),
                ("cpu.weight", weight(resources.cpu_shares).to_string(), false),
            ],
            (Self::Cpu, Version::One) => vec![
                ("cpu.cfs_period_us", CPU_PERIOD.to_string(), false),
                ("cpu.cfs_quota_us", or_lifted(quota), false),
                ("cpu.shares", resources.cpu_shares.unwrap_or(1024).max(2).to_string(), false),
            ],
            (Self::Pids, _) => vec![("pids.max", or_max(resources.pids.map(u64::from)), false)],
        }
    }
}

/// Shares of 2 to 262144 as weights of 1 to 10000, by the formula that the OCI's runtimes use.
fn weight(shares: Option<u32>) -> u64 {
    shares.map_or(100, |shares| 1 + (u64::from(shares.clamp(2, 262_144)) - 2) * 9999 / 262_142)
}

impl Cgroups {
    /// Finds out what this machine allows, and prepares it. `beneath` is the folder, as in
    /// `/proc/self/cgroup`, to make cgroups in; default: the one that we are in.
    pub(super) fn find(beneath: Option<&Path>) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut found = Self { trees: Vec::new(), limitations: Vec::new() };
        let mut missing = CONTROLLERS.to_vec();
        for mount in parse_mounts(&mounts) {
            let inside = beneath.map(Path::to_owned).or_else(|| own_folder(&own, &mount)).unwrap_or_default();
            let parent = mount.folder.join(inside.strip_prefix("/").unwrap_or(&inside));
            let tree = match mount.version {
                Version::Two => found.prepare_two(&parent),
                Version::One => prepare_one(&mount, &parent, &missing),
            };
            match tree {
                Ok(tree) => {
                    missing.retain(|controller| !tree.controllers.contains(controller));
                    found.trees.push(tree);
                }
                Err(error) => {
                    found.limitations.push(format!("cgroup {} cannot be used: {error}", parent.display()));
                }
            }
        }
        for controller in missing {
            let (name, limits) = (controller.name(), controller.limits());
            found
                .limitations
                .push(format!("{limits}: no limit, as the cgroup controller {name} is not given to us"));
        }
        if !found.trees.iter().any(|tree| tree.version == Version::Two) {
            found.limitations.push(
                "processes that hide from their instance are found one by one: there is no cgroup v2"
                    .to_owned(),
            );
        }
        found
    }

    /// A cgroup that has processes gives controllers to none below it; so we go to one of our own below
    /// the one that we were given.
    fn prepare_two(&mut self, parent: &Path) -> io::Result<Tree> {
        let available = fs::read_to_string(parent.join("cgroup.controllers"))?;
        let has = |controller: &Controller| {
            available.split_ascii_whitespace().any(|name| name == controller.name())
        };
        let controllers: Vec<Controller> = CONTROLLERS.into_iter().filter(has).collect();
        let base = parent.join(BASE);
        make(&base)?;
        let enable: Vec<_> = controllers.iter().map(|controller| format!("+{}", controller.name())).collect();
        let enable = enable.join(" ");
        let mut given = controllers;
        if !enable.is_empty() {
            let enabled = fs::write(parent.join("cgroup.subtree_control"), &enable).or_else(|_busy| {
                make(&parent.join("sluice-main"))?;
                fs::write(parent.join("sluice-main/cgroup.procs"), "0")?;
                fs::write(parent.join("cgroup.subtree_control"), &enable)
            });
            let enabled = enabled.and_then(|()| fs::write(base.join("cgroup.subtree_control"), &enable));
            if let Err(error) = enabled {
                self.limitations.push(format!(
                    "cgroup {} gives no controllers to those below it: {error}; under systemd set Delegate=yes",
                    parent.display()
                ));
                given.clear();
            }
        }
        Ok(Tree { version: Version::Two, base, controllers: given })
    }

    /// Makes an instance's cgroup and sets its limits, as far as they can be.
    pub(super) fn create(&self, name: &str, resources: &Resources) -> Result<Cgroup, LimitError> {
        let cgroup = self.named(name);
        for (_, _, folder) in &cgroup.folders {
            make(folder).map_err(|source| LimitError::Write { path: folder.clone(), source })?;
        }
        cgroup.set(resources)?;
        Ok(cgroup)
    }

    pub(super) fn named(&self, name: &str) -> Cgroup {
        let folder = |tree: &Tree| (tree.version, tree.controllers.clone(), tree.base.join(name));
        Cgroup { folders: self.trees.iter().map(folder).collect() }
    }

    /// Where shims are: outside of what Sluice itself is in, so that whoever ends all of that does not
    /// end them.
    pub(super) fn shims(&self) -> Option<PathBuf> {
        let tree = self.trees.iter().find(|tree| tree.version == Version::Two)?;
        let folder = tree.base.join("shims");
        make(&folder).ok()?;
        Some(folder.join("cgroup.procs"))
    }
}

impl Cgroup {
    /// Changes the limits of a cgroup that is there.
    ///
    /// # Errors
    /// Those of [`LimitError`] but for limits that are wanted and not possible: see
    /// [`unsupported`](Self::unsupported).
    pub(super) fn set(&self, resources: &Resources) -> Result<(), LimitError> {
        for (version, controllers, folder) in &self.folders {
            for controller in controllers {
                if *controller == Controller::Memory {
                    set_memory(*version, folder, resources)?;
                    continue;
                }
                for (file, value, optional) in controller.settings(*version, resources) {
                    write(&folder.join(file), &value, optional)?;
                }
            }
        }
        Ok(())
    }

    /// The first limit that is wanted and that nothing here can set.
    pub(super) fn unsupported(&self, resources: &Resources) -> Option<LimitError> {
        let has =
            |wanted: &Controller| self.folders.iter().any(|(_, controllers, _)| controllers.contains(wanted));
        let lacking = CONTROLLERS.iter().find(|wanted| wanted.is_wanted(resources) && !has(wanted))?;
        Some(LimitError::Unsupported(lacking.limits()))
    }

    /// What a process writes its number to in order to join.
    pub(super) fn entrances(&self) -> Vec<PathBuf> {
        self.folders.iter().map(|(_, _, folder)| folder.join("cgroup.procs")).collect()
    }

    pub(super) fn folders(&self) -> Vec<PathBuf> {
        self.folders.iter().map(|(_, _, folder)| folder.clone()).collect()
    }

    pub(super) fn oom_counter(&self) -> Option<OomCounter> {
        let of_memory = |(version, controllers, folder): &(Version, Vec<Controller>, PathBuf)| {
            let file = if *version == Version::Two { "memory.events" } else { "memory.oom_control" };
            controllers.contains(&Controller::Memory).then(|| folder.join(file))
        };
        self.folders.iter().find_map(of_memory).map(|path| OomCounter { path })
    }

    /// Kills whatever is in it and takes it away.
    pub(super) fn remove(&self) -> io::Result<()> {
        kill(&self.folders());
        for (_, _, folder) in &self.folders {
            remove_folder(folder)?;
        }
        Ok(())
    }
}

impl OomCounter {
    /// 0 where it cannot be read.
    pub(super) fn read(&self) -> u64 {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or_default()
    }
}

/// Kills all processes in these cgroups: with one write where the kernel can, one by one elsewhere.
pub(super) fn kill(folders: &[PathBuf]) {
    let at_once = folders.iter().any(|folder| fs::write(folder.join("cgroup.kill"), "1").is_ok());
    if at_once {
        return;
    }
    let until = Instant::now() + EMPTY_DEADLINE;
    while folders.iter().any(|folder| kill_listed(folder)) && Instant::now() < until {
        std::thread::sleep(EMPTY_POLL);
    }
}

/// Whether there was any.
fn kill_listed(folder: &Path) -> bool {
    let listed = || -> Vec<i32> {
        let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    };
    let handles: Vec<_> = listed()
        .into_iter()
        .filter_map(|pid| Some((pid, pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?)))
        .collect();
    // Those still listed after the handles were taken are the ones that the handles are of.
    let still = listed();
    for (pid, handle) in &handles {
        if still.contains(pid) {
            let _ended_meanwhile = pidfd_send_signal(handle, Signal::KILL);
        }
    }
    !still.is_empty()
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    let until = Instant::now() + EMPTY_DEADLINE;
    loop {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < until => {
                std::thread::sleep(EMPTY_POLL);
            }
            done => return done,
        }
    }
}

/// Version 1 refuses a limit below what is used, and a limit with swap below the one without: raising
/// starts from the far end. Version 2 would take it and kill; so it is asked first.
fn set_memory(version: Version, folder: &Path, resources: &Resources) -> Result<(), LimitError> {
    let usage = if version == Version::Two { "memory.current" } else { "memory.usage_in_bytes" };
    let used = fs::read_to_string(folder.join(usage)).ok().and_then(|text| text.trim().parse().ok());
    if let (Some(limit), Some(used)) = (resources.memory, used)
        && used > limit
    {
        return Err(LimitError::InUse { used, limit });
    }
    let mut settings = Controller::Memory.settings(version, resources);
    let in_order = |settings: &[(&str, String, bool)]| {
        settings.iter().try_for_each(|(file, value, optional)| write(&folder.join(file), value, *optional))
    };
    in_order(&settings).or_else(|_raised_beyond_the_other| {
        settings.reverse();
        in_order(&settings)
    })
}

fn write(path: &Path, value: &str, optional: bool) -> Result<(), LimitError> {
    match fs::OpenOptions::new().write(true).open(path) {
        Err(error) if optional && error.kind() == io::ErrorKind::NotFound => Ok(()),
        opened => opened
            .and_then(|mut file| io::Write::write_all(&mut file, value.as_bytes()))
            .map_err(|source| LimitError::Write { path: path.to_owned(), source }),
    }
}

fn make(folder: &Path) -> io::Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn prepare_one(mount: &Mount, parent: &Path, missing: &[Controller]) -> io::Result<Tree> {
    let base = parent.join(BASE);
    make(&base)?;
    let controllers = missing.iter().copied().filter(|controller| mount.has(*controller)).collect();
    Ok(Tree { version: Version::One, base, controllers })
}

/// A mounted tree.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    version: Version,
    folder: PathBuf,
    /// Of version 1: its controllers, among other options.
    options: Vec<String>,
}

impl Mount {
    fn has(&self, controller: Controller) -> bool {
        self.options.iter().any(|option| option == controller.name())
    }
}

/// The trees that matter to us, version 2 first. See `proc_pid_mountinfo(5)`: a dash ends the optional
/// fields; then type, source, options.
fn parse_mounts(text: &str) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = text.lines().filter_map(parse_mount).collect();
    mounts.sort_by_key(|mount| mount.version == Version::One);
    mounts
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let folder = PathBuf::from(before.split(' ').nth(4)?);
    let mut after = after.split(' ');
    let (kind, options) = (after.next()?, after.nth(1)?);
    let options: Vec<String> = options.split(',').map(str::to_owned).collect();
    let version = match kind {
        "cgroup2" => Version::Two,
        "cgroup" => Version::One,
        _ => return None,
    };
    let mount = Mount { version, folder, options };
    let matters = version == Version::Two || CONTROLLERS.iter().any(|controller| mount.has(*controller));
    matters.then_some(mount)
}

/// Lines of `/proc/self/cgroup` are `number:controllers:folder`.
fn own_folder(own: &str, mount: &Mount) -> Option<PathBuf> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, folder) = (parts.next()?, parts.next()?, parts.next()?);
        let is_it = match mount.version {
            Version::Two => controllers.is_empty(),
            Version::One => controllers.split(',').any(|name| {
                CONTROLLERS.iter().any(|controller| controller.name() == name && mount.has(*controller))
            }),
        };
        is_it.then(|| PathBuf::from(folder))
    })
}
