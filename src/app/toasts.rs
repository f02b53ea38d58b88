//! Short messages in a corner: what was done, what went wrong, and what can be undone. Errors stay until they are taken away.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use eframe::egui::{self, Align2, Area, Context, Frame, Id, Label, Order, RichText, Ui};

use super::action::Action;
use super::error_card;
use super::icons::{Icon, icon_button};
use super::theme;
use crate::studio::{Task, Verdict};

const SHOWN_BRIEFLY: Duration = Duration::from_millis(2500);
const SHOWN: Duration = Duration::from_secs(5);
const SHOWN_WITH_BUTTON: Duration = Duration::from_secs(12);
const WIDTH: f32 = 360.0;

#[derive(Default)]
pub struct Toasts {
    toasts: Vec<Toast>,
}

struct Toast {
    text: String,
    kind: Kind,
    until: Option<Instant>,
}

enum Kind {
    Said,
    Brief,
    Error,
    Deleted,
    /// A file's settings were taken; its clip can be made again.
    VerifyOffer(PathBuf),
    Verifying(Task<Verdict>),
}

impl Toasts {
    pub fn say(&mut self, text: String) {
        self.push(text, Kind::Said, Some(SHOWN));
    }

    /// What is said of one thing again and again: only the last stands.
    pub fn brief(&mut self, text: String) {
        self.toasts.retain(|toast| !matches!(toast.kind, Kind::Brief));
        self.push(text, Kind::Brief, Some(SHOWN_BRIEFLY));
    }

    pub fn error(&mut self, text: String) {
        self.toasts.retain(|toast| toast.text != text);
        self.push(text, Kind::Error, None);
    }

    pub fn deleted(&mut self) {
        self.toasts.retain(|toast| !matches!(toast.kind, Kind::Deleted));
        self.push("The clip is in the trash for a week".into(), Kind::Deleted, Some(SHOWN_WITH_BUTTON));
    }

    pub fn verify_offer(&mut self, name: String, path: PathBuf) {
        self.push(format!("The settings of {name} are in the panel"), Kind::VerifyOffer(path), Some(SHOWN_WITH_BUTTON));
    }

    pub fn verifying(&mut self, name: String, task: Task<Verdict>) {
        self.push(name, Kind::Verifying(task), None);
    }

    fn push(&mut self, text: String, kind: Kind, shown: Option<Duration>) {
        self.toasts.push(Toast { text, kind, until: shown.map(|shown| Instant::now() + shown) });
    }

    /// Lets time pass.
    pub fn follow(&mut self, context: &Context) {
        let now = Instant::now();
        self.toasts.retain(|toast| toast.until.is_none_or(|until| until > now));
        for toast in &mut self.toasts {
            if let Kind::Verifying(task) = &toast.kind
                && let Some(result) = task.take_result()
            {
                let sentence = result.map_or_else(|error| error.to_string(), |verdict| verdict.sentence());
                (toast.text, toast.kind) = (format!("{}: {sentence}", toast.text), Kind::Said);
            }
        }
        if let Some(next) = self.toasts.iter().filter_map(|toast| toast.until).min() {
            context.request_repaint_after(next.saturating_duration_since(now));
        }
    }

    /// `notes` are the studio's own, which stay until they are taken away there.
    pub fn show(&mut self, context: &Context, notes: &[String], actions: &mut Vec<Action>) {
        if self.toasts.is_empty() && notes.is_empty() {
            return;
        }
        let area =
            Area::new(Id::unique("messages")).order(Order::Foreground).anchor(Align2::RIGHT_BOTTOM, [-theme::SPACE, -44.0]);
        area.show(context, |ui| {
            ui.set_width(WIDTH);
            for note in notes {
                error_card::show_note(ui, note, actions);
                ui.add_space(theme::SPACE_SMALL);
            }
            self.toasts.retain(|toast| {
                let error = matches!(toast.kind, Kind::Error);
                let mut done = false;
                let closed = card(ui, &toast.text, error, |ui| match &toast.kind {
                    Kind::Deleted if ui.button("Undo").clicked() => {
                        actions.push(Action::UndoDelete);
                        done = true;
                    }
                    Kind::VerifyOffer(path) => {
                        let verify = ui.button("Verify").on_hover_text("Makes the clip again and compares every pixel");
                        if verify.clicked() {
                            actions.push(Action::VerifyFile(path.clone()));
                            done = true;
                        }
                    }
                    Kind::Verifying(task) => {
                        ui.add(egui::ProgressBar::new(task.progress() as f32).desired_width(120.0).desired_height(6.0));
                    }
                    _ => {}
                });
                if let (true, Kind::Verifying(task)) = (closed, &toast.kind) {
                    task.cancel();
                }
                !closed && !done
            });
        });
    }
}

/// One message; true when it is to go.
fn card(ui: &mut Ui, text: &str, error: bool, buttons: impl FnOnce(&mut Ui)) -> bool {
    let mut closed = false;
    Frame::popup(ui.style()).inner_margin(theme::SPACE).show(ui, |ui| {
        let color = if error { ui.visuals().error_fg_color } else { ui.visuals().text_color() };
        ui.add(Label::new(RichText::new(text).color(color)).wrap());
        ui.horizontal(|ui| {
            buttons(ui);
            closed = icon_button(ui, Icon::Close, "Close this message", "").clicked();
        });
    });
    ui.add_space(theme::SPACE_SMALL);
    closed
}
