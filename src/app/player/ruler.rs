//! What the two rulers share: the column of their names, cells of equal width, and how they speak to screen readers.

use eframe::egui::{Align2, FontId, Id, Rect, Ui, accesskit, pos2};

use crate::app::theme::{self, Palette};

/// The column left of the cells.
pub const NAME_WIDTH: f32 = 60.0;
/// Room right of the cells for the handle of the out point.
pub const END_WIDTH: f32 = 10.0;

/// Equal cells from left to right.
#[derive(Debug, Clone, Copy)]
pub struct Cells {
    pub left: f32,
    pub width: f32,
    pub count: usize,
}

impl Cells {
    /// The cells of a ruler that takes the place `rect`.
    pub fn of(rect: Rect, count: usize) -> Self {
        let left = rect.left() + NAME_WIDTH;
        let width = (rect.right() - END_WIDTH - left).max(1.0);
        Self { left, width: width / count.max(1) as f32, count: count.max(1) }
    }

    /// Where a cell begins; one past the last is where the last ends.
    pub fn start(&self, cell: usize) -> f32 {
        self.left + self.width * cell as f32
    }

    pub fn center(&self, cell: usize) -> f32 {
        self.start(cell) + self.width / 2.0
    }

    pub fn right(&self) -> f32 {
        self.start(self.count)
    }

    /// The cell at a position, or the one closest to it.
    pub fn at(&self, x: f32) -> usize {
        (((x - self.left) / self.width).max(0.0) as usize).min(self.count - 1)
    }
}

/// The name of a ruler, in its column.
pub fn name(ui: &Ui, rect: Rect, y: f32, text: &str) {
    let font = FontId::new(11.5, theme::strong_family());
    ui.painter().text(pos2(rect.left(), y), Align2::LEFT_CENTER, text, font, Palette::of(ui).text_dim);
}

/// Tells a screen reader about a slider over whole numbers that are counted from 1.
pub fn describe(ui: &Ui, id: Id, value: usize, least: usize, most: usize, text: &str) {
    ui.ctx().accesskit_node_builder(id, |node| {
        node.set_min_numeric_value(least as f64);
        node.set_max_numeric_value(most as f64);
        node.set_numeric_value_step(1.0);
        node.set_numeric_value(value as f64);
        node.set_value(text);
        for action in [accesskit::Action::SetValue, accesskit::Action::Increment, accesskit::Action::Decrement] {
            node.add_action(action);
        }
    });
}

/// The value that a screen reader asks for, if it does.
pub fn asked_value(ui: &Ui, id: Id, value: usize) -> Option<usize> {
    use accesskit::{Action, ActionData};
    ui.input(|input| {
        let set = input.accesskit_action_requests(id, Action::SetValue).filter_map(|request| match request.data {
            Some(ActionData::NumericValue(value)) => Some(value.max(0.0) as usize),
            _ => None,
        });
        let up = input.num_accesskit_action_requests(id, Action::Increment);
        let down = input.num_accesskit_action_requests(id, Action::Decrement);
        set.last().or_else(|| (up != down).then(|| (value + up).saturating_sub(down)))
    })
}
