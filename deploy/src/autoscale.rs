//! How many instances an app is to have. Pure.

use std::time::Duration;

use crate::model::{AutoscalePolicy, Millis};

/// Within a tenth of what is wanted nothing changes: what is measured trembles that much.
const TOLERANCE: f64 = 0.1;

/// What an app's instances are doing, of all gateways and hosts. `None`: nobody can say.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    /// Requests per second, of all instances together.
    pub requests: Option<f64>,
    /// Mean share of what an instance may use of its processors, 0 to 1 and above.
    pub cpu: Option<f64>,
    /// The 99th percentile.
    pub latency: Option<Duration>,
}

/// What there is to be, when that is another number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scaling {
    pub count: u32,
    pub reason: String,
}

/// `count` is what is wanted now, `available` how many serve: what they bear is what is measured. `changed` is when the count
/// was last changed.
pub fn scale(
    policy: &AutoscalePolicy,
    load: &Load,
    count: u32,
    available: u32,
    changed: Millis,
    now: Millis,
) -> Option<Scaling> {
    let bounded = count.clamp(policy.min, policy.max);
    if bounded != count {
        return Some(Scaling {
            count: bounded,
            reason: format!("bounds are {} to {}", policy.min, policy.max),
        });
    }
    let (wanted, reason) = most_wanted(policy, load, available)?;
    let wanted = wanted.clamp(policy.min, policy.max);
    let cool_down = if wanted > count { policy.up_after } else { policy.down_after };
    let rested = u128::from(now.saturating_sub(changed)) >= cool_down.as_millis();
    (wanted != count && rested).then_some(Scaling { count: wanted, reason })
}

/// The measure that wants the most decides: who is slow is not made smaller for having few requests.
fn most_wanted(policy: &AutoscalePolicy, load: &Load, available: u32) -> Option<(u32, String)> {
    if available == 0 {
        return None;
    }
    let each = f64::from(available);
    let seconds = |duration: Duration| duration.as_secs_f64();
    let by_requests = load.requests.zip(policy.requests).map(|(rate, wanted)| {
        (
            rate / each / wanted,
            format!("{:.1} requests a second and instance, {wanted} are wanted", rate / each),
        )
    });
    let by_cpu = load.cpu.zip(policy.cpu).map(|(used, wanted)| {
        (
            used / wanted,
            format!("{:.0} % of its processors, {:.0} % are wanted", used * 100.0, wanted * 100.0),
        )
    });
    let by_latency = load.latency.zip(policy.latency).map(|(taken, wanted)| {
        (seconds(taken) / seconds(wanted), format!("latency of {taken:?}, {wanted:?} is wanted"))
    });
    // A policy whose measure is missing says nothing: with a part of the picture nobody is made smaller.
    let blind = (policy.requests.is_some() && by_requests.is_none())
        || (policy.cpu.is_some() && by_cpu.is_none())
        || (policy.latency.is_some() && by_latency.is_none());
    let known =
        [by_requests, by_cpu, by_latency].into_iter().flatten().filter(|(ratio, _)| ratio.is_finite());
    let (ratio, reason) = known.max_by(|one, other| one.0.total_cmp(&other.0))?;
    if (ratio - 1.0).abs() <= TOLERANCE || (blind && ratio < 1.0) {
        return None;
    }
    // Not more than twice as many at a time: what one step brings is measured before the next.
    let wanted = (each * ratio).ceil().clamp(1.0, each * 2.0);
    Some((wanted as u32, reason))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> AutoscalePolicy {
        AutoscalePolicy {
            min: 2,
            max: 10,
            requests: Some(100.0),
            cpu: None,
            latency: None,
            up_after: Duration::from_secs(10),
            down_after: Duration::from_secs(100),
        }
    }

    fn rate(requests: f64) -> Load {
        Load { requests: Some(requests), ..Load::default() }
    }

    fn to(policy: &AutoscalePolicy, load: &Load, count: u32, now: Millis) -> Option<u32> {
        scale(policy, load, count, count, 0, now).map(|scaling| scaling.count)
    }

    #[test]
    fn grows_and_shrinks_by_what_each_instance_bears_after_its_cool_down() {
        let policy = policy();
        assert_eq!(to(&policy, &rate(600.0), 4, 10_000), Some(6));
        assert_eq!(to(&policy, &rate(600.0), 4, 9_999), None);
        assert_eq!(to(&policy, &rate(200.0), 4, 100_000), Some(2));
        assert_eq!(to(&policy, &rate(200.0), 4, 99_999), None);
        assert_eq!(to(&policy, &rate(420.0), 4, 100_000), None, "within a tenth");
        assert_eq!(to(&policy, &rate(9_000.0), 4, 100_000), Some(8), "twice at a time");
        assert_eq!(to(&policy, &rate(0.0), 4, 100_000), Some(2));
        assert_eq!(to(&policy, &rate(0.0), 20, 0), Some(10), "bounds hold at once");
    }

    #[test]
    fn the_measure_that_wants_the_most_decides_and_blindness_shrinks_nobody() {
        let policy =
            AutoscalePolicy { cpu: Some(0.5), latency: Some(Duration::from_millis(100)), ..policy() };
        let mut load = rate(100.0);
        assert_eq!(to(&policy, &load, 4, 1_000_000), None);
        load.cpu = Some(0.1);
        load.latency = Some(Duration::from_millis(200));
        let scaled = scale(&policy, &load, 4, 4, 0, 1_000_000).unwrap();
        assert_eq!((scaled.count, &*scaled.reason), (8, "latency of 200ms, 100ms is wanted"));
        assert_eq!(scale(&policy, &load, 4, 0, 0, 1_000_000), None, "nobody serves, nothing is measured");
    }

    proptest! {
        #[test]
        fn bounds_hold_whatever_is_measured(
            requests in prop::option::of(prop::num::f64::ANY), cpu in prop::option::of(prop::num::f64::ANY),
            count in 0..40_u32, available in 0..40_u32, now in any::<u64>(),
        ) {
            let policy = AutoscalePolicy { cpu: Some(0.7), ..policy() };
            let load = Load { requests, cpu, latency: None };
            if let Some(scaling) = scale(&policy, &load, count, available, 0, now) {
                prop_assert!((policy.min..=policy.max).contains(&scaling.count));
            }
        }
    }
}
