//! The lab page: a search for masks or a sparse student, on this device. What it will cost stands there before it begins; while it
//! goes on, its curves grow; at its end the model as it was and what came of it play side by side.

mod chart;
mod form;
mod run;
mod samples;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use eframe::egui::{Frame, Margin, RichText, ScrollArea, Ui, vec2};

use self::samples::Samples;
use super::action::Action;
use super::file_dialog::{Answer, FileDialog};
use super::theme::{self, Palette};
use crate::studio::{DistilWish, LabCost, LabKept, LabRun, LabWish, LabWork, State, Studio, StudioError};

/// Narrower than this, the run stands below the form.
const LEAST_BESIDE: f32 = 640.0;
const FORM_WIDTH: f32 = 312.0;
/// Free memory and the device's speeds are looked at anew so often.
const COST_HOLDS: Duration = Duration::from_secs(2);

/// What can be asked of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabAction {
    /// Begins what the page says.
    Start,
    Pause,
    GoOn,
    /// Makes the clips before and after.
    Compare,
    /// Keeps the result under the page's name.
    Keep,
    Discard,
}

/// What a dialog of the system is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Plan,
    Clips,
}

struct Cost {
    of: LabWish,
    looked: Instant,
    is_known: bool,
    cost: Result<LabCost, String>,
}

pub struct LabPage {
    /// What the form says.
    wish: LabWish,
    cost: Option<Cost>,
    /// Under which the result is kept; None until it was typed or asked for.
    name: Option<String>,
    /// A discard was asked for once.
    asks: bool,
    dialog: Option<(Wanted, FileDialog)>,
    /// The studio's own plans, as they were when the list was opened.
    plans: Vec<PathBuf>,
    samples: Samples,
    goes_by_millis: bool,
    /// Nothing plays by itself.
    pub still: bool,
}

impl LabPage {
    pub fn new(studio: &Studio) -> Self {
        Self {
            wish: studio.lab_wish(),
            cost: None,
            name: None,
            asks: false,
            dialog: None,
            plans: Vec::new(),
            samples: Samples::default(),
            goes_by_millis: false,
            still: false,
        }
    }

    pub fn wish(&self) -> &LabWish {
        &self.wish
    }

    /// For those who set up the page from outside.
    pub fn wish_mut(&mut self) -> &mut LabWish {
        &mut self.wish
    }

    /// Why nothing can be started now.
    ///
    /// # Errors
    /// In words.
    pub fn can_start(&self, state: &State) -> Result<(), String> {
        if state.lab.is_some() {
            return Err("The lab has a run already: keep or discard it first.".into());
        }
        match &self.cost {
            Some(Cost { cost: Ok(cost), is_known: true, .. }) => cost.problem().map_or(Ok(()), Err),
            Some(Cost { cost: Err(problem), is_known: true, .. }) => Err(problem.clone()),
            _ => Err("The model is being opened.".into()),
        }
    }

    /// Does it; gives where the result is, if it was kept.
    ///
    /// # Errors
    /// It cannot be done now.
    pub fn act(&mut self, studio: &Studio, action: LabAction) -> Result<Option<LabKept>, StudioError> {
        self.asks = false;
        match action {
            LabAction::Start => {
                self.look_at_cost(studio);
                self.can_start(&studio.state()).map_err(StudioError::Lab)?;
                studio.start_lab(&self.wish)?;
            }
            LabAction::Pause => studio.pause_lab(),
            LabAction::GoOn => studio.resume_lab()?,
            LabAction::Compare => studio.sample_lab()?,
            LabAction::Keep => {
                let run = studio.state().lab.clone();
                let name = self.name.take().or_else(|| run.map(|run| run::name_of(&run.wish))).unwrap_or_default();
                let kept = studio.keep_lab(&name)?;
                if let LabKept::Plan(path) = &kept {
                    // What a plan is searched for.
                    self.wish.distil = DistilWish { plan: Some(path.clone()), ..self.wish.distil.clone() };
                }
                return Ok(Some(kept));
            }
            LabAction::Discard => studio.discard_lab()?,
        }
        Ok(None)
    }

    pub fn show(&mut self, ui: &mut Ui, studio: &Studio, state: &State, actions: &mut Vec<Action>) {
        self.follow_dialog();
        if state.lab.is_none() {
            self.look_at_cost(studio);
        }
        let run = state.lab.clone();
        ScrollArea::vertical().id_salt("lab").auto_shrink(false).show(ui, |ui| {
            ui.set_max_width(ui.available_width() - 8.0);
            ui.spacing_mut().item_spacing.y = theme::SPACE_SMALL;
            if ui.available_width() >= LEAST_BESIDE {
                ui.horizontal_top(|ui| {
                    ui.spacing_mut().item_spacing.x = theme::SPACE_LARGE;
                    ui.vertical(|ui| {
                        ui.set_width(FORM_WIDTH);
                        self.form(ui, studio, state, actions);
                    });
                    ui.vertical(|ui| {
                        ui.set_width(ui.available_width());
                        self.run(ui, studio, state, run.as_deref(), actions);
                    });
                });
            } else {
                // A run is what one comes back for; its form says no more than what it was begun with.
                if run.is_some() {
                    self.run(ui, studio, state, run.as_deref(), actions);
                    ui.separator();
                }
                self.form(ui, studio, state, actions);
                if run.is_none() {
                    ui.separator();
                    self.run(ui, studio, state, None, actions);
                }
            }
            super::focus::follow(ui);
        });
    }

    /// What is chosen in the system's dialog goes into the form.
    fn follow_dialog(&mut self) {
        let Some((wanted, dialog)) = &self.dialog else { return };
        match dialog.answer() {
            Answer::Open => return,
            Answer::Chosen(path) => match wanted {
                Wanted::Plan => self.wish.distil.plan = Some(path),
                Wanted::Clips => self.wish.distil.folder = Some(path),
            },
            Answer::Nothing => {}
        }
        self.dialog = None;
    }

    fn look_at_cost(&mut self, studio: &Studio) {
        let holds = |cost: &Cost| cost.of == self.wish && cost.is_known && cost.looked.elapsed() < COST_HOLDS;
        if self.cost.as_ref().is_some_and(holds) {
            return;
        }
        let opened = studio.catalog().get(&self.wish.model);
        let (is_known, cost) = match &opened {
            crate::studio::Opened::Failed(reason) => (true, Err(format!("The model cannot be used: {reason}"))),
            opened => match opened.model() {
                Some(model) => (true, studio.lab_cost(&self.wish, model)),
                None => (false, Err("The model is being opened.".to_owned())),
            },
        };
        self.cost = Some(Cost { of: self.wish.clone(), looked: Instant::now(), is_known, cost });
    }
}

/// A card on the page, with its outline in this colour.
fn card(ui: &mut Ui, content: impl FnOnce(&mut Ui)) {
    let palette = Palette::of(ui);
    let frame = Frame::new().fill(palette.raised).corner_radius(theme::RADIUS).inner_margin(Margin::same(10));
    frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.spacing_mut().item_spacing = vec2(theme::SPACE_SMALL, theme::SPACE_TINY);
        content(ui);
    });
}

fn dim(ui: &mut Ui, text: impl Into<String>) -> eframe::egui::Response {
    let text = RichText::new(text.into()).small().color(Palette::of(ui).text_dim);
    ui.add(eframe::egui::Label::new(text).wrap())
}

fn work_name(work: LabWork) -> &'static str {
    match work {
        LabWork::Search => "Search a mask",
        LabWork::Distil => "Teach a student",
    }
}

/// Whether a run is there that the form is of.
fn shown_wish<'a>(page: &'a LabWish, run: Option<&'a LabRun>) -> &'a LabWish {
    run.map_or(page, |run| &run.wish)
}
