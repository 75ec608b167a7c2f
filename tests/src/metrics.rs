//! A scrape, for looking up samples.

use std::collections::BTreeMap;

#[derive(Debug, Clone)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

#[derive(Debug, Clone)]
pub struct Metrics {
    samples: Vec<Sample>,
    text: String,
}

impl Metrics {
    /// # Panics
    /// For a line that is no sample of the Prometheus text format.
    #[track_caller]
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let samples = lines.map(|line| match sample(line) {
            Some(sample) => sample,
            None => panic!("no sample: {line:?}"),
        });
        Self { samples: samples.collect(), text: text.to_owned() }
    }

    /// The sum of all samples of that name that have these labels; `None` when there is none.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let matching = self.samples.iter().filter(|sample| sample.name == name && sample.has(labels));
        matching.map(|sample| sample.value).fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }

    /// As [`Metrics::sum`], 0 where nothing was counted yet.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        // Counters of a test are far below 2^53.
        self.sum(name, labels).unwrap_or(0.0) as u64
    }

    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Sample {
    fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.labels.get(*name).is_some_and(|given| given == value))
    }
}

fn sample(line: &str) -> Option<Sample> {
    let name_end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(name_end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.split_ascii_whitespace().next()?;
    Some(Sample { name: name.to_owned(), labels, value: value.parse().ok()? })
}

/// Everything up to the closing brace, and what follows it.
fn parse_labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = parse_quoted(after)?;
        labels.insert(name.to_owned(), value);
        rest = after;
    }
}

fn parse_quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_over_the_labels_that_are_not_given() {
        let text =
            "# HELP a b\na_total{app=\"x\",reason=\"q\\\"}\"} 2\na_total{app=\"x\",reason=\"\"} 3\nb 1.5e3\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.sum("a_total", &[("app", "x")]), Some(5.0));
        assert_eq!(metrics.sum("a_total", &[("reason", "q\"}")]), Some(2.0));
        assert_eq!(metrics.sum("a_total", &[("app", "y")]), None);
        assert_eq!(metrics.count("b", &[]), 1500);
    }
}
