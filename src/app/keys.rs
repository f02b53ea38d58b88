//! The keys of the whole window: which command was asked for. Those of the player are looked at where the player is.

use eframe::egui::{Context, KeyboardShortcut, Modifiers};

use super::commands::{self, Command};
use super::shortcuts::Keys;

/// The commands whose keys were pressed, which nobody else sees then.
pub fn pressed(context: &Context, keys: &Keys) -> Vec<&'static Command> {
    let types = context.text_edit_focused();
    let mut candidates: Vec<(KeyboardShortcut, &Command)> = commands::ALL
        .iter()
        .flat_map(|command| keys.of(command).into_iter().map(move |shortcut| (shortcut, command)))
        // The player looks at plain keys by itself.
        .filter(|(shortcut, command)| command.player.is_none() || is_no_letter(shortcut))
        // Letters, and what text fields undo by themselves, belong to who types.
        .filter(|(shortcut, command)| !types || (is_no_letter(shortcut) && !["undo", "redo"].contains(&command.id)))
        .collect();
    // More modifiers first, as a shortcut with fewer of them matches too.
    candidates.sort_by_key(|(shortcut, _)| std::cmp::Reverse(modifiers(shortcut)));
    context.input_mut(|input| {
        candidates.into_iter().filter(|(shortcut, _)| input.consume_shortcut(shortcut)).map(|(_, command)| command).collect()
    })
}

fn is_no_letter(shortcut: &KeyboardShortcut) -> bool {
    let Modifiers { alt, ctrl, command, mac_cmd, .. } = shortcut.modifiers;
    alt || ctrl || command || mac_cmd
}

fn modifiers(shortcut: &KeyboardShortcut) -> usize {
    let Modifiers { alt, ctrl, shift, command, mac_cmd } = shortcut.modifiers;
    [alt, ctrl, shift, command, mac_cmd].into_iter().filter(|held| *held).count()
}
