//! The database file: its rows, its format, and the lock that lets one process have it.

use std::fs::{self, File};
use std::path::Path;

use bytes::Bytes;
use imbl::OrdMap;
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};

use crate::registry::{Entry, Key, RegistryError};

const FILE_NAME: &str = "registry.redb";
const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const REVISION: &str = "revision";
const FORMAT: &str = "format";
/// What this file describes. A file of another format is left alone.
const CURRENT_FORMAT: u64 = 1;
/// All entries are held in memory anyway; the pages serve only commits, which touch a few each.
const CACHE_BYTES: usize = 4 << 20;
/// Version, created (both little-endian) and the ephemeral flag, before the value.
const HEADER_BYTES: usize = 8 + 8 + 1;

pub(super) struct Store {
    database: Database,
}

pub(super) struct Contents {
    pub(super) revision: u64,
    pub(super) entries: OrdMap<Key, Entry>,
}

/// What becomes of one key in a commit; `None` removes it.
pub(super) type Row = (Key, Option<Entry>);

/// A file that is no registry of ours.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("its format is {0}, this release reads {CURRENT_FORMAT}")]
    Format(u64),
    #[error("the row of {0:?} is damaged")]
    Row(String),
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Store {
    /// Opens or creates the file and removes the keys of sessions that are over.
    pub(super) fn open(dir: &Path) -> Result<(Self, Contents), RegistryError> {
        let failed = |source: Failure| RegistryError::Failed {
            doing: format!("open the registry in {}", dir.display()),
            may_have_happened: false,
            source,
        };
        fs::create_dir_all(dir).map_err(|error| failed(error.into()))?;
        let database = match redb::Builder::new().set_cache_size(CACHE_BYTES).create(dir.join(FILE_NAME)) {
            Ok(database) => database,
            Err(DatabaseError::DatabaseAlreadyOpen) => {
                return Err(RegistryError::InUse { dir: dir.to_owned() });
            }
            Err(error) => return Err(failed(error.into())),
        };
        let store = Self { database };
        store.begin_session(dir).map(|contents| (store, contents)).map_err(failed)
    }

    fn begin_session(&self, dir: &Path) -> Result<Contents, Failure> {
        self.initialize()?;
        // The file's name must survive a power loss as surely as its contents.
        File::open(dir)?.sync_all()?;
        let mut contents = self.load()?;
        let over: Vec<Row> = contents
            .entries
            .iter()
            .filter(|(_, entry)| entry.ephemeral)
            .map(|(key, _)| (key.clone(), None))
            .collect();
        if !over.is_empty() {
            contents.revision += 1;
            self.commit(contents.revision, &over)?;
            for (key, _) in &over {
                contents.entries.remove(key);
            }
        }
        Ok(contents)
    }

    /// Creates the tables of a new file; a no-op that still checks the format of an old one.
    fn initialize(&self) -> Result<(), Failure> {
        let transaction = self.begin()?;
        {
            transaction.open_table(ENTRIES)?;
            let mut meta = transaction.open_table(META)?;
            let format = meta.get(FORMAT)?.map(|format| format.value());
            match format {
                Some(CURRENT_FORMAT) => {}
                Some(other) => return Err(Unusable::Format(other).into()),
                None => {
                    meta.insert(FORMAT, CURRENT_FORMAT)?;
                    meta.insert(REVISION, 0)?;
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn load(&self) -> Result<Contents, Failure> {
        let transaction = self.database.begin_read()?;
        let revision = transaction.open_table(META)?.get(REVISION)?.map_or(0, |revision| revision.value());
        let mut entries = OrdMap::new();
        for row in transaction.open_table(ENTRIES)?.iter()? {
            let (key, value) = row?;
            let damaged = || Unusable::Row(key.value().to_owned());
            let entry = decode(value.value()).ok_or_else(damaged)?;
            entries.insert(Key::parse(key.value()).map_err(|_| damaged())?, entry);
        }
        Ok(Contents { revision, entries })
    }

    /// All of `rows` or none of them, on disk when it returns.
    pub(super) fn commit(&self, revision: u64, rows: &[Row]) -> Result<(), redb::Error> {
        let transaction = self.begin()?;
        {
            let mut table = transaction.open_table(ENTRIES)?;
            for (key, entry) in rows {
                match entry {
                    Some(entry) => table.insert(key.as_str(), encode(entry).as_slice())?,
                    None => table.remove(key.as_str())?,
                };
            }
            transaction.open_table(META)?.insert(REVISION, revision)?;
        }
        transaction.commit()?;
        Ok(())
    }

    fn begin(&self) -> Result<WriteTransaction, redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        Ok(transaction)
    }
}

fn encode(entry: &Entry) -> Vec<u8> {
    let mut row = Vec::with_capacity(HEADER_BYTES + entry.value.len());
    row.extend_from_slice(&entry.version.to_le_bytes());
    row.extend_from_slice(&entry.created.to_le_bytes());
    row.push(u8::from(entry.ephemeral));
    row.extend_from_slice(&entry.value);
    row
}

fn decode(row: &[u8]) -> Option<Entry> {
    let (version, rest) = row.split_first_chunk()?;
    let (created, rest) = rest.split_first_chunk()?;
    let (ephemeral, value) = rest.split_first()?;
    Some(Entry {
        value: Bytes::copy_from_slice(value),
        version: u64::from_le_bytes(*version),
        created: u64::from_le_bytes(*created),
        ephemeral: *ephemeral != 0,
    })
}
