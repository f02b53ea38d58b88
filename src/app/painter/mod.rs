//! The mask painter: which attention tiles each layer computes, chosen frame by frame or tile by tile, with what it costs while
//! it is painted; saved as a plan file.

mod painted;
mod saving;
mod steps;
mod strip;
mod tiles;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use eframe::egui::{
    Button, ComboBox, Context, Frame, Id, Key, KeyboardShortcut, Label, Margin, Modal, Modifiers, RichText, Role, Sides, Ui,
    WidgetInfo, vec2,
};

use self::painted::PaintedPlan;
use self::saving::Saving;
use self::strip::Strip;
use self::tiles::Tiles;
use super::icons::{self, Icon, icon_button};
use super::mask_dial::notice;
use super::segments;
use super::theme::{self, Palette};
use crate::generate::estimate::Estimate;
use crate::mask::{LayerMask, MaskError, MaskPlan, Neighbours};
use crate::studio::{Home, words};

/// The largest side of the painted layer, in points.
const MOST_SIDE: f32 = 440.0;
const LEAST_SIDE: f32 = 160.0;
/// What the rows above the tiles need.
const LEAST_COLUMN: f32 = 544.0;
/// What is above and below the layer, and beside it.
const HEIGHT_AROUND: f32 = 400.0;
const WIDTH_AROUND: f32 = strip::WIDTH + 100.0;
const UNDO: KeyboardShortcut = KeyboardShortcut::new(Modifiers::COMMAND, Key::Z);
const REDO: [KeyboardShortcut; 2] =
    [KeyboardShortcut::new(Modifiers::COMMAND.plus(Modifiers::SHIFT), Key::Z), KeyboardShortcut::new(Modifiers::COMMAND, Key::Y)];

/// What a preset changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Scope {
    #[default]
    Layer,
    All,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Save,
    /// To be left, if nothing is lost.
    Close,
    Leave,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Painted {
    Left,
    /// The plan is in this file, and is to be used.
    Saved(PathBuf),
}

pub struct MaskPainter {
    painted: PaintedPlan,
    /// The plan that was searched for the model.
    searched: Option<MaskPlan>,
    layer: usize,
    /// Of the sampler, which ranges of steps are shown over.
    calls: usize,
    scope: Scope,
    tiles: Tiles,
    strip: Strip,
    saving: Saving,
    /// Why the last stroke was refused, or the last saving failed.
    refused: Option<String>,
    /// What the plan costs that was opened, and what it costs now, of this revision.
    cost_before: Option<Estimate>,
    cost: Option<(u64, Estimate)>,
    /// It was asked to close, with strokes that are not saved.
    asks: bool,
}

impl MaskPainter {
    /// Begins with a plan, which `opened` may be the file of, of a run of so many calls. `searched` is the model's own plan, if it has
    /// one.
    ///
    /// # Errors
    /// Never for a plan that was checked.
    pub fn new(
        home: &Home,
        plan: &MaskPlan,
        calls: usize,
        searched: Option<MaskPlan>,
        opened: Option<&Path>,
    ) -> Result<Self, MaskError> {
        Ok(Self {
            painted: PaintedPlan::new(plan)?,
            searched: searched.filter(|searched| searched.check(plan.layers().len(), plan.frames()).is_ok()),
            layer: 0,
            calls: calls.max(1),
            scope: Scope::Layer,
            tiles: Tiles::default(),
            strip: Strip::default(),
            saving: Saving::new(home, opened),
            refused: None,
            cost_before: None,
            cost: None,
            asks: false,
        })
    }

    /// The plan as it is painted now.
    pub fn plan(&self) -> &MaskPlan {
        self.painted.whole()
    }

    /// `parent` is the window that the system's dialog belongs to; `estimate` says what a run with a plan costs. Breaks when it
    /// is done.
    pub fn show(
        &mut self,
        context: &Context,
        parent: Option<&eframe::Frame>,
        estimate: impl Fn(&MaskPlan) -> Option<Estimate>,
    ) -> ControlFlow<Painted> {
        self.keys(context);
        let frame = Frame::popup(&context.global_style()).inner_margin(Margin::same(theme::SPACE_LARGE as i8));
        let room = context.content_rect().size() - vec2(WIDTH_AROUND, HEIGHT_AROUND);
        let side = room.min_elem().clamp(LEAST_SIDE, MOST_SIDE);
        let modal = Modal::new(Id::unique("mask painter")).frame(frame).show(context, |ui| {
            let column = side.max(LEAST_COLUMN);
            ui.set_width(strip::WIDTH + theme::SPACE_LARGE + column);
            let mut wanted = None;
            Sides::new().shrink_left().show(
                ui,
                |ui| ui.label(theme::title("Paint the mask").color(Palette::of(ui).text_strong)),
                |ui| {
                    if icon_button(ui, Icon::Close, "Close", "Esc").clicked() {
                        wanted = Some(Wanted::Close);
                    }
                },
            );
            ui.add_space(theme::SPACE_TINY);
            ui.horizontal_top(|ui| {
                ui.spacing_mut().item_spacing.x = theme::SPACE_LARGE;
                // As high as what stands beside it.
                let height = side + 4.0 * (theme::CONTROL_HEIGHT + theme::SPACE_SMALL) + 64.0;
                ui.vertical(|ui| {
                    ui.set_width(strip::WIDTH);
                    self.strip.show(ui, height, &self.painted, &mut self.layer);
                });
                ui.vertical(|ui| {
                    ui.set_width(column);
                    ui.spacing_mut().item_spacing = vec2(theme::SPACE_SMALL, theme::SPACE_SMALL);
                    self.head(ui);
                    self.presets(ui);
                    if let Some(done) = steps::show(ui, &mut self.painted, self.calls) {
                        self.refused = done.err().map(|error| error.to_string());
                        self.asks = false;
                    }
                    if let Some(done) = self.tiles.show(ui, side, &mut self.painted, self.layer) {
                        self.refused = done.err().map(|refusal| refusal.to_string());
                    }
                    self.hint(ui);
                });
            });
            ui.separator();
            self.costs(ui, estimate);
            self.saving.show(ui, parent);
            ui.add_space(theme::SPACE_TINY);
            self.buttons(ui).or(wanted)
        });
        match modal.inner.or_else(|| modal.should_close().then_some(Wanted::Close)) {
            Some(Wanted::Save) => match self.saving.save(self.painted.whole()) {
                Ok(file) => return ControlFlow::Break(Painted::Saved(file)),
                Err(error) => self.refused = Some(error),
            },
            Some(Wanted::Leave) => return ControlFlow::Break(Painted::Left),
            Some(Wanted::Close) if !self.painted.is_changed() => return ControlFlow::Break(Painted::Left),
            // What was painted is not lost by a click beside it.
            Some(Wanted::Close) => self.asks = true,
            None => {}
        }
        ControlFlow::Continue(())
    }

    /// Undo and redo, and the layers, wherever the keyboard is but in the field of the path.
    fn keys(&mut self, context: &Context) {
        if context.text_edit_focused() {
            return;
        }
        let pressed = |keys: &KeyboardShortcut| context.input_mut(|input| input.consume_shortcut(keys));
        // The one with more modifiers first, as the other matches it too.
        if REDO.iter().any(pressed) {
            self.go(PaintedPlan::redo);
        } else if pressed(&UNDO) {
            self.go(PaintedPlan::undo);
        }
        let last = self.painted.plan().layers().len() - 1;
        if pressed(&KeyboardShortcut::new(Modifiers::NONE, Key::PageDown)) {
            self.layer = (self.layer + 1).min(last);
        }
        if pressed(&KeyboardShortcut::new(Modifiers::NONE, Key::PageUp)) {
            self.layer = self.layer.saturating_sub(1);
        }
    }

    fn go(&mut self, step: impl FnOnce(&mut PaintedPlan) -> Result<(), MaskError>) {
        self.refused = step(&mut self.painted).err().map(|error| error.to_string());
        self.asks = false;
    }

    /// Which layer it is, and the way back.
    fn head(&mut self, ui: &mut Ui) {
        let plan = self.painted.plan();
        let mask = &plan.layers()[self.layer];
        let name = format!("Layer {} of {}", self.layer + 1, plan.layers().len());
        let mut about = format!("{}, {} of its tiles", mask.name(), percent(mask.mask().density()));
        if !self.painted.whole().is_for_all_steps() {
            about += &format!(", {}", steps::words(&self.painted, self.painted.shown(), self.calls));
        }
        Sides::new().shrink_left().show(
            ui,
            |ui| {
                ui.label(theme::strong(&name).color(Palette::of(ui).text_strong));
                ui.add(Label::new(RichText::new(about).color(Palette::of(ui).text_dim)).truncate());
            },
            |ui| {
                ui.add_enabled_ui(self.painted.can_redo(), |ui| {
                    if icon_button(ui, Icon::Redo, "Redo", &ui.ctx().format_shortcut(&REDO[0])).clicked() {
                        self.go(PaintedPlan::redo);
                    }
                });
                ui.add_enabled_ui(self.painted.can_undo(), |ui| {
                    if icon_button(ui, Icon::Undo, "Undo", &ui.ctx().format_shortcut(&UNDO)).clicked() {
                        self.go(PaintedPlan::undo);
                    }
                });
            },
        );
    }

    /// Masks to begin with, for the layer or for all.
    fn presets(&mut self, ui: &mut Ui) {
        let (layers, frames) = (self.painted.plan().layers().len(), self.painted.plan().frames());
        let mut wanted: Option<Vec<LayerMask>> = None;
        ui.horizontal(|ui| {
            ui.label(RichText::new("Presets for").color(Palette::of(ui).text_dim));
            let scopes = [
                (Scope::Layer, "This layer", "A preset changes the layer that is shown"),
                (Scope::All, "All layers", "A preset changes every layer"),
            ];
            segments::inline(ui, &mut self.scope, &scopes);
            let copy = ui.button("Apply to all").on_hover_text("Gives every layer the mask of this one");
            if copy.clicked() {
                let mask = self.painted.plan().layers()[self.layer].clone();
                let change = (0..layers).map(|layer| (layer, mask.clone())).collect();
                self.go(|painted| painted.set_layers(change));
            }
        });
        ui.horizontal(|ui| {
            if ui.button("Full").on_hover_text("Computes every tile").clicked() {
                wanted = LayerMask::full(frames).ok().map(|mask| vec![mask; layers]);
            }
            let references = ComboBox::from_id_salt("references").width(118.0).icon(icons::drop_down);
            let references = references.selected_text("Reference frames").show_ui(ui, |ui| {
                for mask in (0..frames).filter_map(|count| LayerMask::named(&format!("{count}:{}", frames - count), frames).ok())
                {
                    let name = format!("{}   {}", mask.name(), percent(mask.mask().density()));
                    if ui.selectable_label(false, name).clicked() {
                        wanted = Some(vec![mask; layers]);
                    }
                }
            });
            let tip = "Evenly spaced frames that see all frames and are seen by all; the others see them and themselves";
            references.response.accessible_name("Reference frames").on_hover_text(tip);
            let neighbours = ComboBox::from_id_salt("neighbours").width(92.0).icon(icons::drop_down);
            let neighbours = neighbours.selected_text("Neighbours").show_ui(ui, |ui| {
                // From the distance of the last frame on, nothing is left out.
                for mask in (1..frames.saturating_sub(1))
                    .filter_map(|distance| LayerMask::of_neighbours(Neighbours { distance }, frames).ok())
                {
                    let name = format!("{}   {}", mask.name(), percent(mask.mask().density()));
                    if ui.selectable_label(false, name).clicked() {
                        wanted = Some(vec![mask; layers]);
                    }
                }
            });
            let tip = "Each frame sees those around it, up to so many frames away";
            neighbours.response.accessible_name("Neighbours").on_hover_text(tip);
            let searched = ui.add_enabled(self.searched.is_some(), Button::new("Model's plan"));
            let tip = "As it was searched for this model";
            if searched.on_hover_text(tip).on_disabled_hover_text("The model has no plan for so many frames").clicked() {
                wanted = self.searched.as_ref().map(|plan| plan.layers().to_vec());
            }
            let from = ComboBox::from_id_salt("copy from").width(86.0).icon(icons::drop_down);
            let from = from.selected_text("Copy from").show_ui(ui, |ui| {
                for (index, mask) in self.painted.plan().layers().iter().enumerate() {
                    if ui.selectable_label(false, format!("Layer {}: {}", index + 1, mask.name())).clicked() {
                        wanted = Some(vec![mask.clone(); layers]);
                    }
                }
            });
            from.response.accessible_name("Copy from a layer");
        });
        if let Some(masks) = wanted {
            let scope = self.scope;
            let of = self.layer;
            let change = masks.into_iter().enumerate().filter(|(layer, _)| scope == Scope::All || *layer == of).collect();
            self.go(|painted| painted.set_layers(change));
        }
    }

    fn hint(&self, ui: &mut Ui) {
        match &self.refused {
            Some(refused) => notice(ui, refused),
            None => {
                let words = "Click or drag over tiles; a click on a number makes a reference frame. Arrows and Space do it too.";
                ui.add(Label::new(RichText::new(words).small().color(Palette::of(ui).text_dim)).wrap());
            }
        }
    }

    /// The density and the predicted time, beside those of the plan that was opened.
    fn costs(&mut self, ui: &mut Ui, estimate: impl Fn(&MaskPlan) -> Option<Estimate>) {
        let revision = self.painted.revision();
        if self.cost.as_ref().is_none_or(|(of, _)| *of != revision) {
            self.cost = estimate(self.painted.whole()).map(|cost| (revision, cost));
            if revision == 0 {
                self.cost_before = self.cost.as_ref().map(|(_, cost)| cost.clone());
            }
        }
        let palette = Palette::of(ui);
        let mut figures = vec![("Tiles", percent(self.painted.whole().density()))];
        match &self.cost {
            Some((_, cost)) => figures.push(("Time", words::duration(cost.seconds))),
            None => figures.push(("Time", "when the device is ready".to_owned())),
        }
        ui.horizontal(|ui| {
            for (name, value) in figures {
                ui.label(RichText::new(name).color(palette.text_dim));
                let label = ui.label(theme::strong(&value).color(palette.text_strong));
                label.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("{name} when painted so: {value}")));
                ui.add_space(theme::SPACE_SMALL);
            }
            if let (Some(before), true) = (&self.cost_before, self.painted.is_changed()) {
                let words = format!("before: {}, {}", percent(before.density), words::duration(before.seconds));
                ui.label(RichText::new(words).color(palette.text_dim));
            }
        });
    }

    fn buttons(&mut self, ui: &mut Ui) -> Option<Wanted> {
        if self.asks {
            notice(ui, "What was painted is not saved.");
        }
        let mut wanted = None;
        Sides::new().show(
            ui,
            |_| {},
            |ui| {
                let save = theme::primary_button(ui, "Save and use").min_size(vec2(112.0, 32.0));
                if ui.add_enabled(self.saving.can_save(), save).clicked() {
                    wanted = Some(Wanted::Save);
                }
                let (leave, leaves) = match self.asks {
                    true => (theme::danger_button(ui, "Leave it"), Wanted::Leave),
                    false => (Button::new("Cancel"), Wanted::Close),
                };
                if ui.add(leave.min_size(vec2(80.0, 32.0))).clicked() {
                    wanted = Some(leaves);
                }
                if self.asks && ui.add(Button::new("Go on painting").min_size(vec2(112.0, 32.0))).clicked() {
                    self.asks = false;
                }
            },
        );
        wanted
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}
