//! What `sluice deploy` is given: an app's name, its file, or the folder that has it.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use deploy::model::Deployment;
use discovery::document::{Document, Mistakes};
use serde_json::{Map, Value, json};
use topology::{AppId, VersionId};

use crate::cli::failure::{Failure, Told};

/// The file that a project's folder has.
const FILE: &str = "sluice.toml";
/// What the registry takes as a value.
const MAX_FILE_BYTES: u64 = 512 << 10;

#[derive(Debug, Args)]
pub struct Wish {
    /// A folder with a sluice.toml, such a file, or the name of an app
    #[arg(value_name = "APP|FOLDER")]
    target: String,
    /// Of an app by its name: the image to run, REGISTRY/REPOSITORY:TAG
    #[arg(long, conflicts_with = "command")]
    image: Option<String>,
    /// Of an app by its name: how to call the version; default: the image's tag, or the version that is there
    #[arg(long, value_name = "VERSION", value_parser = VersionId::parse)]
    version: Option<VersionId>,
    /// How many
    #[arg(long, value_name = "NUMBER")]
    instances: Option<u32>,
    /// Say where one more instance would go, and why not elsewhere, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Nothing is wanted of the app any more
    #[arg(long, conflicts_with_all = ["image", "command", "instances", "dry_run"])]
    pub remove: bool,
    /// Of an app by its name: the program to run, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// What is meant.
pub enum Target {
    Named(AppId),
    File { app: AppId, value: Map<String, Value>, folder: PathBuf },
}

impl Target {
    /// # Errors
    /// [`Failure::Invalid`]: all that is wrong with the file, each with its line.
    pub fn read(wish: &Wish) -> Result<Self, Failure> {
        let path = Path::new(&wish.target);
        let file = match path.is_dir() {
            true => path.join(FILE),
            false => path.to_owned(),
        };
        let is_file = path.is_dir() || wish.target.ends_with(".toml") || wish.target.contains('/');
        let is_described = wish.image.is_some() || !wish.command.is_empty();
        if !is_file || ((is_described || wish.remove) && !file.is_file()) {
            let named = AppId::parse(&wish.target);
            return named.map(Self::Named).map_err(|error| Failure::invalid(error.to_string()));
        }
        if is_described {
            return Err(Failure::invalid(format!(
                "{} says what runs; change it there, or name the app instead of its folder",
                file.display()
            )));
        }
        Self::load(&file)
    }

    fn load(file: &Path) -> Result<Self, Failure> {
        let name = file.display().to_string();
        let bad = |why: String| Failure::invalid(format!("{name}: {why}"));
        let mut text = String::new();
        let opened = std::fs::File::open(file).map_err(|error| bad(error.to_string()))?;
        opened.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(|error| bad(error.to_string()))?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(bad(format!("has more than {MAX_FILE_BYTES} bytes")));
        }
        let (app, _) = Deployment::parse_file(&name, &text).map_err(|wrong| spread(&wrong))?;
        let document = Document::toml(&name, &text).map_err(|wrong| spread(&wrong))?;
        let Value::Object(mut value) = document.to_json().map_err(|wrong| spread(&wrong))? else {
            return Err(bad("is no file of an app".to_owned()));
        };
        value.remove("id");
        let folder = std::path::absolute(file).map_err(|error| bad(error.to_string()))?;
        let folder = folder.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
        Ok(Self::File { app, value, folder })
    }

    pub fn app(&self) -> &AppId {
        match self {
            Self::Named(app) | Self::File { app, .. } => app,
        }
    }

    /// What is to be written, where `known` is wanted now; null: nothing.
    ///
    /// # Errors
    /// [`Failure::Invalid`]: what is missing.
    pub fn value(&self, wish: &Wish, known: &Value) -> Result<Value, Failure> {
        let mut value = match self {
            Self::File { value, folder, .. } => Value::Object(placed(value.clone(), folder)),
            Self::Named(_) => named(wish, known)?,
        };
        if let Some(instances) = wish.instances {
            value["instances"] = instances.into();
        }
        if let (Some(version), Self::File { .. }) = (&wish.version, self) {
            value["version"] = version.to_string().into();
        }
        Ok(value)
    }
}

/// Commands of a folder start in it.
fn placed(mut value: Map<String, Value>, folder: &Path) -> Map<String, Value> {
    let versions = value.get_mut("versions").and_then(Value::as_object_mut);
    for version in versions.into_iter().flat_map(|versions| versions.values_mut()) {
        let Some(spec) = version.as_object_mut() else { continue };
        if spec.contains_key("command") && !spec.contains_key("image") && !spec.contains_key("working_dir") {
            spec.insert("working_dir".to_owned(), folder.display().to_string().into());
        }
    }
    value
}

/// The version that is wanted now, with another image or command.
fn named(wish: &Wish, known: &Value) -> Result<Value, Failure> {
    let mut value = if known.is_object() { known.clone() } else { json!({ "versions": {} }) };
    let present = present(known);
    let is_described = wish.image.is_some() || !wish.command.is_empty();
    let version = wish.version.as_ref().map(ToString::to_string);
    if !is_described {
        let Some(version) = version else {
            return match wish.instances {
                Some(_) if known.is_object() => Ok(value),
                _ => Err(Failure::invalid(
                    "what is to run? Name a folder with a sluice.toml, or write --image IMAGE, --version VERSION or -- COMMAND",
                )),
            };
        };
        value["version"] = version.into();
        return Ok(value);
    }
    let tag = wish.image.as_deref().and_then(|image| image.rsplit_once(':')).map(|(_, tag)| tag.to_owned());
    let tag = tag.filter(|tag| VersionId::parse(tag).is_ok());
    let version = version.or(tag).or_else(|| present.clone()).unwrap_or_else(|| "v1".to_owned());
    let mut spec = present.map_or_else(|| json!({}), |present| value["versions"][&present].clone());
    let members = spec.as_object_mut();
    let members =
        members.ok_or_else(|| Failure::invalid("what is wanted now cannot be read; write a file"))?;
    match &wish.image {
        Some(image) => {
            members.remove("command");
            members.remove("working_dir");
            members.insert("image".to_owned(), image.clone().into());
        }
        None => {
            members.remove("image");
            members.insert("command".to_owned(), wish.command.clone().into());
            if let Ok(folder) = std::env::current_dir() {
                members.insert("working_dir".to_owned(), folder.display().to_string().into());
            }
        }
    }
    value["versions"][&version] = spec;
    value["version"] = version.into();
    Ok(value)
}

fn present(known: &Value) -> Option<String> {
    let versions = known["versions"].as_object()?;
    let only = || versions.keys().next().filter(|_| versions.len() == 1).cloned();
    known["version"].as_str().map(str::to_owned).or_else(only)
}

fn spread(wrong: &Mistakes) -> Failure {
    let mistakes: Vec<_> = wrong
        .iter()
        .map(|mistake| Told {
            place: match mistake.line {
                Some(line) => format!("{}:{line}", mistake.source),
                None => mistake.source.to_string(),
            },
            field: mistake.key.clone(),
            message: mistake.message.clone(),
        })
        .collect();
    Failure::Invalid { detail: format!("nothing was sent; mistakes: {}", mistakes.len()), mistakes }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(target: &str) -> Wish {
        Wish {
            target: target.to_owned(),
            image: None,
            version: None,
            instances: None,
            dry_run: false,
            remove: false,
            command: Vec::new(),
        }
    }

    #[test]
    fn another_image_is_another_version_with_the_rest_of_the_former() {
        let known =
            json!({ "versions": { "v1": { "image": "r/shop:v1", "env": { "A": "b" } } }, "instances": 3 });
        let image = Wish { image: Some("r:5000/shop:v2".to_owned()), ..wish("shop") };
        let value = named(&image, &known).unwrap();
        assert_eq!(value["version"], "v2");
        assert_eq!(value["versions"]["v2"], json!({ "image": "r:5000/shop:v2", "env": { "A": "b" } }));
        assert_eq!((&value["versions"]["v1"], &value["instances"]), (&known["versions"]["v1"], &json!(3)));
        assert!(named(&wish("shop"), &known).is_err());
        let back = Wish { version: Some(VersionId::parse("v1").unwrap()), ..wish("shop") };
        assert_eq!(named(&back, &value).unwrap()["version"], "v1");
    }

    #[test]
    fn commands_of_a_folder_start_in_it() {
        let value = json!({ "versions": { "v1": { "command": ["./shop"] }, "v2": { "image": "r/shop:v2" },
            "v3": { "command": ["./shop"], "working_dir": "/srv" } } });
        let Value::Object(value) = value else { unreachable!() };
        let placed = placed(value, Path::new("/home/ada/shop"));
        let folder = |version: &str| placed["versions"][version]["working_dir"].as_str().map(str::to_owned);
        assert_eq!(folder("v1").as_deref(), Some("/home/ada/shop"));
        assert_eq!((folder("v2"), folder("v3").as_deref()), (None, Some("/srv")));
    }
}
