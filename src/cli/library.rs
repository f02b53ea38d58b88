//! `tilereel library`: the clips that the studio keeps. A window that is open meanwhile notices what is changed here.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{Status, UsageError, show};
use crate::generate::recipe::Recipe;
use crate::studio::words::{count, duration};
use crate::studio::{ClipEntry, ClipFilter, ClipId, Database, Home, ItemId, MOST_CLIPS_AT_ONCE, NewItem, leaving, variations};

#[derive(Subcommand)]
pub enum Command {
    /// List clips, newest first.
    List(List),
    /// Show what a clip was made from.
    Show {
        id: i64,
        /// Print the recipe as JSON, as it is stored
        #[arg(long)]
        json: bool,
    },
    /// Print where a clip's file lies: a lossless animated WebP. `tilereel export` makes other files of it.
    Path { id: i64 },
    /// Mark a clip as a favourite.
    Favourite {
        id: i64,
        /// Take the mark away
        #[arg(long)]
        off: bool,
    },
    /// Put a clip into the trash, where it stays for a week.
    Delete { id: i64 },
    /// Bring a clip back from the trash.
    Restore { id: i64 },
    /// Queue the recipe of a clip once more.
    Rerun { id: i64 },
    /// Queue variations of a clip: it is left after a step, with other seeds. The later the step, the closer they are.
    Vary {
        id: i64,
        /// Steps that stay as they are
        #[arg(long, value_name = "K")]
        step: usize,
        #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_CLIPS_AT_ONCE)))]
        count: u32,
    },
}

#[derive(Args)]
pub struct List {
    /// Only clips whose prompt has all of these words
    words: Vec<String>,
    #[arg(long)]
    favourites: bool,
    /// Those in the trash, instead of the others
    #[arg(long)]
    deleted: bool,
    #[arg(long)]
    json: bool,
}

pub fn run(command: Command) -> anyhow::Result<Status> {
    let home = Home::standard()?;
    let database = open(&home)?;
    match command {
        Command::List(list) => list.print(&home, &database)?,
        Command::Show { id, json } => show_clip(&database.clip(ClipId(id))?, json),
        Command::Path { id } => {
            let clip = database.clip(ClipId(id))?;
            say!("{}", home.clip_file(clip.id).display());
        }
        Command::Favourite { id, off } => database.set_favourite(ClipId(id), !off)?,
        Command::Delete { id } => database.delete_clip(ClipId(id))?,
        Command::Restore { id } => database.restore_clip(ClipId(id))?,
        Command::Rerun { id } => {
            let clip = database.clip(ClipId(id))?;
            let recipe = Recipe { made: None, ..clip.recipe };
            queued(&enqueue(&database, &[NewItem { recipe, model: clip.model, leaves: None, force: false }])?);
        }
        Command::Vary { id, step, count } => {
            let clip = database.clip(ClipId(id))?;
            let leaving = leaving(&home, &clip, step)?;
            queued(&enqueue(&database, &variations(&leaving, &clip.model, count)?)?);
        }
    }
    Ok(Status::Done)
}

/// The studio's database, made if there is none.
pub fn open(home: &Home) -> anyhow::Result<Database> {
    home.make()?;
    Ok(Database::open(&home.database())?)
}

/// The file of a clip, which is said by its number in the library, or as a file.
///
/// # Errors
/// The library has no clip of this number.
pub fn clip_file(clip: &str) -> anyhow::Result<PathBuf> {
    let Ok(id) = clip.parse() else { return Ok(clip.into()) };
    let home = Home::standard()?;
    let clip = open(&home)?.clip(ClipId(id))?;
    Ok(home.clip_file(clip.id))
}

/// Puts runs behind all others, and remembers their prompt.
pub fn enqueue(database: &Database, items: &[NewItem]) -> anyhow::Result<Vec<ItemId>> {
    if let Some(first) = items.first() {
        database.remember_prompt(&first.recipe.prompt)?;
    }
    Ok(database.add_items(items)?)
}

/// Says what is in the queue now, and what works it off.
pub fn queued(ids: &[ItemId]) {
    let names: Vec<String> = ids.iter().map(|id| id.0.to_string()).collect();
    let items = if ids.len() == 1 { "Item" } else { "Items" };
    say!("{items} {} in the queue. The window works it off, or: tilereel queue run", names.join(", "));
}

impl List {
    fn print(&self, home: &Home, database: &Database) -> anyhow::Result<()> {
        if self.favourites && self.deleted {
            return Err(UsageError("--favourites and --deleted do not go together.".into()).into());
        }
        let filter = ClipFilter { words: self.words.join(" "), favourites_only: self.favourites, deleted: self.deleted };
        let clips = database.clips(&filter)?;
        if self.json {
            let clips: Vec<_> = clips.iter().map(|clip| clip_json(home, clip)).collect();
            say!("{:#}", serde_json::Value::from(clips));
            return Ok(());
        }
        for clip in &clips {
            let recipe = &clip.recipe;
            let heart = if clip.favourite { "♥" } else { " " };
            let facts = format!("{} {}x{}, seed {}", count(recipe.frames, "frame"), recipe.width, recipe.height, recipe.seed);
            say!("{:>5} {heart} {:<8} {facts:<36} {}", clip.id.0, recipe.model.name, one_line(&recipe.prompt));
        }
        if clips.is_empty() {
            let is_searched = self.favourites || self.deleted || !self.words.is_empty();
            say!("{}", if is_searched { "No such clip." } else { "The library is empty." });
        }
        Ok(())
    }
}

fn clip_json(home: &Home, clip: &ClipEntry) -> serde_json::Value {
    json!({
        "id": clip.id, "path": home.clip_file(clip.id).display().to_string(), "made_unix_millis": clip.made_unix_millis,
        "seconds": clip.seconds, "favourite": clip.favourite, "deleted": clip.is_deleted, "badges": clip.badges,
        "model": clip.model, "recipe": clip.recipe,
    })
}

fn show_clip(clip: &ClipEntry, json: bool) {
    if json {
        say!("{}", clip.recipe.to_json());
        return;
    }
    show::print(&clip.recipe);
    say!("took       {}", duration(clip.seconds));
    for badge in &clip.badges {
        say!("note       {badge}");
    }
    if clip.is_deleted {
        say!("It is in the trash: tilereel library restore {}", clip.id.0);
    }
}

/// Prompts may have several lines.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
