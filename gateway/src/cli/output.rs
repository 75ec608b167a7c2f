//! What is shown: columns for people, JSON for programs. Colours only where a person looks.

use std::io::{IsTerminal as _, Write as _};

use serde_json::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    Good,
    Bad,
    Doubtful,
    Faint,
}

impl Colour {
    /// ECMA-48, "select graphic rendition".
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Bad => "31",
            Self::Doubtful => "33",
            Self::Faint => "2",
        }
    }

    /// Of an endpoint's state.
    pub fn of_state(state: &str) -> Option<Self> {
        match state {
            "up" => Some(Self::Good),
            "down" | "ejected" => Some(Self::Bad),
            "drain" | "maintenance" => Some(Self::Doubtful),
            _ => None,
        }
    }
}

/// One cell of a table.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    text: String,
    colour: Option<Colour>,
}

impl Cell {
    pub fn coloured(text: impl Into<String>, colour: Option<Colour>) -> Self {
        Self { text: plain(&text.into()), colour }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::coloured(text, None)
    }
}

/// A heading and rows, in columns as wide as they need; ends without blanks.
pub fn columns(indent: usize, heading: &[&str], rows: &[Vec<Cell>]) -> String {
    layout(indent, heading, rows, is_coloured())
}

fn layout(indent: usize, heading: &[&str], rows: &[Vec<Cell>], is_coloured: bool) -> String {
    let mut widths: Vec<_> = heading.iter().map(|name| name.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.text.chars().count());
        }
    }
    let heading: Vec<_> = heading.iter().map(|name| Cell::coloured(*name, Some(Colour::Faint))).collect();
    let mut out = String::new();
    for row in std::iter::once(&heading).chain(rows) {
        let used = row.iter().rposition(|cell| !cell.text.is_empty()).map_or(0, |last| last + 1);
        out.push_str(&" ".repeat(indent));
        for (at, (cell, width)) in row.iter().zip(&widths).take(used).enumerate() {
            out.push_str(&paint(&cell.text, cell.colour.filter(|_| is_coloured)));
            if at + 1 < used {
                out.push_str(&" ".repeat(width - cell.text.chars().count() + 2));
            }
        }
        out.push('\n');
    }
    out
}

/// With a colour, where a person looks.
pub fn painted(text: &str, colour: Colour) -> String {
    paint(&plain(text), Some(colour).filter(|_| is_coloured()))
}

fn paint(text: &str, colour: Option<Colour>) -> String {
    colour.map_or_else(|| text.to_owned(), |colour| format!("\x1b[{}m{text}\x1b[0m", colour.code()))
}

/// https://no-color.org
fn is_coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|said| said.is_empty())
}

/// Without what a terminal would obey: names and reasons were written by others.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\t' => out.push(' '),
            letter if letter.is_control() => out.extend(letter.escape_unicode()),
            letter => out.push(letter),
        }
    }
    out
}

/// To standard output. Whoever reads it may have gone: nobody is left to be told.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out
        .write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") });
}

pub fn say_json(value: &Value) {
    say(&serde_json::to_string_pretty(value).unwrap_or_default());
}

/// To standard error.
pub fn say_error(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// A member that is a string; empty where it is none.
pub fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_default()
}

/// A member that is a list; empty where it is none.
pub fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

/// A value on one line, as it is read best.
pub fn brief(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need() {
        let rows = [
            vec!["a".into(), Cell::coloured("up", Some(Colour::Good)), "x".into()],
            vec!["longer".into(), "down".into(), "".into()],
        ];
        let shown = layout(1, &["ID", "STATE", "WHY"], &rows, false);
        assert_eq!(shown, " ID      STATE  WHY\n a       up     x\n longer  down\n");
        assert!(layout(0, &["A", "B"], &rows, true).contains("\x1b[32mup\x1b[0m"));
    }

    #[test]
    fn nothing_that_a_gateway_says_moves_the_cursor() {
        assert_eq!(plain("a\x1b[2Jb\r\nc"), "a\\u{1b}[2Jb\\u{d} c");
    }
}
