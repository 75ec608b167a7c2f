//! The three formats. What anybody else wrote (the app's owner, the message of a broken rule) is text, and
//! stays text: nothing of it becomes markup, a string's end or a line of its own.

use std::fmt::Write;

use super::Said;

pub fn text(said: &Said<'_>) -> String {
    let mut out = format!("{} {}: {}\n", said.status, said.phrase, said.reason);
    for line in [said.detail, said.text].into_iter().flatten() {
        out.push_str(line);
        out.push('\n');
    }
    out
}

/// RFC 9457. `about:blank`: the type is the status.
pub fn json(said: &Said<'_>) -> String {
    let mut out =
        format!("{{\"type\":\"about:blank\",\"title\":{},\"status\":{}", Json(said.phrase), said.status);
    let detail = [said.detail, said.text].into_iter().flatten().collect::<Vec<_>>().join("\n");
    for (name, value) in [("reason", said.reason), ("detail", &detail), ("request_id", said.id)] {
        if !value.is_empty() {
            write!(out, ",\"{name}\":{}", Json(value)).expect("a string takes all");
        }
    }
    out.push_str("}\n");
    out
}

/// Small, whole, and legible in the dark: no script, nothing to fetch.
pub fn html(said: &Said<'_>) -> String {
    let mut out = String::with_capacity(HEAD.len() + FOOT.len() + 512);
    out.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<title>");
    let heading = format!("{} {}", said.status, said.phrase);
    write!(out, "{}", Html(&heading)).expect("a string takes all");
    out.push_str(HEAD);
    if let Some(title) = said.title {
        writeln!(out, "<p class=\"who\">{}</p>", Html(title)).expect("a string takes all");
    }
    writeln!(out, "<h1>{}</h1>", Html(&heading)).expect("a string takes all");
    for paragraph in [said.text, said.detail].into_iter().flatten().flat_map(|text| text.split("\n\n")) {
        writeln!(out, "<p>{}</p>", Html(paragraph)).expect("a string takes all");
    }
    write!(out, "<p class=\"code\">{} &middot; {}</p>", Html(said.reason), Html(said.id))
        .expect("a string takes all");
    out.push_str(FOOT);
    out
}

const HEAD: &str = "</title>
<meta name=\"viewport\" content=\"width=device-width\">
<meta name=\"robots\" content=\"noindex\">
<style>
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { max-width: 36rem; margin: 18vh auto 0; padding: 0 1.5rem }
h1 { font-size: 1.6rem; line-height: 1.2 }
p { white-space: pre-line }
.who { font-weight: 600 }
.code { margin-top: 3rem; opacity: .65; font: .8rem ui-monospace, monospace; overflow-wrap: anywhere }
</style>
</head>
<body>
";

const FOOT: &str = "\n</body>\n</html>\n";

/// As the content of an element, or an attribute's value in double quotes.
struct Html<'t>(&'t str);

impl std::fmt::Display for Html<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => formatter.write_str("&amp;")?,
                '<' => formatter.write_str("&lt;")?,
                '>' => formatter.write_str("&gt;")?,
                '"' => formatter.write_str("&quot;")?,
                '\'' => formatter.write_str("&#39;")?,
                _ => formatter.write_char(letter)?,
            }
        }
        Ok(())
    }
}

/// A string with its quotes.
struct Json<'t>(&'t str);

impl std::fmt::Display for Json<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_char('"')?;
        for letter in self.0.chars() {
            match letter {
                '"' | '\\' => write!(formatter, "\\{letter}")?,
                '\n' => formatter.write_str("\\n")?,
                // In a page, `<` could begin a script's end.
                '\0'..='\x1f' | '\x7f' | '<' => write!(formatter, "\\u{:04x}", u32::from(letter))?,
                _ => formatter.write_char(letter)?,
            }
        }
        formatter.write_char('"')
    }
}
