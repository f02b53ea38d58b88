//! The numbers of a clip: frames, size and rate; sampler, steps and guidance; the seed. Each row has a name, its control, and
//! the way back to the model's own value where it differs. What cannot be used is not offered, and what was typed and had to
//! be changed is said.

use std::cell::Cell;

use eframe::egui::{
    Align, Button, ComboBox, DragValue, Label, Layout, Popup, Rect, Response, RichText, Role, Sense, Slider, SliderClamping,
    TextEdit, Ui, UiBuilder, Vec2, WidgetInfo, vec2,
};

use super::icons::{self, Icon, icon_button, icon_toggle};
use super::mask_dial::notice;
use super::theme::{self, Palette};
use crate::generate::recipe::LARGEST_GUIDANCE;
use crate::model::latent::{FRAMES_A_LATENT, LARGEST_SIDE, MOST_FRAMES, PIXELS_A_TOKEN};
use crate::model::sampler::SamplerKind;
use crate::studio::{Draft, Leaving, MOST_CLIPS_AT_ONCE, ModelInfo, random_seed, snap_frames, snap_side};

/// Name, and what puts the value back.
const NAME_WIDTH: f32 = 88.0;
const NUMBER_WIDTH: f32 = 56.0;
/// In less, a control stands below its name.
const LEAST_BESIDE: f32 = 250.0;
const SLIDER_HEIGHT: f32 = 20.0;
const SMALL_BUTTON: f32 = 22.0;
/// The sliders go so far beyond the model's own number; more can be typed.
const MOST_FRAMES_OF_SLIDER: usize = 113;
const MOST_STEPS_OF_SLIDER: usize = 100;
const MOST_STEPS: usize = 1000;
const MOST_GUIDANCE_OF_SLIDER: f64 = 15.0;

const LOCKED: &str = "A branch keeps this from the clip that it leaves.";
const WHY_FRAMES: &str = "4k + 1 frames: the VAE makes one latent frame of the first frame, and one of every 4 after it.";
const WHY_SIDES: &str = "Sides are multiples of 16 pixels: a token covers 2 × 2 latents, and a latent 8 × 8 pixels.";

#[derive(Default)]
pub struct Controls {
    /// What a typed number became, and why.
    frames_note: Option<String>,
    size_note: Option<String>,
    /// What is typed as seed, and the seed that it stands for.
    seed_text: String,
    seed_shown: Option<u64>,
}

impl Controls {
    /// Frames, size and rate.
    pub fn clip(&mut self, ui: &mut Ui, draft: &mut Draft, model: &ModelInfo, leaving: Option<&Leaving>) {
        self.clip_in_short(ui, draft, model, leaving);
        rate(ui, draft, model, leaving);
    }

    /// Frames and size.
    pub fn clip_in_short(&mut self, ui: &mut Ui, draft: &mut Draft, model: &ModelInfo, leaving: Option<&Leaving>) {
        let defaults = &model.folder.facts().defaults;
        // A branch has the size of the run that it leaves.
        let origin = leaving.map(|from| from.recipe.size());
        let locked = leaving.map(|_| LOCKED);
        let frames = origin.map_or(draft.frames, |size| size.frames);
        let own = (frames != defaults.frames).then(|| defaults.frames.to_string());
        let tip = format!("{WHY_FRAMES} Longer clips take longer.");
        if row(ui, "Frames", &tip, own, locked, |ui| self.frames(ui, draft, model, frames)) {
            draft.set_frames(defaults.frames, model);
            self.frames_note = None;
        }
        if let Some(note) = &self.frames_note {
            notice(ui, note);
        }

        let (width, height) = origin.map_or((draft.width, draft.height), |size| (size.width, size.height));
        let own =
            ((width, height) != (defaults.width, defaults.height)).then(|| format!("{} × {}", defaults.width, defaults.height));
        if row(ui, "Size", WHY_SIDES, own, locked, |ui| self.size(ui, draft, model, [width, height])) {
            (draft.width, draft.height) = (defaults.width, defaults.height);
            self.size_note = None;
        }
        if let Some(note) = &self.size_note {
            notice(ui, note);
        }
    }

    fn frames(&mut self, ui: &mut Ui, draft: &mut Draft, model: &ModelInfo, frames: usize) -> Response {
        let own = model.folder.facts().defaults.frames;
        let most = MOST_FRAMES_OF_SLIDER.max(own).max(frames);
        let (mut slid, mut entered) = (frames, frames);
        let typed = Cell::new(None);
        let slider = Slider::new(&mut slid, 1..=most).step_by(FRAMES_A_LATENT as f64);
        let number = DragValue::new(&mut entered).range(1..=MOST_FRAMES).custom_parser(|text| {
            let frames: usize = text.trim().parse().ok()?;
            typed.set(Some(frames));
            Some(snap_frames(frames) as f64)
        });
        let response = wide_slider(ui, slider, number);
        let chosen = snap_frames(if slid == frames { entered } else { slid });
        if chosen != frames {
            draft.set_frames(chosen, model);
            self.frames_note = None;
        }
        if let Some(typed) = typed.get().filter(|typed| snap_frames(*typed) != *typed) {
            self.frames_note = Some(format!("{typed} became {}. {WHY_FRAMES}", snap_frames(typed)));
        }
        response
    }

    fn size(&mut self, ui: &mut Ui, draft: &mut Draft, model: &ModelInfo, [mut width, mut height]: [usize; 2]) -> Response {
        let before = [width, height];
        let fields = |ui: &mut Ui, side: &mut usize, name: &str| {
            let field = DragValue::new(side).range(1..=LARGEST_SIDE).speed(4.0).update_while_editing(false);
            let response = ui.add_sized(vec2(NUMBER_WIDTH, theme::CONTROL_HEIGHT), field);
            response.widget_info(|| WidgetInfo::labeled(Role::SpinButton, ui.is_enabled(), name));
            response
        };
        let width_field = fields(ui, &mut width, "Width in pixels");
        // Both fields have a name of their own, so the row's belongs to what is between them.
        let between = ui.label("×");
        let height_field = fields(ui, &mut height, "Height in pixels");
        let presets = presets(model);
        let button = icon_button(
            ui,
            Icon::Down,
            "Sizes",
            "The sizes that the model was trained at, and others of the same and of other shapes",
        );
        Popup::from_toggle_button_response(&button).layout(Layout::top_down_justified(Align::Min)).accessible_name("Sizes").show(
            |ui| {
                ui.spacing_mut().item_spacing.y = 2.0;
                for (name, [preset_width, preset_height]) in &presets {
                    let chosen = before == [*preset_width, *preset_height];
                    let text = format!("{preset_width} × {preset_height}");
                    let button = Button::selectable(chosen, text).right_text(RichText::new(name).color(Palette::of(ui).text_dim));
                    if ui.add(button).clicked() {
                        (draft.width, draft.height) = (*preset_width, *preset_height);
                        self.size_note = None;
                        ui.close();
                    }
                }
            },
        );
        if [width, height] != before {
            // While it is dragged every pixel would be told.
            let is_dragged = width_field.dragged() || height_field.dragged();
            let snapped = [snap_side(width), snap_side(height)];
            let changed = [(width, snapped[0]), (height, snapped[1])].into_iter().find(|(typed, snapped)| typed != snapped);
            self.size_note =
                changed.filter(|_| !is_dragged).map(|(typed, snapped)| format!("{typed} became {snapped}. {WHY_SIDES}"));
            [draft.width, draft.height] = snapped;
        }
        between
    }

    /// Sampler, steps and guidance.
    pub fn sampling(&mut self, ui: &mut Ui, draft: &mut Draft, model: &ModelInfo, leaving: Option<&Leaving>) {
        let facts = model.folder.facts();
        let defaults = &facts.defaults;
        let locked = leaving.map(|_| LOCKED);
        let mut sampler = leaving.map_or(draft.sampler, |from| from.recipe.sampler);

        let own = (sampler != defaults.sampler).then(|| defaults.sampler.name().to_owned());
        let tip = "How the noise is taken away. A few-step model needs the sampler that it was distilled for.";
        let reset = row(ui, "Sampler", tip, own, locked, |ui| {
            let width = ui.available_width();
            let menu = ComboBox::from_id_salt("sampler")
                .width(width)
                .icon(icons::drop_down)
                .selected_text(sampler.name())
                .show_ui(ui, |ui| {
                    for kind in SamplerKind::ALL {
                        let text = if kind == defaults.sampler { "the model's own" } else { "" };
                        let text = RichText::new(text).color(Palette::of(ui).text_dim);
                        let button = Button::selectable(kind == sampler, kind.name()).right_text(text);
                        if ui.add(button).on_hover_text(about_sampler(kind)).clicked() {
                            sampler = kind;
                            draft.sampler = kind;
                        }
                    }
                });
            menu.response.on_hover_text(about_sampler(sampler))
        });
        if reset {
            draft.sampler = defaults.sampler;
        }
        self.steps(ui, draft, model, leaving, "Steps");

        let own = (draft.guidance_scale != defaults.guidance_scale).then(|| defaults.guidance_scale.to_string());
        let tip = "How strongly the prompt is followed. 1 is none; above 1 every step takes twice as long.";
        let reset = row(ui, "Guidance", tip, own, None, |ui| {
            let before = draft.guidance_scale;
            let (mut slid, mut entered) = (before, before);
            let slider = Slider::new(&mut slid, 1.0..=MOST_GUIDANCE_OF_SLIDER).step_by(0.1);
            let number = DragValue::new(&mut entered).range(0.0..=LARGEST_GUIDANCE).speed(0.05).max_decimals(2);
            let response = wide_slider(ui, slider, number);
            draft.guidance_scale = if slid == before { entered } else { slid };
            response
        });
        if reset {
            draft.guidance_scale = defaults.guidance_scale;
        }
    }

    /// How many steps, under a name that says what for.
    pub fn steps(&mut self, ui: &mut Ui, draft: &mut Draft, model: &ModelInfo, leaving: Option<&Leaving>, name: &str) {
        let defaults = &model.folder.facts().defaults;
        let locked = leaving.map(|_| LOCKED);
        let mut steps = leaving.map_or(draft.steps, |from| from.recipe.steps);
        let own = (steps != defaults.steps).then(|| defaults.steps.to_string());
        let tip = "More steps take longer and follow the prompt better, up to a point. A few-step model was distilled for its own number.";
        let reset = row(ui, name, tip, own, locked, |ui| {
            let most = MOST_STEPS_OF_SLIDER.max(defaults.steps).max(steps);
            let (mut slid, mut entered) = (steps, steps);
            let slider = Slider::new(&mut slid, 1..=most).logarithmic(true);
            let response = wide_slider(ui, slider, DragValue::new(&mut entered).range(1..=MOST_STEPS).speed(0.2));
            steps = if slid == steps { entered } else { slid };
            response
        });
        if leaving.is_none() {
            draft.steps = if reset { defaults.steps } else { steps };
        }
    }

    /// The seed with lock and dice, and how many clips. `is_one` where only one clip can be made.
    pub fn seed_and_clips(&mut self, ui: &mut Ui, draft: &mut Draft, is_one: bool) {
        self.seed(ui, draft);
        let locked = is_one.then_some("This makes one clip.");
        let own = (draft.clips != 1 && !is_one).then(|| "1".to_owned());
        let tip = "So many clips go into the queue, with seeds that follow each other.";
        let reset = row(ui, "Clips", tip, own, locked, |ui| {
            let mut one = 1;
            let clips = if is_one { &mut one } else { &mut draft.clips };
            let field = DragValue::new(clips).range(1..=MOST_CLIPS_AT_ONCE).speed(0.1);
            let response = ui.add_sized(vec2(NUMBER_WIDTH, theme::CONTROL_HEIGHT), field);
            if *clips > 1 {
                let last = draft.seed.wrapping_add(u64::from(*clips) - 1);
                let seeds = RichText::new(format!("seeds {} to {last}", draft.seed)).color(Palette::of(ui).text_dim);
                ui.add(Label::new(seeds).truncate());
            }
            response
        });
        if reset {
            draft.clips = 1;
        }
    }

    /// The seed with lock and dice.
    pub fn seed(&mut self, ui: &mut Ui, draft: &mut Draft) {
        if self.seed_shown != Some(draft.seed) {
            self.seed_text = draft.seed.to_string();
            self.seed_shown = Some(draft.seed);
        }
        let tip = "The number that the noise is made from. The same settings with the same seed give the same clip.";
        row(ui, "Seed", tip, None, None, |ui| {
            let width = ui.available_width() - 2.0 * (theme::CONTROL_HEIGHT + theme::SPACE_TINY);
            ui.spacing_mut().item_spacing.x = theme::SPACE_TINY;
            let field = TextEdit::singleline(&mut self.seed_text).id_salt("seed").desired_width(width).margin(vec2(8.0, 5.0));
            let response = ui.add(field);
            if icon_button(ui, Icon::Dice, "Draw another seed", "Draw another seed").clicked() {
                draft.seed = random_seed();
            }
            let (icon, tip) = match draft.seed_locked {
                true => (Icon::Locked, "The next run has this seed too. Unlock it to draw another for each run."),
                false => (Icon::Unlocked, "Another seed is drawn after each run. Lock it to keep this one."),
            };
            if icon_toggle(ui, icon, "Keep the seed", tip, draft.seed_locked).clicked() {
                draft.seed_locked = !draft.seed_locked;
            }
            if response.changed()
                && let Ok(seed) = self.seed_text.trim().parse()
            {
                // Typed on purpose.
                (draft.seed, draft.seed_locked, self.seed_shown) = (seed, true, Some(seed));
            }
            if response.lost_focus() {
                self.seed_text = draft.seed.to_string();
            }
            response
        });
        if self.seed_text.trim().parse::<u64>().is_err() {
            notice(ui, &format!("A seed is a whole number from 0 to {}. The last one stays: {}.", u64::MAX, draft.seed));
        }
    }
}

/// Frames a second.
fn rate(ui: &mut Ui, draft: &mut Draft, model: &ModelInfo, leaving: Option<&Leaving>) {
    let defaults = &model.folder.facts().defaults;
    let frames = leaving.map_or(draft.frames, |from| from.recipe.frames);
    let own = (draft.frames_per_second != defaults.frames_per_second).then(|| defaults.frames_per_second.to_string());
    let tip = "Frames per second of the file. It does not change the frames, only how fast they play.";
    if row(ui, "Rate", tip, own, None, |ui| {
        let field = DragValue::new(&mut draft.frames_per_second).range(1..=240).suffix(" fps").speed(0.2);
        let response = ui.add_sized(vec2(NUMBER_WIDTH + 16.0, theme::CONTROL_HEIGHT), field);
        let seconds = frames as f64 / f64::from(draft.frames_per_second.max(1));
        ui.label(RichText::new(format!("{seconds:.1} s long")).color(Palette::of(ui).text_dim));
        response
    }) {
        draft.frames_per_second = defaults.frames_per_second;
    }
}

/// A row of the panel; true if the person wants the model's own value `own` back.
pub(super) fn row(
    ui: &mut Ui,
    name: &str,
    tip: &str,
    own: Option<String>,
    locked: Option<&str>,
    control: impl FnOnce(&mut Ui) -> Response,
) -> bool {
    let is_narrow = ui.available_width() < LEAST_BESIDE;
    let layout = if is_narrow { Layout::top_down(Align::Min) } else { Layout::left_to_right(Align::Center) };
    ui.allocate_ui_with_layout(vec2(ui.available_width(), theme::CONTROL_HEIGHT), layout, |ui| {
        ui.spacing_mut().item_spacing = Vec2::splat(theme::SPACE_TINY);
        let (column, _) = ui.allocate_exact_size(vec2(NAME_WIDTH, theme::CONTROL_HEIGHT), Sense::hover());
        let mut names = ui.new_child(UiBuilder::new().max_rect(column).layout(Layout::left_to_right(Align::Center)));
        let label = names.label(RichText::new(name).color(Palette::of(ui).text_dim)).on_hover_text(tip);
        let side = names.with_layout(Layout::right_to_left(Align::Center), |ui| match (own, locked) {
            (_, Some(reason)) => {
                lock(ui, name, reason);
                false
            }
            (Some(own), None) => small_reset(ui, &name.to_lowercase(), &own),
            (None, None) => false,
        });
        let control = |ui: &mut Ui| ui.add_enabled_ui(locked.is_none(), control).inner;
        let response = if is_narrow { ui.horizontal(control).inner } else { control(ui) };
        response.clone().labelled_by(label.id);
        if let Some(reason) = locked {
            response.on_disabled_hover_text(reason);
        }
        side.inner
    })
    .inner
}

/// The way back to the model's own value; true if it is taken.
pub(super) fn small_reset(ui: &mut Ui, what: &str, own: &str) -> bool {
    let (rect, response) = ui.allocate_exact_size(Vec2::splat(SMALL_BUTTON), Sense::click());
    let palette = Palette::of(ui);
    let color = if response.hovered() { palette.text_strong } else { palette.accent };
    icons::paint(ui.painter(), Rect::from_center_size(rect.center(), Vec2::splat(13.0)), Icon::Undo, color);
    if response.has_focus() {
        icons::focus_ring(ui.painter(), rect, palette);
    }
    response.widget_info(|| WidgetInfo::labeled(Role::Button, ui.is_enabled(), format!("Reset {what}")));
    response.on_hover_text(format!("Back to the model's own: {own}")).clicked()
}

/// Why a setting cannot be changed.
fn lock(ui: &mut Ui, name: &str, reason: &str) {
    let (rect, response) = ui.allocate_exact_size(Vec2::splat(SMALL_BUTTON), Sense::hover());
    let place = Rect::from_center_size(rect.center(), Vec2::splat(13.0));
    icons::paint(ui.painter(), place, Icon::Locked, Palette::of(ui).text_dim);
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("{name} is fixed: {reason}")));
    response.on_hover_text(reason);
}

/// A slider that takes the row, with its number at the right. The number may be larger than the slider goes.
fn wide_slider(ui: &mut Ui, slider: Slider<'_>, number: DragValue<'_>) -> Response {
    let response = ui
        .scope(|ui| {
            ui.spacing_mut().slider_width = ui.available_width() - NUMBER_WIDTH - theme::SPACE_SMALL;
            // The size of the knob.
            ui.spacing_mut().interact_size.y = SLIDER_HEIGHT;
            ui.add(slider.show_value(false).clamping(SliderClamping::Never))
        })
        .inner;
    if response.has_focus() {
        icons::focus_ring(ui.painter(), response.rect, Palette::of(ui));
    }
    ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
        ui.add_sized(vec2(NUMBER_WIDTH, theme::CONTROL_HEIGHT), number.update_while_editing(false)).labelled_by(response.id);
    });
    response
}

/// The sizes that the model was trained at, halves and doubles of the first, and the common shapes with about as many pixels.
fn presets(model: &ModelInfo) -> Vec<(String, [usize; 2])> {
    let facts = model.folder.facts();
    let own = [facts.defaults.width, facts.defaults.height];
    let trained = facts.trained.sizes.iter().map(|&size| ("trained".to_owned(), size));
    let mut all: Vec<(String, [usize; 2])> = trained.collect();
    let pixels = (own[0] * own[1]) as f64;
    let scaled = |name: &str, factor: f64| (name.to_owned(), own.map(|side| snap_side((side as f64 * factor).round() as usize)));
    let shaped = |name: &str, ratio: f64| {
        let width = (pixels * ratio).sqrt();
        (name.to_owned(), [width, width / ratio].map(|side| snap_side(side.round() as usize)))
    };
    let others = [
        ("the model's own".to_owned(), own),
        scaled("half", 0.5),
        scaled("double", 2.0),
        shaped("16:9", 16.0 / 9.0),
        shaped("1:1", 1.0),
        shaped("9:16", 9.0 / 16.0),
    ];
    for (name, size) in others {
        if all.iter().all(|(_, known)| *known != size) {
            all.push((name, size));
        }
    }
    all
}

fn about_sampler(kind: SamplerKind) -> &'static str {
    match kind {
        SamplerKind::DdimTrailing => {
            "DDIM at the few steps that distilled models were made for. The same seed gives the same clip at any speed."
        }
        SamplerKind::Ddim => "Deterministic; 50 to 100 steps.",
        SamplerKind::Euler => "Euler's method: deterministic, 30 steps or more.",
        SamplerKind::EulerAncestral => "Euler with fresh noise at each step: the reference's own, 50 to 100 steps.",
        SamplerKind::Ddpm => "The original one with fresh noise; needs many steps.",
        SamplerKind::DpmSolverMultistep => "DPM-Solver++ 2M: second order, good from 20 steps on.",
        SamplerKind::DpmSolverSinglestep => "DPM-Solver++ 2S: second order, good from 20 steps on.",
        SamplerKind::Pndm => "Pseudo numerical: begins with Runge-Kutta, 9 calls more than steps.",
        SamplerKind::Heun => "Heun's method: second order with nearly twice as many calls as steps.",
        SamplerKind::Deis => "Second order in the logarithm of noise; good from 20 steps on.",
        SamplerKind::Kdpm2Ancestral => "Second order with fresh noise; nearly twice as many calls as steps.",
    }
}

const _: () = assert!(PIXELS_A_TOKEN == 16 && FRAMES_A_LATENT == 4, "the sentences above say so");
