//! The player while two clips are compared: a row of choices above the picture of both.

use eframe::egui::{Align, ComboBox, Layout, RichText, Ui, vec2};

use super::action::Action;
use super::icons::{Icon, drop_down, icon_button};
use super::player::PlayerEvent;
use super::player::source::Pictures;
use super::player::state::Look;
use super::player::versus::{GAINS, Mode, Versus, View};
use super::segments;
use super::stage::{Comparing, source_of_clip};
use super::theme::{self, Palette};
use super::window::Window;
use crate::mask::MaskPlan;
use crate::studio::ClipEntry;
use crate::studio::words;

const MODES: [(Mode, &str, &str); 3] = [
    (Mode::Wipe, "Wipe", "A on the left of a line that you drag, B on the right"),
    (Mode::SideBySide, "Side by side", "Both whole, next to each other"),
    (Mode::Difference, "Difference", "How far the pixels are apart: black where they are equal"),
];

impl Window {
    pub(super) fn compare_pane(&mut self, ui: &mut Ui, comparing: &Comparing, actions: &mut Vec<Action>) {
        let Comparing { a, b } = comparing;
        bar(ui, &mut self.player.view, actions);
        let [source, other] = [a, b].map(|clip| source_of_clip(&self.studio, clip));
        let names = [("A", a), ("B", b)].map(|(letter, clip)| format!("{letter} · {}", name(&clip.entry)));
        let versus = Versus { source: &other, names };
        self.player.least_repaint_seconds = 0.0;
        let events = self.player.show_pair(ui, &source, versus, |_| {});
        for event in events {
            let decode = |clip, step: usize| Action::DecodeStep { clip, step: step + 1 };
            match event {
                PlayerEvent::Want(Pictures::Step(step, Look::Decoder)) => actions.push(decode(a.entry.id, step)),
                PlayerEvent::WantOther(Pictures::Step(step, Look::Decoder)) => actions.push(decode(b.entry.id, step)),
                PlayerEvent::BranchFrom(step) => actions.push(Action::Branch { clip: a.entry.id, step: step + 1 }),
                PlayerEvent::LookChanged(look) => actions.push(Action::DecodePreviews(look == Look::Decoder)),
                // The shelf was asked when the sources were made.
                PlayerEvent::Want(_) | PlayerEvent::WantOther(_) => {}
            }
        }
    }
}

fn bar(ui: &mut Ui, view: &mut View, actions: &mut Vec<Action>) {
    let row = vec2(ui.available_width(), theme::CONTROL_HEIGHT);
    ui.allocate_ui_with_layout(row, Layout::left_to_right(Align::Center), |ui| {
        segments::inline(ui, &mut view.mode, &MODES);
        if view.mode == Mode::Difference {
            ComboBox::from_id_salt("gain")
                .width(56.0)
                .icon(drop_down)
                .selected_text(format!("× {}", view.gain))
                .show_ui(ui, |ui| {
                    for gain in GAINS {
                        ui.selectable_value(&mut view.gain, gain, format!("× {gain}"));
                    }
                })
                .response
                .accessible_name("Gain")
                .on_hover_text("How much stronger than it is the difference is shown");
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if icon_button(ui, Icon::Close, "Leave the comparison", "Back to clip A. Escape").clicked() {
                actions.push(Action::LeaveCompare);
            }
            if ui.button("Swap").on_hover_text("A becomes B, and B becomes A").clicked() {
                actions.push(Action::SwapCompared);
            }
            if ui.available_width() > 150.0 {
                ui.label(RichText::new("Two clips in step").color(Palette::of(ui).text_dim));
            }
        });
    });
}

/// What tells a clip from its twin.
fn name(clip: &ClipEntry) -> String {
    let plan = MaskPlan::from_json(&clip.recipe.mask_plan.to_string()).map(|plan| words::plan(&plan));
    format!("clip {}, {}, {}", clip.id.0, clip.recipe.model.name, plan.unwrap_or_default())
}
