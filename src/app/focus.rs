//! Where the keyboard is must be seen: what gets the focus is scrolled to, and tabs have a ring as other buttons have.

use eframe::egui::{Response, Ui};

use super::icons;
use super::theme;

/// Called at the end of what a scroll area holds: scrolls to a widget of it that has just got the focus.
pub fn follow(ui: &Ui) {
    let Some(id) = ui.memory(|memory| memory.focused()) else { return };
    let Some(focused) = ui.ctx().read_response(id) else { return };
    let is_mine = focused.layer_id == ui.layer_id() && ui.min_rect().contains_rect(focused.rect);
    if is_mine && focused.gained_focus() && !ui.clip_rect().contains_rect(focused.rect) {
        ui.scroll_to_rect(focused.rect.expand(theme::SPACE_SMALL), None);
    }
}

/// The ring of a tab.
pub fn ring(tab: &Response) {
    if tab.has_focus() {
        let palette = if tab.ctx.global_style().visuals.dark_mode { &theme::DARK } else { &theme::LIGHT };
        icons::focus_ring(&tab.ctx.layer_painter(tab.layer_id), tab.rect.shrink(2.0), palette);
    }
}
