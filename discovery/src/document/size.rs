//! Sizes as people write them.

/// Bytes per unit.
const UNITS: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Reads a whole number and its unit: `512B`, `64KiB`, `10MiB`, `2GiB`. Powers of 1,000 are not among the
/// units: nobody could tell who means which.
///
/// # Errors
/// What to write instead, when `text` is anything else, or more bytes than 64 bits count.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let bad = || {
        let shown = super::node::quote(text);
        format!(
            "{shown} is no size; write a whole number with B, KiB, MiB or GiB, such as \"64KiB\" or \"10MiB\""
        )
    };
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
    let (number, unit) = text.split_at(unit_at);
    let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?;
    let number: u64 = number.parse().map_err(|_| bad())?;
    number.checked_mul(*bytes).ok_or_else(bad)
}

/// The shortest form that [`parse_size`] reads back.
pub fn show_size(bytes: u64) -> String {
    let exact = UNITS.iter().rev().find(|(_, unit)| bytes > 0 && bytes.is_multiple_of(*unit));
    let (unit, size) = exact.unwrap_or(&UNITS[0]);
    format!("{}{unit}", bytes / size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_shown() {
        for (text, bytes) in
            [("0B", 0), ("512B", 512), ("64KiB", 65_536), ("3MiB", 3 << 20), ("2GiB", 2 << 30)]
        {
            assert_eq!(parse_size(text), Ok(bytes));
            assert_eq!(show_size(bytes), text);
        }
        for text in [
            "",
            "5",
            "KiB",
            "5kb",
            "5MB",
            "-1B",
            "1.5MiB",
            "5 MiB",
            "99999999999999999999B",
            "18446744073709551615KiB",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
