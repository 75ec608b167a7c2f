//! Durations as people write them.

use std::time::Duration;

/// Milliseconds per unit.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads a whole number and its unit: `300ms`, `5s`, `1m`, `2h`, `365d`.
///
/// # Errors
/// What to write instead, when `text` is anything else, or more milliseconds than 64 bits hold.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || {
        let shown = super::node::quote(text);
        format!(
            "{shown} is no duration; write a whole number with ms, s, m, h or d, such as \"300ms\" or \"5s\""
        )
    };
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(unit_at);
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(*millis).map(Duration::from_millis).ok_or_else(bad)
}

/// The shortest form that [`parse_duration`] reads back, to the millisecond.
pub fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let exact = UNITS.iter().rev().find(|(_, unit)| millis.is_multiple_of(u128::from(*unit)));
    let (unit, size) = exact.unwrap_or(&UNITS[0]);
    format!("{}{unit}", millis / u128::from(*size))
}
