//! Many measured values in a few numbers.

use serde_json::{Value, json};

/// Sorted values.
#[derive(Debug, Clone)]
pub struct Distribution(Vec<f64>);

impl FromIterator<f64> for Distribution {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }
}

impl Distribution {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The smallest value that `share` of all values do not exceed (nearest rank): always one that was
    /// measured. Not a number without values.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub fn max(&self) -> f64 {
        self.quantile(1.0)
    }

    /// Null where there are no values.
    pub fn to_json(&self) -> Value {
        json!({
            "count": self.len(),
            "min": self.quantile(0.0),
            "median": self.median(),
            "p90": self.quantile(0.9),
            "p99": self.quantile(0.99),
            "max": self.max(),
        })
    }

    /// Cells of a table: median, p90, p99, max.
    pub fn cells(&self) -> String {
        let cells = [0.5, 0.9, 0.99, 1.0].map(|share| format!("{:.2}", self.quantile(share)));
        cells.join(" | ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_value_of_the_nearest_rank() {
        let hundred: Distribution = (1..=100).rev().map(f64::from).collect();
        assert_eq!((hundred.median(), hundred.quantile(0.99), hundred.max()), (50.0, 99.0, 100.0));
        assert_eq!(hundred.quantile(0.0), 1.0);
        let one = Distribution::from_iter([7.0]);
        assert_eq!((one.median(), one.quantile(0.99)), (7.0, 7.0));
    }

    #[test]
    fn nothing_measured_is_no_number() {
        let nothing = Distribution::from_iter([]);
        assert!(nothing.median().is_nan());
        assert!(nothing.to_json()["median"].is_null());
    }
}
