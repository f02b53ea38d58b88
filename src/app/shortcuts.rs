//! Which keys a command has: the table's own, unless the person gave it others.

use std::collections::BTreeMap;

use eframe::egui::{Context, Key, KeyboardShortcut, Modifiers};
use serde::Serialize;
use serde_json::Value;

use super::commands::{self, Command};

/// The keys that the person has changed. None is no key at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Keys {
    changed: BTreeMap<String, Option<String>>,
}

impl Keys {
    /// Takes over what is whole of keys that were kept.
    pub fn read(kept: &BTreeMap<String, Value>) -> Self {
        let mut keys = Self::default();
        for (command, value) in kept {
            match value {
                Value::Null => keys.set(command, None),
                Value::String(text) => match parsed(text) {
                    Some(shortcut) => keys.set(command, Some(shortcut)),
                    None => log::info!("the keys {text} of {command} are not understood"),
                },
                _ => {}
            }
        }
        keys
    }

    /// All keys of a command.
    pub fn of(&self, command: &Command) -> Vec<KeyboardShortcut> {
        match self.changed.get(command.id) {
            Some(changed) => changed.as_deref().and_then(parsed).into_iter().collect(),
            None => command.keys.to_vec(),
        }
    }

    /// The keys of a command as a person reads them; empty if it has none.
    pub fn text(&self, context: &Context, id: &str) -> String {
        let keys = commands::find(id).map(|command| self.of(command)).unwrap_or_default();
        keys.iter().map(|keys| shown(context, keys)).collect::<Vec<_>>().join(" or ")
    }

    /// The command that already has these keys.
    pub fn taken_by(&self, keys: &KeyboardShortcut, except: &str) -> Option<&'static Command> {
        commands::ALL.iter().find(|command| command.id != except && self.of(command).contains(keys))
    }

    pub fn is_changed(&self, id: &str) -> bool {
        self.changed.contains_key(id)
    }

    pub fn any_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Gives a command these keys in place of all that it had.
    pub fn set(&mut self, id: &str, keys: Option<KeyboardShortcut>) {
        let is_own = commands::find(id).is_some_and(|command| command.keys == keys.as_slice());
        if is_own {
            self.changed.remove(id);
        } else {
            self.changed.insert(id.to_owned(), keys.as_ref().map(written));
        }
    }

    /// Gives a command the keys of another one, and that one what this one had.
    pub fn swap(&mut self, id: &str, other: &str, keys: KeyboardShortcut) {
        let had = commands::find(id).map(|command| self.of(command)).unwrap_or_default();
        self.set(other, had.first().copied());
        self.set(id, Some(keys));
    }

    pub fn reset(&mut self, id: &str) {
        self.changed.remove(id);
    }

    pub fn reset_all(&mut self) {
        self.changed.clear();
    }
}

/// Keys as a person reads them: signs as they stand on the keyboard.
pub fn shown(context: &Context, keys: &KeyboardShortcut) -> String {
    let text = context.format_shortcut(keys);
    let sign = match keys.logical_key {
        Key::Comma => ",",
        Key::Period => ".",
        Key::Plus => "+",
        Key::Minus => "-",
        Key::Equals => "=",
        Key::OpenBracket => "[",
        Key::CloseBracket => "]",
        _ => return text,
    };
    text.strip_suffix(keys.logical_key.name()).map_or(text.clone(), |modifiers| format!("{modifiers}{sign}"))
}

/// Modifiers as they are kept: the one that begins most shortcuts is the system's own.
pub fn normalised(modifiers: Modifiers) -> Modifiers {
    let Modifiers { alt, shift, command, ctrl, .. } = modifiers;
    Modifiers { alt, shift, command, ctrl: ctrl && !command, mac_cmd: false }
}

/// As it is kept, the same on all systems.
fn written(shortcut: &KeyboardShortcut) -> String {
    let Modifiers { alt, shift, command, ctrl, .. } = shortcut.modifiers;
    let names = [(command, "Ctrl+"), (ctrl, "Control+"), (alt, "Alt+"), (shift, "Shift+")];
    let mut text: String = names.into_iter().filter_map(|(held, name)| held.then_some(name)).collect();
    text.push_str(shortcut.logical_key.name());
    text
}

fn parsed(text: &str) -> Option<KeyboardShortcut> {
    let mut modifiers = Modifiers::NONE;
    let mut rest = text;
    while let Some((name, behind)) = rest.split_once('+') {
        match name {
            "Ctrl" => modifiers.command = true,
            "Control" => modifiers.ctrl = true,
            "Alt" => modifiers.alt = true,
            "Shift" => modifiers.shift = true,
            _ => return None,
        }
        rest = behind;
    }
    Some(KeyboardShortcut::new(modifiers, Key::from_name(rest)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_written_as_they_are_read() {
        for &key in Key::ALL {
            for modifiers in [Modifiers::NONE, Modifiers::COMMAND, Modifiers::ALT.plus(Modifiers::SHIFT)] {
                let shortcut = KeyboardShortcut::new(modifiers, key);
                assert_eq!(parsed(&written(&shortcut)), Some(shortcut), "{}", written(&shortcut));
            }
        }
        assert_eq!(parsed("Hyper+A"), None);
        assert_eq!(parsed(""), None);
    }

    #[test]
    fn no_two_commands_have_the_same_keys_at_first() {
        let keys = Keys::default();
        for command in commands::ALL {
            for shortcut in command.keys {
                assert!(keys.taken_by(shortcut, command.id).is_none(), "{}: {}", command.id, written(shortcut));
            }
        }
    }

    #[test]
    fn swapped_keys_change_places_and_a_reset_brings_them_back() {
        let own = |id: &str| commands::find(id).expect("a command").keys.to_vec();
        let mut keys = Keys::default();
        let export = own("export")[0];
        keys.swap("generate", "export", export);
        let of = |keys: &Keys, id: &str| keys.of(commands::find(id).expect("a command"));
        assert_eq!(of(&keys, "generate"), [export]);
        assert_eq!(of(&keys, "export"), own("generate"));
        assert_eq!(keys.taken_by(&export, "export").map(|command| command.id), Some("generate"));
        keys.reset("generate");
        keys.set("export", Some(export));
        assert!(!keys.any_changed(), "a command with its own keys is not changed");
    }
}
