//! The keys of all commands: found by name or by key, changed by pressing others.

use std::ops::ControlFlow;

use eframe::egui::{
    Align, Button, Context, Event, EventFilter, Id, Key, KeyboardShortcut, Label, Layout, Modal, RichText, Role, ScrollArea,
    TextEdit, Ui, WidgetInfo, vec2,
};

use super::commands::{self, Command, Group};
use super::controls::small_reset;
use super::mask_dial::notice;
use super::shortcuts::{Keys, normalised, shown};
use super::theme::{self, Palette};

const WIDTH: f32 = 620.0;
const MOST_HEIGHT: f32 = 520.0;
const KEYS_WIDTH: f32 = 190.0;

#[derive(Default)]
pub struct KeysDialog {
    query: String,
    /// The command whose new keys are waited for.
    listening: Option<&'static str>,
    /// Keys that another command has.
    conflict: Option<Conflict>,
}

#[derive(Clone, Copy)]
struct Conflict {
    id: &'static str,
    keys: KeyboardShortcut,
    other: &'static Command,
}

impl KeysDialog {
    /// Breaks when it is done.
    pub fn show(&mut self, context: &Context, keys: &mut Keys) -> ControlFlow<()> {
        self.listen(context, keys);
        let frame = eframe::egui::Frame::popup(&context.global_style()).inner_margin(theme::SPACE_LARGE);
        let modal = Modal::new(Id::unique("keys")).frame(frame).show(context, |ui| {
            ui.set_width(WIDTH.min(context.content_rect().width() - 60.0));
            ui.label(theme::title("Keys").color(Palette::of(ui).text_strong));
            let field = TextEdit::singleline(&mut self.query).desired_width(f32::INFINITY).margin(vec2(10.0, 6.0));
            let field = ui.add(field.hint_text("Find a command, or keys such as Ctrl+E"));
            field.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "Find a command or keys"));
            let height = MOST_HEIGHT.min(context.content_rect().height() - 260.0);
            ScrollArea::vertical().max_height(height).min_scrolled_height(height).auto_shrink(false).show(ui, |ui| {
                // Room for the bar, which lies over the content.
                eframe::egui::Frame::new().inner_margin(eframe::egui::Margin { right: 10, ..Default::default() }).show(
                    ui,
                    |ui| {
                        self.list(ui, keys);
                        super::focus::follow(ui);
                    },
                );
            });
            ui.separator();
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let done = ui.add(theme::primary_button(ui, "Done").min_size(vec2(88.0, 32.0))).clicked();
                let reset = Button::new("Reset all").min_size(vec2(88.0, 32.0));
                let reset =
                    ui.add_enabled(keys.any_changed(), reset).on_hover_text("All commands get back the keys of the first start");
                if reset.clicked() {
                    keys.reset_all();
                    self.conflict = None;
                }
                done
            })
            .inner
        });
        if modal.inner || modal.should_close() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn list(&mut self, ui: &mut Ui, keys: &mut Keys) {
        let query = self.query.trim().to_lowercase();
        let fits = |ui: &Ui, keys: &Keys, command: &Command| {
            let text = format!("{} {} {}", command.name, command.does, keys.text(ui.ctx(), command.id)).to_lowercase();
            query.split_whitespace().all(|word| text.contains(word))
        };
        let mut any = false;
        for group in Group::ALL {
            let of_group: Vec<&'static Command> =
                commands::ALL.iter().filter(|command| command.group == group && fits(ui, keys, command)).collect();
            if of_group.is_empty() {
                continue;
            }
            any = true;
            ui.add_space(theme::SPACE_TINY);
            ui.label(theme::caption(group.name()).color(Palette::of(ui).text_strong));
            for command in of_group {
                self.row(ui, command, keys);
            }
        }
        if !any {
            ui.label(RichText::new("No command is called so, or has such keys.").color(Palette::of(ui).text_dim));
        }
    }

    fn row(&mut self, ui: &mut Ui, command: &'static Command, keys: &mut Keys) {
        let palette = Palette::of(ui);
        let listens = self.listening == Some(command.id);
        ui.horizontal(|ui| {
            let name = Label::new(RichText::new(command.name).color(palette.text));
            ui.add(name).on_hover_text(command.does);
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let text = match keys.text(ui.ctx(), command.id) {
                    _ if listens => "Press keys…".to_owned(),
                    text if text.is_empty() => "none".to_owned(),
                    text => text,
                };
                let button =
                    Button::selectable(listens, RichText::new(&text)).min_size(vec2(KEYS_WIDTH, 26.0)).fill(palette.control);
                let tip = "Press it, then the new keys. Escape leaves them as they are, Backspace takes them away.";
                let response = ui.add(button);
                let id = response.id;
                response.widget_info(|| WidgetInfo::labeled(Role::Button, true, format!("Keys of {}: {text}", command.name)));
                if listens {
                    let all = EventFilter { tab: true, horizontal_arrows: true, vertical_arrows: true, escape: true };
                    ui.memory_mut(|memory| memory.set_focus_lock_filter(id, all));
                    if response.lost_focus() {
                        self.listening = None;
                    }
                }
                if response.on_hover_text(tip).clicked() && !listens {
                    (self.listening, self.conflict) = (Some(command.id), None);
                    ui.memory_mut(|memory| memory.request_focus(id));
                }
                if keys.is_changed(command.id) {
                    let own: Vec<String> = command.keys.iter().map(|own| shown(ui.ctx(), own)).collect();
                    let own = if own.is_empty() { "none".to_owned() } else { own.join(" or ") };
                    if small_reset(ui, &format!("keys of {}", command.name), &own) {
                        keys.reset(command.id);
                        self.conflict = None;
                    }
                }
            });
        });
        if let Some(conflict) = self.conflict.filter(|conflict| conflict.id == command.id) {
            self.show_conflict(ui, conflict, keys);
        }
    }

    /// Whose keys they are, and what can be done.
    fn show_conflict(&mut self, ui: &mut Ui, Conflict { id, keys: wanted, other }: Conflict, keys: &mut Keys) {
        let text = shown(ui.ctx(), &wanted);
        notice(ui, &format!("{text} belongs to “{}”.", other.name));
        ui.horizontal(|ui| {
            if ui.button("Swap them").on_hover_text(format!("“{}” gets the keys of this command", other.name)).clicked() {
                keys.swap(id, other.id, wanted);
                self.conflict = None;
            }
            if ui.button("Take them").on_hover_text(format!("“{}” has no keys then", other.name)).clicked() {
                keys.set(other.id, None);
                keys.set(id, Some(wanted));
                self.conflict = None;
            }
            if ui.button("Leave them").clicked() {
                self.conflict = None;
            }
        });
    }

    /// Takes the keys that are pressed for a command, before anything else sees them.
    fn listen(&mut self, context: &Context, keys: &mut Keys) {
        let Some(id) = self.listening else { return };
        let pressed = context.input_mut(|input| {
            let pressed = input.events.iter().find_map(|event| match event {
                Event::Key { key, modifiers, pressed: true, repeat: false, .. } => Some((*key, normalised(*modifiers))),
                // Copying, cutting and pasting come as what they mean.
                Event::Copy => Some((Key::C, eframe::egui::Modifiers::COMMAND)),
                Event::Cut => Some((Key::X, eframe::egui::Modifiers::COMMAND)),
                Event::Paste(_) => Some((Key::V, eframe::egui::Modifiers::COMMAND)),
                _ => None,
            });
            let is_typed =
                |event: &Event| matches!(event, Event::Key { .. } | Event::Text(_) | Event::Copy | Event::Cut | Event::Paste(_));
            input.events.retain(|event| !is_typed(event));
            pressed
        });
        let Some((key, modifiers)) = pressed else { return };
        self.listening = None;
        match (key, modifiers.is_none()) {
            (Key::Escape, true) => {}
            (Key::Backspace, true) => keys.set(id, None),
            _ => {
                let wanted = KeyboardShortcut::new(modifiers, key);
                match keys.taken_by(&wanted, id) {
                    Some(other) => self.conflict = Some(Conflict { id, keys: wanted, other }),
                    None => keys.set(id, Some(wanted)),
                }
            }
        }
    }
}
