//! The window: holds what the panels share, draws them, and does what they say.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eframe::egui::{self, Context, Ui};
use eframe::{CreationContext, Frame};

use super::action::Action;
use super::attention::{AttentionFile, MapFile, SavingMap, Subject};
use super::bench::{Bench, Next};
use super::export_dialog::ExportDialog;
use super::graphics::Loss;
use super::history::History;
use super::inspector::{Inspector, Page};
use super::keys_dialog::KeysDialog;
use super::lab::LabPage;
use super::launch::WindowOptions;
use super::layout::{self, Docking, Layout, Pane};
use super::library_panel::LibraryPanel;
use super::painter::{MaskPainter, Painted};
use super::palette::CommandPalette;
use super::player::{Player, PlayerEvent, state::PlayerState};
use super::preferences::Preferences;
use super::queue_panel::QueuePanel;
use super::readings::Readings;
use super::run_end::RunEnd;
use super::settings::SettingsPanel;
use super::stage::{Stage, source_of_clip, source_of_live};
use super::status_bar::{PaintedBy, StatusBar};
use super::theme;
use super::toasts::Toasts;
use crate::generate::recipe::{MaskChoice, Recipe};
use crate::studio::{ClipId, Draft, ItemId, Leaving, Live, Loaded, ModelInfo, State, Studio, Task, Verdict};

/// While a run goes on the window is painted at least this often, so that its progress moves.
const PROGRESS_BEAT: Duration = Duration::from_millis(90);
/// And not more often than this where the processor paints it that the run is made on.
const SOFTWARE_BEAT_SECONDS: f32 = 0.09;

pub struct Window {
    pub(super) studio: Arc<Studio>,
    pub(super) draft: Draft,
    /// The step that the next run leaves, if it is a branch.
    pub(super) leaving: Option<Leaving>,
    /// The item whose settings are in the panel.
    pub(super) editing: Option<ItemId>,
    pub(super) stage: Stage,
    pub(super) player: Player,
    pub(super) export: Option<ExportDialog>,
    pub(super) export_to: Option<PathBuf>,
    /// With the model that the mask is for.
    pub(super) painter: Option<(MaskPainter, Arc<ModelInfo>)>,
    pub(super) saving_map: Option<SavingMap>,
    pub(super) verifying: Option<(ClipId, Task<Verdict>)>,
    pub(super) decoding: Option<(ClipId, usize, Task<()>)>,
    /// Clips that wait for a twin to be compared with, and what it is to be.
    pub(super) awaited_twins: Vec<(ClipId, Recipe)>,
    pub(super) toasts: Toasts,
    pub(super) last_deleted: Option<ClipId>,
    pub(super) settings: SettingsPanel,
    pub(super) layout: Layout,
    pub(super) preferences: Preferences,
    pub(super) history: History,
    pub(super) palette: Option<CommandPalette>,
    pub(super) keys_dialog: Option<KeysDialog>,
    run_end: RunEnd,
    /// Of the device that paints it.
    loss: Loss,
    library: LibraryPanel,
    queue: QueuePanel,
    pub(super) inspector: Inspector,
    pub(super) lab: LabPage,
    readings: Readings,
    status_bar: StatusBar,
    painted_by: Option<PaintedBy>,
    /// It has a surface, which is cleared in the panels' colour before every frame.
    is_cleared: bool,
    /// Clips that were finished before are not shown by themselves.
    pub(super) newest_seen: Option<ClipId>,
    pub(super) live_seen: Option<ItemId>,
    bench: Bench,
}

impl Window {
    pub fn new(context: &CreationContext<'_>, studio: Arc<Studio>, options: WindowOptions) -> Self {
        theme::install(&context.egui_ctx);
        context.egui_ctx.add_plugin(super::tooltips::TooltipEnd::default());
        let waking = context.egui_ctx.clone();
        studio.set_wake(move || waking.request_repaint());
        let painted_by = context.wgpu_render_state.as_ref().map(|state| {
            let info = state.adapter.get_info();
            PaintedBy { name: info.name, software: info.device_type == wgpu::DeviceType::Cpu }
        });
        let remembered = |name: &str| studio.database().preference(name).ok().flatten();
        studio.time_parts(studio.database().preference("time_parts").ok().flatten().unwrap_or_default());
        let draft = studio.database().preference::<Draft>("draft").ok().flatten();
        let mut window = Self {
            draft: draft.unwrap_or_else(super::settings::first_draft),
            leaving: None,
            editing: None,
            stage: Stage::Empty,
            player: Player::new(studio.database().preference::<PlayerState>("player").ok().flatten().unwrap_or_default()),
            export: None,
            export_to: options.export_to,
            painter: None,
            saving_map: None,
            verifying: None,
            decoding: None,
            awaited_twins: Vec::new(),
            toasts: Toasts::default(),
            last_deleted: None,
            settings: SettingsPanel::default(),
            layout: remembered("layout").and_then(layout::checked).unwrap_or_else(layout::standard),
            preferences: Preferences::load(studio.database()),
            history: History::default(),
            palette: None,
            keys_dialog: None,
            run_end: RunEnd::default(),
            loss: Loss::default(),
            library: LibraryPanel::default(),
            queue: QueuePanel::default(),
            inspector: Inspector::default(),
            lab: LabPage::new(&studio),
            readings: Readings::default(),
            status_bar: StatusBar::default(),
            painted_by,
            is_cleared: context.winit_window().is_some(),
            newest_seen: studio.state().newest,
            live_seen: None,
            bench: Bench::new(options.started, options.bench),
            studio,
        };
        // The sizes and their keys are those of the preferences.
        context.egui_ctx.options_mut(|options| options.zoom_with_keyboard = false);
        window.preferences.apply(&context.egui_ctx);
        window.player.keys = window.preferences.keys.clone();
        window.player.state.playing &= !window.preferences.reduced_motion;
        // The newest clip plays at once; at the very first start that is the bundled example.
        if let Some(newest) = window.studio.clips(&Default::default()).ok().and_then(|clips| clips.first().map(|clip| clip.id)) {
            window.show_clip(newest);
        }
        if let Some(prompt) = options.prompt {
            window.draft.prompt = prompt;
        }
        if let Some(path) = options.open {
            window.act(&context.egui_ctx, Action::OpenFile(path));
        }
        window
    }

    /// Looks out for `loss`; `note` says why this window follows another one.
    pub fn reopened(&mut self, loss: Loss, note: Option<String>) {
        self.loss = loss;
        if let Some(note) = note {
            self.toasts.error(note);
        }
    }

    pub fn studio(&self) -> &Studio {
        &self.studio
    }

    pub fn draft(&self) -> &Draft {
        &self.draft
    }

    /// For those who set up the window from outside.
    pub fn draft_mut(&mut self) -> &mut Draft {
        &mut self.draft
    }

    pub fn lab(&self) -> &LabPage {
        &self.lab
    }

    /// For those who set up the window from outside.
    pub fn lab_mut(&mut self) -> &mut LabPage {
        &mut self.lab
    }

    /// Whether the settings could be run now.
    pub fn is_ready(&self) -> bool {
        self.settings.is_ready()
    }

    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// The map of attention that is on show.
    pub fn attention_map(&self) -> Option<MapFile> {
        self.inspector.attention.map(AttentionFile::Png)
    }

    pub fn player(&self) -> &Player {
        &self.player
    }

    pub fn player_mut(&mut self) -> &mut Player {
        &mut self.player
    }

    fn pane(&mut self, ui: &mut Ui, pane: Pane, state: &State, actions: &mut Vec<Action>) {
        match pane {
            Pane::Settings => {
                let leaving = self.leaving.as_ref();
                let keys = || self.preferences.keys.text(ui.ctx(), "palette");
                self.settings.hint = (!self.preferences.hint_seen).then(keys);
                self.settings.level = self.preferences.level;
                self.settings.keys = self.preferences.keys.text(ui.ctx(), "generate");
                self.settings.show(ui, &self.studio, &mut self.draft, leaving, self.editing, actions);
            }
            Pane::Player => self.player_pane(ui, state, actions),
            Pane::Inspector => {
                let live = state.live.as_ref().filter(|_| matches!(self.stage, Stage::Live));
                if self.inspector.page == Page::Attention {
                    self.inspector.subject = self.attention(live);
                }
                let clip = self.stage.clip();
                self.inspector.frame = clip.map_or(0, |clip| self.player.state.frame(clip.entry.recipe.frames));
                self.inspector.step = self.player.state.step.or(live.and_then(|live| live.calls_done.checked_sub(1)));
                let clip = clip.map(|clip| &clip.entry);
                let pair = self.stage.comparing();
                let pointed = self.inspector.show(ui, &self.studio, clip, live, pair, actions);
                self.player.highlight = pointed.tile;
                if let Some(step) = pointed.step {
                    let newest = live.map_or_else(|| self.stage.clip().map_or(0, |clip| clip.steps), |live| live.calls_done);
                    self.player.state.show_step(step, newest);
                }
            }
            Pane::Lab => {
                self.lab.still = self.preferences.reduced_motion;
                self.lab.show(ui, &self.studio, state, actions);
            }
            Pane::Library => {
                let shown = self.stage.clip().map(|clip| clip.entry.id);
                self.library.show(ui, &self.studio, shown, actions);
            }
            Pane::Queue => {
                let estimates = &self.settings;
                self.queue.show(ui, state, &|item| estimates.item_seconds(item), actions);
            }
        }
    }

    /// The records of what is on stage.
    fn attention(&self, live: Option<&Live>) -> Subject {
        let shown = self.player.state.step;
        let (records, step): (Vec<_>, _) = match (live, self.stage.clip()) {
            (Some(live), _) => (live.attention.clone(), shown.or(live.calls_done.checked_sub(1))),
            (None, Some(clip)) => {
                let record = |step| match self.studio.attention(clip.entry.id, step) {
                    Loaded::Ready(record) => Some(record),
                    Loaded::NotYet | Loaded::Failed(_) => None,
                };
                ((1..=clip.steps).map(record).collect(), shown.or(clip.steps.checked_sub(1)))
            }
            (None, None) => Default::default(),
        };
        Subject { records, step, is_live: live.is_some(), recording: self.studio.recording() }
    }

    fn player_pane(&mut self, ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
        if let Stage::Compare(pair) = &self.stage {
            let pair = pair.clone();
            return self.compare_pane(ui, &pair, actions);
        }
        let source = match (&self.stage, &state.live) {
            (Stage::Live, Some(live)) => source_of_live(live),
            (Stage::Clip(clip), _) => source_of_clip(&self.studio, clip),
            _ => Default::default(),
        };
        let clip = self.stage.clip().map(|clip| (clip.entry.id, clip.steps));
        let step = self.player.shown_step(&source).map(|step| step + 1);
        let is_slow = self.painted_by.as_ref().is_some_and(|painted| painted.software) && state.live.is_some();
        self.player.least_repaint_seconds = if is_slow { SOFTWARE_BEAT_SECONDS } else { 0.0 };
        let export_keys = self.preferences.keys.text(ui.ctx(), "export");
        if self.player.inspect.on {
            let shown = step.or(clip.map(|(_, steps)| steps)).unwrap_or_default();
            let question = self.player.question(&source);
            self.player.inspect.answers = self.readings.answers(&self.studio, &self.stage, shown, question);
        }
        let events = self.player.show(ui, &source, |ui| {
            let Some((clip, steps)) = clip else { return };
            if ui
                .add(theme::primary_button(ui, "Export"))
                .on_hover_text(format!("Write the clip to a file ({export_keys})"))
                .clicked()
            {
                actions.push(Action::Export(clip));
            }
            // The clip itself is the last step's; a branch leaves one before it.
            let step = step.unwrap_or(steps).min(steps.saturating_sub(1));
            if step > 0 {
                if ui
                    .button("Branch from here")
                    .on_hover_text(format!("Go on from step {step} with another prompt, seed or mask"))
                    .clicked()
                {
                    actions.push(Action::Branch { clip, step });
                }
                if ui
                    .button("Vary")
                    .on_hover_text(format!("Queue four clips that leave this one at step {step} with other seeds"))
                    .clicked()
                {
                    actions.push(Action::Variations { clip, step, count: 4 });
                }
            }
        });
        for event in events {
            match event {
                PlayerEvent::Want(super::player::source::Pictures::Step(step, super::player::state::Look::Decoder)) => {
                    if let Some((clip, _)) = clip {
                        actions.push(Action::DecodeStep { clip, step: step + 1 });
                    }
                }
                // The shelf was asked when the source was made.
                PlayerEvent::Want(_) | PlayerEvent::WantOther(_) => {}
                PlayerEvent::LookChanged(look) => {
                    actions.push(Action::DecodePreviews(look == super::player::state::Look::Decoder))
                }
                PlayerEvent::BranchFrom(step) => {
                    if let Some((clip, _)) = clip {
                        actions.push(Action::Branch { clip, step: step + 1 });
                    }
                }
            }
        }
    }

    /// What keys ask for. A dialog has them for itself.
    fn keys(&self, context: &Context, state: &State, actions: &mut Vec<Action>) {
        if self.palette.is_some() || self.keys_dialog.is_some() || self.export.is_some() || self.painter.is_some() {
            return;
        }
        let is_free = !context.any_popup_open() && !context.text_edit_focused();
        if self.stage.comparing().is_some() && is_free && context.input(|input| input.key_pressed(egui::Key::Escape)) {
            actions.push(Action::LeaveCompare);
        }
        let pressed = super::keys::pressed(context, &self.preferences.keys);
        if pressed.is_empty() {
            return;
        }
        let situation = self.situation(context, state);
        actions.extend(pressed.into_iter().filter_map(|command| command.now(&situation).ok()));
    }

    /// The list of commands, and that of their keys.
    fn dialogs(&mut self, context: &Context, actions: &mut Vec<Action>) {
        if let Some(palette) = &mut self.palette {
            let recent = self.preferences.recent_commands.clone();
            let mut used = None;
            let ended = palette.show(context, &recent, actions, |id| used = Some(id.to_owned())).is_break();
            if ended {
                self.palette = None;
            }
            if let Some(used) = used {
                self.prefer(context, |preferences| preferences.used(&used));
            }
        }
        if let Some(mut dialog) = self.keys_dialog.take() {
            let mut keys = self.preferences.keys.clone();
            let ended = dialog.show(context, &mut keys).is_break();
            if keys != self.preferences.keys {
                self.prefer(context, |preferences| preferences.keys = keys);
            }
            if !ended {
                self.keys_dialog = Some(dialog);
            }
        }
    }

    /// The mask's painter; what it saved is chosen.
    fn show_painter(&mut self, context: &Context, parent: Option<&Frame>) {
        let Some((painter, model)) = &mut self.painter else { return };
        let (forecast, draft, leaving) = (self.settings.forecast(), &self.draft, self.leaving.as_ref());
        let cost = |plan: &crate::mask::MaskPlan| forecast.with_plan(draft, model, leaving, plan);
        let ControlFlow::Break(painted) = painter.show(context, parent, cost) else { return };
        self.painter = None;
        if let Painted::Saved(path) = painted {
            self.toasts.say(format!("The plan is in {}, and is chosen", path.display()));
            self.draft.mask = MaskChoice::File(path);
            self.settings.look_again();
        }
    }

    /// The mask's painter, while it is open.
    pub fn painter(&self) -> Option<&MaskPainter> {
        self.painter.as_ref().map(|(painter, _)| painter)
    }

    /// The list of commands, while it is open.
    pub fn palette(&self) -> Option<&CommandPalette> {
        self.palette.as_ref()
    }

    pub fn preferences(&self) -> &Preferences {
        &self.preferences
    }

    fn queue_seconds(&self, state: &State) -> Option<f64> {
        let waiting = state.queue.iter().filter(|item| item.state == crate::studio::ItemState::Waiting);
        waiting.map(|item| self.settings.item_seconds(item)).sum()
    }

    /// Keeps what the person has set up, so that the next start finds it.
    pub fn remember(&self) {
        let database = self.studio.database();
        let kept = [
            database.set_preference("draft", &self.draft),
            database.set_preference("layout", &self.layout),
            database.set_preference("player", &self.player.state),
            self.studio.remember_lab_wish(self.lab.wish()),
        ];
        for error in kept.into_iter().filter_map(Result::err) {
            log::warn!("{error}");
        }
    }
}

impl eframe::App for Window {
    fn logic(&mut self, context: &Context, _: &mut Frame) {
        if self.loss.reason().is_some() {
            // Nothing can be painted any more; another window takes over.
            context.send_viewport_cmd(egui::ViewportCommand::Close);
        }
        self.follow_studio(context);
        self.run_end.follow(context, &self.studio.state(), self.preferences.notify);
        let ready = self.settings.is_ready();
        match self.bench.next(&self.studio.state(), ready) {
            Next::Wait => {}
            Next::Generate => self.act(context, Action::Generate),
            Next::Stop(item) => self.act(context, Action::Stop(item)),
            Next::Close => context.send_viewport_cmd(egui::ViewportCommand::Close),
        }
    }

    fn ui(&mut self, ui: &mut Ui, frame: &mut Frame) {
        let state = self.studio.state();
        self.bench.frame(&state);
        let mut actions = Vec::new();
        self.keys(ui.ctx(), &state, &mut actions);
        let queue_seconds = self.queue_seconds(&state);
        egui::Panel::bottom("status").show(ui, |ui| {
            let preferences = &self.preferences;
            self.status_bar.show(ui, &state, preferences, self.painted_by.as_ref(), queue_seconds, &mut actions);
        });
        let fills = !self.is_cleared;
        // The tree is taken out, as its panes need the window.
        let mut tree = std::mem::replace(&mut self.layout, Layout::empty(egui::Id::unique("panels")));
        let mut show = |ui: &mut Ui, pane: Pane| self.pane(ui, pane, &state, &mut actions);
        let mut docking = Docking { show: &mut show, fills };
        egui::CentralPanel::no_frame().show(ui, |ui| tree.ui(&mut docking, ui));
        self.layout = tree;
        if let Some(export) = &mut self.export
            && export.show(ui.ctx(), Some(frame), &mut actions).is_break()
        {
            self.export = None;
        }
        self.show_painter(ui.ctx(), Some(frame));
        self.dialogs(ui.ctx(), &mut actions);
        self.toasts.show(ui.ctx(), &state.notes, &mut actions);
        super::drop_target::show(ui.ctx(), &mut actions);
        // What the controls have changed is a step back; what an action does to the settings, too.
        let held = ui.input(|input| input.pointer.any_down());
        self.history.follow(&self.draft, held, Instant::now());
        for action in actions {
            self.act(ui.ctx(), action);
        }
        if state.live.is_some() || state.lab.as_ref().is_some_and(|run| run.is_under_way()) {
            ui.ctx().request_repaint_after(PROGRESS_BEAT);
        }
    }

    fn clear_color(&self, visuals: &egui::Visuals) -> [f32; 4] {
        visuals.panel_fill.to_normalized_gamma_f32()
    }

    fn save(&mut self, _: &mut dyn eframe::Storage) {
        self.remember();
    }

    fn on_exit(&mut self) {
        self.remember();
    }
}
