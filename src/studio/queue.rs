//! The runs that wait, run or could not end: their rows in the database, in the order in which they come.

use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use super::database::{Database, parse};
use super::{ClipId, ErrorReport, Home, ItemId, StudioError};
use crate::generate::recipe::Recipe;
use crate::model::sampler::Sampler;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemState {
    Waiting,
    Running,
    /// Stopped by the person; its finished steps are kept.
    Stopped,
    /// The program ended while it ran.
    Interrupted,
    Failed,
}

/// A run that is to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewItem {
    pub recipe: Recipe,
    /// The name or folder by which the model is found.
    pub model: String,
    /// The clip whose step the recipe's branch leaves, so that its record can be used.
    pub leaves: Option<ClipId>,
    /// Run it though it may not fit into the memory.
    pub force: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct QueueItem {
    pub id: ItemId,
    pub state: ItemState,
    pub recipe: Recipe,
    pub model: String,
    pub leaves: Option<ClipId>,
    /// Calls of the transformer that are done and kept.
    pub steps_done: usize,
    /// What these took.
    pub seconds: f64,
    pub force: bool,
    /// Why it failed.
    pub report: Option<ErrorReport>,
}

impl QueueItem {
    /// Calls of the transformer that it takes in all.
    pub fn calls(&self) -> usize {
        // A recipe that no sampler takes fails when it comes to run.
        Sampler::new(self.recipe.sampler, self.recipe.steps).map_or(self.recipe.steps, |sampler| sampler.calls())
    }
}

const COLUMNS: &str = "id, state, recipe, model, leaves_clip, steps_done, seconds, force, report";

impl Database {
    /// Puts items behind all others.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn add_items(&self, items: &[NewItem]) -> Result<Vec<ItemId>, StudioError> {
        self.with(|connection| {
            let change = connection.transaction()?;
            let mut ids = Vec::new();
            for item in items {
                let position = end(&change)?;
                change.execute(
                    "INSERT INTO queue (position, state, recipe, model, leaves_clip, force) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    params![
                        position,
                        name(ItemState::Waiting),
                        item.recipe.to_json(),
                        item.model,
                        item.leaves.map(|id| id.0),
                        item.force
                    ],
                )?;
                ids.push(ItemId(change.last_insert_rowid()));
            }
            change.commit()?;
            Ok(ids)
        })
    }

    /// All items in their order.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn items(&self) -> Result<Vec<QueueItem>, StudioError> {
        let query = format!("SELECT {COLUMNS} FROM queue ORDER BY position");
        self.with(|connection| connection.prepare_cached(&query)?.query_map([], item)?.collect())
    }

    /// # Errors
    /// There is no such item.
    pub fn item(&self, id: ItemId) -> Result<QueueItem, StudioError> {
        let query = format!("SELECT {COLUMNS} FROM queue WHERE id = ?1");
        let found = self.with(|connection| connection.prepare_cached(&query)?.query_row([id.0], item).optional())?;
        found.ok_or(StudioError::NoSuchItem { id: id.0 })
    }

    /// The first item that waits, now running.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn take_waiting_item(&self) -> Result<Option<QueueItem>, StudioError> {
        let query = format!(
            "UPDATE queue SET state = ?1, report = NULL
             WHERE id = (SELECT id FROM queue WHERE state = ?2 ORDER BY position LIMIT 1) RETURNING {COLUMNS}"
        );
        self.with(|connection| {
            connection.prepare_cached(&query)?.query_row([name(ItemState::Running), name(ItemState::Waiting)], item).optional()
        })
    }

    /// # Errors
    /// There is no such item.
    pub fn set_item_state(&self, id: ItemId, state: ItemState, report: Option<&ErrorReport>) -> Result<(), StudioError> {
        let report = report.map(|report| serde_json::json!(report).to_string());
        self.change_item(id, "UPDATE queue SET state = ?2, report = ?3 WHERE id = ?1", params![id.0, name(state), report])
    }

    /// # Errors
    /// There is no such item.
    pub fn set_item_progress(&self, id: ItemId, steps_done: usize, seconds: f64) -> Result<(), StudioError> {
        self.change_item(id, "UPDATE queue SET steps_done = ?2, seconds = ?3 WHERE id = ?1", params![id.0, steps_done, seconds])
    }

    /// Gives an item that does not run another recipe; its finished steps no longer count.
    ///
    /// # Errors
    /// There is no such item, or it runs.
    pub fn replace_item(&self, id: ItemId, new: &NewItem) -> Result<(), StudioError> {
        if self.item(id)?.state == ItemState::Running {
            return Err(StudioError::ItemRuns { id: id.0 });
        }
        self.change_item(
            id,
            "UPDATE queue SET state = ?2, recipe = ?3, model = ?4, leaves_clip = ?5, force = ?6, steps_done = 0, seconds = 0,
             report = NULL WHERE id = ?1",
            params![id.0, name(ItemState::Waiting), new.recipe.to_json(), new.model, new.leaves.map(|id| id.0), new.force],
        )
    }

    /// Lets an item wait again, where it is in the queue; its finished steps count.
    ///
    /// # Errors
    /// There is no such item.
    pub fn requeue_item(&self, id: ItemId, force: bool) -> Result<(), StudioError> {
        let change = "UPDATE queue SET state = ?2, report = NULL, force = force OR ?3 WHERE id = ?1";
        self.change_item(id, change, params![id.0, name(ItemState::Waiting), force])
    }

    /// # Errors
    /// There is no such item.
    pub fn remove_item(&self, id: ItemId) -> Result<(), StudioError> {
        self.change_item(id, "DELETE FROM queue WHERE id = ?1", params![id.0])
    }

    /// Puts an item at a place of the queue, counted from 0 among all others.
    ///
    /// # Errors
    /// There is no such item.
    pub fn move_item(&self, id: ItemId, place: usize) -> Result<(), StudioError> {
        let mut order: Vec<ItemId> = self.items()?.iter().map(|item| item.id).collect();
        let from = order.iter().position(|&other| other == id).ok_or(StudioError::NoSuchItem { id: id.0 })?;
        order.remove(from);
        order.insert(place.min(order.len()), id);
        self.with(|connection| {
            let change = connection.transaction()?;
            for (position, id) in order.iter().enumerate() {
                change.execute("UPDATE queue SET position = ?2 WHERE id = ?1", params![id.0, position])?;
            }
            change.commit()
        })
    }

    /// Whether the queue rests until the person lets it go on.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn queue_is_paused(&self) -> Result<bool, StudioError> {
        self.with(|connection| connection.query_row("SELECT is_paused FROM queue_rest", [], |row| row.get(0)))
    }

    /// # Errors
    /// The file cannot be written.
    pub fn set_queue_paused(&self, is_paused: bool) -> Result<(), StudioError> {
        self.with(|connection| connection.execute("UPDATE queue_rest SET is_paused = ?1", [is_paused]).map(|_| ()))
    }

    /// Finds out whether what is said to run still does: if no process works on the queue, it was interrupted.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn settle(&self, home: &Home) -> Result<(), StudioError> {
        if self.items()?.iter().any(|item| item.state == ItemState::Running)
            && let Ok(_lock) = home.lock()
        {
            self.interrupt_running_items()?;
        }
        Ok(())
    }

    /// What ran when the program ended is interrupted. Only who holds the home's lock knows that nothing runs.
    pub(super) fn interrupt_running_items(&self) -> Result<(), StudioError> {
        let states = [name(ItemState::Interrupted), name(ItemState::Running)];
        self.with(|connection| connection.execute("UPDATE queue SET state = ?1 WHERE state = ?2", states).map(|_| ()))
    }

    fn change_item(&self, id: ItemId, change: &str, values: &[&dyn rusqlite::ToSql]) -> Result<(), StudioError> {
        match self.with(|connection| connection.execute(change, values))? {
            0 => Err(StudioError::NoSuchItem { id: id.0 }),
            _ => Ok(()),
        }
    }
}

fn end(change: &Transaction<'_>) -> rusqlite::Result<i64> {
    change.query_row("SELECT coalesce(max(position), -1) + 1 FROM queue", [], |row| row.get(0))
}

/// As the database names a state.
fn name(state: ItemState) -> &'static str {
    match state {
        ItemState::Waiting => "waiting",
        ItemState::Running => "running",
        ItemState::Stopped => "stopped",
        ItemState::Interrupted => "interrupted",
        ItemState::Failed => "failed",
    }
}

fn item(row: &Row<'_>) -> rusqlite::Result<QueueItem> {
    let report: Option<String> = row.get(8)?;
    Ok(QueueItem {
        id: ItemId(row.get(0)?),
        state: parse(1, serde_json::from_value(serde_json::Value::String(row.get(1)?)))?,
        recipe: parse(2, Recipe::from_json(&row.get::<_, String>(2)?))?,
        model: row.get(3)?,
        leaves: row.get::<_, Option<i64>>(4)?.map(ClipId),
        steps_done: row.get(5)?,
        seconds: row.get(6)?,
        force: row.get(7)?,
        report: report.map(|text| parse(8, serde_json::from_str(&text))).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::studio::tests::recipe;

    fn new(prompt: &str) -> NewItem {
        NewItem { recipe: recipe(prompt), model: "fast".into(), leaves: Some(ClipId(7)), force: false }
    }

    #[test]
    fn items_come_in_their_order_and_survive_the_program() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("studio.db");
        let database = Database::open(&path).unwrap();
        let ids = database.add_items(&["a", "b", "c"].map(new)).unwrap();
        database.move_item(ids[2], 0).unwrap();
        let order = |database: &Database| -> Vec<ItemId> { database.items().unwrap().iter().map(|item| item.id).collect() };
        assert_eq!(order(&database), [ids[2], ids[0], ids[1]]);

        let running = database.take_waiting_item().unwrap().unwrap();
        assert_eq!((running.id, running.state, running.leaves), (ids[2], ItemState::Running, Some(ClipId(7))));
        database.set_item_progress(ids[2], 3, 1.5).unwrap();
        assert!(matches!(database.replace_item(ids[2], &new("x")), Err(StudioError::ItemRuns { .. })));
        drop(database);

        let database = Database::open(&path).unwrap();
        database.interrupt_running_items().unwrap();
        let item = database.item(ids[2]).unwrap();
        assert_eq!((item.state, item.steps_done, item.seconds), (ItemState::Interrupted, 3, 1.5));
        assert_eq!(database.take_waiting_item().unwrap().unwrap().id, ids[0], "an interrupted item waits for the person");
        database.requeue_item(ids[2], true).unwrap();
        let item = database.take_waiting_item().unwrap().unwrap();
        assert_eq!((item.id, item.steps_done, item.force), (ids[2], 3, true));

        database.replace_item(ids[1], &new("another")).unwrap();
        assert_eq!(database.item(ids[1]).unwrap().recipe.prompt, "another");
        database.remove_item(ids[1]).unwrap();
        assert_eq!(order(&database), [ids[2], ids[0]]);
        assert!(matches!(database.remove_item(ids[1]), Err(StudioError::NoSuchItem { .. })));
        assert_eq!(database.take_waiting_item().unwrap(), None);
        assert!(database.add_items(&[new("d")]).unwrap()[0] > ids[2]);
    }

    #[test]
    fn every_state_has_the_name_that_is_read_back() {
        for state in [ItemState::Waiting, ItemState::Running, ItemState::Stopped, ItemState::Interrupted, ItemState::Failed] {
            assert_eq!(serde_json::json!(state), name(state));
        }
    }
}
