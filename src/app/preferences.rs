//! How the person wants the window itself: how much it shows, how large, how lively, and on which keys.
//!
//! Kept as one value of the studio's database. Whatever of it is damaged, or of a kind that this program does not know, is as at
//! the first start, and the rest stands.

use std::collections::BTreeMap;

use eframe::egui::{Context, Theme, style::ScrollAnimation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::shortcuts::Keys;
use crate::studio::{Database, StudioError};

/// Of the form in which the preferences are kept.
const VERSION: u32 = 1;
const NAME: &str = "window";
/// The sizes of everything, in percent.
pub const SCALES: [u32; 8] = [75, 90, 100, 110, 125, 150, 175, 200];
const RECENT_COMMANDS: usize = 6;
const ANIMATION_SECONDS: f32 = 0.12;

/// How much of the settings is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Prompt, model, size and length, steps, seed.
    Simple,
    #[default]
    Lab,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Preferences {
    version: u32,
    pub level: Level,
    pub scale_percent: u32,
    /// Nothing moves but what the person moves, or plays.
    pub reduced_motion: bool,
    /// The end of a long run is told while the window is in the background.
    pub notify: bool,
    pub hint_seen: bool,
    pub keys: Keys,
    /// The commands that were used last from the palette, newest first.
    pub recent_commands: Vec<String>,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            version: VERSION,
            level: Level::default(),
            scale_percent: 100,
            reduced_motion: false,
            notify: true,
            hint_seen: false,
            keys: Keys::default(),
            recent_commands: Vec::new(),
        }
    }
}

impl Preferences {
    pub fn load(database: &Database) -> Self {
        match database.preference::<Value>(NAME) {
            Ok(Some(value)) => Self::read(&value),
            Ok(None) => Self::default(),
            Err(error) => {
                log::warn!("{error}");
                Self::default()
            }
        }
    }

    /// # Errors
    /// The database cannot be written.
    pub fn save(&self, database: &Database) -> Result<(), StudioError> {
        database.set_preference(NAME, self)
    }

    fn read(value: &Value) -> Self {
        fn field<T: serde::de::DeserializeOwned>(value: &Value, name: &str) -> Option<T> {
            value.get(name).and_then(|field| serde_json::from_value(field.clone()).ok())
        }
        let first = Self::default();
        let keys: BTreeMap<String, Value> = field(value, "keys").unwrap_or_default();
        Self {
            version: VERSION,
            level: field(value, "level").unwrap_or(first.level),
            scale_percent: field(value, "scale_percent").filter(|scale| SCALES.contains(scale)).unwrap_or(first.scale_percent),
            reduced_motion: field(value, "reduced_motion").unwrap_or(first.reduced_motion),
            notify: field(value, "notify").unwrap_or(first.notify),
            hint_seen: field(value, "hint_seen").unwrap_or(first.hint_seen),
            keys: Keys::read(&keys),
            recent_commands: field(value, "recent_commands").unwrap_or(first.recent_commands),
        }
    }

    /// Gives the window its size and its liveliness.
    pub fn apply(&self, context: &Context) {
        context.set_zoom_factor(self.scale_percent as f32 / 100.0);
        for theme in [Theme::Dark, Theme::Light] {
            context.style_mut_of(theme, |style| {
                style.animation_time = if self.reduced_motion { 0.0 } else { ANIMATION_SECONDS };
                style.scroll_animation = if self.reduced_motion { ScrollAnimation::none() } else { ScrollAnimation::default() };
                style.visuals.text_cursor.blink = !self.reduced_motion;
            });
        }
    }

    /// The next larger or smaller scale, if there is one.
    pub fn scale_by(&self, by: isize) -> Option<u32> {
        let at = SCALES.iter().position(|&scale| scale == self.scale_percent)?;
        SCALES.get(at.checked_add_signed(by)?).copied()
    }

    /// Puts a command before all others that were used.
    pub fn used(&mut self, command: &str) {
        self.recent_commands.retain(|other| other != command);
        self.recent_commands.insert(0, command.to_owned());
        self.recent_commands.truncate(RECENT_COMMANDS);
    }
}

#[cfg(test)]
mod tests {
    use eframe::egui::{Key, KeyboardShortcut, Modifiers};
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_kept_is_read_back_and_what_is_damaged_is_as_at_first() {
        let mut set = Preferences { level: Level::Simple, scale_percent: 150, reduced_motion: true, ..Preferences::default() };
        set.keys.set("export", Some(KeyboardShortcut::new(Modifiers::COMMAND.plus(Modifiers::SHIFT), Key::X)));
        set.keys.set("pause", None);
        set.used("export");
        let value = serde_json::to_value(&set).unwrap();
        assert_eq!(Preferences::read(&value), set);

        let damaged = json!({
            "version": 99, "level": "expert", "scale_percent": 3, "reduced_motion": true, "notify": "loud",
            "keys": { "export": "Ctrl+Nothing", "pause": 7, "generate": "Ctrl+G" }, "of_later": [],
        });
        let read = Preferences::read(&damaged);
        assert!(read.reduced_motion, "what is whole stands");
        assert_eq!((read.level, read.scale_percent, read.notify), (Level::Lab, 100, true));
        let mut keys = Keys::default();
        keys.set("generate", Some(KeyboardShortcut::new(Modifiers::COMMAND, Key::G)));
        assert_eq!(read.keys, keys);
        assert_eq!(Preferences::read(&json!("junk")), Preferences::default());
    }

    #[test]
    fn recent_commands_are_few_and_each_there_once() {
        let mut preferences = Preferences::default();
        for command in ["a", "b", "c", "d", "e", "f", "g", "b"] {
            preferences.used(command);
        }
        assert_eq!(preferences.recent_commands, ["b", "g", "f", "e", "d", "c"]);
    }

    #[test]
    fn scales_have_ends() {
        let at = |scale_percent| Preferences { scale_percent, ..Preferences::default() };
        assert_eq!((at(100).scale_by(1), at(100).scale_by(-1)), (Some(110), Some(90)));
        assert_eq!((at(200).scale_by(1), at(75).scale_by(-1)), (None, None));
    }
}
