//! JSON to the tree. serde_json keeps no positions, so nodes have no line.

use serde_json::{Map, Value as Json};

use super::node::{Field, MAX_DEPTH, Node, TOO_DEEP, Value};
use crate::registry::MAX_VALUE_BYTES;

pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Field>, String> {
    if bytes.len() > MAX_VALUE_BYTES {
        return Err(format!("has {} bytes; the limit is {MAX_VALUE_BYTES}", bytes.len()));
    }
    match serde_json::from_slice(bytes) {
        Ok(Json::Object(members)) => fields(members, 0),
        Ok(_) => Err("must be a JSON object, such as {\"hosts\": []}".to_owned()),
        Err(error) => Err(format!("is no JSON: {error}")),
    }
}

fn fields(members: Map<String, Json>, depth: usize) -> Result<Vec<Field>, String> {
    if depth > MAX_DEPTH {
        return Err(TOO_DEEP.to_owned());
    }
    let given = members.into_iter().filter(|(_, value)| !value.is_null());
    given.map(|(name, value)| Ok(Field { name, line: None, node: node(value, depth + 1)? })).collect()
}

fn node(value: Json, depth: usize) -> Result<Node, String> {
    if depth > MAX_DEPTH {
        return Err(TOO_DEEP.to_owned());
    }
    let value = match value {
        Json::Null => Value::Other("null".to_owned()),
        Json::Bool(value) => Value::Bool(value),
        Json::Number(number) => match number.as_i64() {
            Some(integer) => Value::Integer(integer),
            None => {
                number.as_f64().map_or_else(|| Value::Other(format!("the number {number}")), Value::Number)
            }
        },
        Json::String(text) => Value::Text(text),
        Json::Array(list) => {
            Value::List(list.into_iter().map(|each| node(each, depth + 1)).collect::<Result<_, _>>()?)
        }
        Json::Object(members) => Value::Table(fields(members, depth)?),
    };
    Ok(Node { line: None, value })
}

type NoJson = (Option<u32>, String);

/// The way back.
pub(super) fn of_fields(fields: &[Field]) -> Result<Json, NoJson> {
    let member = |field: &Field| Ok((field.name.clone(), of_node(&field.node)?));
    fields.iter().map(member).collect::<Result<Map<_, _>, _>>().map(Json::Object)
}

fn of_node(node: &Node) -> Result<Json, NoJson> {
    Ok(match &node.value {
        Value::Text(text) => Json::String(text.clone()),
        Value::Integer(number) => Json::from(*number),
        Value::Number(number) => {
            let finite = serde_json::Number::from_f64(*number);
            Json::Number(finite.ok_or_else(|| (node.line, node.value.to_string()))?)
        }
        Value::Bool(value) => Json::Bool(*value),
        Value::List(list) => Json::Array(list.iter().map(of_node).collect::<Result<_, _>>()?),
        Value::Table(fields) => of_fields(fields)?,
        Value::Other(description) => return Err((node.line, description.clone())),
    })
}
