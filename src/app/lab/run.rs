//! The run of the lab: how far it is, its curves, its samples, and what can be done with it; the right half of the page.

use std::path::Path;

use eframe::egui::{
    Align, Button, CollapsingHeader, Color32, Label, Layout, ProgressBar, RichText, Role, TextEdit, Ui, WidgetInfo, vec2,
};

use super::chart::{Axis, Chart, Line, Mark, short};
use super::form::file_name;
use super::{LabAction, LabPage, dim, work_name};
use crate::app::action::Action;
use crate::app::icons::Icon;
use crate::app::mask_dial::notice;
use crate::app::theme::{self, Palette};
use crate::app::{empty_state, error_card, segments};
use crate::studio::words::duration;
use crate::studio::{ChosenDevice, DeviceState, LabRun, LabStage, LabWish, LabWork, Remedy, State, Studio, Trade};

const CHART_HEIGHT: f32 = 250.0;
const SCALES: [(bool, &str, &str); 2] = [
    (false, "By tiles", "Share of all tiles that attention computes"),
    (true, "By time", "Attention of all layers for one call of one clip, measured on this device"),
];

/// What a result is called, unless the person says otherwise.
pub fn name_of(wish: &LabWish) -> String {
    let model = file_name(Path::new(&wish.model));
    match wish.work {
        LabWork::Search => format!("{model}-searched"),
        LabWork::Distil => format!("{model}-sparse"),
    }
}

impl LabPage {
    pub(super) fn run(&mut self, ui: &mut Ui, studio: &Studio, state: &State, run: Option<&LabRun>, actions: &mut Vec<Action>) {
        let Some(run) = run else {
            let text = match self.wish.work {
                LabWork::Search => {
                    "The search tries every mask in every layer, and measures how much the layer's output changes. What it finds is a plan for the mask dial, and for a student."
                }
                LabWork::Distil => {
                    "A copy of the model with the plan's masks imitates the model, layer by layer, until its clips are as good with a part of the attention. It becomes a model of the menu."
                }
            };
            empty_state::show(ui, Icon::Mask, work_name(self.wish.work), text, None);
            return;
        };
        ui.label(theme::strong(headline(run)).size(15.0).color(Palette::of(ui).text_strong));
        progress(ui, state, run);
        if let LabStage::Failed(report) = &run.stage {
            let mend = |remedy: &Remedy| match remedy {
                Remedy::UseCpu => Action::UseDevices { devices: vec![ChosenDevice::Cpu], remember: false },
                Remedy::EditSettings | Remedy::ChooseModel => Action::Lab(LabAction::Discard),
                _ => Action::Lab(LabAction::GoOn),
            };
            error_card::show_report(ui, "lab", report, mend, actions);
        }
        self.buttons(ui, run, actions);
        if let Some(trade) = run.trade.as_ref().filter(|_| run.wish.work == LabWork::Search) {
            self.trade_off(ui, trade);
        }
        if !run.curves.is_empty() {
            losses(ui, run);
        }
        if let Some(samples) = &run.samples {
            let result = if run.wish.work == LabWork::Search { "With the plan" } else { "The student" };
            self.samples.show(ui, samples, ["With every tile", result], self.still);
        }
        if !run.notes.is_empty() {
            CollapsingHeader::new("What it said").id_salt("lab notes").show(ui, |ui| {
                for note in &run.notes {
                    dim(ui, note.clone());
                }
            });
        }
        if run.has_result && !run.is_under_way() {
            dim(ui, format!("Until it is kept, it lies in {}", studio.lab_result(run.wish.work).display()));
        }
    }

    fn buttons(&mut self, ui: &mut Ui, run: &LabRun, actions: &mut Vec<Action>) {
        if run.is_under_way() {
            let can = run.stage != LabStage::Pausing;
            let pause = ui.add_enabled(can, Button::new("Pause").min_size(vec2(88.0, theme::CONTROL_HEIGHT)));
            let tip = "Ends behind the current step with a checkpoint, and gives the memory back; it goes on from there, after a restart too";
            if pause.on_hover_text(tip).clicked() {
                actions.push(Action::Lab(LabAction::Pause));
            }
            return;
        }
        let goes_further = run.can_go_on() || (run.has_result && run.samples.is_none());
        if goes_further {
            ui.horizontal(|ui| {
                if run.can_go_on() && ui.add(theme::primary_button(ui, "Go on")).on_hover_text("Where it was paused").clicked() {
                    actions.push(Action::Lab(LabAction::GoOn));
                }
                let tip = "Makes two clips of the sample's prompt and seed: with every tile, and with what came of the run";
                let can_compare = run.has_result && run.samples.is_none();
                if can_compare && ui.button("Compare clips").on_hover_text(tip).clicked() {
                    actions.push(Action::Lab(LabAction::Compare));
                }
                if !run.has_result {
                    self.discard(ui, run, actions);
                }
            });
        }
        if goes_further && !run.has_result {
            return;
        }
        ui.horizontal(|ui| {
            if run.has_result {
                let (tip, what) = match run.wish.work {
                    LabWork::Search => ("The plan goes to your masks, and is chosen in the settings", "Keep the plan"),
                    LabWork::Distil => (
                        "The student becomes a model of the menu, and is chosen; its checkpoint and the encoded clips go",
                        "Keep the model",
                    ),
                };
                ui.label(RichText::new("Name").color(Palette::of(ui).text_dim));
                let name = self.name.get_or_insert_with(|| name_of(&run.wish));
                let field = TextEdit::singleline(name).id_salt("lab name").desired_width(140.0).margin(vec2(8.0, 5.0));
                ui.add(field).widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Name of the result"));
                let keep = if run.stage == LabStage::Done { theme::primary_button(ui, what) } else { Button::new(what) };
                if ui.add(keep).on_hover_text(tip).clicked() {
                    actions.push(Action::Lab(LabAction::Keep));
                }
            }
            self.discard(ui, run, actions);
        });
    }

    fn discard(&mut self, ui: &mut Ui, run: &LabRun, actions: &mut Vec<Action>) {
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let discard = if self.asks { theme::danger_button(ui, "Really discard") } else { Button::new("Discard") };
            if ui.add(discard).on_hover_text("Removes all of it").clicked() {
                // Hours of work are not lost by one click.
                if self.asks || !run.has_result {
                    actions.push(Action::Lab(LabAction::Discard));
                } else {
                    self.asks = true;
                }
            }
        });
    }

    /// What plans cost, and what they change.
    fn trade_off(&mut self, ui: &mut Ui, trade: &Trade) {
        let palette = Palette::of(ui);
        ui.horizontal(|ui| {
            ui.label(theme::caption("Error and cost").color(palette.text));
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                segments::inline(ui, &mut self.goes_by_millis, &SCALES);
            });
        });
        dim(
            ui,
            match trade.layers_measured == trade.layers {
                true => format!("All {} layers are measured.", trade.layers),
                false => format!("{} of {} layers are measured.", trade.layers_measured, trade.layers),
            },
        );
        let by_millis = self.goes_by_millis;
        let place = |point: &crate::studio::PlanPoint| match by_millis {
            true => (point.millis, point.loss),
            false => (100.0 * point.tiles, point.loss),
        };
        let (line, unit) = if by_millis { (&trade.by_millis, 1.0) } else { (&trade.by_tiles, 100.0) };
        // A plan without an error has no place on a logarithmic axis.
        let points = line.iter().filter(|(_, loss)| *loss > 0.0).map(|&(cost, loss)| (unit * cost, loss)).collect();
        let uniform = trade.uniform.iter().filter(|(_, point)| point.loss > 0.0);
        let mut marks: Vec<Mark> = uniform
            .map(|(name, point)| Mark { name: name.clone(), at: place(point), color: palette.text_dim, is_chosen: false })
            .collect();
        marks.extend(trade.chosen.as_ref().map(|point| Mark {
            name: "chosen".into(),
            at: place(point),
            color: palette.accent_fill,
            is_chosen: true,
        }));
        let x = match by_millis {
            true => Axis { name: "milliseconds of attention a call".into(), is_logarithmic: false, text: short },
            false => Axis { name: "% of the tiles".into(), is_logarithmic: false, text: short },
        };
        let chart = Chart {
            name: "Plans by error and cost",
            x,
            y: Axis { name: "mean error of the layers".into(), is_logarithmic: true, text: short },
            lines: vec![Line { name: "best plans", points, color: palette.accent }],
            marks,
        };
        chart.show(ui, CHART_HEIGHT);
        if let Some(chosen) = &trade.chosen {
            let share = if trade.dense_millis > 0.0 { 100.0 * chosen.millis / trade.dense_millis } else { 100.0 };
            dim(
                ui,
                format!(
                    "Chosen: {:.1} % of the tiles, attention {:.2} ms a call ({share:.0} % of dense), mean error {:.5}. Circles: the same mask in every layer.",
                    100.0 * chosen.tiles,
                    chosen.millis,
                    chosen.loss
                ),
            );
        }
    }
}

fn headline(run: &LabRun) -> String {
    let what = match run.wish.work {
        LabWork::Search => "The search",
        LabWork::Distil => "The student",
    };
    match &run.stage {
        LabStage::Waiting => format!("{what} waits"),
        LabStage::Running => format!("{what} is under way"),
        LabStage::Pausing => format!("{what} stops behind this step"),
        LabStage::Paused => format!("{what} is paused"),
        LabStage::Done => format!("{what} is done"),
        LabStage::Failed(_) => format!("{what} could not go on"),
    }
}

fn progress(ui: &mut Ui, state: &State, run: &LabRun) {
    let palette = Palette::of(ui);
    match (&run.stage, &state.device) {
        (LabStage::Waiting, DeviceState::Ready(_)) if state.live.is_some() => {
            notice(ui, "It begins when the clip is made that is under way.");
        }
        (LabStage::Waiting, _) => {
            notice(ui, "It begins as soon as the device is ready.");
        }
        (LabStage::Running | LabStage::Pausing, _) => {
            let left = run.left.map_or(String::new(), |left| format!(", {} left", duration(left.as_secs_f64())));
            let doing = format!("{}{left}", run.doing);
            let label = ui.label(RichText::new(&doing).color(palette.text));
            label.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("The lab: {doing}")));
            let bar = ProgressBar::new(run.share as f32).desired_height(5.0).corner_radius(2.5).fill(palette.accent_fill);
            ui.add(bar.desired_width(ui.available_width())).accessible_name("Progress of the lab");
            let waiting = state.queue.iter().filter(|item| item.state == crate::studio::ItemState::Waiting).count();
            if waiting > 0 {
                notice(ui, &format!("{} in the queue until the lab is paused or over.", waiting_words(waiting)));
            }
        }
        (LabStage::Paused, _) => {
            dim(ui, "The checkpoint is kept, and the memory is free. It goes on where it was, after a restart too.");
        }
        (LabStage::Done | LabStage::Failed(_), _) => {}
    }
}

fn waiting_words(waiting: usize) -> String {
    if waiting == 1 { "1 clip waits".into() } else { format!("{waiting} clips wait") }
}

/// What the student loses, step by step.
fn losses(ui: &mut Ui, run: &LabRun) {
    let palette = Palette::of(ui);
    let shown: [(&str, &str, Color32); 3] = [
        ("loss", "loss", palette.accent),
        ("output_difference", "output", palette.good),
        ("attention_difference", "attention", palette.warning),
    ];
    let lines = shown.into_iter().filter_map(|(number, name, color)| {
        let place = run.names.iter().position(|own| own == number)?;
        let points = run.curves.iter().filter_map(|row| Some((row.step as f64, *row.numbers.get(place)?)));
        Some(Line { name, points: points.collect(), color })
    });
    let chart = Chart {
        name: "What the student loses",
        x: Axis { name: "steps".into(), is_logarithmic: false, text: short },
        y: Axis { name: "difference from the teacher".into(), is_logarithmic: true, text: short },
        lines: lines.collect(),
        marks: Vec::new(),
    };
    chart.show(ui, CHART_HEIGHT);
    if let Some(row) = run.curves.last() {
        let rate = run.names.iter().position(|own| own == "samples_per_second").and_then(|place| row.numbers.get(place));
        let rate = rate.map_or(String::new(), |rate| format!(", {rate:.1} samples a second"));
        let text = RichText::new(format!("Step {}{rate}", row.step)).small().color(palette.text_dim);
        ui.add(Label::new(text));
    }
}
