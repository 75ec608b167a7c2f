//! Why a command was not carried out, and the code that it ends with.

use serde_json::{Value, json};

use super::Output;
use super::output::{plain, say_error};

#[derive(Debug)]
pub enum Failure {
    /// What was asked for is wrong, or not allowed.
    Invalid { detail: String, mistakes: Vec<Told> },
    /// Nobody answers who could say: the gateway, or the registry behind it.
    Unreachable(String),
    /// What is differs from what is wanted.
    Differs(String),
    /// As [`Self::Differs`], and all has been said.
    SaidDiffers,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// A file with its line, or an entry.
    pub place: String,
    pub field: String,
    pub message: String,
}

impl Told {
    fn show(&self) -> String {
        let parts = [&self.place, &self.field, &self.message];
        parts.into_iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(": ")
    }
}

impl Failure {
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::Invalid { detail: detail.into(), mistakes: Vec::new() }
    }

    pub fn code(&self) -> u8 {
        match self {
            Self::Invalid { .. } => 1,
            Self::Unreachable(_) => 2,
            Self::Differs(_) | Self::SaidDiffers => 3,
        }
    }

    /// What an answer says that is no success.
    pub fn of_answer(status: u16, body: &[u8]) -> Self {
        let problem: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let mut detail = text(&problem, "detail");
        if detail.is_empty() {
            let body = String::from_utf8_lossy(body);
            detail = match body.trim() {
                "" if status == 404 => "the gateway knows no such thing, or is too old to".to_owned(),
                "" => "the gateway says nothing more".to_owned(),
                said => said.chars().take(2_000).collect(),
            };
        }
        let told = |mistake: &Value| Told {
            place: text(mistake, "entry"),
            field: text(mistake, "field"),
            message: text(mistake, "message"),
        };
        let mistakes: Vec<_> = problem["mistakes"].as_array().into_iter().flatten().map(told).collect();
        // One that says the same again.
        let is_said = |told: &Told| detail.ends_with(&told.message) && mistakes.len() == 1;
        let mistakes = mistakes.iter().filter(|told| !is_said(told)).cloned().collect();
        match status {
            412 => Self::Differs(format!("{detail} (412)")),
            500.. => Self::Unreachable(format!("the gateway answered {status}: {detail}")),
            _ => Self::Invalid { detail: format!("{detail} ({status})"), mistakes },
        }
    }

    /// To standard error.
    pub fn report(&self, output: Output) {
        let (detail, mistakes): (&str, &[Told]) = match self {
            Self::Invalid { detail, mistakes } => (detail, mistakes),
            Self::Unreachable(detail) | Self::Differs(detail) => (detail, &[]),
            Self::SaidDiffers => return,
        };
        if output == Output::Json {
            let list: Vec<_> = mistakes
                .iter()
                .map(|told| json!({ "place": told.place, "field": told.field, "message": told.message }))
                .collect();
            let error = json!({ "code": self.code(), "detail": detail, "mistakes": list });
            return say_error(&json!({ "error": error }).to_string());
        }
        say_error(&format!("sluice: {}", plain(detail)));
        mistakes.iter().for_each(|told| say_error(&format!("  {}", plain(&told.show()))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_decides_the_code_and_a_problem_the_words() {
        let problem = br#"{"detail": "nothing was written; mistakes: 2", "mistakes": [
            {"entry": "app/shop", "field": "hosts[0]", "message": "is no host"}, {"field": "x", "message": "y"}]}"#;
        let Failure::Invalid { detail, mistakes } = Failure::of_answer(422, problem) else { panic!() };
        assert_eq!(detail, "nothing was written; mistakes: 2 (422)");
        let shown: Vec<_> = mistakes.iter().map(Told::show).collect();
        assert_eq!(shown, ["app/shop: hosts[0]: is no host", "x: y"]);
        for (status, code) in [(400, 1), (401, 1), (403, 1), (404, 1), (412, 3), (500, 2), (503, 2), (504, 2)]
        {
            assert_eq!(Failure::of_answer(status, b"").code(), code, "{status}");
            assert_eq!(Failure::of_answer(status, b"\xff{").code(), code, "{status}");
        }
    }
}
