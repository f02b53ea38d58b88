//! The line at the bottom: the device and why it, its kernels and memory; what goes on and how long it takes.

use std::time::{Duration, Instant};

use eframe::egui::{self, Button, FontSelection, Label, ProgressBar, RichText, Sides, TextWrapMode, Ui, WidgetText};

use super::action::Action;
use super::commands;
use super::icons::{self, Icon, icon_button};
use super::lab::LabAction;
use super::preferences::{Level, Preferences, SCALES};
use super::theme;
use crate::gpu::device::ComputeDevice;
use crate::studio::words::{bytes, duration};
use crate::studio::{ChosenDevice, DeviceState, LabStage, State, free_memory};

/// How long a figure of the free memory is shown.
const MEMORY_AGE: Duration = Duration::from_secs(2);

/// The adapter that paints the window.
#[derive(Clone, Debug)]
pub struct PaintedBy {
    pub name: String,
    /// A rasteriser on the CPU.
    pub software: bool,
}

#[derive(Default)]
pub struct StatusBar {
    memory: Option<(Instant, Option<u64>)>,
}

impl StatusBar {
    /// `queue_seconds` is the time that the waiting items will take.
    pub fn show(
        &mut self,
        ui: &mut Ui,
        state: &State,
        preferences: &Preferences,
        painted_by: Option<&PaintedBy>,
        queue_seconds: Option<f64>,
        actions: &mut Vec<Action>,
    ) {
        let mut of_run = Vec::new();
        // What goes on is never cut: in a narrow window the words about the device are.
        Sides::new().shrink_left().show(
            ui,
            |ui| {
                menu(ui, state, preferences, actions);
                self.device(ui, state, painted_by);
            },
            |ui| run(ui, state, queue_seconds, &mut of_run),
        );
        actions.extend(of_run);
    }

    fn device(&mut self, ui: &mut Ui, state: &State, painted_by: Option<&PaintedBy>) {
        match &state.device {
            DeviceState::Opening => {
                ui.label(theme::caption("Looking for a device ..."));
            }
            DeviceState::Failed(why) => {
                ui.label(RichText::new("No device").color(ui.visuals().error_fg_color)).on_hover_text(why);
            }
            DeviceState::Ready(device) => {
                let software = painted_by.is_some_and(|painted| painted.software);
                let memory = self.free_memory(device).map(|free| match &device.adapter {
                    Some(_) => (format!("· {} of memory", bytes(free)), "The device's own memory, as its driver reports it."),
                    None => (format!("· {} free", bytes(free)), "Memory that programs may still take, as the system reports it."),
                });
                let for_memory = memory.as_ref().map_or(0.0, |(words, _)| width(ui, words) + ui.spacing().item_spacing.x);
                let for_device = (ui.available_width() - for_memory).max(0.0);
                ui.scope(|ui| {
                    ui.set_max_width(for_device);
                    let label = ui.add(Label::new(theme::caption(device_words(device, software))).truncate());
                    label.on_hover_ui(|ui| device_facts(ui, device, painted_by));
                });
                if let Some((words, tip)) = memory {
                    ui.add(Label::new(theme::caption(words)).truncate()).on_hover_text(tip);
                }
            }
        }
    }

    fn free_memory(&mut self, device: &ComputeDevice) -> Option<u64> {
        match self.memory {
            Some((when, free)) if when.elapsed() < MEMORY_AGE => free,
            _ => {
                let free = free_memory(device);
                self.memory = Some((Instant::now(), free));
                free
            }
        }
    }
}

/// What is chosen seldom: the theme, the device, the places of the panels.
fn menu(ui: &mut Ui, state: &State, preferences: &Preferences, actions: &mut Vec<Action>) {
    let button = icon_button(ui, Icon::Settings, "Window and device", "All commands, keys, theme, size, device");
    egui::Popup::menu(&button).show(|ui| {
        let mut command = |ui: &mut Ui, id: &str, action: Action| {
            let Some(command) = commands::find(id) else { return };
            let keys = preferences.keys.text(ui.ctx(), id);
            if ui.add(Button::new(command.name).shortcut_text(keys)).on_hover_text(command.does).clicked() {
                actions.push(action);
                ui.close();
            }
        };
        command(ui, "palette", Action::Palette);
        command(ui, "keys", Action::Keys);
        ui.separator();
        window_choices(ui, preferences, actions);
        ui.separator();
        ui.label(theme::caption("Theme"));
        let mut theme = ui.ctx().options(|options| options.theme_preference);
        if theme::theme_menu(ui, &mut theme) {
            actions.push(Action::Theme(theme));
        }
        ui.separator();
        ui.label(theme::caption("Device for the next runs"));
        let used = match &state.device {
            DeviceState::Ready(device) if device.others.is_empty() => device.adapter.as_ref().map(|adapter| adapter.index),
            DeviceState::Ready(_) | DeviceState::Opening | DeviceState::Failed(_) => None,
        };
        let mut choice = |ui: &mut Ui, name: &str, tip: &str, is_used: bool, chosen: Option<ChosenDevice>| {
            if ui.radio(is_used, name).on_hover_text(tip).clicked() {
                actions.push(Action::UseDevices { devices: chosen.into_iter().collect(), remember: true });
                ui.close();
            }
        };
        let is_cpu = matches!(&state.device, DeviceState::Ready(device) if device.is_cpu() && device.others.is_empty());
        choice(ui, "CPU", "No graphics are needed for it", is_cpu, Some(ChosenDevice::Cpu));
        for adapter in &state.adapters {
            let name = format!("{} ({})", adapter.name, adapter.backend);
            let tip = if adapter.software {
                "A program on the CPU that stands in for graphics: slower than the CPU itself"
            } else {
                &adapter.driver
            };
            let chosen = ChosenDevice::adapter(&state.adapters, adapter.index);
            choice(ui, &name, tip, used == Some(adapter.index), chosen);
        }
        ui.separator();
        if ui.button("Put the panels back").clicked() {
            actions.push(Action::ResetLayout);
            ui.close();
        }
    });
}

/// How much the window shows, how large, how lively.
fn window_choices(ui: &mut Ui, preferences: &Preferences, actions: &mut Vec<Action>) {
    ui.horizontal(|ui| {
        ui.label("Settings");
        let levels = [
            (Level::Simple, "Simple", "Prompt, model, size, steps and seed alone; the others stand as they are"),
            (Level::Lab, "All", "All settings, the mask dial too"),
        ];
        for (level, name, tip) in levels {
            if ui.selectable_label(preferences.level == level, name).on_hover_text(tip).clicked() {
                actions.push(Action::Level(level));
            }
        }
    });
    ui.horizontal(|ui| {
        ui.label("Size");
        let mut scale = preferences.scale_percent;
        let text = |percent: u32| format!("{percent} %");
        let chosen = egui::ComboBox::from_id_salt("scale").width(76.0).icon(icons::drop_down).selected_text(text(scale)).show_ui(
            ui,
            |ui| {
                for percent in SCALES {
                    ui.selectable_value(&mut scale, percent, text(percent));
                }
            },
        );
        let keys = ["larger", "smaller", "usual-size"].map(|id| preferences.keys.text(ui.ctx(), id)).join(", ");
        chosen.response.accessible_name("Size of everything").on_hover_text(keys);
        if scale != preferences.scale_percent {
            actions.push(Action::Scale(scale));
        }
    });
    let mut still = preferences.reduced_motion;
    if ui.checkbox(&mut still, "Reduced motion").on_hover_text("Nothing moves but what you move or play").clicked() {
        actions.push(Action::ReducedMotion(still));
    }
    let mut notify = preferences.notify;
    let tip = "When a run of more than 30 seconds ends while the window is in the background";
    if ui.checkbox(&mut notify, "Tell the end of long runs").on_hover_text(tip).clicked() {
        actions.push(Action::Notify(notify));
    }
}

/// What a caption needs.
fn width(ui: &Ui, words: &str) -> f32 {
    let text = WidgetText::from(theme::caption(words));
    text.into_galley(ui, Some(TextWrapMode::Extend), f32::INFINITY, FontSelection::Default).size().x
}

/// The device in a sentence that says what a person should know.
fn device_words(device: &ComputeDevice, software: bool) -> String {
    match &device.adapter {
        None if software => format!("{}: this machine's graphics are software, so the model runs on the CPU", device.name),
        None => device.name.clone(),
        // Its name says which interface it is reached through.
        Some(_) => format!("{}, {} kernels in {}", device.name, device.kernel_tier(), device.precision),
    }
}

fn device_facts(ui: &mut Ui, device: &ComputeDevice, painted_by: Option<&PaintedBy>) {
    ui.label(&device.reason);
    ui.label(format!("Numbers: {}", device.precision));
    ui.label(format!("Kernels: {}, {}", device.kernel_tier(), device.tier_reason()));
    if let Some(adapter) = &device.adapter {
        ui.label(format!("Driver: {}", adapter.driver));
    }
    if let Some(painted) = painted_by {
        ui.label(format!("The window is painted by {}", painted.name));
    }
}

fn run(ui: &mut Ui, state: &State, queue_seconds: Option<f64>, actions: &mut Vec<Action>) {
    let waiting = state.queue.iter().filter(|item| item.state == crate::studio::ItemState::Waiting).count();
    let Some(live) = &state.live else {
        if let Some(lab) = state.lab.as_ref().filter(|run| run.is_under_way()) {
            let is_pausing = lab.stage == LabStage::Pausing;
            let tip = "It goes on later from its checkpoint; the queue goes on now";
            if !is_pausing && icon_button(ui, Icon::Pause, "Pause the lab", tip).clicked() {
                actions.push(Action::Lab(LabAction::Pause));
            }
            let waits = if waiting > 0 { format!("; {waiting} waiting for it") } else { String::new() };
            let does = if is_pausing { "stops behind this step".to_owned() } else { lab.doing.clone() };
            let name = ui.label(theme::caption(format!("The lab: {does}{waits}")));
            progress_bar(ui, lab.share as f32).labelled_by(name.id);
        } else if state.is_paused {
            let go_on = ui.button("Go on").on_hover_text("The queue rests, and the model's memory is given back");
            if go_on.clicked() {
                actions.push(Action::Unpause);
            }
            go_on.accessible_name("Go on with the queue");
            ui.label(theme::caption(format!("The queue is paused, {waiting} waiting")));
        } else if waiting > 0 {
            ui.label(theme::caption(format!("{waiting} waiting")));
        } else {
            ui.label(theme::caption("Ready"));
        }
        return;
    };
    let now = Instant::now();
    if icon_button(ui, Icon::Stop, "Stop this run", "Its finished steps are kept in the queue").clicked() {
        actions.push(Action::Stop(live.item));
    }
    if icon_button(
        ui,
        Icon::Pause,
        "Pause the queue",
        "The run stops behind its last finished step, and the model's memory is given back",
    )
    .clicked()
    {
        actions.push(Action::Pause);
    }
    let left = live.seconds_left(now);
    let total = queue_seconds.filter(|seconds| *seconds > 0.0).map(|seconds| format!(", all in {}", duration(seconds + left)));
    ui.label(theme::caption(format!("about {} left{}", duration(left), total.unwrap_or_default())))
        .on_hover_text("Estimated from this run's own steps, and from earlier runs on this device for the rest.");
    let bar = progress_bar(ui, live.share_done(now) as f32);
    bar.labelled_by(ui.label(theme::caption(live.doing())).id);
}

/// As wide as a part of the line lets it be.
fn progress_bar(ui: &mut Ui, share: f32) -> egui::Response {
    let width = (0.12 * ui.ctx().content_rect().width()).clamp(60.0, 160.0);
    ui.add(ProgressBar::new(share).desired_width(width).desired_height(6.0))
}
