//! What the player does on a key. Plain keys work wherever the focus is, unless somebody types or the key means something to the
//! widget that has the focus.

use eframe::egui::{Id, InputState, Key, KeyboardShortcut, Ui};

use super::inspect::Inspect;
use super::source::Source;
use super::state::PlayerState;
use crate::app::commands;
use crate::app::shortcuts::Keys;

/// What can be asked of the player from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlayerCommand {
    FrameBack,
    FrameForward,
    Toggle,
    Forward,
    Reverse,
    Halt,
    ToStart,
    ToEnd,
    SetIn,
    SetOut,
    StepBack,
    StepForward,
    Inspect,
}

/// The widgets of the player that take the focus and leave the arrow keys and space to it.
pub fn frame_ruler_id(ui: &Ui) -> Id {
    ui.scope_id().with("frame ruler")
}

pub fn step_ruler_id(ui: &Ui) -> Id {
    ui.scope_id().with("step ruler")
}

pub fn handle(ui: &mut Ui, state: &mut PlayerState, inspect: &mut Inspect, source: &Source, keys: &Keys) {
    // A menu or a dialog has the keys for itself.
    let covered = ui.ctx().any_popup_open() || !ui.memory(|memory| memory.is_above_modal_layer(ui.layer_id()));
    let blocked = covered || ui.ctx().text_edit_focused();
    if blocked || !ui.is_enabled() {
        return;
    }
    let focused = ui.memory(|memory| memory.focused());
    let on_frames = focused.is_none_or(|id| id == frame_ruler_id(ui));
    let on_steps = focused == Some(step_ruler_id(ui));
    ui.input_mut(|input| {
        if on_steps {
            let arrow = |input: &mut InputState, key| input.count_and_consume_key(Default::default(), key) as isize;
            let by = arrow(input, Key::ArrowRight) - arrow(input, Key::ArrowLeft);
            step_by(state, source, by);
        }
        for command in commands::ALL {
            let Some(asked) = command.player else { continue };
            for shortcut in keys.of(command) {
                let is_free = match shortcut.logical_key {
                    Key::ArrowLeft | Key::ArrowRight | Key::ArrowUp | Key::ArrowDown | Key::Enter => on_frames,
                    Key::Space => on_frames || on_steps,
                    _ => true,
                };
                if is_free {
                    (0..presses(input, &shortcut)).for_each(|_| perform(state, inspect, source, asked));
                }
            }
        }
    });
}

fn presses(input: &mut InputState, shortcut: &KeyboardShortcut) -> usize {
    match shortcut.logical_key {
        // Where a keyboard has them under AltGr, they come with modifiers.
        key @ (Key::OpenBracket | Key::CloseBracket) if shortcut.modifiers.is_none() => usize::from(input.key_pressed(key)),
        key => input.count_and_consume_key(shortcut.modifiers, key),
    }
}

/// Does what was asked.
pub fn perform(state: &mut PlayerState, inspect: &mut Inspect, source: &Source, command: PlayerCommand) {
    let frames = source.frames;
    match command {
        PlayerCommand::FrameBack => state.step_frames(-1, frames),
        PlayerCommand::FrameForward => state.step_frames(1, frames),
        PlayerCommand::Toggle => state.toggle(frames),
        PlayerCommand::Forward => state.forward(),
        PlayerCommand::Reverse => state.reverse(),
        PlayerCommand::Halt => state.halt(),
        PlayerCommand::ToStart => state.go_to(*state.range(frames).start(), frames),
        PlayerCommand::ToEnd => state.go_to(*state.range(frames).end(), frames),
        PlayerCommand::SetIn => state.set_in(state.frame(frames), frames),
        PlayerCommand::SetOut => state.set_out(state.frame(frames), frames),
        PlayerCommand::StepBack => step_by(state, source, -1),
        PlayerCommand::StepForward => step_by(state, source, 1),
        PlayerCommand::Inspect => inspect.on = !inspect.on,
    }
}

/// Shows an earlier or a later step of denoising; the last one is the finished clip.
pub fn step_by(state: &mut PlayerState, source: &Source, by: isize) {
    if by != 0 {
        let newest = source.newest_cell();
        let shown = state.step.map_or(newest, |step| step.min(newest));
        state.show_step(shown.saturating_add_signed(by), newest);
    }
}
