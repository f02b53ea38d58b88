//! The film strip: the clips of the library, to be found, shown, kept and taken further.
//!
//! Only the cards in view are laid out. The list is read again when the library or the filter has changed, and a picture is
//! uploaded once.

use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread;

use eframe::egui::{
    self, Align, Button, Id, Key, Layout, Margin, Modifiers, Rect, RichText, ScrollArea, TextEdit, Ui, Vec2, vec2,
};

use super::action::Action;
use super::clip_card::{self, Card};
use super::empty_state;
use super::icons::{self, Icon, icon_button};
use super::player::textures::Textures;
use super::segments;
use super::theme::{self, Palette};
use crate::studio::{ClipEntry, ClipFilter, ClipId, Database, Picture, Studio, words};

const GAP: f32 = theme::SPACE_SMALL;
/// Lists shorter than this are read within a frame: a clip takes about 40 microseconds.
const READ_AT_ONCE: usize = 250;
const TEXTURE_BYTES: usize = 96 << 20;
/// What the buttons for a clip need; in less they become one menu.
const WIDTH_OF_BUTTONS: f32 = 264.0;

pub struct LibraryPanel {
    filter: ClipFilter,
    /// What `clips` was read for.
    read_for: Option<(u64, ClipFilter)>,
    clips: Vec<ClipEntry>,
    /// The longest list so far.
    longest: usize,
    reading: Option<Receiver<List>>,
    failure: Option<String>,
    selected: Option<ClipId>,
    /// The clip in the player, as of the last frame.
    shown: Option<ClipId>,
    scroll_to: Option<ClipId>,
    /// The clip under the pointer, and since when.
    hovered: Option<(ClipId, f64)>,
    textures: Textures,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    All,
    Favourites,
    Trash,
}

/// What was read.
struct List {
    of: (u64, ClipFilter),
    clips: Result<Vec<ClipEntry>, String>,
}

impl Default for LibraryPanel {
    fn default() -> Self {
        Self {
            filter: ClipFilter::default(),
            read_for: None,
            clips: Vec::new(),
            longest: 0,
            reading: None,
            failure: None,
            selected: None,
            shown: None,
            scroll_to: None,
            hovered: None,
            textures: Textures::with_budget(TEXTURE_BYTES),
        }
    }
}

impl LibraryPanel {
    /// `shown` is the clip in the player.
    pub fn show(&mut self, ui: &mut Ui, studio: &Studio, shown: Option<ClipId>, actions: &mut Vec<Action>) {
        self.read(ui.ctx(), studio);
        if self.shown != shown {
            self.shown = shown;
            self.select(shown);
        }
        self.header(ui, actions);
        ui.add_space(theme::SPACE_TINY);
        match &self.failure {
            Some(failure) => {
                let failure = failure.clone();
                if empty_state::show(ui, Icon::Warning, "The library cannot be read", &failure, Some("Try again")) {
                    self.read_for = None;
                }
            }
            None if self.clips.is_empty() => self.nothing(ui),
            None => self.cards(ui, studio, actions),
        }
    }

    /// The clips that are listed now, newest first.
    pub fn clips(&self) -> &[ClipEntry] {
        &self.clips
    }

    pub fn selected(&self) -> Option<ClipId> {
        self.selected
    }

    pub fn filter(&self) -> &ClipFilter {
        &self.filter
    }

    pub fn textures(&self) -> &Textures {
        &self.textures
    }

    /// Reads the list anew if it is not the one that is wanted; a long one beside the window, which shows the old one meanwhile.
    fn read(&mut self, context: &egui::Context, studio: &Studio) {
        if let Some(reading) = &self.reading {
            match reading.try_recv() {
                Ok(list) => self.take(list),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {}
            }
            self.reading = None;
        }
        let revision = studio.state().library_revision;
        if self.read_for.as_ref().is_some_and(|(read, filter)| *read == revision && *filter == self.filter) {
            return;
        }
        let wanted = (revision, self.filter.clone());
        if self.longest < READ_AT_ONCE {
            let clips = studio.clips(&wanted.1).map_err(|error| error.to_string());
            self.take(List { of: wanted, clips });
            return;
        }
        let (send, reading) = channel();
        let (database, context, filter) = (studio.home().database(), context.clone(), wanted.1.clone());
        let read = move || {
            let clips = Database::open(&database).and_then(|database| database.clips(&filter));
            // The panel may be gone.
            let _ = send.send(List { of: wanted, clips: clips.map_err(|error| error.to_string()) });
            context.request_repaint();
        };
        // Without a thread it is tried again with the next frame.
        if thread::Builder::new().name("tilereel library".into()).spawn(read).is_ok() {
            self.reading = Some(reading);
        }
    }

    fn take(&mut self, list: List) {
        match list.clips {
            Ok(clips) => {
                self.longest = self.longest.max(clips.len());
                (self.clips, self.failure) = (clips, None);
            }
            Err(error) => self.failure = Some(error),
        }
        self.read_for = Some(list.of);
    }

    fn select(&mut self, clip: Option<ClipId>) {
        self.selected = clip;
        self.scroll_to = clip;
    }

    fn place_of(&self, clip: Option<ClipId>) -> Option<usize> {
        self.clips.iter().position(|entry| Some(entry.id) == clip)
    }

    fn header(&mut self, ui: &mut Ui, actions: &mut Vec<Action>) {
        let row = vec2(ui.available_width(), theme::CONTROL_HEIGHT);
        ui.allocate_ui_with_layout(row, Layout::left_to_right(Align::Center), |ui| {
            self.search(ui);
            ui.spacing_mut().item_spacing.x = 2.0;
            self.listed_choice(ui);
            ui.add_space(theme::SPACE_SMALL);
            let dim = Palette::of(ui).text_dim;
            if ui.available_width() > 140.0 {
                ui.label(RichText::new(words::count(self.clips.len(), "clip")).color(dim));
            }
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| self.buttons(ui, actions));
        });
    }

    /// Which clips are listed. In words, as the icons of the same things act on a clip.
    fn listed_choice(&mut self, ui: &mut Ui) {
        let choices = [
            (Listed::All, "All", "Shows all clips of the library"),
            (Listed::Favourites, "Favourites", "Shows the clips with a heart"),
            (Listed::Trash, "Trash", "Shows what was deleted in the last week"),
        ];
        let mut listed = match (self.filter.deleted, self.filter.favourites_only) {
            (true, _) => Listed::Trash,
            (false, true) => Listed::Favourites,
            (false, false) => Listed::All,
        };
        if segments::inline(ui, &mut listed, &choices) {
            self.filter.favourites_only = listed == Listed::Favourites;
            self.filter.deleted = listed == Listed::Trash;
        }
    }

    fn search(&mut self, ui: &mut Ui) {
        let width = (ui.available_width() * 0.3).clamp(90.0, 220.0);
        let field = TextEdit::singleline(&mut self.filter.words)
            .id(Id::unique("library search"))
            .hint_text("Search prompts")
            .desired_width(width - 28.0)
            .margin(Margin { left: 28, right: 8, top: 5, bottom: 5 });
        let field = ui.add(field).accessible_name("Search the library");
        let icon = Rect::from_center_size(field.rect.left_center() + vec2(15.0, 0.0), Vec2::splat(14.0));
        icons::paint(ui.painter(), icon, Icon::Search, Palette::of(ui).text_dim);
        if !self.filter.words.is_empty() && icon_button(ui, Icon::Close, "Clear the search", "Clear the search").clicked() {
            self.filter.words.clear();
        }
    }

    /// What can be done with the selected clip; from right to left.
    fn buttons(&mut self, ui: &mut Ui, actions: &mut Vec<Action>) {
        let Some(clip) = self.place_of(self.selected).map(|place| self.clips[place].clone()) else { return };
        let id = clip.id;
        if clip.is_deleted {
            if ui.button("Bring back").on_hover_text("Puts the clip into the library again").clicked() {
                actions.push(Action::Restore(id));
            }
            return;
        }
        if ui.available_width() < WIDTH_OF_BUTTONS {
            let name = "What to do with this clip";
            let more = icon_button(ui, Icon::More, name, name);
            egui::Popup::menu(&more).show(|ui| self.menu(ui, &clip, actions));
            return;
        }
        if icon_button(ui, Icon::Bin, "Delete", "Into the trash, for a week. Delete key").clicked() {
            self.delete(ui.ctx(), id, actions);
        }
        let mut button = |icon, name: &str, tip: &str, action: Action| {
            if icon_button(ui, icon, name, tip).clicked() {
                actions.push(action);
            }
        };
        button(Icon::Verify, "Verify", "Makes the clip again and says whether it comes out identical", Action::Verify(id));
        button(Icon::Folder, "Open folder", "Shows the clip's files", Action::OpenFolder(id));
        button(Icon::Copy, "Copy recipe", "The whole recipe as JSON, for the clipboard", Action::CopyRecipe(id));
        button(
            Icon::Settings,
            "Use its settings",
            "Puts prompt, seed and all else into the panel on the left",
            use_settings(&clip),
        );
        button(Icon::Refresh, "Run again", "Queues the same recipe once more", Action::RunAgain(id));
        let (icon, name) = if clip.favourite { (Icon::HeartFilled, "No favourite any more") } else { (Icon::Heart, "Favourite") };
        button(icon, name, "Favourites can be listed alone", Action::Favourite(id, !clip.favourite));
        ui.add_space(theme::SPACE_TINY);
        if ui.button("Export…").on_hover_text("As mp4, webm, gif, apng, webp or single pictures").clicked() {
            actions.push(Action::Export(id));
        }
    }

    fn menu(&mut self, ui: &mut Ui, clip: &ClipEntry, actions: &mut Vec<Action>) {
        let id = clip.id;
        let mut entry = |ui: &mut Ui, name: &str, action: Action| {
            if ui.add(Button::new(name)).clicked() {
                actions.push(action);
            }
        };
        if clip.is_deleted {
            entry(ui, "Bring back", Action::Restore(id));
            return;
        }
        entry(ui, "Show", Action::ShowClip(id));
        entry(ui, if clip.favourite { "No favourite any more" } else { "Favourite" }, Action::Favourite(id, !clip.favourite));
        ui.separator();
        ui.menu_button("Compare", |ui| {
            if let Some(shown) = self.shown.filter(|&shown| shown != id) {
                entry(ui, "With the shown clip", Action::Compare { a: shown, b: id });
            }
            entry(ui, "With its dense twin", Action::CompareWithDense(id));
            entry(ui, "With the settings' mask and model", Action::CompareWithSettings(id));
        });
        entry(ui, "Run again", Action::RunAgain(id));
        entry(ui, "Use its settings", use_settings(clip));
        entry(ui, "Copy recipe", Action::CopyRecipe(id));
        entry(ui, "Verify", Action::Verify(id));
        ui.separator();
        entry(ui, "Export…", Action::Export(id));
        entry(ui, "Open folder", Action::OpenFolder(id));
        ui.separator();
        if ui.add(theme::danger_button(ui, "Delete")).clicked() {
            self.delete(&ui.ctx().clone(), id, actions);
        }
    }

    /// Deletes a clip; the one beside it is selected then.
    fn delete(&mut self, context: &egui::Context, clip: ClipId, actions: &mut Vec<Action>) {
        let Some(place) = self.place_of(Some(clip)).filter(|&place| !self.clips[place].is_deleted) else { return };
        actions.push(Action::Delete(clip));
        if self.selected == Some(clip) {
            let had_focus = context.memory(|memory| memory.has_focus(clip_card::id(clip)));
            let beside = self.clips.get(place + 1).or_else(|| place.checked_sub(1).and_then(|place| self.clips.get(place)));
            let beside = beside.map(|entry| entry.id);
            self.select(beside);
            if let (true, Some(beside)) = (had_focus, beside) {
                context.memory_mut(|memory| memory.request_focus(clip_card::id(beside)));
            }
        }
    }

    fn nothing(&mut self, ui: &mut Ui) {
        let filter = &self.filter;
        let (icon, title, text, button) = if !filter.words.trim().is_empty() {
            (Icon::Search, "Nothing found", "No prompt here has all of these words.", Some("Clear the search"))
        } else if filter.deleted {
            (
                Icon::Bin,
                "The trash is empty",
                "Deleted clips stay here for a week before they are removed for good.",
                Some("Back to the library"),
            )
        } else if filter.favourites_only {
            (Icon::Heart, "No favourites yet", "Press the heart on a clip to find it here again.", Some("Show all clips"))
        } else {
            (
                Icon::Film,
                "Your clips gather here",
                "Type a prompt and press Generate. Every clip keeps its recipe and all of its steps.",
                None,
            )
        };
        if empty_state::show(ui, icon, title, text, button) {
            self.filter = ClipFilter::default();
        }
    }

    fn cards(&mut self, ui: &mut Ui, studio: &Studio, actions: &mut Vec<Action>) {
        let lay = Lay::of(ui.available_size(), self.clips.len());
        self.keys(ui, lay, actions);
        let mut area = if lay.is_strip { ScrollArea::horizontal() } else { ScrollArea::vertical() };
        area = area.id_salt(if lay.is_strip { "film strip" } else { "film grid" }).auto_shrink(false);
        let scroll_to = self.scroll_to.take().and_then(|clip| self.place_of(Some(clip)));
        area.show_viewport(ui, |ui, viewport| {
            // The scroll bar lies below the cards.
            ui.set_min_size(lay.size() + if lay.is_strip { vec2(0.0, GAP) } else { Vec2::ZERO });
            let origin = ui.min_rect().min;
            if let Some(place) = scroll_to {
                ui.scroll_to_rect(lay.rect(place).translate(origin.to_vec2()), None);
            }
            let mut hovered = None;
            // What has the focus keeps it while it is scrolled to.
            let focused = self
                .place_of(self.selected)
                .filter(|&place| ui.memory(|memory| memory.has_focus(clip_card::id(self.clips[place].id))));
            let visible = lay.visible(viewport);
            let focused = focused.filter(|place| !visible.contains(place));
            for place in visible.chain(focused) {
                let rect = lay.rect(place).translate(origin.to_vec2());
                if self.card(ui, studio, place, rect, actions) {
                    hovered = Some(self.clips[place].id);
                }
            }
            let now = ui.input(|input| input.time);
            self.hovered = hovered.map(|clip| match self.hovered {
                Some((before, since)) if before == clip => (clip, since),
                _ => (clip, now),
            });
        });
    }

    /// Whether the pointer is over it.
    fn card(&mut self, ui: &mut Ui, studio: &Studio, place: usize, rect: Rect, actions: &mut Vec<Action>) -> bool {
        let clip = self.clips[place].clone();
        let now = ui.input(|input| input.time);
        let card = Card {
            clip: &clip,
            thumbnail: studio.picture(Picture::Thumbnail(clip.id)),
            is_selected: self.selected == Some(clip.id),
            is_shown: self.shown == Some(clip.id),
            playing: self.hovered.filter(|(hovered, _)| *hovered == clip.id).map(|(_, since)| now - since),
        };
        let response = card.show(ui, rect, &mut self.textures);
        if response.heart_clicked {
            actions.push(Action::Favourite(clip.id, !clip.favourite));
        }
        let card = response.card;
        if card.gained_focus() || card.secondary_clicked() {
            self.selected = Some(clip.id);
        }
        if card.clicked() {
            card.request_focus();
            self.selected = Some(clip.id);
            if !clip.is_deleted {
                actions.push(Action::ShowClip(clip.id));
            }
        }
        card.context_menu(|ui| self.menu(ui, &clip, actions));
        card.container_contains_pointer()
    }

    /// Arrows move the selection, Delete deletes; Enter is a click on what has the focus.
    fn keys(&mut self, ui: &mut Ui, lay: Lay, actions: &mut Vec<Action>) {
        let Some(place) = self.place_of(self.selected) else { return };
        let clip = self.clips[place].id;
        if !ui.memory(|memory| memory.has_focus(clip_card::id(clip))) {
            return;
        }
        let (by, delete) = ui.input_mut(|input| {
            let mut presses = |key: Key| input.count_and_consume_key(Modifiers::NONE, key) as isize;
            let columns = if lay.is_strip { 0 } else { lay.columns as isize };
            let across = presses(Key::ArrowRight) - presses(Key::ArrowLeft);
            let down = presses(Key::ArrowDown) - presses(Key::ArrowUp);
            (across + columns * down, presses(Key::Delete) > 0)
        });
        if by != 0 {
            let to = place.saturating_add_signed(by).min(self.clips.len() - 1);
            let clip = self.clips[to].id;
            self.select(Some(clip));
            ui.memory_mut(|memory| memory.request_focus(clip_card::id(clip)));
        }
        if delete {
            self.delete(&ui.ctx().clone(), clip, actions);
        }
    }
}

fn use_settings(clip: &ClipEntry) -> Action {
    Action::UseRecipe { recipe: Box::new(clip.recipe.clone()), model: clip.model.clone() }
}

/// Where the cards lie: in one row, or in as many as there is height for.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Lay {
    is_strip: bool,
    columns: usize,
    count: usize,
    card: Vec2,
}

impl Lay {
    fn of(available: Vec2, count: usize) -> Self {
        let fitting = |place: f32, card: f32| ((place + GAP) / (card + GAP)).floor().max(1.0) as usize;
        let is_strip = fitting(available.y, clip_card::SIZE.y) < 2;
        let columns = if is_strip { count } else { fitting(available.x, clip_card::SIZE.x) };
        // Below a strip lies its scroll bar.
        let card = if is_strip { clip_card::size_within(available.y - GAP) } else { clip_card::SIZE };
        Self { is_strip, columns: columns.max(1), count, card }
    }

    fn pitch(self) -> Vec2 {
        self.card + Vec2::splat(GAP)
    }

    /// Relative to the first card's corner.
    fn rect(self, place: usize) -> Rect {
        let (row, column) = (place / self.columns, place % self.columns);
        let min = (vec2(column as f32, row as f32) * self.pitch()).to_pos2();
        Rect::from_min_size(min, self.card)
    }

    fn size(self) -> Vec2 {
        let rows = self.count.div_ceil(self.columns);
        vec2(self.columns.min(self.count) as f32, rows as f32) * self.pitch() - Vec2::splat(GAP)
    }

    fn visible(self, viewport: Rect) -> std::ops::Range<usize> {
        let range =
            |from: f32, to: f32, pitch: f32| ((from / pitch).floor().max(0.0) as usize, (to / pitch).ceil().max(0.0) as usize);
        let (from, to) = if self.is_strip {
            range(viewport.min.x, viewport.max.x, self.pitch().x)
        } else {
            let (from, to) = range(viewport.min.y, viewport.max.y, self.pitch().y);
            (from * self.columns, to * self.columns)
        };
        from.min(self.count)..to.min(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cards_in_view_are_laid_out() {
        for (size, is_strip, columns) in
            [(vec2(1000.0, 200.0), true, 5000), (vec2(1000.0, 700.0), false, 5), (vec2(50.0, 50.0), true, 5000)]
        {
            let lay = Lay::of(size, 5000);
            assert_eq!((lay.is_strip, lay.columns), (is_strip, columns));
            for share in [0.0, 0.37, 1.0] {
                let offset = ((lay.size() - size).max(Vec2::ZERO) * share).to_pos2();
                let viewport = Rect::from_min_size(offset, size);
                let visible = lay.visible(viewport);
                assert!(visible.len() <= 40, "{visible:?}");
                let seen: Vec<usize> = (0..5000).filter(|&place| lay.rect(place).intersects(viewport)).collect();
                assert!(seen.iter().all(|place| visible.contains(place)), "{seen:?} of {visible:?}");
            }
        }
        for height in [58.0, 90.0, 113.0, 115.0, 130.0, 155.0, 250.0] {
            let lay = Lay::of(vec2(1000.0, height), 9);
            assert!(lay.is_strip && lay.size().y + GAP <= height, "nothing is cut off at {height}");
        }
        assert_eq!(
            Lay::of(vec2(400.0, 400.0), 0)
                .visible(Rect::EVERYTHING.intersect(Rect::from_min_size(egui::Pos2::ZERO, vec2(9.0, 9.0)))),
            0..0
        );
    }
}
