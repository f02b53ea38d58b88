//! What the studio remembers of the person: prompts that were used, and preferences by name.

use rusqlite::{OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StudioError;
use super::database::{Database, now_unix_millis};

const PROMPTS_KEPT: usize = 500;

impl Database {
    /// # Errors
    /// The file cannot be written.
    pub fn remember_prompt(&self, text: &str) -> Result<(), StudioError> {
        self.with(|connection| {
            let change = connection.transaction()?;
            // A new row, so that of two prompts of the same millisecond the later comes first.
            change.execute("INSERT OR REPLACE INTO prompts VALUES (?1, ?2)", params![text, now_unix_millis()])?;
            change.execute(
                "DELETE FROM prompts WHERE text IN (SELECT text FROM prompts ORDER BY used_unix_millis DESC, rowid DESC LIMIT -1 OFFSET ?1)",
                [PROMPTS_KEPT],
            )?;
            change.commit()
        })
    }

    /// The prompts that were used last, newest first.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn prompts(&self, most: usize) -> Result<Vec<String>, StudioError> {
        let query = "SELECT text FROM prompts ORDER BY used_unix_millis DESC, rowid DESC LIMIT ?1";
        self.with(|connection| connection.prepare_cached(query)?.query_map([most], |row| row.get(0))?.collect())
    }

    /// A preference; None if it was never set, or set by a program that understood it differently.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn preference<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StudioError> {
        let query = "SELECT value FROM preferences WHERE name = ?1";
        let text: Option<String> =
            self.with(|connection| connection.prepare_cached(query)?.query_row([name], |row| row.get(0)).optional())?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// # Errors
    /// The file cannot be written.
    pub fn set_preference<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StudioError> {
        let change = "INSERT INTO preferences VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
        self.with(|connection| connection.execute(change, params![name, serde_json::json!(value).to_string()]).map(|_| ()))
    }

    /// Forgets all preferences, and gives their names; clips, queue and prompts stay.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn reset_preferences(&self) -> Result<Vec<String>, StudioError> {
        let change = "DELETE FROM preferences RETURNING name";
        let mut names: Vec<String> =
            self.with(|connection| connection.prepare(change)?.query_map([], |row| row.get(0))?.collect())?;
        names.sort();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_kept_once_newest_first_and_not_endlessly() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("studio.db")).unwrap();
        for index in 0..PROMPTS_KEPT + 20 {
            database.remember_prompt(&format!("prompt {index}")).unwrap();
        }
        database.remember_prompt("prompt 100").unwrap();
        let prompts = database.prompts(usize::MAX >> 1).unwrap();
        assert_eq!(prompts.len(), PROMPTS_KEPT);
        assert_eq!(prompts[0], "prompt 100");
        assert_eq!(prompts.iter().filter(|prompt| *prompt == "prompt 100").count(), 1);
        assert!(!prompts.contains(&"prompt 0".to_owned()));
    }

    #[test]
    fn preferences_of_another_kind_count_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("studio.db")).unwrap();
        assert_eq!(database.preference::<u32>("scale").unwrap(), None);
        database.set_preference("scale", &150_u32).unwrap();
        assert_eq!(database.preference::<u32>("scale").unwrap(), Some(150));
        assert_eq!(database.preference::<String>("scale").unwrap(), None);
        assert_eq!(database.reset_preferences().unwrap(), ["scale"]);
        assert_eq!(database.preference::<u32>("scale").unwrap(), None);
    }
}
