//! What is done to instances and hosts: one thing at a time to each, every one bounded, every one repeatable. What comes of
//! it goes into the sightings; the next decision sees it there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use discovery::layout::address_key;
use topology::{AppId, HostId, InstanceId};

use super::{Parts, spec};
use crate::lifecycle::{Seen, StartFailure};
use crate::model::{Digest, Hook, Millis, Phase, ProbeKind, Record, Release, Reservation, keys};
use crate::runtime::{ExecEnd, ExecRequest, InstanceState, InstanceStatus, Runtime};

/// Output of a hook in a reason.
const MAX_SHOWN_BYTES: usize = 200;
/// What a runtime may take beyond what it was asked to wait.
const MARGIN: Duration = Duration::from_secs(30);
/// Until then, gateways have let go of it, should anybody have taken away its record and its address.
const ORPHAN_AFTER: Millis = 15_000;
/// Of something that nobody wants.
const ORPHAN_GRACE: Duration = Duration::from_secs(10);

/// One instance and what is needed to do something to it.
#[derive(Clone)]
pub(super) struct Job {
    pub app: AppId,
    pub id: InstanceId,
    pub record: Record,
    pub release: Release,
    pub runtime: Result<Arc<dyn Runtime>, String>,
    /// The release whose limits it is to be given, and these.
    pub resize: Option<(Digest, Reservation)>,
}

/// What is next for an instance, where anything is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    Start,
    Probe,
    Status,
    AskInFlight,
    Stop,
    /// Of apps that it depends on.
    Tell(BTreeMap<String, String>),
    /// To the limits of that release.
    Resize(Digest, Reservation),
}

impl Parts {
    pub(super) async fn perform(self: Arc<Self>, job: Job, task: Task) {
        match task {
            Task::Start => self.start(&job).await,
            Task::Probe => self.probe(&job).await,
            Task::Status => self.ask_status(&job).await,
            Task::AskInFlight => {
                let key = job.record.endpoint_key(&job.id);
                let in_flight = self.gateways.in_flight(&job.app, &key).await;
                self.note(&job, |sighting, now| {
                    (sighting.in_flight, sighting.due) = (in_flight, now + 250);
                });
            }
            Task::Stop => self.stop(&job).await,
            Task::Tell(told) => self.tell(&job, told).await,
            Task::Resize(release, limits) => self.resize(&job, release, limits).await,
        }
        self.changed.notify_one();
    }

    /// Only where it is in the phase still in which the work began.
    fn note(&self, job: &Job, change: impl FnOnce(&mut super::sights::Sighting, Millis)) {
        let now = (self.clock)();
        let mut sightings = self.sightings();
        let Some(sighting) = sightings.instances.get_mut(&(job.app.clone(), job.id.clone())) else { return };
        sighting.is_busy = false;
        if sighting.phase == Some(job.record.phase) {
            change(sighting, now);
        }
    }

    async fn start(&self, job: &Job) {
        let bound = job.release.spec.start_timeout;
        let started = match tokio::time::timeout(bound, self.try_start(job)).await {
            Ok(started) => started,
            Err(_) => {
                let bound = discovery::document::show_duration(bound);
                Err(StartFailure {
                    reason: format!("did not start within {bound}"),
                    fatal: false,
                    of_host: true,
                })
            }
        };
        self.note(job, |sighting, _| sighting.start = Some(started));
    }

    async fn try_start(&self, job: &Job) -> Result<(), StartFailure> {
        let of_host = |reason: String| StartFailure { reason, fatal: false, of_host: true };
        let runtime = job.runtime.as_ref().map_err(|why| of_host(why.clone()))?;
        let config = spec::read_config(&*self.registry, &job.app, self.keys.as_deref()).await?;
        let spec = spec::instance_spec(&job.app, &job.id, &job.record, &job.release, &config)?;
        let status = runtime.start(&spec).await.map_err(|error| StartFailure::from(&error))?;
        self.faults.point("after-start").await;
        if status.state.has_ended() {
            return Err(StartFailure { reason: status.reason, fatal: false, of_host: false });
        }
        if status.state != InstanceState::Running {
            return Err(of_host(format!("its host says: {}", status.reason)));
        }
        if let Some(hook) = &job.release.spec.hooks.start {
            let outcome = run_hook(&**runtime, job, "start", hook, BTreeMap::new()).await;
            outcome.map_err(|reason| StartFailure { reason, fatal: false, of_host: false })?;
            self.faults.point("after-start-hook").await;
        }
        Ok(())
    }

    async fn probe(&self, job: &Job) {
        let spec = &job.release.spec;
        let asked = match spec.probe.kind {
            ProbeKind::None => Ok(()),
            _ => {
                let probe = self.prober.probe(job.record.address, &spec.protocol, &spec.probe);
                let late = || Err("the probe took longer than its timeout".to_owned());
                tokio::time::timeout(spec.probe.timeout + Duration::from_secs(1), probe)
                    .await
                    .unwrap_or_else(|_| late())
            }
        };
        let interval = u64::try_from(spec.probe.interval.as_millis()).unwrap_or(u64::MAX);
        self.note(job, |sighting, now| {
            sighting.due = now.saturating_add(interval);
            match asked {
                Ok(()) => {
                    (sighting.passes, sighting.failures) = (sighting.passes.saturating_add(1), 0);
                    sighting.probe_error = None;
                }
                Err(why) => {
                    (sighting.passes, sighting.failures) = (0, sighting.failures.saturating_add(1));
                    (sighting.probe_error, sighting.status_passed) = (Some(why), false);
                }
            }
        });
    }

    async fn ask_status(&self, job: &Job) {
        let asked = match (&job.runtime, &job.release.spec.hooks.status) {
            (Ok(runtime), Some(hook)) => run_hook(&**runtime, job, "status", hook, BTreeMap::new()).await,
            (Err(why), _) => Err(why.clone()),
            (_, None) => Ok(()),
        };
        self.note(job, |sighting, now| match asked {
            Ok(()) => sighting.status_passed = true,
            Err(why) => {
                (sighting.probe_error, sighting.passes) = (Some(why), 0);
                sighting.back_off(now);
            }
        });
    }

    /// Hook, stop, remove; repeated from its beginning until the host has nothing of it.
    async fn stop(&self, job: &Job) {
        let spec = &job.release.spec;
        let (has_run, seen) = {
            let sightings = self.sightings();
            let sighting = sightings.instances.get(&(job.app.clone(), job.id.clone()));
            sighting.map_or((true, Seen::Unknown), |sighting| (sighting.stop_hook_ran, sighting.seen.clone()))
        };
        let Ok(runtime) = &job.runtime else {
            return self.note(job, super::sights::Sighting::back_off);
        };
        if let Some(hook) = spec.hooks.stop.as_ref().filter(|_| !has_run && seen == Seen::Running) {
            // What it says is for the log: an instance that cannot say goodbye goes all the same.
            if let Err(why) = run_hook(&**runtime, job, "stop", hook, BTreeMap::new()).await {
                tracing::warn!(app = %job.app, instance = %job.id, %why, "a stop hook failed");
            }
            self.faults.point("after-stop-hook").await;
        }
        let id = job.record.reference(&job.app, &job.id);
        let stopped = bounded(spec.stop_grace, runtime.stop(&id, spec.stop_grace)).await;
        self.faults.point("after-stop").await;
        let removed = match stopped {
            Ok(_) => bounded(Duration::ZERO, runtime.remove(&id)).await,
            Err(why) => Err(why),
        };
        self.faults.point("after-remove").await;
        self.note(job, |sighting, now| {
            sighting.stop_hook_ran = true;
            match removed {
                Ok(()) => sighting.removed = true,
                Err(why) => {
                    tracing::warn!(app = %job.app, instance = %job.id, %why, "cannot be stopped yet");
                    sighting.back_off(now);
                }
            }
        });
    }

    async fn tell(&self, job: &Job, told: BTreeMap<String, String>) {
        if let (Some(hook), Ok(runtime)) = (&job.release.spec.hooks.config_change, &job.runtime) {
            let changed: Vec<_> =
                told.iter().filter(|(app, release)| job.record.told.get(*app) != Some(release)).collect();
            let names: Vec<_> = changed.into_iter().map(|(app, _)| app.as_str()).collect();
            let environment = BTreeMap::from([("SLUICE_CHANGED".to_owned(), names.join(" "))]);
            if let Err(why) = run_hook(&**runtime, job, "config_change", hook, environment).await {
                tracing::warn!(app = %job.app, instance = %job.id, %why, "a config_change hook failed");
                return self.note(job, super::sights::Sighting::back_off);
            }
        }
        self.note(job, |sighting, _| sighting.told = Some(told));
    }

    async fn resize(&self, job: &Job, release: Digest, limits: Reservation) {
        let id = job.record.reference(&job.app, &job.id);
        let done = match &job.runtime {
            Ok(runtime) => bounded(Duration::ZERO, runtime.update(&id, &spec::resources(&limits))).await,
            Err(why) => Err(why.clone()),
        };
        self.faults.point("after-resize").await;
        self.note(job, |sighting, _| sighting.resized = Some((release, done)));
    }

    /// Asks a host what runs, and ends what has no record.
    pub(super) async fn list_host(self: Arc<Self>, host: HostId, runtime: Result<Arc<dyn Runtime>, String>) {
        let began = (self.clock)();
        let listed = match &runtime {
            Ok(runtime) => {
                let asked = async {
                    let list = runtime.list().await?;
                    Ok::<_, crate::runtime::RuntimeError>((list, runtime.host_facts().await?))
                };
                match tokio::time::timeout(self.settings.call_timeout, asked).await {
                    Ok(answered) => answered.map_err(|error| error.to_string()),
                    Err(_) => {
                        let bound = discovery::document::show_duration(self.settings.call_timeout);
                        Err(format!("does not say within {bound} what runs"))
                    }
                }
            }
            Err(why) => Err(why.clone()),
        };
        let now = (self.clock)();
        let list = {
            let mut sightings = self.sightings();
            let Some(sighting) = sightings.hosts.get_mut(&host) else { return };
            sighting.is_busy = false;
            sighting.due = now + u64::try_from(self.settings.list_every.as_millis()).unwrap_or(u64::MAX);
            match listed {
                Ok((list, facts)) => {
                    (sighting.silent_since, sighting.error, sighting.has_answered) = (None, None, true);
                    let per_cpu = |load: f64| (load * 1000.0 / f64::from(facts.cpus.max(1))) as u32;
                    sighting.load = facts.load.map(per_cpu);
                    sightings.listed(&host, began, &list);
                    list
                }
                Err(why) => {
                    sighting.silent_since.get_or_insert(began);
                    sighting.error = Some(why);
                    Vec::new()
                }
            }
        };
        self.changed.notify_one();
        if let Ok(runtime) = runtime {
            self.measure_cpu(&host, &*runtime).await;
            self.end_orphans(&host, &*runtime, list, now).await;
        }
    }

    /// Ends what runs without a record, and has done so for a while.
    async fn end_orphans(
        &self,
        host: &HostId,
        runtime: &dyn Runtime,
        list: Vec<InstanceStatus>,
        now: Millis,
    ) {
        let mut known = BTreeMap::new();
        for status in list {
            let key = keys::instance(&status.id.app, &status.id.instance);
            let address = address_key(&status.id.app, &status.id.version, &status.id.instance);
            let (has_record, is_registered) = {
                let state = self.registry.watch();
                let entries = &state.borrow().entries;
                (entries.contains_key(&key), entries.contains_key(&address))
            };
            if has_record {
                continue;
            }
            if is_registered {
                tracing::error!(%host, instance = %status.id, "runs without a record, but is registered: it is left alone");
                continue;
            }
            let name = status.id.to_string();
            let since = {
                let sightings = self.sightings();
                let before = sightings.hosts.get(host).and_then(|host| host.orphans.get(&name).copied());
                before.unwrap_or(now)
            };
            if now.saturating_sub(since) < ORPHAN_AFTER {
                known.insert(name, since);
                continue;
            }
            // A record is there before its instance is, so where none is now none will be.
            if !matches!(self.registry.read(&key).await, Ok(None)) {
                continue;
            }
            tracing::warn!(%host, instance = %status.id, "runs without a record, and is ended");
            if bounded(ORPHAN_GRACE, runtime.stop(&status.id, ORPHAN_GRACE)).await.is_ok() {
                let _ = bounded(Duration::ZERO, runtime.remove(&status.id)).await;
            }
            self.faults.point("after-sweep").await;
        }
        if let Some(sighting) = self.sightings().hosts.get_mut(host) {
            sighting.orphans = known;
        }
    }
}

async fn bounded<T>(
    wait: Duration,
    call: impl Future<Output = Result<T, crate::runtime::RuntimeError>>,
) -> Result<T, String> {
    match tokio::time::timeout(wait + MARGIN, call).await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_) => Err("its host does not answer".to_owned()),
    }
}

/// # Errors
/// How it ended, with the beginning of what it wrote.
pub(super) async fn run_hook(
    runtime: &dyn Runtime,
    job: &Job,
    name: &str,
    hook: &Hook,
    environment: BTreeMap<String, String>,
) -> Result<(), String> {
    let request = ExecRequest { command: hook.command.clone(), environment, timeout: hook.timeout };
    let id = job.record.reference(&job.app, &job.id);
    let outcome = bounded(hook.timeout, runtime.exec(&id, &request)).await?;
    let how = match outcome.end {
        ExecEnd::Exited(0) => return Ok(()),
        ExecEnd::Exited(code) => format!("ended with code {code}"),
        ExecEnd::Signalled(signal) => format!("was killed by signal {signal}"),
        ExecEnd::TimedOut => format!("took longer than {}", discovery::document::show_duration(hook.timeout)),
    };
    let shown = outcome.output.len().min(MAX_SHOWN_BYTES);
    let output = String::from_utf8_lossy(&outcome.output[..shown]);
    Err(format!("its {name} hook {how}: {:?}", output.trim()))
}

/// What is due for an instance in its phase.
pub(super) fn next_task(
    job: &Job,
    sighting: &super::sights::Sighting,
    to_tell: &BTreeMap<String, String>,
    now: Millis,
) -> Option<Task> {
    if sighting.is_busy || sighting.due > now || sighting.phase != Some(job.record.phase) {
        return None;
    }
    let spec = &job.release.spec;
    match job.record.phase {
        Phase::Starting => sighting.start.is_none().then_some(Task::Start),
        Phase::Probing if sighting.passes >= spec.probe.rise => {
            (!sighting.status_passed).then_some(Task::Status)
        }
        Phase::Serving if job.resize.as_ref().is_some_and(|(to, _)| !sighting.was_resized_to(to)) => {
            job.resize.clone().map(|(release, limits)| Task::Resize(release, limits))
        }
        Phase::Serving if job.record.told != *to_tell && sighting.told.as_ref() != Some(to_tell) => {
            Some(Task::Tell(to_tell.clone()))
        }
        Phase::Probing | Phase::Registering | Phase::Serving => Some(Task::Probe),
        Phase::Leaving => None,
        Phase::Draining => Some(Task::AskInFlight),
        Phase::Stopping => (!sighting.removed).then_some(Task::Stop),
    }
}
