//! The devices that take part in a run together: a box for each adapter, with its memory. It is there where a machine has more than
//! one, or where one was chosen that is not there any more; a single device is chosen in the menu below.

use eframe::egui::{Align, Label, Layout, RichText, Ui};

use super::action::Action;
use super::mask_dial::notice;
use super::theme::Palette;
use crate::gpu::device::{AdapterReport, ComputeDevice};
use crate::studio::ChosenDevice;
use crate::studio::words::bytes;

/// Whether there is anything to choose.
pub fn is_needed(adapters: &[AdapterReport], chosen: &[ChosenDevice]) -> bool {
    adapters.len() > 1 || chosen.iter().any(|device| device.choice(adapters).is_none())
}

/// Shows the boxes. `chosen` is what the person chose before; empty where the program chose `device`, or the command line did.
pub fn show(
    ui: &mut Ui,
    adapters: &[AdapterReport],
    chosen: &[ChosenDevice],
    device: Option<&ComputeDevice>,
    actions: &mut Vec<Action>,
) {
    let used = match chosen {
        [] => used(adapters, device),
        chosen => chosen.to_vec(),
    };
    for adapter in adapters {
        let Some(own) = ChosenDevice::adapter(adapters, adapter.index) else { continue };
        let memory = adapter.memory_bytes.map_or_else(|| "memory not known".to_owned(), bytes);
        let tip = if adapter.software {
            "A program on the CPU that stands in for graphics: it makes every run slower"
        } else {
            "Every device that takes part holds all of the model, and makes a share of the frames"
        };
        let mut takes_part = used.contains(&own);
        let is_first = takes_part && used.len() > 1 && used.first() == Some(&own);
        let words = if is_first { format!("{memory}, first") } else { memory };
        ui.horizontal(|ui| {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let memory = ui.label(RichText::new(words).small().color(Palette::of(ui).text_dim));
                if is_first {
                    memory.on_hover_text("It does what is not shared: it reads the prompt and puts the clip together");
                }
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    ui.style_mut().wrap_mode = Some(eframe::egui::TextWrapMode::Truncate);
                    let name = format!("{} ({})", adapter.name, adapter.backend);
                    if ui.checkbox(&mut takes_part, name).on_hover_text(tip).clicked() {
                        actions.push(Action::UseDevices { devices: with(&used, &own, takes_part), remember: true });
                    }
                });
            });
        });
    }
    for gone in used.iter().filter(|device| device.choice(adapters).is_none()) {
        let mut takes_part = true;
        let tip = "It takes part again when it is back; take the mark away to forget it";
        if ui.checkbox(&mut takes_part, format!("{}, not there now", gone.name())).on_hover_text(tip).clicked() {
            actions.push(Action::UseDevices { devices: with(&used, gone, false), remember: true });
        }
    }
    let there = used.iter().filter(|device| device.choice(adapters).is_some()).count();
    if there > 1 {
        let words = "They share each step and the decoding. The clip may differ in the last bits from one that a single device \
                     makes, and attention is not recorded.";
        ui.add(Label::new(RichText::new(words).small().color(Palette::of(ui).text_dim)).wrap());
    } else if there == 0 && !chosen.is_empty() {
        notice(ui, "None of the chosen devices is there, so runs are made on the best one that is.");
    }
}

/// The devices of a run now.
fn used(adapters: &[AdapterReport], device: Option<&ComputeDevice>) -> Vec<ChosenDevice> {
    let all = device.into_iter().flat_map(|device| std::iter::once(device).chain(&device.others));
    let index = |device: &ComputeDevice| device.adapter.as_ref().map(|adapter| adapter.index);
    all.filter_map(|device| index(device).map_or(Some(ChosenDevice::Cpu), |index| ChosenDevice::adapter(adapters, index)))
        .collect()
}

/// The devices with one more, or one less. Without any adapter left the choice is the program's again.
fn with(used: &[ChosenDevice], device: &ChosenDevice, takes_part: bool) -> Vec<ChosenDevice> {
    let mut others: Vec<ChosenDevice> = used.iter().filter(|other| *other != device).cloned().collect();
    if takes_part {
        // Beside an adapter the CPU holds up the others; it stays if it was chosen with one.
        if others == [ChosenDevice::Cpu] {
            others.clear();
        }
        others.push(device.clone());
    }
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_added_behind_and_taken_away() {
        let [a, b] = ["A", "B"].map(|name| ChosenDevice::Adapter { name: name.into(), backend: "Vulkan".into(), place: 0 });
        assert_eq!(with(std::slice::from_ref(&a), &b, true), [a.clone(), b.clone()]);
        assert_eq!(with(&[a.clone(), b.clone()], &a, false), std::slice::from_ref(&b));
        assert_eq!(with(std::slice::from_ref(&b), &b, false), []);
        assert_eq!(with(&[ChosenDevice::Cpu], &a, true), std::slice::from_ref(&a));
        assert_eq!(with(&[a.clone(), ChosenDevice::Cpu], &b, true), [a, ChosenDevice::Cpu, b]);
    }
}
