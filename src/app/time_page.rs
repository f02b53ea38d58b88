//! The time page: where the time of the shown clip or run went, by phase, by kind of work and by layer.

use std::sync::Arc;

use eframe::egui::{Checkbox, CollapsingHeader, Color32, Grid, Label, RichText, Ui};

use super::action::Action;
use super::recipe_page::section;
use super::stacked_bar::{self, Piece};
use super::theme::{self, Palette};
use crate::generate::observer::Phase;
use crate::generate::timings::{PhaseTime, Share, Timings};
use crate::gpu::spans::Kind;
use crate::studio::words::{self, duration};
use crate::studio::{ClipEntry, ClipId, Live, Studio};

const BAR_HEIGHT: f32 = 16.0;
const LAYER_HEIGHT: f32 = 12.0;
const LAYER_NAME_WIDTH: f32 = 96.0;
const SECONDS_WIDTH: f32 = 52.0;

#[derive(Default)]
pub struct TimePage {
    /// What is kept of the clip; None for one that has nothing.
    read: Option<(ClipId, Option<Arc<Timings>>)>,
}

impl TimePage {
    pub fn show(
        &mut self,
        ui: &mut Ui,
        studio: &Studio,
        clip: Option<&ClipEntry>,
        live: Option<&Live>,
        actions: &mut Vec<Action>,
    ) {
        let timings = match (live, clip) {
            (Some(live), _) => live.timings.clone(),
            (None, Some(clip)) => {
                if self.read.as_ref().is_none_or(|(of, _)| *of != clip.id) {
                    self.read = Some((clip.id, studio.timings(clip.id).map(Arc::new)));
                }
                self.read.as_ref().and_then(|(_, timings)| timings.clone())
            }
            (None, None) => None,
        };
        let mut timed = studio.times_parts();
        let tip =
            "Times every layer and kind of work of the runs to come. That makes them a little slower, and changes no pixel.";
        if ui.add(Checkbox::new(&mut timed, "Time the parts of the next runs")).on_hover_text(tip).changed() {
            actions.push(Action::TimeParts(timed));
        }
        match &timings {
            Some(timings) => report(ui, timings, live.is_some()),
            None if live.is_some() => hint(ui, "The first times come with the first step."),
            None => hint(ui, "This clip was made before times were kept, or came with the program."),
        }
        let is_timed = timings.is_some_and(|timings| timings.clock.is_some());
        if let Some(clip) = clip.filter(|_| !is_timed) {
            ui.add_space(theme::SPACE_TINY);
            let tip = "Queues the same recipe with its parts timed; it gives the same frames";
            if ui.button("Run again and time it").on_hover_text(tip).clicked() {
                actions.push(Action::TimeParts(true));
                actions.push(Action::RunAgain(clip.id));
            }
        }
    }
}

fn hint(ui: &mut Ui, text: &str) {
    ui.add(Label::new(RichText::new(text).color(Palette::of(ui).text_dim)).wrap());
}

fn report(ui: &mut Ui, timings: &Timings, goes_on: bool) {
    let palette = Palette::of(ui);
    ui.add_space(theme::SPACE_TINY);
    ui.horizontal(|ui| {
        ui.label(theme::title(seconds_text(timings.seconds)).color(palette.text_strong));
        let of_what = if goes_on { "until the last step" } else { "by the wall clock" };
        ui.label(RichText::new(of_what).color(palette.text_dim));
    });
    let sum = timings.sum_seconds();
    let share = 100.0 * sum / timings.seconds.max(f64::MIN_POSITIVE);
    let mut lines = vec![format!("{}, timed by {}.", timings.device, words::clock(timings.clock))];
    lines.push(format!("The parts come to {} of it, {share:.1} %.", seconds_text(sum)));
    if let Some(step) = timings.typical_step_seconds() {
        lines.push(format!("A warm step took {} (median of {}).", seconds_text(step), timings.step_seconds.len()));
    }
    hint(ui, &lines.join(" "));

    section(ui, "Phases", |ui| {
        let phases: Vec<Piece> = timings
            .phases
            .iter()
            .map(|time| Piece {
                seconds: time.seconds,
                color: phase_color(time.phase, palette),
                name: words::phase(time.phase).to_owned(),
                about: about_phase(time.phase).to_owned(),
            })
            .collect();
        stacked_bar::show(ui, "Phases of the run", BAR_HEIGHT, &phases, sum);
        stacked_bar::legend(ui, &phases, timings.seconds);
    });
    if timings.clock.is_none() {
        hint(ui, "Layers and kinds of work were not timed in this run.");
        return;
    }
    section(ui, "Kinds of work", |ui| {
        let shares: Vec<Piece> = timings
            .shares()
            .into_iter()
            .map(|(share, seconds)| Piece {
                seconds,
                color: share_color(share, palette),
                name: words::share(share).to_owned(),
                about: words::about_share(share).to_owned(),
            })
            .collect();
        stacked_bar::show(ui, "Kinds of work", BAR_HEIGHT, &shares, sum);
        stacked_bar::legend(ui, &shares, timings.seconds);
    });
    for (phase, name) in [
        (Phase::Sampling, "Transformer, by layer"),
        (Phase::Decoding, "Decoder, by part"),
        (Phase::Text, "Text encoder, by layer"),
    ] {
        if let Some(time) = timings.phase(phase).filter(|time| !time.parts.is_empty()) {
            section(ui, name, |ui| layers(ui, time));
        }
    }
    CollapsingHeader::new("As a table").id_salt("times as a table").show(ui, |ui| table(ui, timings));
}

/// A bar a layer, all on one scale.
fn layers(ui: &mut Ui, time: &PhaseTime) {
    let palette = Palette::of(ui);
    let layers = time.layers();
    let longest = layers.iter().map(|(_, seconds)| seconds.iter().sum()).fold(0.0, f64::max);
    ui.spacing_mut().item_spacing.y = 3.0;
    ui.spacing_mut().interact_size.y = LAYER_HEIGHT;
    for (layer, seconds) in layers {
        let sum: f64 = seconds.iter().sum();
        let pieces: Vec<Piece> = Kind::ALL
            .into_iter()
            .zip(seconds)
            .filter(|(_, seconds)| *seconds > 0.0)
            .map(|(kind, seconds)| Piece {
                seconds,
                color: kind_color(kind, palette),
                name: words::kind(kind).to_owned(),
                about: String::new(),
            })
            .collect();
        ui.horizontal(|ui| {
            let start = ui.cursor().left();
            ui.label(RichText::new(layer_name(layer)).small().color(palette.text_dim));
            ui.add_space((start + LAYER_NAME_WIDTH - ui.cursor().left()).max(0.0));
            let width = ui.available_width() - SECONDS_WIDTH;
            ui.scope(|ui| {
                ui.set_max_width(width);
                stacked_bar::show(ui, layer_name(layer), LAYER_HEIGHT, &pieces, longest);
            });
            ui.label(RichText::new(seconds_text(sum)).small().color(palette.text));
        });
    }
}

fn table(ui: &mut Ui, timings: &Timings) {
    Grid::new("times").striped(true).spacing([10.0, 3.0]).show(ui, |ui| {
        let cell = |ui: &mut Ui, text: String| {
            ui.add(Label::new(RichText::new(text).small()).selectable(true));
        };
        for head in ["Phase", "Layer", "Work", "Seconds", "Times"] {
            ui.label(theme::caption(head));
        }
        ui.end_row();
        for time in &timings.phases {
            for part in &time.parts {
                let seconds = format!("{:.4}", part.seconds);
                let name = layer_name(&part.layer).to_owned();
                let row = [words::phase(time.phase).into(), name, words::kind(part.kind).into(), seconds, part.spans.to_string()];
                row.into_iter().for_each(|text| cell(ui, text));
                ui.end_row();
            }
            let (what, rest) = if time.parts.is_empty() { ("whole", time.seconds) } else { ("idle, other", time.idle_seconds()) };
            let row = [words::phase(time.phase).into(), String::new(), what.into(), format!("{rest:.4}"), String::new()];
            row.into_iter().for_each(|text| cell(ui, text));
            ui.end_row();
        }
    });
}

fn layer_name(layer: &str) -> &str {
    if layer.is_empty() { "between layers" } else { layer }
}

/// With a digit that means something.
fn seconds_text(seconds: f64) -> String {
    match seconds {
        s if s < 0.0995 => format!("{:.1} ms", s * 1000.0),
        s if s < 9.95 => format!("{s:.2} s"),
        s => duration(s),
    }
}

fn about_phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Load => "The model, where it was not there already",
        Phase::Text => "The prompt through the text encoder",
        Phase::Sampling => "All steps of the transformer and the sampler",
        Phase::Decoding => "Latents to frames, through the VAE",
        Phase::Keeping => "Writing the clip into the library",
    }
}

/// Colours that stay apart for eyes that see few of them: those of Okabe and Ito, toned for the ground.
fn phase_color(phase: Phase, palette: &Palette) -> Color32 {
    match phase {
        Phase::Load => share_color(Share::Load, palette),
        Phase::Text => share_color(Share::Text, palette),
        Phase::Sampling => share_color(Share::Attention, palette),
        Phase::Decoding => share_color(Share::Vae, palette),
        Phase::Keeping => share_color(Share::Keep, palette),
    }
}

fn share_color(share: Share, palette: &Palette) -> Color32 {
    match share {
        Share::Load => Color32::from_rgb(0x7A, 0x86, 0x99),
        Share::Text => Color32::from_rgb(0x56, 0xB4, 0xE9),
        Share::Attention => palette.accent_fill,
        Share::Linear => Color32::from_rgb(0xE6, 0x9F, 0x00),
        Share::Normalisation => Color32::from_rgb(0x00, 0x9E, 0x73),
        Share::Vae => Color32::from_rgb(0xCC, 0x79, 0xA7),
        Share::Copies => Color32::from_rgb(0xD5, 0x5E, 0x00),
        Share::Idle => palette.line_strong,
        Share::Keep => Color32::from_rgb(0x9A, 0xA8, 0x6A),
    }
}

fn kind_color(kind: Kind, palette: &Palette) -> Color32 {
    let share = match kind {
        Kind::Attention => Share::Attention,
        Kind::Linear => Share::Linear,
        Kind::Normalisation => Share::Normalisation,
        Kind::Convolution => Share::Vae,
        Kind::Resampling => Share::Text,
        Kind::Copy => Share::Copies,
    };
    share_color(share, palette)
}
