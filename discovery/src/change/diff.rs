//! What differs between two values, member by member.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::value::Stored;

/// Of one entry; who changes more reads the values.
pub const MAX_DIFFERENCES: usize = 200;

/// One place at which two values differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// As in mistakes: `limits.rate`, `hosts[0]`; empty for the whole value.
    pub path: String,
    /// `None`: was absent.
    pub before: Option<Value>,
    /// `None`: is absent now.
    pub after: Option<Value>,
}

/// At most [`MAX_DIFFERENCES`], in the order of their paths. Of a sealed value only that it differs is told, and of one
/// that comes or goes its members.
pub fn differences(before: Option<&Stored>, after: Option<&Stored>) -> Vec<Difference> {
    let mut found = Vec::new();
    let whole = |value: Option<&Stored>| value.map(Stored::shown);
    let (was, is) = (whole(before), whole(after));
    let empty = Value::Object(Map::new());
    match (&was, &is) {
        (Some(was), Some(is)) => compare(String::new(), Some(was), Some(is), &mut found),
        (None, Some(is @ Value::Object(_))) => compare(String::new(), Some(&empty), Some(is), &mut found),
        (Some(was @ Value::Object(_)), None) => compare(String::new(), Some(was), Some(&empty), &mut found),
        (was, is) => compare(String::new(), was.as_ref(), is.as_ref(), &mut found),
    }
    found
}

fn compare(path: String, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<Difference>) {
    if before == after || found.len() >= MAX_DIFFERENCES {
        return;
    }
    match (before, after) {
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
            for name in names {
                let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                compare(below, before.get(name), after.get(name), found);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => {
            for at in 0..before.len().max(after.len()) {
                compare(format!("{path}[{at}]"), before.get(at), after.get(at), found);
            }
        }
        _ => found.push(Difference { path, before: before.cloned(), after: after.cloned() }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stored(value: &Value) -> Stored {
        Stored::of_bytes(value.to_string().into())
    }

    #[test]
    fn only_what_differs_is_told_with_its_path() {
        let before = stored(&json!({ "hosts": ["a.test", "b.test"], "limits": { "rate": 1 }, "same": true }));
        let after = stored(&json!({ "hosts": ["a.test"], "limits": { "rate": 2 }, "same": true, "new": 1 }));
        let told: Vec<_> = differences(Some(&before), Some(&after))
            .into_iter()
            .map(|one| (one.path, one.before, one.after))
            .collect();
        assert_eq!(
            told,
            [
                ("hosts[1]".to_owned(), Some(json!("b.test")), None),
                ("limits.rate".to_owned(), Some(json!(1)), Some(json!(2))),
                ("new".to_owned(), None, Some(json!(1))),
            ]
        );
        assert!(differences(Some(&before), Some(&before)).is_empty());
        assert_eq!(differences(None, Some(&before)).len(), 3);
    }

    #[test]
    fn nothing_of_a_sealed_value_is_told() {
        let sealed = |text: &str| Stored::of_bytes(format!("sluice-sealed:1:k:{text}").into());
        let told = differences(Some(&sealed("AAAA")), Some(&sealed("BBBB")));
        assert_eq!(told.len(), 1);
        assert!(!format!("{told:?}").contains("AAAA"));
    }

    #[test]
    fn a_diff_is_bounded() {
        let many: Vec<_> = (0..10_000).collect();
        let told = differences(Some(&stored(&json!({ "a": [] }))), Some(&stored(&json!({ "a": many }))));
        assert_eq!(told.len(), MAX_DIFFERENCES);
    }
}
