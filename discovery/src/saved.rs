//! The last good entries of a registry, on this machine's disk: what a gateway starts with while its registry
//! does not answer.
//!
//! One JSON object a line. The first says whose entries these are, how old and how many; each other one is an
//! entry. Values stay as the registry has them: what is sealed there is sealed here. The file is replaced in
//! one step, so a crash leaves the former one.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use imbl::OrdMap;
use serde_json::{Map, Value, json};

use crate::layout::Place;
use crate::registry::{Entry, Key, MAX_VALUE_BYTES};

const FORMAT: u64 = 1;
/// A value of [`MAX_VALUE_BYTES`] in hexadecimal digits, its key and the rest of its line.
const MAX_LINE_BYTES: u64 = 2 * MAX_VALUE_BYTES as u64 + 8_192;
/// Twenty times the largest registry that is planned for.
const MAX_ENTRIES: usize = 4_000_000;

/// Where the entries are kept, and of which registry they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedFile {
    pub path: PathBuf,
    /// Kind, servers and prefix: entries of another registry are not taken for this one's.
    pub registry: String,
}

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    pub revision: u64,
    pub entries: OrdMap<Key, Entry>,
}

#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("line {line} is not what this version writes: {why}")]
    Malformed { line: usize, why: String },
    #[error("it is of another registry, {found:?} instead of {wanted:?}")]
    OtherRegistry { found: String, wanted: String },
    #[error("it ends after {found} of {wanted} entries")]
    Short { found: usize, wanted: usize },
}

impl SavedFile {
    /// `None`: there is none.
    ///
    /// # Errors
    /// [`SavedError`]: it cannot be read, or is not whole.
    pub fn load(&self) -> Result<Option<Saved>, SavedError> {
        match File::open(&self.path) {
            Ok(file) => read(&mut BufReader::new(file), &self.registry).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what a gateway needs of `entries`, for its owner's eyes only. Durable when it returns.
    ///
    /// # Errors
    /// Whatever the file system says; the former file stays.
    pub fn store(&self, revision: u64, entries: &OrdMap<Key, Entry>) -> io::Result<()> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let beside = folder.join(name);
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        let mut out = BufWriter::new(file);
        write(&mut out, &self.registry, revision, entries)?;
        out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        std::fs::rename(&beside, &self.path)?;
        // The new name is durable only with its folder.
        File::open(folder)?.sync_all()
    }
}

/// Whether a start without the registry needs it: what gateways, hosts and VIPs say of themselves is stale by then.
pub(crate) fn is_needed(key: &Key) -> bool {
    matches!(
        Place::of(key),
        Ok(Place::Address { .. } | Place::Spec(_) | Place::Word { .. } | Place::Route(_))
    )
}

/// # Errors
/// Whatever `out` says.
pub fn write(
    out: &mut impl Write,
    registry: &str,
    revision: u64,
    entries: &OrdMap<Key, Entry>,
) -> io::Result<()> {
    let needed = || entries.iter().filter(|(key, _)| is_needed(key));
    let count = needed().count();
    let head =
        json!({ "sluice_saved": FORMAT, "registry": registry, "revision": revision, "entries": count });
    writeln!(out, "{head}")?;
    for (key, entry) in needed() {
        let mut line = json!({
            "key": key.as_str(), "version": entry.version, "created": entry.created, "ephemeral": entry.ephemeral,
        });
        match std::str::from_utf8(&entry.value) {
            Ok(text) => line["value"] = Value::from(text),
            Err(_) => line["hex"] = Value::from(to_hex(&entry.value)),
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// # Errors
/// [`SavedError`].
pub fn read(from: &mut impl BufRead, registry: &str) -> Result<Saved, SavedError> {
    let mut lines = Lines { from, text: String::new(), number: 0 };
    let head = lines.next()?.ok_or_else(|| lines.malformed("it is empty"))?;
    if head.get("sluice_saved").and_then(Value::as_u64) != Some(FORMAT) {
        return Err(lines.malformed("its format is unknown"));
    }
    let found = lines.text_of(&head, "registry")?;
    if found != registry {
        return Err(SavedError::OtherRegistry { found: found.to_owned(), wanted: registry.to_owned() });
    }
    let revision = lines.number_of(&head, "revision")?;
    let wanted = lines.number_of(&head, "entries")? as usize;
    if wanted > MAX_ENTRIES {
        return Err(lines.malformed("it has more entries than any registry"));
    }
    let mut entries = OrdMap::new();
    while let Some(line) = lines.next()? {
        let key =
            Key::parse(lines.text_of(&line, "key")?).map_err(|error| lines.malformed(&error.to_string()))?;
        let value = match line.get("hex").and_then(Value::as_str) {
            Some(digits) => from_hex(digits).ok_or_else(|| lines.malformed("hex is none"))?,
            None => lines.text_of(&line, "value")?.as_bytes().to_vec(),
        };
        let entry = Entry {
            value: Bytes::from(value),
            version: lines.number_of(&line, "version")?,
            created: lines.number_of(&line, "created")?,
            ephemeral: line.get("ephemeral").and_then(Value::as_bool).unwrap_or_default(),
        };
        entries.insert(key, entry);
        if entries.len() > wanted {
            return Err(lines.malformed("there are more entries than the first line says"));
        }
    }
    if entries.len() < wanted {
        return Err(SavedError::Short { found: entries.len(), wanted });
    }
    Ok(Saved { revision, entries })
}

struct Lines<'f, F> {
    from: &'f mut F,
    text: String,
    number: usize,
}

impl<F: BufRead> Lines<'_, F> {
    fn next(&mut self) -> Result<Option<Map<String, Value>>, SavedError> {
        self.text.clear();
        self.number += 1;
        if self.from.by_ref().take(MAX_LINE_BYTES).read_line(&mut self.text)? == 0 {
            return Ok(None);
        }
        match serde_json::from_str(&self.text) {
            Ok(Value::Object(line)) if self.text.ends_with('\n') => Ok(Some(line)),
            Ok(_) => Err(self.malformed("it is no whole JSON object")),
            Err(error) => Err(self.malformed(&error.to_string())),
        }
    }

    fn text_of<'l>(&self, line: &'l Map<String, Value>, name: &str) -> Result<&'l str, SavedError> {
        line.get(name).and_then(Value::as_str).ok_or_else(|| self.malformed(&format!("{name} is no text")))
    }

    fn number_of(&self, line: &Map<String, Value>, name: &str) -> Result<u64, SavedError> {
        line.get(name).and_then(Value::as_u64).ok_or_else(|| self.malformed(&format!("{name} is no number")))
    }

    fn malformed(&self, why: &str) -> SavedError {
        SavedError::Malformed { line: self.number, why: why.to_owned() }
    }
}

fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| {
            u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?, 16).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(folder: &tempfile::TempDir) -> SavedFile {
        SavedFile { path: folder.path().join("deep/er/saved"), registry: "zookeeper a:1/caas".to_owned() }
    }

    fn entries() -> impl Strategy<Value = OrdMap<Key, Entry>> {
        let entry = (prop::collection::vec(any::<u8>(), 0..40), any::<u64>(), any::<u64>(), any::<bool>());
        prop::collection::vec((0..50_u32, entry), 0..20).prop_map(|entries| {
            let entry = |(number, (value, version, created, ephemeral)): (u32, (Vec<u8>, u64, u64, bool))| {
                let key = Key::parse(&format!("service/address/shop/v1/c{number}")).unwrap();
                (key, Entry { value: value.into(), version, created, ephemeral })
            };
            entries.into_iter().map(entry).collect()
        })
    }

    proptest! {
        #[test]
        fn what_was_stored_is_read(entries in entries(), revision: u64) {
            let folder = tempfile::tempdir().unwrap();
            file(&folder).store(revision, &entries).unwrap();
            prop_assert_eq!(file(&folder).load().unwrap(), Some(Saved { revision, entries }));
        }

        #[test]
        fn a_file_that_was_cut_short_or_spoilt_is_refused(entries in entries(), at: prop::sample::Index, byte: u8) {
            let mut text = Vec::new();
            write(&mut text, "r", 1, &entries).unwrap();
            let at = at.index(text.len());
            prop_assert!(read(&mut &text[..at], "r").is_err());
            text[at] = byte;
            // Whatever it says, nothing panics.
            let _ = read(&mut &*text, "r");
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&mut &*bytes, "r");
        }
    }

    #[test]
    fn only_what_a_gateway_needs_is_kept_and_only_for_its_registry() {
        let folder = tempfile::tempdir().unwrap();
        let entry = Entry { value: Bytes::from_static(b"x"), version: 1, created: 1, ephemeral: false };
        let keys =
            ["app/shop", "vip/10.0.0.1", "gateway/gw-1"].map(|key| (Key::parse(key).unwrap(), entry.clone()));
        assert_eq!(file(&folder).load().unwrap(), None);
        file(&folder).store(7, &OrdMap::from_iter(keys)).unwrap();
        let saved = file(&folder).load().unwrap().unwrap();
        assert_eq!(saved.entries.keys().map(Key::as_str).collect::<Vec<_>>(), ["app/shop"]);
        let other = SavedFile { registry: "etcd b:2/caas".to_owned(), ..file(&folder) };
        assert!(matches!(other.load(), Err(SavedError::OtherRegistry { .. })));
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(file(&folder).path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
