//! What processes hold over time, and whether that grows.

use std::time::Duration;

use serde_json::{Value, json};

/// One process at one moment.
#[derive(Debug, Clone)]
pub struct Sample {
    pub at: Duration,
    /// Counted from 1.
    pub generation: usize,
    /// Since it began to serve.
    pub age: Duration,
    pub serves: bool,
    pub pss_kib: u64,
    pub files: usize,
    /// Cores that it used since the sample before.
    pub cores: f64,
    /// Of its workers, how many were at work or waited for a core, on average since then.
    pub busy_workers: f64,
    /// Cores of the machine that nobody used meanwhile.
    pub idle: f64,
    /// Right answers of all kinds, since the start.
    pub right: u64,
}

impl Sample {
    pub fn to_json(&self) -> Value {
        json!({
            "second": round(self.at.as_secs_f64()), "generation": self.generation,
            "age": round(self.age.as_secs_f64()), "serves": self.serves, "pss_kib": self.pss_kib,
            "files": self.files, "cores": round(self.cores), "busy_workers": round(self.busy_workers), "idle_cores": round(self.idle),
            "right": self.right,
        })
    }
}

fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// A straight line through values over time, that a few outliers do not bend (Theil and Sen): the median of the
/// slopes between all pairs, per second. `None`: too few values.
pub fn slope(values: &[(f64, f64)]) -> Option<f64> {
    let mut slopes: Vec<f64> = Vec::new();
    for (at, first) in values.iter().enumerate() {
        let later = values[at + 1..].iter().filter(|second| second.0 > first.0);
        slopes.extend(later.map(|second| (second.1 - first.1) / (second.0 - first.0)));
    }
    slopes.sort_by(f64::total_cmp);
    slopes.get(slopes.len() / 2).copied()
}

pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// What one process held while it served.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    pub generation: usize,
    pub seconds: f64,
    /// Over the second half of its service.
    pub pss_kib: f64,
    pub pss_kib_per_minute: f64,
    pub files: f64,
    pub files_per_minute: f64,
    /// At the age that all have reached that count.
    pub young_pss_kib: f64,
}

/// Those that served long enough for a second half of some samples.
pub fn held(samples: &[Sample], young: Duration) -> Vec<Held> {
    let last = samples.iter().map(|sample| sample.generation).max().unwrap_or(0);
    (1..=last).filter_map(|generation| held_by(generation, samples, young)).collect()
}

fn held_by(generation: usize, samples: &[Sample], young: Duration) -> Option<Held> {
    const LEAST: usize = 4;
    let of = |sample: &&Sample| sample.generation == generation && sample.serves;
    let own: Vec<&Sample> = samples.iter().filter(of).collect();
    let seconds = own.last()?.age.as_secs_f64();
    let half: Vec<&Sample> = own.iter().copied().filter(|s| s.age.as_secs_f64() >= seconds / 2.0).collect();
    if half.len() < LEAST {
        return None;
    }
    let over_time = |value: fn(&Sample) -> f64| {
        let points: Vec<_> = half.iter().map(|sample| (sample.age.as_secs_f64(), value(sample))).collect();
        let middle = median(points.iter().map(|point| point.1));
        middle.zip(slope(&points)).map(|(middle, slope)| (middle, slope * 60.0))
    };
    let (pss_kib, pss_kib_per_minute) = over_time(|sample| sample.pss_kib as f64)?;
    let (files, files_per_minute) = over_time(|sample| sample.files as f64)?;
    let at_age = own.iter().filter(|sample| sample.age <= young).rev().take(LEAST);
    let young_pss_kib = median(at_age.map(|sample| sample.pss_kib as f64))?;
    Some(Held { generation, seconds, pss_kib, pss_kib_per_minute, files, files_per_minute, young_pss_kib })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outlier_does_not_bend_the_line() {
        let mut values: Vec<_> = (0..40).map(|at| (f64::from(at), f64::from(at) * 3.0)).collect();
        values[7].1 = 1e6;
        assert_eq!(slope(&values), Some(3.0));
        assert_eq!(slope(&[(1.0, 1.0)]), None);
    }
}
