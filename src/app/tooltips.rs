//! Tooltips end when a dialog begins.
//!
//! egui keeps a tooltip while the pointer rests on its widget, though a dialog that was opened by a key has come over that, and
//! paints it above the dialog. So the pointer counts as gone from the frame behind a dialog's first one on, until it moves or
//! presses something.

use eframe::egui::{Context, Event, LayerId, Plugin, RawInput};

#[derive(Default)]
pub struct TooltipEnd {
    dialog: Option<LayerId>,
}

impl Plugin for TooltipEnd {
    fn debug_name(&self) -> &'static str {
        "tooltips end under dialogs"
    }

    fn input_hook(&mut self, context: &Context, input: &mut RawInput) {
        let dialog = context.memory(|memory| memory.top_modal_layer());
        if dialog != self.dialog && dialog.is_some() {
            // First, so that a movement in the same frame counts.
            input.events.insert(0, Event::PointerGone);
        }
        self.dialog = dialog;
    }
}
