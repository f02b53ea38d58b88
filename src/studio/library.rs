//! The clips that were made: their rows in the database. Their files lie in [`super::Home`].

use rusqlite::{OptionalExtension, Row, TransactionBehavior, params};

use super::database::{Database, now_unix_millis, parse};
use super::{ClipId, StudioError};
use crate::generate::recipe::Recipe;

/// A clip, as a list shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipEntry {
    pub id: ClipId,
    pub made_unix_millis: i64,
    pub recipe: Recipe,
    /// The name or folder by which the model was found.
    pub model: String,
    /// What making it took.
    pub seconds: f64,
    /// What the person should know of how it was made, such as a device that was changed on the way.
    pub badges: Vec<String>,
    pub favourite: bool,
    pub is_deleted: bool,
}

/// A clip that is to be added.
pub struct NewClip<'a> {
    pub recipe: &'a Recipe,
    pub model: &'a str,
    pub seconds: f64,
    pub badges: &'a [String],
}

/// Which clips to list; newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClipFilter {
    /// Clips whose prompt holds all of these words, in any order and case.
    pub words: String,
    pub favourites_only: bool,
    /// Those that wait to be removed for good, instead of the others.
    pub deleted: bool,
}

const COLUMNS: &str = "id, made_unix_millis, recipe, model, seconds, badges, favourite, deleted_unix_millis IS NOT NULL";

impl Database {
    /// Adds a clip that has its number and files from `settle` on; nobody sees it before, and without them it never was.
    ///
    /// # Errors
    /// The file cannot be written, or what `settle` says.
    pub fn add_clip(
        &self,
        new: &NewClip<'_>,
        settle: impl FnOnce(ClipId) -> Result<(), StudioError>,
    ) -> Result<ClipId, StudioError> {
        let NewClip { recipe, model, seconds, badges } = new;
        let badges = serde_json::Value::from(*badges).to_string();
        let mut settled = Ok(());
        let id = self.with(|connection| {
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            change.execute(
                "INSERT INTO clips (made_unix_millis, prompt, recipe, model, seconds, badges) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![now_unix_millis(), recipe.prompt, recipe.to_json(), model, seconds, badges],
            )?;
            let id = ClipId(change.last_insert_rowid());
            settled = settle(id);
            if settled.is_ok() {
                change.commit()?
            } else {
                change.rollback()?
            }
            Ok(id)
        })?;
        settled.map(|()| id)
    }

    /// # Errors
    /// The file cannot be read.
    pub fn clips(&self, filter: &ClipFilter) -> Result<Vec<ClipEntry>, StudioError> {
        let words: Vec<String> = filter.words.split_whitespace().map(str::to_lowercase).collect();
        let query = format!(
            "SELECT {COLUMNS} FROM clips WHERE (deleted_unix_millis IS NOT NULL) = ?1 AND (favourite OR NOT ?2) ORDER BY id DESC"
        );
        let mut clips: Vec<ClipEntry> = self.with(|connection| {
            connection.prepare_cached(&query)?.query_map(params![filter.deleted, filter.favourites_only], entry)?.collect()
        })?;
        // SQLite knows upper and lower case of ASCII only.
        clips.retain(|clip| {
            let prompt = clip.recipe.prompt.to_lowercase();
            words.iter().all(|word| prompt.contains(word))
        });
        Ok(clips)
    }

    /// # Errors
    /// There is no such clip.
    pub fn clip(&self, id: ClipId) -> Result<ClipEntry, StudioError> {
        let query = format!("SELECT {COLUMNS} FROM clips WHERE id = ?1");
        let clip = self.with(|connection| connection.prepare_cached(&query)?.query_row([id.0], entry).optional())?;
        clip.ok_or(StudioError::NoSuchClip { id: id.0 })
    }

    /// # Errors
    /// There is no such clip.
    pub fn set_favourite(&self, id: ClipId, favourite: bool) -> Result<(), StudioError> {
        self.change_clip(id, "UPDATE clips SET favourite = ?2 WHERE id = ?1", Some(favourite.into()))
    }

    /// Hides a clip, until it is brought back or removed for good.
    ///
    /// # Errors
    /// There is no such clip.
    pub fn delete_clip(&self, id: ClipId) -> Result<(), StudioError> {
        self.change_clip(id, "UPDATE clips SET deleted_unix_millis = ?2 WHERE id = ?1", Some(now_unix_millis()))
    }

    /// # Errors
    /// There is no such clip.
    pub fn restore_clip(&self, id: ClipId) -> Result<(), StudioError> {
        self.change_clip(id, "UPDATE clips SET deleted_unix_millis = ?2 WHERE id = ?1", None)
    }

    fn change_clip(&self, id: ClipId, change: &str, value: Option<i64>) -> Result<(), StudioError> {
        match self.with(|connection| connection.execute(change, params![id.0, value]))? {
            0 => Err(StudioError::NoSuchClip { id: id.0 }),
            _ => Ok(()),
        }
    }

    /// Forgets the clips that were deleted before this time; gives their numbers, so that their files can go too.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn forget_clips_deleted_before(&self, unix_millis: i64) -> Result<Vec<ClipId>, StudioError> {
        self.with(|connection| {
            let mut statement = connection.prepare("DELETE FROM clips WHERE deleted_unix_millis < ?1 RETURNING id")?;
            statement.query_map([unix_millis], |row| Ok(ClipId(row.get(0)?)))?.collect()
        })
    }
}

fn entry(row: &Row<'_>) -> rusqlite::Result<ClipEntry> {
    Ok(ClipEntry {
        id: ClipId(row.get(0)?),
        made_unix_millis: row.get(1)?,
        recipe: parse(2, Recipe::from_json(&row.get::<_, String>(2)?))?,
        model: row.get(3)?,
        seconds: row.get(4)?,
        badges: parse(5, serde_json::from_str(&row.get::<_, String>(5)?))?,
        favourite: row.get(6)?,
        is_deleted: row.get(7)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::studio::tests::recipe;

    fn database() -> (tempfile::TempDir, Database) {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(&folder.path().join("studio.db")).unwrap();
        (folder, database)
    }

    #[test]
    fn clips_are_listed_found_and_brought_back() {
        let (_folder, database) = database();
        let badges = ["made on the CPU".to_owned()];
        let add = |prompt: &str| {
            let recipe = recipe(prompt);
            let new = NewClip { recipe: &recipe, model: "fast", seconds: 1.5, badges: &badges };
            let refused = database.add_clip(&new, |_| Err(StudioError::NoDevice));
            assert!(matches!(refused, Err(StudioError::NoDevice)));
            database.add_clip(&new, |_| Ok(())).unwrap()
        };
        let ids = ["a red BALL", "ein grüner Würfel", "a blue ring"].map(add);
        let list = |filter: &ClipFilter| -> Vec<ClipId> { database.clips(filter).unwrap().iter().map(|clip| clip.id).collect() };
        assert_eq!(list(&ClipFilter::default()), [ids[2], ids[1], ids[0]]);
        let words = |words: &str| list(&ClipFilter { words: words.into(), ..ClipFilter::default() });
        assert_eq!(words("ball  Red"), [ids[0]]);
        assert_eq!(words("WÜRFEL"), [ids[1]]);
        assert_eq!(words("100%_"), []);

        database.set_favourite(ids[1], true).unwrap();
        assert_eq!(list(&ClipFilter { favourites_only: true, ..ClipFilter::default() }), [ids[1]]);
        database.delete_clip(ids[1]).unwrap();
        assert_eq!(list(&ClipFilter::default()), [ids[2], ids[0]]);
        assert_eq!(list(&ClipFilter { deleted: true, ..ClipFilter::default() }), [ids[1]]);
        database.restore_clip(ids[1]).unwrap();
        let clip = database.clip(ids[1]).unwrap();
        assert!(clip.favourite && !clip.is_deleted);
        assert_eq!((clip.recipe, clip.badges), (recipe("ein grüner Würfel"), vec!["made on the CPU".to_owned()]));

        database.delete_clip(ids[0]).unwrap();
        assert_eq!(database.forget_clips_deleted_before(i64::MAX).unwrap(), [ids[0]]);
        assert!(matches!(database.restore_clip(ids[0]), Err(StudioError::NoSuchClip { .. })));
        // The number of a forgotten clip is not given again: its folder may still be there.
        assert!(add("another") > ids[2]);
    }
}
