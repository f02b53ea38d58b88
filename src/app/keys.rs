//! Keys that hold in the whole window; the player has its own.

use eframe::egui::{Key, KeyboardShortcut, Modifiers, Ui};

use super::action::Action;
use super::window::Window;

pub const GENERATE: KeyboardShortcut = KeyboardShortcut::new(Modifiers::COMMAND, Key::Enter);
pub const EXPORT: KeyboardShortcut = KeyboardShortcut::new(Modifiers::COMMAND, Key::E);
pub const UNDO_DELETE: KeyboardShortcut = KeyboardShortcut::new(Modifiers::COMMAND.plus(Modifiers::SHIFT), Key::Z);

pub fn handle(ui: &Ui, window: &Window, actions: &mut Vec<Action>) {
    let pressed = |shortcut: &KeyboardShortcut| ui.input_mut(|input| input.consume_shortcut(shortcut));
    if pressed(&GENERATE) {
        actions.push(Action::Generate);
    }
    if pressed(&EXPORT)
        && let Some(clip) = window.stage.clip()
    {
        actions.push(Action::Export(clip.entry.id));
    }
    let is_covered = ui.ctx().any_popup_open() || window.export.is_some() || ui.ctx().text_edit_focused();
    if window.stage.comparing().is_some() && !is_covered && ui.input(|input| input.key_pressed(Key::Escape)) {
        actions.push(Action::LeaveCompare);
    }
    if pressed(&UNDO_DELETE) {
        actions.push(Action::UndoDelete);
    }
}
