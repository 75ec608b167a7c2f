//! Files of entries: an app's own file, or entries by key. Read as gateways read them, so that mistakes have lines.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use discovery::document::{Document, Mistakes};
use discovery::spec::{parse_app_file, parse_app_value};
use serde_json::{Map, Value};
use topology::AppId;

use crate::cli::failure::{Failure, Told};

/// Larger than any entry may be, and than a hundred usual ones.
const MAX_FILE_BYTES: usize = 8 << 20;

/// What entries are to become, by key.
pub type Entries = BTreeMap<String, Value>;

/// # Errors
/// [`Failure::Invalid`]: all that is wrong with all of them.
pub fn read(files: &[PathBuf]) -> Result<Entries, Failure> {
    let (mut entries, mut mistakes) = (Entries::new(), Vec::new());
    for file in files {
        let name =
            if file.as_os_str() == "-" { "standard input".to_owned() } else { file.display().to_string() };
        match load(file).map_err(|why| vec![told(&name, &why)]).and_then(|text| parse(&name, &text)) {
            Ok(found) => {
                for (key, value) in found {
                    if entries.insert(key.clone(), value).is_some() {
                        mistakes
                            .push(told(&name, &format!("{key} is in another file too; keep one of them")));
                    }
                }
            }
            Err(wrong) => mistakes.extend(wrong),
        }
    }
    if mistakes.is_empty() {
        return Ok(entries);
    }
    let detail = format!("nothing was sent; mistakes: {}", mistakes.len());
    Err(Failure::Invalid { detail, mistakes })
}

fn told(place: &str, message: &str) -> Told {
    Told { place: place.to_owned(), field: String::new(), message: message.to_owned() }
}

fn load(file: &Path) -> Result<String, String> {
    let mut text = String::new();
    let most = MAX_FILE_BYTES as u64 + 1;
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().lock().take(most).read_to_string(&mut text),
        false => std::fs::File::open(file).and_then(|file| file.take(most).read_to_string(&mut text)),
    };
    read.map_err(|error| error.to_string())?;
    if text.len() > MAX_FILE_BYTES { Err(format!("has more than {MAX_FILE_BYTES} bytes")) } else { Ok(text) }
}

fn parse(name: &str, text: &str) -> Result<Entries, Vec<Told>> {
    // A section of TOML begins as a list of JSON does.
    let is_json = text.trim_ascii_start().starts_with('{') || serde_json::from_str::<Value>(text).is_ok();
    if is_json {
        let value =
            serde_json::from_str(text).map_err(|error| vec![told(name, &format!("is no JSON: {error}"))])?;
        return entries(name, value);
    }
    let document = Document::toml(name, text).map_err(|wrong| spread(&wrong))?;
    let value = document.to_json().map_err(|wrong| spread(&wrong))?;
    if value.get("id").is_none() && value.get("entries").is_some() {
        return entries(name, value);
    }
    app(name, text, value)
}

/// An app's file, as in `conf/apps`.
fn app(name: &str, text: &str, mut value: Value) -> Result<Entries, Vec<Told>> {
    let app = parse_app_file(name, text).map_err(|wrong| spread(&wrong))?;
    if !app.endpoints.is_empty() {
        let message = "endpoint: the registry has one key for each endpoint, which registers itself; take the \
                       [[endpoint]] sections out";
        return Err(vec![told(name, message)]);
    }
    if let Some(members) = value.as_object_mut() {
        members.remove("id");
    }
    judge(name, &app.id, &value)?;
    Ok(Entries::from([(format!("app/{}", app.id), value)]))
}

/// By the rules of the registry, where no file stands beside.
fn judge(name: &str, app: &AppId, value: &Value) -> Result<(), Vec<Told>> {
    let read = parse_app_value(name, value.to_string().as_bytes(), app);
    read.map(drop).map_err(|wrong| spread(&wrong))
}

/// `{"entries": {key: value}}`, `{key: value}`, or rows with `key` and `value` as `GET /v1/config` shows them.
fn entries(name: &str, value: Value) -> Result<Entries, Vec<Told>> {
    let rows = match value {
        Value::Object(mut members) => match members.remove("entries") {
            Some(inner @ (Value::Object(_) | Value::Array(_))) => inner,
            Some(_) => return Err(vec![told(name, "entries: must be entries by key")]),
            None => Value::Object(members),
        },
        other => other,
    };
    let found: Entries = match rows {
        Value::Object(members) => members.into_iter().collect(),
        Value::Array(rows) => rows.into_iter().filter_map(row).collect(),
        _ => Entries::new(),
    };
    let mut mistakes = Vec::new();
    for (key, value) in &found {
        let id = key.strip_prefix("app/").map(AppId::parse);
        match (id, value) {
            (Some(Ok(id)), Value::Object(_)) => {
                mistakes.extend(judge(&format!("{name}: {key}"), &id, value).err().into_iter().flatten());
            }
            _ if !key.contains('/') => {
                let fix = "write entries by key, such as app/shop, or an app's file with its id";
                mistakes.push(told(name, &format!("{key:?} is no entry; {fix}")));
            }
            // The gateway knows.
            _ => {}
        }
    }
    if found.is_empty() {
        mistakes.push(told(name, "holds no entry"));
    }
    if mistakes.is_empty() { Ok(found) } else { Err(mistakes) }
}

fn row(row: Value) -> Option<(String, Value)> {
    let Value::Object(mut row): Value = row else { return None };
    let mut take = |name: &str| Map::remove(&mut row, name);
    let Some(Value::String(key)) = take("key") else { return None };
    Some((key, take("value")?))
}

fn spread(mistakes: &Mistakes) -> Vec<Told> {
    let told = |mistake: &discovery::document::Mistake| Told {
        place: match mistake.line {
            Some(line) => format!("{}:{line}", mistake.source),
            None => mistake.source.to_string(),
        },
        field: mistake.key.clone(),
        message: mistake.message.clone(),
    };
    mistakes.iter().map(told).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn wrong(text: &str) -> Vec<String> {
        let mistakes = parse("f", text).unwrap_err();
        mistakes.iter().map(|told| format!("{}|{}|{}", told.place, told.field, told.message)).collect()
    }

    #[test]
    fn an_apps_file_becomes_its_entry() {
        let text = "id = \"shop\"\nhosts = [\"a.test\"]\nsplit = { v1 = 90, v2 = 10 }\n[health]\npath = \"/up\"\n\
                    [[match]]\nname = \"beta\"\npath = [\"/b\"]\nversion = \"v2\"\n";
        let wanted = json!({ "hosts": ["a.test"], "split": { "v1": 90, "v2": 10 }, "health": { "path": "/up" },
            "match": [{ "name": "beta", "path": ["/b"], "version": "v2" }] });
        assert_eq!(parse("f", text).unwrap(), Entries::from([("app/shop".to_owned(), wanted)]));
    }

    #[test]
    fn entries_by_key_are_taken_as_they_stand() {
        let shop = json!({ "hosts": ["a.test"] });
        let wanted =
            Entries::from([("app/shop".to_owned(), shop.clone()), ("route/x".to_owned(), Value::Null)]);
        for text in [
            json!({ "app/shop": shop, "route/x": null }).to_string(),
            json!({ "entries": { "app/shop": shop, "route/x": null } }).to_string(),
            json!([{ "key": "app/shop", "etag": "1", "value": shop }, { "key": "route/x", "value": null }])
                .to_string(),
        ] {
            assert_eq!(parse("f", &text).unwrap(), wanted, "{text}");
        }
        let toml = "[entries.\"app/shop\"]\nhosts = [\"a.test\"]\n";
        assert_eq!(parse("f", toml).unwrap(), Entries::from([("app/shop".to_owned(), shop)]));
    }

    #[test]
    fn mistakes_have_their_lines_and_say_what_to_write() {
        let [hosts, ..] = &wrong("id = \"shop\"\nhostz = []\nhealth = 3\n")[..] else { panic!() };
        assert!(hosts.starts_with("f:2|hostz|") && hosts.contains("hosts"), "{hosts}");
        let file =
            "id = \"shop\"\n[[endpoint]]\nversion = \"v1\"\ninstance = \"c1\"\naddress = \"127.0.0.1:1\"\n";
        assert!(wrong(file)[0].contains("take the [[endpoint]] sections out"));
        assert!(wrong("{\"hosts\": []}")[0].contains("\"hosts\" is no entry"));
        assert!(wrong("{\"app/shop\": {\"hostz\": []}}")[0].starts_with("f: app/shop|hostz|"));
        for text in ["{", "[]", "{}", "x = 1979-05-27", "hosts = []"] {
            assert!(!wrong(text).is_empty(), "{text}");
        }
    }
}
