//! TOML to the tree, with lines.

use std::ops::Range;

use toml_edit::{Document, Item, TableLike, Value as Toml};

use super::node::{Field, MAX_DEPTH, Node, TOO_DEEP, Value};
use super::{MAX_FILE_BYTES, nesting};

type Mistake = (Option<u32>, String);

pub(super) fn parse(text: &str) -> Result<Vec<Field>, Mistake> {
    if text.len() > MAX_FILE_BYTES {
        return Err((None, format!("has {} bytes; the limit is {MAX_FILE_BYTES}", text.len())));
    }
    if let Some(line) = nesting::too_deep_at(text) {
        return Err((Some(line), TOO_DEEP.to_owned()));
    }
    let lines = Lines::of(text);
    let document = Document::parse(text).map_err(|error| {
        let message = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
        (lines.at(error.span()), format!("is no TOML: {message}"))
    })?;
    lines.fields(document.as_table(), None, 0)
}

/// Where each line starts.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self(std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect())
    }

    fn at(&self, span: Option<Range<usize>>) -> Option<u32> {
        let line = self.0.partition_point(|start| *start <= span.as_ref().map_or(0, |span| span.start));
        span.and(u32::try_from(line).ok())
    }

    fn fields(&self, table: &dyn TableLike, line: Option<u32>, depth: usize) -> Result<Vec<Field>, Mistake> {
        if depth > MAX_DEPTH {
            return Err((line, TOO_DEEP.to_owned()));
        }
        let field = |(name, item): (&str, &Item)| {
            let line = self.at(table.key(name).and_then(toml_edit::Key::span)).or(line);
            Ok(Field { name: name.to_owned(), line, node: self.item(item, line, depth + 1)? })
        };
        table.iter().map(field).collect()
    }

    fn item(&self, item: &Item, line: Option<u32>, depth: usize) -> Result<Node, Mistake> {
        let line = self.at(item.span()).or(line);
        let value = match item {
            Item::None => Value::Other("nothing".to_owned()),
            Item::Value(value) => return self.value(value, line, depth),
            Item::Table(table) => Value::Table(self.fields(table, line, depth)?),
            Item::ArrayOfTables(tables) => {
                let element = |table: &toml_edit::Table| {
                    let line = self.at(table.span()).or(line);
                    Ok(Node { line, value: Value::Table(self.fields(table, line, depth + 1)?) })
                };
                Value::List(tables.iter().map(element).collect::<Result<_, Mistake>>()?)
            }
        };
        Ok(Node { line, value })
    }

    fn value(&self, value: &Toml, line: Option<u32>, depth: usize) -> Result<Node, Mistake> {
        if depth > MAX_DEPTH {
            return Err((line, TOO_DEEP.to_owned()));
        }
        let line = self.at(value.span()).or(line);
        let value = match value {
            Toml::String(text) => Value::Text(text.value().clone()),
            Toml::Integer(number) => Value::Integer(*number.value()),
            Toml::Boolean(value) => Value::Bool(*value.value()),
            Toml::Float(number) => Value::Number(*number.value()),
            Toml::Datetime(date) => Value::Other(format!("the date {}", date.value())),
            Toml::Array(list) => Value::List(
                list.iter().map(|each| self.value(each, line, depth + 1)).collect::<Result<_, _>>()?,
            ),
            Toml::InlineTable(table) => Value::Table(self.fields(table, line, depth)?),
        };
        Ok(Node { line, value })
    }
}
