//! The player's keys. They work wherever the focus is, unless somebody types or the key means something to the widget that has
//! the focus.

use eframe::egui::{Id, InputState, Key, Modifiers, Ui};

use super::inspect::Inspect;
use super::source::Source;
use super::state::PlayerState;

/// The widgets of the player that take the focus and leave the arrow keys and space to it.
pub fn frame_ruler_id(ui: &Ui) -> Id {
    ui.scope_id().with("frame ruler")
}

pub fn step_ruler_id(ui: &Ui) -> Id {
    ui.scope_id().with("step ruler")
}

/// Whether keys are for the player now.
fn listens(ui: &Ui) -> bool {
    // A menu or a dialog has the keys for itself.
    let covered = ui.ctx().any_popup_open() || !ui.memory(|memory| memory.is_above_modal_layer(ui.layer_id()));
    let blocked = covered || ui.ctx().text_edit_focused();
    !blocked && ui.is_enabled()
}

/// A: looks into the clip, and away again.
pub fn toggle_inspect(ui: &Ui, inspect: &mut Inspect) {
    if listens(ui) && ui.input_mut(|input| input.count_and_consume_key(Modifiers::NONE, Key::A)) % 2 == 1 {
        inspect.on = !inspect.on;
    }
}

pub fn handle(ui: &mut Ui, state: &mut PlayerState, source: &Source) {
    if !listens(ui) {
        return;
    }
    let focused = ui.memory(|memory| memory.focused());
    let on_frames = focused.is_none_or(|id| id == frame_ruler_id(ui));
    let on_steps = focused == Some(step_ruler_id(ui));
    let frames = source.frames;
    ui.input_mut(|input| {
        let mut presses = |key: Key| input.count_and_consume_key(Modifiers::NONE, key) as isize;
        let by = presses(Key::Period) - presses(Key::Comma);
        if by != 0 {
            state.step_frames(by, frames);
        }
        if on_frames {
            let by = presses(Key::ArrowRight) - presses(Key::ArrowLeft);
            if by != 0 {
                state.step_frames(by, frames);
            }
        }
        if on_steps {
            let by = presses(Key::ArrowRight) - presses(Key::ArrowLeft);
            step_by(state, source, by);
        }
        if (on_frames || on_steps) && presses(Key::Space) % 2 == 1 {
            state.toggle(frames);
        }
        (0..presses(Key::L)).for_each(|_| state.forward());
        (0..presses(Key::J)).for_each(|_| state.reverse());
        if presses(Key::K) > 0 {
            state.halt();
        }
        if presses(Key::Home) > 0 {
            state.go_to(*state.range(frames).start(), frames);
        }
        if presses(Key::End) > 0 {
            state.go_to(*state.range(frames).end(), frames);
        }
        if presses(Key::I) > 0 {
            state.set_in(state.frame(frames), frames);
        }
        if presses(Key::O) > 0 {
            state.set_out(state.frame(frames), frames);
        }
        step_by(state, source, brackets(input));
    });
}

/// How often `]` was pressed more than `[`. Where a keyboard has them under AltGr, they come with modifiers.
fn brackets(input: &InputState) -> isize {
    isize::from(input.key_pressed(Key::CloseBracket)) - isize::from(input.key_pressed(Key::OpenBracket))
}

/// Shows an earlier or a later step of denoising; the last one is the finished clip.
pub fn step_by(state: &mut PlayerState, source: &Source, by: isize) {
    if by != 0 {
        let newest = source.newest_cell();
        let shown = state.step.map_or(newest, |step| step.min(newest));
        state.show_step(shown.saturating_add_signed(by), newest);
    }
}
