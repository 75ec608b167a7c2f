//! The `split` of an app's spec, and nothing else of it: the rest is its operators'.

use std::collections::BTreeMap;

use bytes::Bytes;
use discovery::registry::Key;
use discovery::secrets::{Keys, is_sealed, unseal};
use serde_json::{Map, Value};
use topology::VersionId;

use crate::rollout::SplitWish;

/// What the spec says; `None`: no split.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn read(
    place: &Key,
    spec: Option<&Bytes>,
    keys: Option<&Keys>,
) -> Result<Option<BTreeMap<VersionId, u16>>, String> {
    let Some(Value::Object(shares)) = open(place, spec, keys)?.remove("split") else { return Ok(None) };
    let share = |(version, share): (String, Value)| {
        let version = VersionId::parse(&version).map_err(|error| error.to_string())?;
        let share = share.as_u64().and_then(|share| u16::try_from(share).ok());
        Ok((version, share.ok_or("a share in split is no number")?))
    };
    shares.into_iter().map(share).collect::<Result<_, String>>().map(Some)
}

/// The spec with what is wished; `None`: it says so already.
///
/// # Errors
/// Why it cannot be read or sealed.
pub(super) fn write(
    place: &Key,
    spec: Option<&Bytes>,
    wish: &SplitWish,
    keys: Option<&Keys>,
) -> Result<Option<Bytes>, String> {
    let present = read(place, spec, keys)?;
    let wanted = match wish {
        SplitWish::Leave => return Ok(None),
        SplitWish::Whole => None,
        SplitWish::Shares(shares) => Some(shares),
    };
    if present.as_ref() == wanted {
        return Ok(None);
    }
    let mut members = open(place, spec, keys)?;
    match wanted {
        None => drop(members.remove("split")),
        Some(shares) => {
            let shares = shares.iter().map(|(version, share)| (version.to_string(), Value::from(*share)));
            members.insert("split".to_owned(), Value::Object(shares.collect()));
        }
    }
    let plain = Value::Object(members).to_string();
    match (spec.is_some_and(|spec| is_sealed(spec)), keys) {
        (true, Some(keys)) => keys
            .seal(place, plain.as_bytes())
            .map(|sealed| Some(sealed.into()))
            .map_err(|error| error.to_string()),
        _ => Ok(Some(plain.into())),
    }
}

fn open(place: &Key, spec: Option<&Bytes>, keys: Option<&Keys>) -> Result<Map<String, Value>, String> {
    let Some(spec) = spec else { return Ok(Map::new()) };
    let plain = unseal(keys, place, spec).map_err(|error| format!("{place} {error}"))?;
    serde_json::from_slice(&plain).map_err(|error| format!("{place} is no JSON object: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_split_changes() {
        let place = Key::parse("app/shop").unwrap();
        let version = |text: &str| VersionId::parse(text).unwrap();
        let spec = Bytes::from_static(br#"{"hosts": ["a.test"], "split": {"v1": 100}, "x": {"y": null}}"#);
        let shares = SplitWish::Shares([(version("v1"), 90), (version("v2"), 10)].into());
        let written = write(&place, Some(&spec), &shares, None).unwrap().unwrap();
        assert_eq!(&written[..], br#"{"hosts":["a.test"],"split":{"v1":90,"v2":10},"x":{"y":null}}"#);
        assert_eq!(write(&place, Some(&written), &shares, None), Ok(None));
        let whole = write(&place, Some(&written), &SplitWish::Whole, None).unwrap().unwrap();
        assert_eq!(&whole[..], br#"{"hosts":["a.test"],"x":{"y":null}}"#);
        assert_eq!(write(&place, None, &SplitWish::Whole, None), Ok(None));
        assert_eq!(
            write(&place, None, &shares, None).unwrap().unwrap().len(),
            r#"{"split":{"v1":90,"v2":10}}"#.len()
        );
        assert!(
            write(&place, Some(&Bytes::from_static(b"[]")), &shares, None).unwrap_err().contains("app/shop")
        );
    }
}
