//! The studio's memory on disk: one SQLite file with the library, the queue, the prompts and the preferences.
//!
//! Commands and the window may have it open at once. Its tables are made here; each is read and written in a file of its own.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::Connection;

use super::StudioError;

/// How long another process may hold the file.
const PATIENCE: Duration = Duration::from_secs(5);

/// What makes version n + 1 of version n.
const MIGRATIONS: [&str; 2] = [
    "
    CREATE TABLE clips (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        made_unix_millis INTEGER NOT NULL,
        prompt TEXT NOT NULL,
        recipe TEXT NOT NULL,
        model TEXT NOT NULL,
        seconds REAL NOT NULL,
        badges TEXT NOT NULL,
        favourite INTEGER NOT NULL DEFAULT 0,
        deleted_unix_millis INTEGER
    ) STRICT;
    CREATE TABLE queue (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        position INTEGER NOT NULL,
        state TEXT NOT NULL,
        recipe TEXT NOT NULL,
        model TEXT NOT NULL,
        leaves_clip INTEGER,
        steps_done INTEGER NOT NULL DEFAULT 0,
        seconds REAL NOT NULL DEFAULT 0,
        force INTEGER NOT NULL DEFAULT 0,
        report TEXT
    ) STRICT;
    CREATE TABLE prompts (text TEXT PRIMARY KEY, used_unix_millis INTEGER NOT NULL) STRICT;
    CREATE TABLE preferences (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
",
    // One row. Not a preference: it belongs to the queue, which stays when those are put back.
    "
    CREATE TABLE queue_rest (is_paused INTEGER NOT NULL) STRICT;
    INSERT INTO queue_rest VALUES (0);
",
];

pub struct Database {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl Database {
    /// Opens the file, makes it if there is none, and brings an older one up to date.
    ///
    /// # Errors
    /// It cannot be opened, is damaged, or comes from a newer program.
    pub fn open(path: &Path) -> Result<Self, StudioError> {
        let connection = Connection::open(path).map_err(|error| failed(path, &error))?;
        let database = Self { path: path.to_owned(), connection: Mutex::new(connection) };
        database.with(|connection| {
            connection.busy_timeout(PATIENCE)?;
            connection.pragma_update(None, "journal_mode", "wal")?;
            // A power cut may lose the last change, never the file.
            connection.pragma_update(None, "synchronous", "normal")
        })?;
        database.migrate()?;
        Ok(database)
    }

    fn migrate(&self) -> Result<(), StudioError> {
        let version = |connection: &Connection| connection.pragma_query_value(None, "user_version", |row| row.get::<_, usize>(0));
        if self.with(|connection| version(connection))? > MIGRATIONS.len() {
            return Err(StudioError::NewerDatabase { path: self.path.clone() });
        }
        self.with(|connection| {
            let change = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
            for migration in MIGRATIONS.iter().skip(version(&change)?) {
                change.execute_batch(migration)?;
            }
            change.pragma_update(None, "user_version", MIGRATIONS.len())?;
            change.commit()
        })
    }

    /// Runs `work` alone.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, StudioError> {
        work(&mut self.lock()).map_err(|error| failed(&self.path, &error))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that changes when another process has written.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn foreign_changes(&self) -> Result<i64, StudioError> {
        self.with(|connection| connection.pragma_query_value(None, "data_version", |row| row.get(0)))
    }
}

fn failed(path: &Path, error: &rusqlite::Error) -> StudioError {
    StudioError::Database { path: path.to_owned(), reason: error.to_string() }
}

/// Milliseconds since 1970.
pub(super) fn now_unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A text column that holds JSON, as the type behind it.
pub(super) fn parse<T>(column: usize, result: Result<T, impl std::error::Error + Send + Sync + 'static>) -> rusqlite::Result<T> {
    result.map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_reopened_and_refused_when_newer_or_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("studio.db");
        for _ in 0..2 {
            Database::open(&path).unwrap();
        }
        let newer = Database::open(&path).unwrap();
        newer.with(|connection| connection.pragma_update(None, "user_version", 99)).unwrap();
        drop(newer);
        assert!(matches!(Database::open(&path), Err(StudioError::NewerDatabase { .. })));
        std::fs::write(&path, [7; 5000]).unwrap();
        assert!(matches!(Database::open(&path), Err(StudioError::Database { .. })));
        // Nothing is lost: what was there is still there.
        assert_eq!(std::fs::read(&path).unwrap(), [7; 5000]);
    }

    #[test]
    fn changes_of_another_process_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("studio.db");
        let (here, there) = (Database::open(&path).unwrap(), Database::open(&path).unwrap());
        let before = here.foreign_changes().unwrap();
        assert_eq!(here.foreign_changes().unwrap(), before);
        there.remember_prompt("a red ball").unwrap();
        assert_ne!(here.foreign_changes().unwrap(), before);
        assert_eq!(here.prompts(10).unwrap(), ["a red ball"]);
    }
}
