//! How deep a TOML text nests, told before it is parsed.
//!
//! toml_edit bounds brackets and the dots of a key at 80 each, but not their product: an inline table
//! below a key of 79 dots, 79 times over, is a tree 6,000 deep, and parsing or dropping it recursively
//! overflows a thread's stack.

/// Brackets and dots on the way to the deepest key that we let the parser see. Our own shapes need 8.
const MAX_NESTING: usize = 64;

/// The line, counted from 1, where `text` nests deeper than [`MAX_NESTING`].
pub(super) fn too_deep_at(text: &str) -> Option<u32> {
    let mut scan = Scan { rest: text.as_bytes(), line: 1, dots: vec![0], depth: 0 };
    while let Some(byte) = scan.next() {
        match byte {
            b'#' => scan.skip_comment(),
            b'"' | b'\'' => scan.skip_string(byte),
            b'[' | b'{' => scan.open(),
            b']' | b'}' => scan.close(),
            b'.' => scan.dot(),
            b',' => scan.forget_dots(),
            b'\n' if scan.dots.len() == 1 => scan.forget_dots(),
            _ => {}
        }
        if scan.depth > MAX_NESTING {
            return Some(scan.line);
        }
    }
    None
}

struct Scan<'t> {
    rest: &'t [u8],
    line: u32,
    /// Dots since the last comma (at the top: line), per open bracket.
    dots: Vec<usize>,
    /// Open brackets and all of `dots`.
    depth: usize,
}

impl Scan<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        self.line = self.line.saturating_add(u32::from(*first == b'\n'));
        Some(*first)
    }

    fn open(&mut self) {
        self.dots.push(0);
        self.depth += 1;
    }

    fn close(&mut self) {
        if self.dots.len() > 1 {
            self.forget_dots();
            self.dots.pop();
            self.depth -= 1;
        }
    }

    fn dot(&mut self) {
        if let Some(dots) = self.dots.last_mut() {
            *dots += 1;
            self.depth += 1;
        }
    }

    fn forget_dots(&mut self) {
        if let Some(dots) = self.dots.last_mut() {
            self.depth -= std::mem::take(dots);
        }
    }

    fn skip_comment(&mut self) {
        let end = self.rest.iter().position(|byte| *byte == b'\n').unwrap_or(self.rest.len());
        self.rest = &self.rest[end..];
    }

    /// Past the closing quotes, or for a string on one line past its line: there the parser goes on too.
    fn skip_string(&mut self, quote: u8) {
        let long = self.rest.starts_with(&[quote, quote]);
        if long {
            self.rest = &self.rest[2..];
        }
        while let Some(byte) = self.next() {
            match byte {
                b'\\' if quote == b'"' => self.skip_escaped(),
                b'\n' if !long => return,
                _ if byte != quote => {}
                _ if !long => return,
                _ if self.rest.starts_with(&[quote, quote]) => return self.skip_closing_quotes(quote),
                _ => {}
            }
        }
    }

    /// The last two of the three, and one or two more that belong to the text before them.
    fn skip_closing_quotes(&mut self, quote: u8) {
        let quotes = self.rest.iter().take(4).take_while(|byte| **byte == quote).count();
        self.rest = &self.rest[quotes..];
    }

    /// A line break after a backslash still ends a string on one line.
    fn skip_escaped(&mut self) {
        if !self.rest.starts_with(b"\n") {
            self.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_and_brackets_add_up_along_a_branch_only() {
        let flat = "a.b.c = [1.5, \"1.2.3.4\", { x.y = 1 }]\n# a.b.c.d\nd = '''\n...\n'''\n".repeat(1_000);
        assert_eq!(too_deep_at(&flat), None);
        let deep = format!("ok = 1\n{} = 1", vec!["a"; 66].join("."));
        assert_eq!(too_deep_at(&deep), Some(2));
        let mixed = format!("{}1", "a.b.c = {".repeat(22));
        assert_eq!(too_deep_at(&mixed), Some(1));
        assert_eq!(too_deep_at(&format!("{}1", "a = {".repeat(64))), None);
    }

    #[test]
    fn strings_hide_nothing_behind_them() {
        let deep = ".".repeat(65);
        for hider in [
            "\"\n",
            "'\n",
            "\"\\\"\"",
            "\"\\\n",
            "\"\"",
            "''",
            "\"\"\"\"\"\"",
            "'''x'''",
            "'\\'",
            "#\"\n",
            "'''x'''''",
        ] {
            assert!(too_deep_at(&format!("{hider}{deep}")).is_some(), "{hider:?}");
        }
        for hidden in ["\"\"\"\n", "'''\n\n", "\"", "'", "#", "\"\"\"\\\"\"\""] {
            assert_eq!(too_deep_at(&format!("{hidden}{deep}")), None, "{hidden:?}");
        }
    }
}
