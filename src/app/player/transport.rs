//! The controls below the rulers.

use eframe::egui::{Align, ComboBox, Layout, RichText, Ui, vec2};

use super::source::Source;
use super::state::{Look, Repeat, Zoom};
use super::{Player, PlayerEvent, frame_ruler};
use crate::app::icons::{Icon, drop_down, icon_button, icon_toggle, raised_icon_button};
use crate::app::segments;
use crate::app::theme::{self, Palette};

pub const LEAST_WIDTH_OF_ONE_ROW: f32 = 840.0;
/// What must be left for the caption of the switch.
const ROOM_FOR_CAPTION: f32 = 110.0;
/// How much wider strong digits are than others, at most.
const STRONGER: f32 = 1.15;
const SPEEDS: [f64; 7] = [-1.0, -0.5, 0.25, 0.5, 1.0, 2.0, 4.0];

impl Player {
    pub(super) fn transport(
        &mut self,
        ui: &mut Ui,
        wide: bool,
        source: &Source,
        events: &mut Vec<PlayerEvent>,
        buttons: impl FnOnce(&mut Ui),
    ) {
        let row = vec2(ui.available_width(), theme::CONTROL_HEIGHT);
        let mut buttons = Some(buttons);
        ui.allocate_ui_with_layout(row, Layout::left_to_right(Align::Center), |ui| {
            self.play_buttons(ui, source);
            if wide {
                self.counter(ui, source);
            }
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                if wide && let Some(buttons) = buttons.take() {
                    buttons(ui);
                    ui.add_space(theme::SPACE_SMALL);
                    self.view_choices(ui, events);
                } else {
                    self.zoom_choice(ui);
                    // It has what the others leave.
                    ui.with_layout(Layout::left_to_right(Align::Center), |ui| self.counter(ui, source));
                }
            });
        });
        if let Some(buttons) = buttons {
            ui.allocate_ui_with_layout(row, Layout::left_to_right(Align::Center), |ui| {
                self.look_switch(ui, events);
                ui.with_layout(Layout::right_to_left(Align::Center), buttons);
            });
        }
    }

    fn play_buttons(&mut self, ui: &mut Ui, source: &Source) {
        let frames = source.frames;
        let gap = std::mem::replace(&mut ui.spacing_mut().item_spacing.x, 2.0);
        let (of, context) = (&self.keys, ui.ctx().clone());
        let keys = |id: &str| of.text(&context, id);
        let shuttle = [keys("reverse"), keys("halt"), keys("forward")].join(", ");
        let play_tip = format!("{}. {shuttle}: backwards, pause, forwards; twice is faster", keys("play"));
        let state = &mut self.state;
        if icon_button(ui, Icon::ToStart, "To the start", &keys("to-start")).clicked() {
            state.go_to(*state.range(frames).start(), frames);
        }
        if icon_button(ui, Icon::FrameBack, "Frame back", &keys("frame-back")).clicked() {
            state.step_frames(-1, frames);
        }
        let (icon, name) = if state.playing { (Icon::Pause, "Pause") } else { (Icon::Play, "Play") };
        if raised_icon_button(ui, icon, name, &play_tip).clicked() {
            state.toggle(frames);
        }
        if icon_button(ui, Icon::FrameForward, "Frame forward", &keys("frame-forward")).clicked() {
            state.step_frames(1, frames);
        }
        if icon_button(ui, Icon::ToEnd, "To the end", &keys("to-end")).clicked() {
            state.go_to(*state.range(frames).end(), frames);
        }
        ui.add_space(theme::SPACE_TINY);
        let (icon, name, next) = match state.repeat {
            Repeat::Loop => (Icon::Loop, "Repeat: loop", Repeat::PingPong),
            Repeat::PingPong => (Icon::PingPong, "Repeat: there and back", Repeat::Once),
            Repeat::Once => (Icon::PlayOnce, "Repeat: play once", Repeat::Loop),
        };
        if icon_button(ui, icon, name, "Loop, there and back, or play once").clicked() {
            state.repeat = next;
        }
        let tip = "Click a point of the picture to see what it reads from every frame, or point at a word of the prompt to see where it is";
        if icon_toggle(ui, Icon::Inspect, "Look into the clip", tip, self.inspect.on).clicked() {
            self.inspect.on = !self.inspect.on;
        }
        ui.spacing_mut().item_spacing.x = gap;
        let state = &mut self.state;
        ComboBox::from_id_salt("speed")
            .width(62.0)
            .icon(drop_down)
            .selected_text(speed_text(state.speed))
            .show_ui(ui, |ui| {
                for speed in SPEEDS {
                    ui.selectable_value(&mut state.speed, speed, speed_text(speed));
                }
            })
            .response
            .accessible_name("Speed")
            .on_hover_text("Speed");
    }

    fn counter(&self, ui: &mut Ui, source: &Source) {
        if source.frames == 0 {
            return;
        }
        let frame = self.state.frame(source.frames);
        let digits = source.frames.to_string().len();
        // Figure spaces keep the digits in their columns.
        let number = format!("{:\u{2007}>digits$}", frame + 1);
        let of = format!("/ {}", source.frames);
        let seconds = format!("{:.2} s", frame_ruler::seconds(source, frame));
        let width = |text: &str| segments::text_width(ui, text);
        let room = ui.available_width() - width(&number) * STRONGER - ui.spacing().item_spacing.x;
        let rest = [format!("{of} · {seconds}"), of, String::new()].into_iter().find(|rest| width(rest) <= room);
        let Some(rest) = rest else { return };
        let tip = format!("Frame {} of {}, at {seconds}", frame + 1, source.frames);
        ui.label(theme::strong(number).color(Palette::of(ui).text_strong)).on_hover_text(&tip);
        if !rest.is_empty() {
            ui.label(RichText::new(rest).color(Palette::of(ui).text_dim)).on_hover_text(tip);
        }
    }

    /// From right to left.
    fn view_choices(&mut self, ui: &mut Ui, events: &mut Vec<PlayerEvent>) {
        self.zoom_choice(ui);
        self.look_switch(ui, events);
        if ui.available_width() >= ROOM_FOR_CAPTION {
            ui.label(RichText::new("Steps through").small().color(Palette::of(ui).text_dim));
        }
    }

    fn zoom_choice(&mut self, ui: &mut Ui) {
        let name = |zoom| match zoom {
            Zoom::Fit => "Fit",
            Zoom::Full => "100 %",
            Zoom::Double => "200 %",
        };
        ComboBox::from_id_salt("zoom")
            .width(68.0)
            .icon(drop_down)
            .selected_text(name(self.state.zoom))
            .show_ui(ui, |ui| {
                for zoom in [Zoom::Fit, Zoom::Full, Zoom::Double] {
                    ui.selectable_value(&mut self.state.zoom, zoom, name(zoom));
                }
            })
            .response
            .accessible_name("Zoom")
            .on_hover_text("Size of the picture. Double-click the picture for 100 %.");
    }

    /// What the pictures of steps are made with.
    fn look_switch(&mut self, ui: &mut Ui, events: &mut Vec<PlayerEvent>) {
        let choices = [
            (
                Look::Projection,
                "Projection",
                "Show steps through a linear projection of the latent: at once, but small and rough",
            ),
            (
                Look::Decoder,
                "Decoder",
                "Show steps through the true decoder: as the clip would be, but it takes its time: a run leaves steps out that come faster",
            ),
        ];
        if segments::inline(ui, &mut self.state.look, &choices) {
            events.push(PlayerEvent::LookChanged(self.state.look));
        }
    }
}

fn speed_text(speed: f64) -> String {
    let sign = if speed < 0.0 { "−" } else { "" };
    format!("{sign}{}×", speed.abs())
}
