//! How an app is changed, kept running, and scaled.

use std::time::Duration;

use discovery::document::Table;

const LONGEST: Duration = Duration::from_secs(7 * 86_400);
const MAX_STEPS: usize = 20;
pub(super) const MAX_INSTANCES: u32 = 1_000;

/// How the instances of one release are replaced by those of another.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutPolicy {
    pub kind: RolloutKind,
    /// What has to hold while a canary or a green side is watched. `None`: nothing is judged.
    pub judgement: Option<Judgement>,
    /// Without a step forward for so long, it is given up.
    pub progress_deadline: Duration,
    /// How long one that waits for an operator's word waits, before it is given up.
    pub promote_within: Duration,
    /// Instances of the new release that may fail before it is given up.
    pub max_failures: u32,
    /// What is given up goes back to what served before.
    pub rollback: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutKind {
    /// Some at a time: at most `surge` more than wanted, at most `unavailable` of them out. One of the two is above 0.
    Rolling { surge: u32, unavailable: u32 },
    /// All of the new ones beside the old, then all the traffic at once.
    BlueGreen {
        /// What has to come before the switch.
        before: Hold,
        /// How long the old ones are kept after it.
        keep: Duration,
    },
    /// A share of the traffic at a time, and as many instances as serve it.
    Canary { steps: Vec<Step> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// In percent of the requests, 1 to 99.
    pub share: u16,
    pub hold: Hold,
}

/// What a rollout waits for before it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    For(Duration),
    /// An operator's word.
    Manual,
}

/// What the new release's traffic has to look like while it is watched.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judgement {
    /// Share of requests answered 5xx or not at all, 0 to 1.
    pub max_error_rate: Option<f64>,
    /// The 99th percentile.
    pub max_latency: Option<Duration>,
    /// Fewer requests tell nothing: it is watched on.
    pub min_requests: u64,
}

/// What follows when instances fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Instances that may be replaced within the window; more wait for it to pass.
    pub max: u32,
    pub window: Duration,
    /// Before the first replacement; twice as long before each that follows within the window.
    pub backoff: Duration,
    pub max_backoff: Duration,
    pub on_unhealthy: UnhealthyAction,
}

/// What is done with a serving instance whose probes fail, the mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum UnhealthyAction {
    /// Gateways stop sending requests by themselves; nothing else.
    Eject,
    #[default]
    Restart,
    /// It is stopped, and not replaced until an operator says so.
    Stop,
}

/// How many instances there are to be.
#[derive(Debug, Clone, PartialEq)]
pub struct AutoscalePolicy {
    pub min: u32,
    pub max: u32,
    /// Per second and instance.
    pub requests: Option<f64>,
    /// Share of what an instance may use of its processors, 0 to 1.
    pub cpu: Option<f64>,
    /// The 99th percentile.
    pub latency: Option<Duration>,
    /// From any change of the count to the next higher one.
    pub up_after: Duration,
    /// From any change of the count to the next lower one.
    pub down_after: Duration,
}

impl RolloutKind {
    /// As apps' files have it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rolling { .. } => "rolling",
            Self::BlueGreen { .. } => "blue_green",
            Self::Canary { .. } => "canary",
        }
    }
}

impl Default for RolloutPolicy {
    fn default() -> Self {
        Self {
            // The one that needs the least room and loses no capacity.
            kind: RolloutKind::Rolling { surge: 1, unavailable: 0 },
            judgement: None,
            // Longer than a pull of a large image and a slow start together.
            progress_deadline: Duration::from_secs(600),
            promote_within: Duration::from_secs(86_400),
            // One that fails may have had a bad host; three did not.
            max_failures: 2,
            rollback: true,
        }
    }
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            max: 5,
            window: Duration::from_secs(600),
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(300),
            on_unhealthy: UnhealthyAction::default(),
        }
    }
}

pub(super) fn read_rollout(deployment: &Table<'_>) -> RolloutPolicy {
    let default = RolloutPolicy::default();
    let Some(table) = deployment.table("rollout") else { return default };
    let policy = RolloutPolicy {
        kind: read_kind(&table),
        judgement: read_judgement(&table),
        progress_deadline: table
            .duration("progress_deadline", Duration::from_secs(1)..=LONGEST)
            .unwrap_or(default.progress_deadline),
        promote_within: table
            .duration("promote_within", Duration::from_secs(1)..=LONGEST)
            .unwrap_or(default.promote_within),
        max_failures: table.integer("max_failures", 0..=1_000).unwrap_or(default.max_failures),
        rollback: table.boolean("rollback").unwrap_or(default.rollback),
    };
    table.finish();
    policy
}

#[derive(Clone, Copy, PartialEq)]
enum Word {
    Rolling,
    BlueGreen,
    Canary,
}

fn read_kind(table: &Table<'_>) -> RolloutKind {
    let words = [("rolling", Word::Rolling), ("blue_green", Word::BlueGreen), ("canary", Word::Canary)];
    let word = table.choice("kind", &words).unwrap_or(Word::Rolling);
    for (key, owner) in [
        ("surge", Word::Rolling),
        ("unavailable", Word::Rolling),
        ("promote", Word::BlueGreen),
        ("keep", Word::BlueGreen),
        ("steps", Word::Canary),
    ] {
        if word != owner && table.has(key) {
            let (owner, _) = words.iter().find(|(_, word)| *word == owner).expect("all words stand there");
            table.mistake(key, format!("is for kind = \"{owner}\"; remove it"));
        }
    }
    match word {
        Word::Rolling => read_rolling(table),
        Word::BlueGreen => RolloutKind::BlueGreen {
            before: read_hold(table, "promote").unwrap_or(Hold::For(Duration::ZERO)),
            keep: table.duration("keep", Duration::ZERO..=LONGEST).unwrap_or(Duration::from_secs(60)),
        },
        Word::Canary => read_canary(table),
    }
}

fn read_rolling(table: &Table<'_>) -> RolloutKind {
    let surge = table.integer("surge", 0..=MAX_INSTANCES);
    let unavailable = table.integer("unavailable", 0..=MAX_INSTANCES).unwrap_or(0);
    let surge = surge.unwrap_or(u32::from(unavailable == 0));
    if surge == 0 && unavailable == 0 {
        table.mistake("surge", "is 0 as unavailable is: nothing could move; give one of them 1");
    }
    RolloutKind::Rolling { surge, unavailable }
}

/// `"manual"`, or how long.
fn read_hold<'d>(table: &Table<'d>, key: &'d str) -> Option<Hold> {
    if table.text(key) == Some("manual") {
        return Some(Hold::Manual);
    }
    table.duration(key, Duration::ZERO..=LONGEST).map(Hold::For)
}

fn read_canary(table: &Table<'_>) -> RolloutKind {
    let mut steps: Vec<Step> = Vec::new();
    for each in table.tables("steps", MAX_STEPS) {
        let share = each.integer("share", 1..=99_u16);
        let share = each.required("share", share, "share = 10, in percent");
        let hold = read_hold(&each, "pause").unwrap_or(Hold::For(Duration::ZERO));
        if let (Some(share), Some(last)) = (share, steps.last())
            && share <= last.share
        {
            each.mistake("share", format!("must be above the {} of the step before", last.share));
        }
        each.finish();
        steps.extend(share.map(|share| Step { share, hold }));
    }
    if steps.is_empty() {
        table.mistake("steps", "has no step; write steps = [{ share = 10, pause = \"5m\" }]");
    }
    RolloutKind::Canary { steps }
}

fn read_judgement(rollout: &Table<'_>) -> Option<Judgement> {
    let table = rollout.table("judge")?;
    let judgement = Judgement {
        max_error_rate: table.fraction("max_error_rate"),
        max_latency: table.duration("max_latency", Duration::from_millis(1)..=LONGEST),
        min_requests: table.integer("min_requests", 1..=i64::MAX as u64).unwrap_or(100),
    };
    if !table.has("max_error_rate") && !table.has("max_latency") {
        table.mistake_here("judges by nothing; write max_error_rate = 0.01 or max_latency = \"500ms\"");
    }
    table.finish();
    Some(judgement)
}

pub(super) fn read_restart(deployment: &Table<'_>) -> RestartPolicy {
    let default = RestartPolicy::default();
    let Some(table) = deployment.table("restart") else { return default };
    let actions = [
        ("eject", UnhealthyAction::Eject),
        ("restart", UnhealthyAction::Restart),
        ("stop", UnhealthyAction::Stop),
    ];
    let some = Duration::from_millis(100)..=LONGEST;
    let policy = RestartPolicy {
        max: table.integer("max", 0..=100).unwrap_or(default.max),
        window: table.duration("window", some.clone()).unwrap_or(default.window),
        backoff: table.duration("backoff", some.clone()).unwrap_or(default.backoff),
        max_backoff: table.duration("max_backoff", some).unwrap_or(default.max_backoff),
        on_unhealthy: table.choice("on_unhealthy", &actions).unwrap_or_default(),
    };
    if policy.max_backoff < policy.backoff {
        table.mistake("max_backoff", "is shorter than backoff");
    }
    table.finish();
    policy
}

pub(super) fn read_autoscale(deployment: &Table<'_>) -> Option<AutoscalePolicy> {
    let table = deployment.table("autoscale")?;
    let min = table.integer("min", 1..=MAX_INSTANCES).unwrap_or(1);
    let max = table.integer("max", 1..=MAX_INSTANCES);
    let max = table.required("max", max, "max = 10");
    let rate = table.integer("requests", 1..=1_000_000_u32).map(f64::from);
    let policy = AutoscalePolicy {
        min,
        max: max.unwrap_or(min),
        requests: rate,
        cpu: table.fraction("cpu"),
        latency: table.duration("latency", Duration::from_millis(1)..=LONGEST),
        up_after: table.duration("up_after", Duration::ZERO..=LONGEST).unwrap_or(Duration::from_secs(15)),
        down_after: table
            .duration("down_after", Duration::ZERO..=LONGEST)
            .unwrap_or(Duration::from_secs(300)),
    };
    if policy.max < policy.min {
        table.mistake("max", format!("is below min, {}", policy.min));
    }
    if policy.cpu == Some(0.0) {
        table.mistake("cpu", "must be above 0");
    }
    if !["requests", "cpu", "latency"].into_iter().any(|key| table.has(key)) {
        table.mistake_here("scales by nothing; write requests = 100, cpu = 0.7 or latency = \"200ms\"");
    }
    table.finish();
    Some(policy)
}
