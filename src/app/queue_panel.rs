//! The queue: the run that goes on, those that wait, and those that could not end.

use std::time::{Duration, Instant};

use eframe::egui::{
    self, Color32, DragAndDrop, EventFilter, Frame, Key, Label, Margin, Modifiers, ProgressBar, Rect, Response, RichText, Role,
    ScrollArea, Sense, Sides, Stroke, Ui, UiBuilder, Vec2, WidgetInfo, vec2,
};

use super::action::Action;
use super::clip_card::single_line;
use super::icons::{self, Icon, icon_button};
use super::lab::LabAction;
use super::theme::{self, Palette};
use super::{empty_state, error_card};
use crate::studio::words::{about, count};
use crate::studio::{ItemId, ItemState, LabStage, Live, QueueItem, State};

/// How often the progress of a run is painted.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Where the times come from.
const ORIGIN: &str = "Times: of the run that goes on from its own steps; of those that wait from earlier runs on this device, or estimated \
                      from their operations where nothing like them has run.";
const HANDLE: Vec2 = vec2(14.0, 28.0);

#[derive(Default)]
pub struct QueuePanel {
    /// The item whose handle has been moved by keys, to keep the focus on it.
    moved: Option<ItemId>,
}

/// What is known of an item's time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Times {
    /// What it takes by itself.
    own: Option<f64>,
    /// When it is done, from now.
    until_done: Option<f64>,
}

impl QueuePanel {
    /// `estimate` gives the seconds that an item will take from its first step on, where that is known.
    pub fn show(&mut self, ui: &mut Ui, state: &State, estimate: &dyn Fn(&QueueItem) -> Option<f64>, actions: &mut Vec<Action>) {
        let now = Instant::now();
        let times = times(state, estimate, now);
        header(ui, state, &times, actions);
        if state.queue.is_empty() {
            let text = "Drop a clip here to get its settings back. What you generate waits here for its turn.";
            empty_state::show(ui, Icon::Queue, "Nothing waits", text, None);
            return;
        }
        if state.live.is_some() {
            ui.ctx().request_repaint_after(PROGRESS_EVERY);
        }
        ScrollArea::vertical().id_salt("queue").auto_shrink(false).show(ui, |ui| {
            ui.spacing_mut().item_spacing.y = 6.0;
            // What the program's end has cut off comes first, wherever it is in the queue.
            let cut_off = |item: &QueueItem| item.state == ItemState::Interrupted;
            let places = (0..state.queue.len()).filter(|&at| cut_off(&state.queue[at]));
            let places = places.chain((0..state.queue.len()).filter(|&at| !cut_off(&state.queue[at])));
            for at in places {
                self.row(ui, state, at, times[at], now, actions);
            }
            super::focus::follow(ui);
        });
    }

    fn row(&mut self, ui: &mut Ui, state: &State, at: usize, times: Times, now: Instant, actions: &mut Vec<Action>) {
        let item = &state.queue[at];
        let live = state.live.as_ref().filter(|live| live.item == item.id);
        let palette = Palette::of(ui);
        let outline = if item.state == ItemState::Interrupted { palette.accent } else { palette.line };
        let builder = UiBuilder::new().id_salt(("queue item", item.id.0)).sense(Sense::click());
        let row = ui.scope_builder(builder, |ui| {
            let frame = Frame::new().fill(palette.raised).stroke(Stroke::new(1.0, outline)).corner_radius(theme::RADIUS);
            frame.inner_margin(Margin::symmetric(8, 6)).show(ui, |ui| {
                ui.set_width(ui.available_width());
                let mut pressed = Vec::new();
                Sides::new().height(36.0).shrink_left().show(
                    ui,
                    |ui| {
                        self.handle(ui, state, at, actions);
                        ui.vertical(|ui| text(ui, item, live, times, now));
                    },
                    |ui| {
                        ui.spacing_mut().item_spacing.x = 2.0;
                        buttons(ui, state, at, &mut pressed);
                    },
                );
                actions.append(&mut pressed);
                if let Some(report) = &item.report {
                    ui.add_space(2.0);
                    error_card::show(ui, item.id, report, actions);
                }
            });
        });
        let row = row.response;
        row.widget_info(|| WidgetInfo::labeled(Role::Group, true, format!("{}: {}", state_word(item.state), prompt(item))));
        row.context_menu(|ui| menu(ui, item, actions));
        drop_target(ui, &row, state, at, actions);
    }

    /// What an item is dragged by; with the focus, arrow keys move it.
    fn handle(&mut self, ui: &mut Ui, state: &State, at: usize, actions: &mut Vec<Action>) {
        let item = &state.queue[at];
        let rect = Rect::from_min_size(ui.cursor().min + vec2(0.0, (36.0 - HANDLE.y) / 2.0), HANDLE);
        ui.advance_cursor_after_rect(Rect::from_min_size(ui.cursor().min, vec2(HANDLE.x, 36.0)));
        let id = egui::Id::unique(("queue handle", item.id.0));
        let handle = ui.interact(rect, id, Sense::click_and_drag());
        handle.widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("Move: {}", prompt(item))));
        handle.dnd_set_drag_payload(item.id);
        if self.moved == Some(item.id) {
            self.moved = None;
            handle.request_focus();
        }
        if handle.has_focus() {
            let arrows = EventFilter { vertical_arrows: true, ..EventFilter::default() };
            ui.memory_mut(|memory| memory.set_focus_lock_filter(id, arrows));
            let down = ui.input_mut(|input| {
                let mut presses = |key: Key| input.count_and_consume_key(Modifiers::NONE, key) as isize;
                presses(Key::ArrowDown) - presses(Key::ArrowUp)
            });
            move_by(state, at, down, actions);
        }
        let palette = Palette::of(ui);
        let colour = if handle.hovered() || handle.has_focus() { palette.text_strong } else { palette.line_strong };
        for (column, line) in (0..2).flat_map(|column| (0..3).map(move |line| (column, line))) {
            let dot = rect.center() + vec2(column as f32 * 5.0 - 2.5, line as f32 * 5.0 - 5.0);
            ui.painter().circle_filled(dot, 1.3, colour);
        }
        if handle.has_focus() {
            icons::focus_ring(ui.painter(), rect, palette);
        }
        handle.on_hover_cursor(egui::CursorIcon::Grab).on_hover_text("Drag it to another place, or use the arrow keys");
    }
}

/// When each item is done: the live one first, then those that wait, in their order.
fn times(state: &State, estimate: &dyn Fn(&QueueItem) -> Option<f64>, now: Instant) -> Vec<Times> {
    let mut gone = state.live.as_ref().map(|live| live.seconds_left(now)).or(Some(0.0));
    let time = |item: &QueueItem| match (item.state, &state.live) {
        (ItemState::Running, Some(live)) if live.item == item.id => {
            let left = live.seconds_left(now);
            Times { own: Some(left), until_done: Some(left) }
        }
        (ItemState::Running, _) => Times::default(),
        (ItemState::Waiting, _) => {
            let own = left_of(item, estimate(item));
            // Behind an item whose time is not known, no other's is.
            gone = gone.zip(own).map(|(gone, own)| gone + own);
            Times { own, until_done: gone }
        }
        _ => Times { own: left_of(item, estimate(item)), until_done: None },
    };
    state.queue.iter().map(time).collect()
}

/// What is left of an item of which some steps are done.
fn left_of(item: &QueueItem, seconds: Option<f64>) -> Option<f64> {
    let done = item.steps_done.min(item.calls()) as f64 / item.calls().max(1) as f64;
    seconds.map(|seconds| seconds * (1.0 - done))
}

fn header(ui: &mut Ui, state: &State, times: &[Times], actions: &mut Vec<Action>) {
    if state.queue.is_empty() && !state.is_paused {
        return;
    }
    let waiting = state.queue.iter().filter(|item| item.state == ItemState::Waiting).count();
    let running = state.queue.iter().filter(|item| item.state == ItemState::Running).count();
    let mut parts = Vec::new();
    if running + waiting > 0 {
        parts.push(count(running + waiting, "clip") + " to make");
        let all_known =
            times.iter().zip(&state.queue).all(|(time, item)| item.state != ItemState::Waiting || time.until_done.is_some());
        let last = times.iter().filter_map(|time| time.until_done).fold(0.0, f64::max);
        if all_known && last > 0.0 && !state.is_paused {
            parts.push(format!("done in {}", about(last)));
        }
    }
    let palette = Palette::of(ui);
    Sides::new().height(theme::CONTROL_HEIGHT).shrink_left().show(
        ui,
        |ui| {
            let line = ui.add(Label::new(RichText::new(parts.join(" · ")).color(palette.text_dim)).truncate());
            if !parts.is_empty() {
                line.on_hover_text(ORIGIN);
            }
        },
        |ui| {
            if state.is_paused {
                if ui
                    .add(theme::primary_button(ui, "Go on"))
                    .on_hover_text("Loads the model again and goes on at the same step")
                    .clicked()
                {
                    actions.push(Action::Unpause);
                }
            } else if ui
                .button("Pause")
                .on_hover_text("Stops behind the last finished step and gives the model's memory back")
                .clicked()
            {
                actions.push(Action::Pause);
            }
        },
    );
    if let Some(lab) = state.lab.as_ref().filter(|run| run.is_under_way()) {
        let is_pausing = lab.stage == LabStage::Pausing;
        let frame = Frame::new().fill(palette.accent_tint).corner_radius(theme::RADIUS).inner_margin(Margin::symmetric(10, 6));
        frame.show(ui, |ui| {
            ui.set_width(ui.available_width());
            ui.horizontal(|ui| {
                let words = match is_pausing {
                    true => "The lab stops behind its current step. What waits here begins then.",
                    false => "The lab works on the device. What waits here begins when it is paused or over.",
                };
                ui.label(RichText::new(words).color(palette.text_strong));
                if !is_pausing && ui.button("Pause the lab").clicked() {
                    actions.push(Action::Lab(LabAction::Pause));
                }
            });
        });
    } else if state.is_paused {
        let frame = Frame::new().fill(palette.accent_tint).corner_radius(theme::RADIUS).inner_margin(Margin::symmetric(10, 6));
        frame.show(ui, |ui| {
            ui.set_width(ui.available_width());
            let words = match state.live {
                Some(_) => "Pausing: the step that runs is given up, the finished ones are kept.",
                None => "Paused. The model's memory is free; the queue goes on where it was.",
            };
            ui.label(RichText::new(words).color(palette.text_strong));
        });
    }
}

fn text(ui: &mut Ui, item: &QueueItem, live: Option<&Live>, times: Times, now: Instant) {
    let palette = Palette::of(ui);
    ui.spacing_mut().item_spacing.y = 3.0;
    ui.add_space(1.0);
    let words = match item.state {
        ItemState::Interrupted => RichText::new("The program ended while this ran. Go on?").family(theme::strong_family()),
        _ => theme::strong(prompt(item)),
    };
    let title = ui.add(Label::new(words.color(palette.text_strong)).truncate());
    title.on_hover_text(&item.recipe.prompt);
    let (line, colour) = second_line(item, live, times, now, palette);
    let tip = format!("{}\n{ORIGIN}", facts(item));
    ui.add(Label::new(RichText::new(line).small().color(colour)).truncate()).on_hover_text(tip);
    let share = match live {
        Some(live) => Some(live.share_done(now) as f32),
        None if item.steps_done > 0 => Some(item.steps_done as f32 / item.calls().max(1) as f32),
        None => None,
    };
    if let Some(share) = share {
        let fill = if live.is_some() { palette.accent_fill } else { palette.line_strong };
        let bar = ProgressBar::new(share).desired_height(4.0).corner_radius(2.0).fill(fill);
        ui.add(bar.desired_width(ui.available_width())).accessible_name(format!("Progress: {}", prompt(item)));
    }
}

fn second_line(item: &QueueItem, live: Option<&Live>, times: Times, now: Instant, palette: &Palette) -> (String, Color32) {
    let steps = format!("{} of {} steps done", item.steps_done, item.calls());
    match (item.state, live) {
        (_, Some(live)) if live.is_stopping => (live.doing(), palette.text_dim),
        (_, Some(live)) => (format!("{} · {} left", live.doing(), about(live.seconds_left(now))), palette.accent),
        (ItemState::Running, None) => ("starting".into(), palette.accent),
        (ItemState::Waiting, None) => {
            let mut line = state_word(item.state).to_owned();
            if item.steps_done > 0 {
                line += &format!(" · {steps}");
            }
            if let Some(own) = times.own {
                line += &format!(" · takes {}", about(own));
            }
            if let Some(until) = times.until_done.filter(|_| times.until_done != times.own) {
                line += &format!(" · ready in {}", about(until));
            }
            (line, palette.text_dim)
        }
        (ItemState::Interrupted, None) => (format!("{steps} · {}", prompt(item)), palette.text),
        (ItemState::Stopped | ItemState::Failed, None) => {
            let colour = if item.state == ItemState::Failed { palette.error } else { palette.text_dim };
            (format!("{} · {steps}", state_word(item.state)), colour)
        }
    }
}

/// From right to left.
fn buttons(ui: &mut Ui, state: &State, at: usize, actions: &mut Vec<Action>) {
    let item = &state.queue[at];
    let id = item.id;
    if item.state == ItemState::Running {
        let stopping = state.live.as_ref().is_some_and(|live| live.item == id && live.is_stopping);
        ui.add_enabled_ui(!stopping, |ui| {
            if icon_button(ui, Icon::Stop, "Stop", "Ends the run; its finished steps stay here, to go on from").clicked() {
                actions.push(Action::Stop(id));
            }
        });
        return;
    }
    if icon_button(ui, Icon::Bin, "Remove from the queue", "Removes it with its finished steps").clicked() {
        actions.push(Action::Remove(id));
    }
    if icon_button(ui, Icon::Edit, "Edit", "Puts its settings into the panel on the left; Generate then replaces it").clicked() {
        actions.push(Action::Edit(id));
    }
    if item.state == ItemState::Waiting {
        let last = at + 1 == state.queue.len();
        ui.add_enabled_ui(!last, |ui| {
            if icon_button(ui, Icon::Down, "Later", "Behind the next one").clicked() {
                move_by(state, at, 1, actions);
            }
        });
        ui.add_enabled_ui(at > 0, |ui| {
            if icon_button(ui, Icon::Up, "Sooner", "Before the one above").clicked() {
                move_by(state, at, -1, actions);
            }
        });
        return;
    }
    // A failed item's card has buttons that mend it.
    if item.report.as_ref().is_none_or(|report| report.remedies.is_empty()) {
        ui.add_space(theme::SPACE_TINY);
        let name = go_on(item);
        let button =
            if item.state == ItemState::Interrupted { theme::primary_button(ui, &name) } else { egui::Button::new(&name) };
        if ui.add(button).on_hover_text("It waits for its turn again").clicked() {
            actions.push(Action::Resume { item: id, force: false });
        }
    }
}

fn menu(ui: &mut Ui, item: &QueueItem, actions: &mut Vec<Action>) {
    let mut entry = |ui: &mut Ui, name: &str, action: Action| {
        if ui.button(name).clicked() {
            actions.push(action);
        }
    };
    let use_recipe = Action::UseRecipe { recipe: Box::new(item.recipe.clone()), model: item.model.clone() };
    match item.state {
        ItemState::Running => entry(ui, "Stop", Action::Stop(item.id)),
        ItemState::Waiting => entry(ui, "Set aside", Action::Stop(item.id)),
        _ => entry(ui, &go_on(item), Action::Resume { item: item.id, force: false }),
    }
    if item.state != ItemState::Running {
        entry(ui, "To the front", Action::MoveTo { item: item.id, place: 0 });
        entry(ui, "Edit", Action::Edit(item.id));
    }
    entry(ui, "Use its settings", use_recipe);
    entry(ui, "Copy recipe", Action::CopyText(item.recipe.to_json()));
    if item.state != ItemState::Running {
        ui.separator();
        if ui.add(theme::danger_button(ui, "Remove from the queue")).clicked() {
            actions.push(Action::Remove(item.id));
        }
    }
}

/// While an item is dragged over a row: a line where it would go, and there it goes when it is let loose.
fn drop_target(ui: &Ui, row: &Response, state: &State, at: usize, actions: &mut Vec<Action>) {
    let (Some(dragged), Some(pointer)) = (DragAndDrop::payload::<ItemId>(ui.ctx()), ui.ctx().pointer_interact_pos()) else {
        return;
    };
    // Over its buttons too.
    if !row.container_contains_pointer() {
        return;
    }
    let Some(from) = state.queue.iter().position(|item| item.id == *dragged) else { return };
    let is_below = pointer.y > row.rect.center().y;
    let place = place_after_drop(from, at, is_below);
    if place == from {
        return;
    }
    let y = if is_below { row.rect.bottom() + 3.0 } else { row.rect.top() - 3.0 };
    ui.painter().hline(row.rect.x_range(), y, Stroke::new(2.0, Palette::of(ui).accent));
    if ui.input(|input| input.pointer.any_released()) {
        DragAndDrop::clear_payload(ui.ctx());
        actions.push(Action::MoveTo { item: *dragged, place });
    }
}

/// Where an item goes that is dropped on another one: places count without the item itself.
fn place_after_drop(from: usize, onto: usize, is_below: bool) -> usize {
    let gap = onto + usize::from(is_below);
    if gap > from { gap - 1 } else { gap }
}

fn move_by(state: &State, at: usize, by: isize, actions: &mut Vec<Action>) {
    let place = at.saturating_add_signed(by).min(state.queue.len() - 1);
    if place != at {
        actions.push(Action::MoveTo { item: state.queue[at].id, place });
    }
}

/// Steps are counted from 1, as everywhere in the window.
fn go_on(item: &QueueItem) -> String {
    match item.steps_done {
        0 => "Run it".into(),
        done if done >= item.calls() => "Decode the frames".into(),
        done => format!("Go on at step {}", done + 1),
    }
}

fn prompt(item: &QueueItem) -> String {
    single_line(&item.recipe.prompt)
}

fn facts(item: &QueueItem) -> String {
    let recipe = &item.recipe;
    format!(
        "{} · {} frames of {}×{} · {} steps of {} · seed {}",
        recipe.model.name, recipe.frames, recipe.width, recipe.height, recipe.steps, recipe.sampler, recipe.seed
    )
}

fn state_word(state: ItemState) -> &'static str {
    match state {
        ItemState::Waiting => "Waits",
        ItemState::Running => "Runs",
        ItemState::Stopped => "Stopped",
        ItemState::Interrupted => "Interrupted",
        ItemState::Failed => "Failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_item_lands_on_the_line_that_was_shown() {
        for (from, onto, is_below) in [(0, 2, false), (0, 2, true), (3, 1, false), (3, 1, true), (1, 1, true), (2, 3, false)] {
            let before: Vec<usize> = (0..4).collect();
            let mut after = before.clone();
            let item = after.remove(from);
            after.insert(place_after_drop(from, onto, is_below), item);
            // The line is above or below the target: what stands there must be on the other side of the item.
            if from != onto {
                let (item_at, target_at) = (after.iter().position(|&x| x == from), after.iter().position(|&x| x == onto));
                let (item_at, target_at) = (item_at.unwrap(), target_at.unwrap());
                assert_eq!(
                    if is_below { target_at + 1 } else { target_at }.abs_diff(item_at),
                    usize::from(!is_below),
                    "{after:?}"
                );
            } else {
                assert_eq!(after, before);
            }
        }
    }
}
