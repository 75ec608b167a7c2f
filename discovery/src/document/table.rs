//! Reading a table key by key.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::mistake::Log;
use super::nearest::suggestion;
use super::node::{self, Field, Node, Value};
use super::{parse_duration, parse_size, show_duration, show_size};

/// A table of a [`super::Document`]. Every getter returns `None` for an absent key and for one that it
/// reported as a mistake, and remembers that the key is known; [`Table::finish`] reports the others.
pub struct Table<'d> {
    fields: &'d [Field],
    /// Where it starts.
    line: Option<u32>,
    /// Dotted; empty for the root.
    path: String,
    log: &'d Log,
    known: RefCell<Vec<&'d str>>,
}

impl<'d> Table<'d> {
    pub(super) fn root(fields: &'d [Field], log: &'d Log) -> Self {
        Self { fields, line: None, path: String::new(), log, known: RefCell::default() }
    }

    /// Whether the key is there, right or wrong.
    pub fn has(&self, key: &'d str) -> bool {
        self.find(key).is_some()
    }

    /// Lets keys pass unread: whether they belong here cannot be told.
    pub fn ignore(&self, keys: &[&'d str]) {
        self.known.borrow_mut().extend(keys);
    }

    /// All keys that are there, for tables whose keys are the writer's own.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &'d str> + use<'d> {
        self.fields.iter().map(|field| field.name.as_str())
    }

    /// A string.
    pub fn text(&self, key: &'d str) -> Option<&'d str> {
        self.typed(key, "a string", as_text)
    }

    /// A string that `parse` understands; what `parse` says is the mistake otherwise.
    pub fn parsed<T, E: Display>(
        &self,
        key: &'d str,
        parse: impl FnOnce(&'d str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(key)?;
        parse(text).map_err(|message| self.mistake(key, message.to_string())).ok()
    }

    /// One of some words.
    pub fn choice<T: Copy>(&self, key: &'d str, words: &[(&'static str, T)]) -> Option<T> {
        self.parsed(key, |given| pick(given, words))
    }

    /// `true` or `false`.
    pub fn boolean(&self, key: &'d str) -> Option<bool> {
        self.typed(key, "true or false", |value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        })
    }

    /// Whether the key holds a table, for keys that may hold something simpler.
    pub fn is_table(&self, key: &'d str) -> bool {
        self.find(key).is_some_and(|field| matches!(field.node.value, Value::Table(_)))
    }

    /// `true` or `false`, where a table would have been possible too.
    pub fn switch(&self, key: &'d str) -> Option<bool> {
        self.typed(key, "true, false or a table", |value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        })
    }

    /// A whole number within `range`.
    pub fn integer<N>(&self, key: &'d str, range: RangeInclusive<N>) -> Option<N>
    where
        N: Copy + Display + PartialOrd + TryFrom<i64>,
    {
        let wanted = format!("an integer from {} to {}", range.start(), range.end());
        self.typed(key, &wanted, |value| match value {
            Value::Integer(number) => N::try_from(*number).ok().filter(|number| range.contains(number)),
            _ => None,
        })
    }

    /// A share of a whole: a number from 0 to 1.
    pub fn fraction(&self, key: &'d str) -> Option<f64> {
        self.typed(key, "a number from 0 to 1", |value| match value {
            Value::Integer(whole @ (0 | 1)) => Some(*whole as f64),
            Value::Number(number) if (0.0..=1.0).contains(number) => Some(*number),
            _ => None,
        })
    }

    /// A number within `range`, in hundredths; what is finer is rounded.
    pub fn hundredths(&self, key: &'d str, range: RangeInclusive<u32>) -> Option<u32> {
        let [least, most] = [range.start(), range.end()].map(|bound| f64::from(*bound) / 100.0);
        self.typed(key, &format!("a number from {least} to {most}"), |value| {
            let given = match value {
                Value::Integer(whole) => *whole as f64,
                Value::Number(number) => *number,
                _ => return None,
            };
            (least..=most).contains(&given).then(|| (given * 100.0).round() as u32)
        })
    }

    /// A duration such as `"5s"` within `range`.
    pub fn duration(&self, key: &'d str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let text = self.typed(key, "a duration such as \"300ms\" or \"5s\"", as_text)?;
        let checked = parse_duration(text).and_then(|duration| {
            let (least, most) = (show_duration(*range.start()), show_duration(*range.end()));
            let out = || format!("{text:?} is out of range; write {least} to {most}");
            range.contains(&duration).then_some(duration).ok_or_else(out)
        });
        checked.map_err(|message| self.mistake(key, message)).ok()
    }

    /// A size such as `"10MiB"`, in bytes, within `range`.
    pub fn size(&self, key: &'d str, range: RangeInclusive<u64>) -> Option<u64> {
        let text = self.typed(key, "a size such as \"64KiB\" or \"10MiB\"", as_text)?;
        let checked = parse_size(text).and_then(|bytes| {
            let (least, most) = (show_size(*range.start()), show_size(*range.end()));
            let out = || format!("{text:?} is out of range; write {least} to {most}");
            range.contains(&bytes).then_some(bytes).ok_or_else(out)
        });
        checked.map_err(|message| self.mistake(key, message)).ok()
    }

    /// A list of at most `most` strings that `parse` understands. Those that it does not are reported and
    /// left out.
    pub fn list<T, E: Display>(
        &self,
        key: &'d str,
        most: usize,
        mut parse: impl FnMut(&'d str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let items = self.items(key, "a list of strings", most)?;
        let mut values = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            let parsed = match as_text(&item.value) {
                Some(text) => parse(text).map_err(|message| message.to_string()),
                None => Err(format!("must be a string, not {}", item.value)),
            };
            match parsed {
                Ok(value) => values.push(value),
                Err(message) => self.log.add(item.line, format!("{}[{at}]", self.path_to(key)), message),
            }
        }
        Some(values)
    }

    /// A list of at most `most` strings or whole numbers that `parse` understands, numbers as they are written.
    /// Those that it does not are reported and left out.
    pub fn words<T>(
        &self,
        key: &'d str,
        most: usize,
        mut parse: impl FnMut(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let items = self.items(key, "a list of strings or integers", most)?;
        let mut values = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            let parsed = match &item.value {
                Value::Text(text) => parse(text),
                Value::Integer(number) => parse(&number.to_string()),
                other => Err(format!("must be a string or an integer, not {other}")),
            };
            match parsed {
                Ok(value) => values.push(value),
                Err(message) => self.log.add(item.line, format!("{}[{at}]", self.path_to(key)), message),
            }
        }
        Some(values)
    }

    /// A table below this one.
    pub fn table(&self, key: &'d str) -> Option<Table<'d>> {
        let fields = self.typed(key, "a table", as_table)?;
        let line = self.find(key).and_then(|field| field.node.line.or(field.line));
        Some(self.below(fields, line, self.path_to(key)))
    }

    /// A table, or at most `most` of them in a list; none when the key is absent.
    pub fn one_or_more(&self, key: &'d str, most: usize) -> Vec<Table<'d>> {
        let is_list = |field: &&Field| matches!(field.node.value, Value::List(_));
        if self.find(key).filter(is_list).is_some() {
            return self.tables(key, most);
        }
        self.table(key).into_iter().collect()
    }

    /// Two whole numbers, neither below 0, the second not below the first; `example` shows what to write.
    pub fn ordered_pair(&self, key: &'d str, example: &str) -> Option<(u64, u64)> {
        let wanted = format!("two integers in order, such as {example}");
        self.typed(key, &wanted, |value| {
            let Value::List(items) = value else { return None };
            let number = |node: &Node| match node.value {
                Value::Integer(number) => u64::try_from(number).ok(),
                _ => None,
            };
            match items.as_slice() {
                [first, last] => Some((number(first)?, number(last)?)).filter(|(first, last)| first <= last),
                _ => None,
            }
        })
    }

    /// At most `most` tables in a list, such as `[[endpoint]]` sections; none when the key is absent.
    pub fn tables(&self, key: &'d str, most: usize) -> Vec<Table<'d>> {
        let items = self.items(key, "a list of tables", most).unwrap_or_default();
        let mut tables = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            let path = format!("{}[{at}]", self.path_to(key));
            match as_table(&item.value) {
                Some(fields) => tables.push(self.below(fields, item.line, path)),
                None => self.log.add(item.line, path, format!("must be a table, not {}", item.value)),
            }
        }
        tables
    }

    /// `value`, or the mistake that `key` is absent and that `example` shows what to write.
    pub fn required<T>(&self, key: &'d str, value: Option<T>, example: &str) -> Option<T> {
        if value.is_none() && !self.has(key) {
            self.mistake(key, format!("is missing; write {example}"));
        }
        value
    }

    /// Reports an empty list at `key`; `advice` says what to write.
    pub fn refuse_empty(&self, key: &'d str, advice: &str) {
        if self
            .find(key)
            .is_some_and(|field| matches!(&field.node.value, Value::List(items) if items.is_empty()))
        {
            self.mistake(key, format!("is empty; {advice}"));
        }
    }

    /// Reports a mistake about `key`: on its line, or on the table's where the key is absent.
    pub fn mistake(&self, key: &'d str, message: impl Into<String>) {
        let line = self.find(key).map_or(self.line, |field| field.node.line.or(field.line));
        self.log.add(line, self.path_to(key), message.into());
    }

    /// Reports a mistake about the table as a whole.
    pub fn mistake_here(&self, message: impl Into<String>) {
        self.log.add(self.line, self.path.clone(), message.into());
    }

    /// Reports every key that no getter asked for.
    pub fn finish(self) {
        let mut known = self.known.take();
        known.sort_unstable();
        known.dedup();
        for field in self.fields {
            if known.binary_search(&field.name.as_str()).is_ok() {
                continue;
            }
            if self.log.is_full() {
                self.log.count_one();
                continue;
            }
            let mut meant = suggestion(&field.name, known.iter().copied());
            if meant.is_empty() {
                meant = format!("; known here: {}", known.join(", "));
            }
            self.log.add(field.line, self.path_to(&field.name), format!("unknown key{meant}"));
        }
    }

    fn below(&self, fields: &'d [Field], line: Option<u32>, path: String) -> Self {
        Self { fields, line, path, log: self.log, known: RefCell::default() }
    }

    fn find(&self, key: &'d str) -> Option<&'d Field> {
        self.known.borrow_mut().push(key);
        self.fields.iter().find(|field| field.name == key)
    }

    fn typed<T>(&self, key: &'d str, wanted: &str, take: impl FnOnce(&'d Value) -> Option<T>) -> Option<T> {
        let value = &self.find(key)?.node.value;
        let taken = take(value);
        if taken.is_none() {
            self.mistake(key, format!("must be {wanted}, not {value}"));
        }
        taken
    }

    fn items(&self, key: &'d str, wanted: &str, most: usize) -> Option<&'d [Node]> {
        let items = self.typed(key, wanted, |value| match value {
            Value::List(items) => Some(items.as_slice()),
            _ => None,
        })?;
        if items.len() > most {
            self.mistake(key, format!("has {} elements; the limit is {most}", items.len()));
            return None;
        }
        Some(items)
    }

    fn path_to(&self, key: &str) -> String {
        let bare = !key.is_empty()
            && key.len() <= 80
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        let key = if bare { key.to_owned() } else { node::quote(key) };
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }
}

/// The value of the word that `given` is.
///
/// # Errors
/// All the words, and the one that was probably meant.
pub fn pick<T: Copy>(given: &str, words: &[(&'static str, T)]) -> Result<T, String> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == given) {
        return Ok(*value);
    }
    let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    let shown = node::quote(given);
    Err(match names.as_slice() {
        [only] => format!("{shown} is not known; write {only:?}"),
        all => format!("{shown} is none of {}{}", all.join(", "), suggestion(given, all.iter().copied())),
    })
}

fn as_text(value: &Value) -> Option<&str> {
    match value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

fn as_table(value: &Value) -> Option<&[Field]> {
    match value {
        Value::Table(fields) => Some(fields),
        _ => None,
    }
}
