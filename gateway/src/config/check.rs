//! What `sluice check` does beyond [`super::parse`]: it follows the configuration to the files that it
//! names.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use discovery::document::{Document, Mistake, Mistakes};
use discovery::file::{FilePattern, read_text};
use discovery::spec::parse_app_file;

use super::{Config, file, folder_of, read};

/// Reads and checks the file at `path`, all app files that it matches, and whether its certificate
/// patterns match any file.
///
/// # Errors
/// Everything that is wrong with any of them, the configuration first.
pub fn check(path: &Path) -> Result<Config, Mistakes> {
    let (name, text) = read(path)?;
    let base = folder_of(path)?;
    let document = Document::toml(&name, &text)?;
    let (config, mut mistakes) = match document.read(|table| file::read_config(table, &base)) {
        Ok(config) => (Some(config), Mistakes::default()),
        Err(mistakes) => (None, mistakes),
    };
    // Mistakes elsewhere in the file keep nobody from learning what is wrong with the apps.
    let (apps, _) = document.read_leniently(|table| file::read_apps(&table, &base));
    check_apps(&apps.files, &mut mistakes);
    if let Some(config) = &config {
        check_certificates(&name, config, &mut mistakes);
    }
    match config {
        Some(config) => mistakes.or(config),
        None => Err(mistakes),
    }
}

fn check_apps(patterns: &[FilePattern], mistakes: &mut Mistakes) {
    let mut paths: Vec<PathBuf> = patterns.iter().flat_map(FilePattern::files).collect();
    paths.sort();
    paths.dedup();
    let mut holders = HashMap::new();
    for path in paths {
        let name = path.display().to_string();
        let parsed = read_text(&path)
            .map_err(|error| Mistakes::one(&Arc::from(&*name), None, error.to_string()))
            .and_then(|text| parse_app_file(&name, &text));
        match parsed {
            Err(found) => mistakes.append(found),
            Ok(app) => match holders.entry(app.id) {
                Entry::Vacant(free) => drop(free.insert(name)),
                Entry::Occupied(held) => {
                    let message =
                        format!("app {:?} is in {} already; keep one of the two", held.key(), held.get());
                    mistakes.push(Mistake { source: name.into(), line: None, key: "id".to_owned(), message });
                }
            },
        }
    }
}

fn check_certificates(name: &str, config: &Config, mistakes: &mut Mistakes) {
    for (at, listener) in config.gateway.listeners.iter().enumerate() {
        let Some(tls) = listener.protocol.tls() else { continue };
        for pattern in tls.certificates.iter().filter(|pattern| pattern.files().is_empty()) {
            mistakes.push(Mistake {
                source: name.into(),
                line: None,
                key: format!("gateway.listener[{at}].tls.certificates"),
                message: format!("no file matches {pattern}"),
            });
        }
    }
}
