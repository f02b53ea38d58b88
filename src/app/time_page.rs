//! The time page: where the time of the shown clip or run went.

use eframe::egui::Ui;

use super::action::Action;
use super::empty_state;
use super::icons::Icon;
use crate::studio::words::duration;
use crate::studio::{ClipEntry, Live, Studio};

#[derive(Default)]
pub struct TimePage {}

impl TimePage {
    pub fn show(&mut self, ui: &mut Ui, _: &Studio, clip: Option<&ClipEntry>, live: Option<&Live>, _: &mut Vec<Action>) {
        let text = match (clip, live) {
            (Some(clip), _) => format!("Making this clip took {}.", duration(clip.seconds)),
            (None, Some(live)) => format!("This run goes on for {}.", duration(live.started.elapsed().as_secs_f64())),
            (None, None) => return,
        };
        empty_state::show(ui, Icon::Clock, "The parts were not timed", &text, None);
    }
}
