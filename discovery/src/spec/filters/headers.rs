//! `[filters.request_headers]` and `[filters.response_headers]`.

use std::sync::Arc;

use topology::filters::{HeaderEdits, HeaderValue, Piece, Variable};

use super::field_name;
use crate::document::Table;

/// With the others they must fit into the heads that endpoints and clients read.
const MAX_EDITS: usize = 50;
const MAX_VALUE_BYTES: usize = 4 << 10;

/// Fields that are not the filter's to change, and whose they are.
pub(super) type Reserved = &'static [(&'static str, &'static str)];

const FRAMING: &str = "says where the message ends, which the gateway writes itself";
const HOP: &str = "is about one connection and ends here";
const TRACE: &str = "says how the request came, which the gateway writes itself";

pub(super) const REQUEST: Reserved = &[
    ("host", "is set with rewrite.host"),
    ("content-length", FRAMING),
    ("transfer-encoding", FRAMING),
    ("connection", HOP),
    ("keep-alive", HOP),
    ("proxy-connection", HOP),
    ("te", HOP),
    ("trailer", HOP),
    ("upgrade", HOP),
    ("expect", HOP),
    ("via", TRACE),
    ("forwarded", TRACE),
    ("x-forwarded-for", TRACE),
    ("x-forwarded-host", TRACE),
    ("x-forwarded-proto", TRACE),
    ("x-request-id", TRACE),
    ("client-cert", TRACE),
    ("client-cert-chain", TRACE),
    ("x-client-cert-san", TRACE),
    ("x-client-cert-subject", TRACE),
];

pub(super) const RESPONSE: Reserved = &[
    ("content-length", FRAMING),
    ("transfer-encoding", FRAMING),
    ("connection", HOP),
    ("keep-alive", HOP),
    ("proxy-connection", HOP),
    ("trailer", HOP),
    ("upgrade", HOP),
    ("strict-transport-security", "is set with a listener's hsts"),
    (
        "date",
        "says when the response came about, and is the gateway's to write only where an endpoint does not",
    ),
];

pub(super) fn read_edits<'d>(filters: &Table<'d>, key: &'d str, reserved: Reserved) -> Option<HeaderEdits> {
    let table = filters.table(key)?;
    let edits = HeaderEdits {
        set: read_values(&table, "set", reserved),
        add: read_values(&table, "add", reserved),
        remove: table.list("remove", MAX_EDITS, |name| ours(name, reserved)).unwrap_or_default(),
    };
    if !["set", "add", "remove"].iter().any(|key| table.has(key)) {
        table.mistake_here("changes nothing; write set, add or remove");
    }
    table.finish();
    Some(edits)
}

fn read_values<'d>(edits: &Table<'d>, key: &'d str, reserved: Reserved) -> Vec<(Arc<str>, HeaderValue)> {
    let Some(table) = edits.table(key) else { return Vec::new() };
    if table.names().len() > MAX_EDITS {
        table.mistake_here(format!("has {} fields; the limit is {MAX_EDITS}", table.names().len()));
    }
    let mut values: Vec<(Arc<str>, HeaderValue)> = Vec::new();
    for name in table.names() {
        let value = table.parsed(name, |text| {
            let name = ours(name, reserved)?;
            if values.iter().any(|(other, _)| other.eq_ignore_ascii_case(&name)) {
                return Err("is there twice, in different cases; keep one".to_owned());
            }
            Ok((name, value(text)?))
        });
        values.extend(value);
    }
    values
}

pub(super) fn ours(name: &str, reserved: Reserved) -> Result<Arc<str>, String> {
    let name = field_name(name)?;
    match reserved.iter().find(|(other, _)| name.replace('_', "-").eq_ignore_ascii_case(other)) {
        Some((_, why)) => Err(format!("{name} cannot be changed here: it {why}; remove it")),
        None => Ok(name),
    }
}

/// Visible ASCII and spaces between; `{name}` is a variable, `{{` a brace.
fn value(text: &str) -> Result<HeaderValue, String> {
    let is_text = text.len() <= MAX_VALUE_BYTES
        && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && text.trim_matches(' ') == text;
    if !is_text {
        return Err(format!("is no field value; write at most {MAX_VALUE_BYTES} visible ASCII characters"));
    }
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('{') {
        literal.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('{') {
            literal.push('{');
            rest = after;
            continue;
        }
        let (name, after) = rest.split_once('}').ok_or("has a { without a }; write {{ for a brace")?;
        let found = Variable::ALL.iter().find(|(known, _)| *known == name);
        let (_, variable) = found.ok_or_else(|| {
            let known: Vec<_> = Variable::ALL.iter().map(|(known, _)| format!("{{{known}}}")).collect();
            format!("{{{name}}} is not known; write one of {}, or {{{{ for a brace", known.join(", "))
        })?;
        if !literal.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut literal).into()));
        }
        pieces.push(Piece::Variable(*variable));
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(literal.into()));
    }
    Ok(HeaderValue(pieces))
}
