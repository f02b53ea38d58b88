//! The window: holds what the panels share, draws them, and does what they say.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use eframe::egui::{self, Context, Ui};
use eframe::{CreationContext, Frame};

use super::action::Action;
use super::bench::{Bench, Next};
use super::export_dialog::ExportDialog;
use super::inspector::Inspector;
use super::launch::WindowOptions;
use super::layout::{self, Docking, Layout, Pane};
use super::library_panel::LibraryPanel;
use super::player::{Player, PlayerEvent, state::PlayerState};
use super::queue_panel::QueuePanel;
use super::readings::Readings;
use super::settings::SettingsPanel;
use super::stage::{Stage, source_of_clip, source_of_live};
use super::status_bar::{PaintedBy, StatusBar};
use super::theme;
use super::toasts::Toasts;
use crate::studio::{ClipId, Draft, ItemId, Leaving, State, Studio, Task, Verdict};

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
    pub(super) verifying: Option<(ClipId, Task<Verdict>)>,
    pub(super) decoding: Option<(ClipId, usize, Task<()>)>,
    pub(super) toasts: Toasts,
    pub(super) last_deleted: Option<ClipId>,
    pub(super) settings: SettingsPanel,
    pub(super) layout: Layout,
    library: LibraryPanel,
    queue: QueuePanel,
    pub(super) inspector: Inspector,
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
        let waking = context.egui_ctx.clone();
        studio.set_wake(move || waking.request_repaint());
        let painted_by = context.wgpu_render_state.as_ref().map(|state| {
            let info = state.adapter.get_info();
            PaintedBy { name: info.name, software: info.device_type == wgpu::DeviceType::Cpu }
        });
        let remembered = |name: &str| studio.database().preference(name).ok().flatten();
        let draft = studio.database().preference::<Draft>("draft").ok().flatten();
        let mut window = Self {
            draft: draft.unwrap_or_else(super::settings::first_draft),
            leaving: None,
            editing: None,
            stage: Stage::Empty,
            player: Player::new(studio.database().preference::<PlayerState>("player").ok().flatten().unwrap_or_default()),
            export: None,
            export_to: options.export_to,
            verifying: None,
            decoding: None,
            toasts: Toasts::default(),
            last_deleted: None,
            settings: SettingsPanel::default(),
            layout: remembered("layout").and_then(layout::checked).unwrap_or_else(layout::standard),
            library: LibraryPanel::default(),
            queue: QueuePanel::default(),
            inspector: Inspector::default(),
            readings: Readings::default(),
            status_bar: StatusBar::default(),
            painted_by,
            is_cleared: context.winit_window().is_some(),
            newest_seen: studio.state().newest,
            live_seen: None,
            bench: Bench::new(options.started, options.bench),
            studio,
        };
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

    /// Whether the settings could be run now.
    pub fn is_ready(&self) -> bool {
        self.settings.is_ready()
    }

    pub fn stage(&self) -> &Stage {
        &self.stage
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
                self.settings.show(ui, &self.studio, &mut self.draft, leaving, self.editing, actions);
            }
            Pane::Player => self.player_pane(ui, state, actions),
            Pane::Inspector => {
                let live = state.live.as_ref().filter(|_| matches!(self.stage, Stage::Live));
                self.inspector.show(ui, &self.studio, self.stage.clip().map(|clip| &clip.entry), live, actions);
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

    fn player_pane(&mut self, ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
        let source = match (&self.stage, &state.live) {
            (Stage::Live, Some(live)) => source_of_live(live),
            (Stage::Clip(clip), _) => source_of_clip(&self.studio, clip),
            _ => Default::default(),
        };
        let clip = self.stage.clip().map(|clip| (clip.entry.id, clip.steps));
        let step = self.player.shown_step(&source).map(|step| step + 1);
        let is_slow = self.painted_by.as_ref().is_some_and(|painted| painted.software) && state.live.is_some();
        self.player.least_repaint_seconds = if is_slow { SOFTWARE_BEAT_SECONDS } else { 0.0 };
        if self.player.inspect.on {
            let shown = step.or(clip.map(|(_, steps)| steps)).unwrap_or_default();
            let question = self.player.question(&source);
            self.player.inspect.answers = self.readings.answers(&self.studio, &self.stage, shown, question);
        }
        let events = self.player.show(ui, &source, |ui| {
            let Some((clip, steps)) = clip else { return };
            if ui.add(theme::primary_button(ui, "Export")).on_hover_text("Write the clip to a file (Ctrl+E)").clicked() {
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
                PlayerEvent::Want(_) => {}
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
        ];
        for error in kept.into_iter().filter_map(Result::err) {
            log::warn!("{error}");
        }
    }
}

impl eframe::App for Window {
    fn logic(&mut self, context: &Context, _: &mut Frame) {
        self.follow_studio(context);
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
        super::keys::handle(ui, self, &mut actions);
        let queue_seconds = self.queue_seconds(&state);
        egui::Panel::bottom("status").show(ui, |ui| {
            self.status_bar.show(ui, &state, self.painted_by.as_ref(), queue_seconds, &mut actions);
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
        self.toasts.show(ui.ctx(), &state.notes, &mut actions);
        super::drop_target::show(ui.ctx(), &mut actions);
        for action in actions {
            self.act(ui.ctx(), action);
        }
        if state.live.is_some() {
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
