//! What a client would rather have: the weighted lists of RFC 9110 section 12.4.
//!
//! Read strictly and item by item: one that breaks the grammar is passed over, as if it were not there,
//! and says nothing for or against the others.

use super::fields::list_items;

/// In thousandths, as its three decimals have it. 0: not acceptable.
pub type Weight = u16;

/// Of what is named without a weight.
pub const FULL: Weight = 1000;

/// Items that are looked at in one request. Clients name five.
pub const MAX_ITEMS: usize = 32;

/// The items of all these fields, each with its weight; parameters other than `q` are left with the item.
pub fn weighted<'v>(values: impl Iterator<Item = &'v [u8]>) -> impl Iterator<Item = (&'v [u8], Weight)> {
    values.flat_map(list_items).take(MAX_ITEMS).filter_map(weighed)
}

/// `q` is the last parameter that means anything here (RFC 9110 section 12.5.1 has done away with those
/// behind it).
fn weighed(item: &[u8]) -> Option<(&[u8], Weight)> {
    let mut parts = item.split(|byte| *byte == b';');
    let name = parts.next()?.trim_ascii();
    let mut weight = FULL;
    for parameter in parts {
        if let [b'q' | b'Q', b'=', value @ ..] = parameter.trim_ascii() {
            weight = thousandths(value)?;
            break;
        }
    }
    (!name.is_empty()).then_some((name, weight))
}

/// `qvalue`: 0 or 1, and at most three decimals.
fn thousandths(value: &[u8]) -> Option<Weight> {
    let (whole, decimals) = match value {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    if !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| decimals.get(at).map_or(0, |byte| Weight::from(byte - b'0'));
    let weight = Weight::from(whole - b'0') * FULL + digit(0) * 100 + digit(1) * 10 + digit(2);
    (weight <= FULL).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Vec<(String, Weight)> {
        let items = weighted(std::iter::once(value.as_bytes()));
        items.map(|(name, weight)| (String::from_utf8_lossy(name).into_owned(), weight)).collect()
    }

    #[test]
    fn weights_have_three_decimals_at_the_most() {
        let found = read("gzip, br;q=1.0 , zstd ;Q=0.25, a/b;level=1;q=0, *; q=0.001");
        let wanted = [("gzip", 1000), ("br", 1000), ("zstd", 250), ("a/b", 0), ("*", 1)];
        assert_eq!(found, wanted.map(|(name, weight)| (name.to_owned(), weight)));
    }

    #[test]
    fn what_is_no_weight_takes_its_item_along_and_no_other() {
        for bad in ["q=2", "q=1.001", "q=0.0001", "q=.5", "q=", "q=-1", "q=0.x", "q= 1"] {
            let found = read(&format!("br;{bad}, gzip"));
            assert!(found.iter().all(|(name, _)| name != "br"), "{bad}: {found:?}");
            assert!(found.contains(&("gzip".to_owned(), FULL)), "{bad}: {found:?}");
        }
        assert_eq!(read(""), []);
        assert_eq!(read(";q=1, ,"), []);
        assert_eq!(read(&"a,".repeat(100)).len(), MAX_ITEMS);
    }
}
