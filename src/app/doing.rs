//! Doing what the panels say.

use eframe::egui::Context;

use super::action::Action;
use super::attention::{AttentionFile, SavingMap};
use super::commands::Situation;
use super::export_dialog::ExportDialog;
use super::inspector::Page;
use super::keys_dialog::KeysDialog;
use super::lab::LabAction;
use super::layout::Pane;
use super::painter::MaskPainter;
use super::palette::CommandPalette;
use super::player::state::Look;
use super::preferences::Preferences;
use super::stage::{Comparing, Stage, StagedClip};
use super::window::Window;
use crate::generate::GenerateError;
use crate::generate::recipe::{MaskChoice, Recipe};
use crate::model::sampler::Sampler;
use crate::studio::{
    ChosenDevice, ClipId, Draft, ItemId, LabKept, Loaded, ModelInfo, NewItem, Picture, QueueItem, Remedy, State, StudioError,
    lasting_name, random_seed, read_recipe, twin, variations,
};

impl Window {
    /// Does it, and says so where that is not plain to see. What fails is shown, and changes nothing.
    pub fn act(&mut self, context: &Context, action: Action) {
        if let Err(error) = self.try_act(context, action) {
            self.toasts.error(error.to_string());
        }
    }

    fn try_act(&mut self, context: &Context, action: Action) -> Result<(), StudioError> {
        match action {
            Action::Generate => self.generate()?,
            Action::UseRecipe { recipe, model } => {
                self.draft = Draft::of_recipe(&recipe, &model);
                (self.leaving, self.editing) = (None, None);
                self.reveal(Pane::Settings);
            }
            Action::OpenFile(path) => {
                let recipe = read_recipe(&path)?;
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                self.draft = Draft::of_recipe(&recipe, &recipe.model.name);
                (self.leaving, self.editing) = (None, None);
                self.reveal(Pane::Settings);
                self.toasts.verify_offer(name, path);
            }
            Action::OpenModel(path) => {
                let name = lasting_name(&path.display().to_string());
                self.settings.add_model(&self.studio, &name)?;
                self.draft.model = name;
            }
            Action::ChooseModel => self.settings.choose_model(context),
            Action::PaintMask => self.open_painter()?,
            Action::Lab(action) => self.act_in_lab(action)?,

            Action::ShowClip(clip) => {
                self.show_clip(clip);
                self.reveal(Pane::Player);
            }
            Action::ShowLive => self.stage = Stage::Live,
            Action::Compare { a, b } => self.compare(a, b)?,
            Action::CompareWithDense(clip) => {
                let model = self.studio.clip(clip)?.model;
                self.compare_with_twin(clip, &model, &MaskChoice::Dense)?;
            }
            Action::CompareWithSettings(clip) => {
                let (model, mask) = (self.draft.model.clone(), self.draft.mask.clone());
                self.compare_with_twin(clip, &model, &mask)?;
            }
            Action::SwapCompared => {
                if let Stage::Compare(pair) = &mut self.stage {
                    let Comparing { a, b } = &mut **pair;
                    std::mem::swap(a, b);
                }
            }
            Action::LeaveCompare => {
                if let Stage::Compare(pair) = &self.stage {
                    self.show_clip(pair.a.entry.id);
                }
            }
            Action::GoToFrame(frame) => {
                if let Some(clip) = self.stage.clip() {
                    self.player.state.playing = false;
                    self.player.state.go_to(frame, clip.entry.recipe.frames);
                }
            }
            Action::DecodeStep { clip, step } => {
                let busy = self.decoding.as_ref().is_some_and(|(other, at, _)| (*other, *at) == (clip, step));
                let there = matches!(self.studio.picture(Picture::Decoded(clip, step)), Loaded::Ready(_));
                if !busy && !there && self.decoding.is_none() {
                    self.decoding = Some((clip, step, self.studio.decode_step(clip, step)?));
                }
            }
            Action::Branch { clip, step } => {
                let leaving = self.studio.leaving(clip, step)?;
                let entry = self.studio.clip(clip)?;
                self.draft = Draft::of_recipe(&entry.recipe, &entry.model);
                (self.leaving, self.editing) = (Some(leaving), None);
                self.reveal(Pane::Settings);
            }
            Action::LeaveBranch => self.leaving = None,
            Action::LeaveEdit => self.editing = None,
            Action::Variations { clip, step, count } => {
                let entry = self.studio.clip(clip)?;
                let items = variations(&self.studio.leaving(clip, step)?, &entry.model, count)?;
                self.studio.enqueue(&items)?;
                self.toasts.say(format!("{count} variations from step {step} are in the queue"));
            }
            Action::Export(clip) => self.open_export(clip)?,
            Action::Verify(clip) => {
                self.verifying = Some((clip, self.studio.verify_clip(clip)?));
                self.inspector.page = Page::Recipe;
                self.reveal(Pane::Inspector);
            }
            Action::VerifyFile(path) => {
                self.toasts.verifying(
                    path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                    self.studio.verify_file(&path)?,
                );
            }
            Action::RunAgain(clip) => {
                let entry = self.studio.clip(clip)?;
                let mut recipe = entry.recipe;
                recipe.made = None;
                self.studio.enqueue(&[NewItem { recipe, model: entry.model, leaves: None, force: false }])?;
                self.reveal(Pane::Queue);
            }
            Action::CopyRecipe(clip) => {
                context.copy_text(self.studio.clip(clip)?.recipe.to_json());
                self.toasts.say("The recipe is in the clipboard".into());
            }
            Action::CopyText(text) => context.copy_text(text),
            Action::OpenFolder(clip) => {
                let folder = self.studio.home().clip_folder(clip);
                open::that_detached(&folder).map_err(|error| StudioError::Files {
                    doing: "opened",
                    path: folder,
                    source: error,
                })?;
            }
            Action::Favourite(clip, favourite) => {
                self.studio.set_favourite(clip, favourite)?;
                self.refresh_stage();
            }
            Action::Delete(clip) => {
                self.studio.delete(clip)?;
                self.last_deleted = Some(clip);
                self.toasts.deleted();
                let compared = self.stage.comparing().map(|pair| [pair.a.entry.id, pair.b.entry.id]);
                if let Some([a, b]) = compared
                    && b == clip
                {
                    self.show_clip(a);
                }
                if self.stage.clip().is_some_and(|staged| staged.entry.id == clip) {
                    self.stage = Stage::Empty;
                    if let Some(next) = self.studio.clips(&Default::default())?.first() {
                        self.show_clip(next.id);
                    }
                }
            }
            Action::UndoDelete => {
                if let Some(clip) = self.last_deleted.take() {
                    self.studio.undelete(clip)?;
                    self.show_clip(clip);
                }
            }
            Action::Restore(clip) => {
                self.studio.undelete(clip)?;
                self.show_clip(clip);
            }
            Action::StopVerifying => {
                if let Some((_, task)) = &self.verifying {
                    task.cancel();
                }
            }
            Action::ShowInFolder(path) => {
                // Not every system can point at one file of a folder.
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(&path).to_owned();
                open::that_detached(&folder).map_err(|error| StudioError::Files {
                    doing: "opened",
                    path: folder,
                    source: error,
                })?;
            }

            Action::Stop(item) => self.studio.stop(item)?,
            Action::Resume { item, force } => self.studio.resume(item, force)?,
            Action::Remove(item) => self.studio.remove(item)?,
            Action::MoveTo { item, place } => self.studio.move_to(item, place)?,
            Action::Edit(item) => {
                let queued = self.studio.database().item(item)?;
                self.draft = Draft::of_recipe(&queued.recipe, &queued.model);
                (self.editing, self.leaving) = (Some(item), None);
                self.reveal(Pane::Settings);
            }
            Action::Pause => self.studio.pause()?,
            Action::Unpause => self.studio.unpause()?,
            Action::Mend { item, remedy } => self.mend(context, item, &remedy)?,
            Action::DismissNote(note) => self.studio.dismiss_note(&note),

            Action::RecordAttention(recording) => self.studio.record_attention(recording)?,
            Action::SaveAttention(map) => self.saving_map = Some(SavingMap::ask(map, context)),
            Action::TimeParts(time) => {
                self.studio.time_parts(time);
                self.studio.database().set_preference("time_parts", &time)?;
            }
            Action::DecodePreviews(decode) => {
                self.player.state.look = if decode { Look::Decoder } else { Look::Projection };
                self.studio.decode_previews(decode);
            }
            Action::UseDevices { devices, remember } => self.studio.use_devices(&devices, remember)?,
            Action::Theme(choice) => context.set_theme(choice),
            Action::ResetLayout => self.layout = super::layout::standard(),

            Action::Undo | Action::Redo => {
                let back = action == Action::Undo;
                let changed = if back { self.history.undo(&mut self.draft) } else { self.history.redo(&mut self.draft) };
                if let Some(changed) = changed {
                    self.toasts.brief(format!("{}: {}", if back { "Taken back" } else { "Made again" }, changed.join(", ")));
                }
            }
            Action::Level(level) => self.prefer(context, |preferences| preferences.level = level),
            Action::Palette => {
                let state = self.studio.state();
                self.palette = Some(CommandPalette::open(context, &self.studio, &self.situation(context, &state)));
            }
            Action::Keys => self.keys_dialog = Some(KeysDialog::default()),
            Action::Play(command) => self.player.ask(command),
            Action::ShowPage(page) => {
                self.inspector.page = page;
                self.reveal(Pane::Inspector);
            }
            Action::Reveal(pane) => self.reveal(pane),
            Action::Scale(percent) => self.prefer(context, |preferences| preferences.scale_percent = percent),
            Action::ReducedMotion(on) => self.prefer(context, |preferences| preferences.reduced_motion = on),
            Action::Notify(on) => {
                self.prefer(context, |preferences| preferences.notify = on);
                let said = if on { "The end of long runs is told" } else { "The end of runs is not told" };
                self.toasts.brief(said.into());
            }
            Action::Hint(shown) => {
                self.prefer(context, |preferences| preferences.hint_seen = !shown);
                if shown {
                    self.reveal(Pane::Settings);
                }
            }
        }
        Ok(())
    }

    /// Queues what the settings say.
    fn generate(&mut self) -> Result<(), StudioError> {
        let model = self.settings.model(&self.studio, &self.draft.model)?;
        let precision = self.studio.device().ok_or(StudioError::NoDevice)?.precision;
        let items = match &self.leaving {
            Some(leaving) => vec![self.draft.branch(&model, precision, leaving)?],
            None => self.draft.items(&model, precision)?,
        };
        if let (Some(editing), [item]) = (self.editing.take(), items.as_slice()) {
            self.studio.replace(editing, item)?;
        } else {
            self.studio.enqueue(&items)?;
        }
        if !self.draft.seed_locked {
            self.draft.seed = random_seed();
            self.history.accept(&self.draft);
        }
        Ok(())
    }

    fn mend(&mut self, context: &Context, item: ItemId, remedy: &Remedy) -> Result<(), StudioError> {
        let mut queued = self.studio.database().item(item)?;
        match *remedy {
            Remedy::Retry => self.studio.resume(item, false)?,
            Remedy::RunAnyway => self.studio.resume(item, true)?,
            Remedy::UseCpu => {
                self.studio.use_devices(&[ChosenDevice::Cpu], false)?;
                self.studio.resume(item, false)?;
            }
            Remedy::EditSettings => self.act(context, Action::Edit(item)),
            Remedy::ChooseModel => {
                self.act(context, Action::Edit(item));
                self.settings.choose_model(context);
            }
            Remedy::Frames(_) | Remedy::Size(..) => {
                match *remedy {
                    Remedy::Frames(frames) => queued.recipe.frames = frames,
                    Remedy::Size(width, height) => (queued.recipe.width, queued.recipe.height) = (width, height),
                    _ => {}
                }
                let model = self.settings.model(&self.studio, &queued.model)?;
                let plan = MaskChoice::Given(queued.recipe.mask_plan.clone());
                queued.recipe.set_mask(&model.folder, &plan)?;
                // A branch has the size of the clip that it leaves.
                queued.recipe.branch = None;
                let QueueItem { recipe, model, force, .. } = queued;
                self.studio.replace(item, &NewItem { recipe, model, leaves: None, force })?;
            }
        }
        Ok(())
    }

    pub(super) fn show_clip(&mut self, clip: ClipId) {
        match self.staged(clip) {
            Ok(staged) => self.stage = Stage::Clip(Box::new(staged)),
            Err(error) => self.toasts.error(error.to_string()),
        }
    }

    fn staged(&self, clip: ClipId) -> Result<StagedClip, StudioError> {
        let entry = self.studio.clip(clip)?;
        let calls = Sampler::new(entry.recipe.sampler, entry.recipe.steps).map_or(entry.recipe.steps, |sampler| sampler.calls());
        Ok(StagedClip { steps: self.studio.steps_of(clip), entry, calls })
    }

    fn compare(&mut self, a: ClipId, b: ClipId) -> Result<(), StudioError> {
        self.stage = Stage::Compare(Box::new(Comparing { a: self.staged(a)?, b: self.staged(b)? }));
        self.inspector.page = Page::Compare;
        self.reveal(Pane::Player);
        self.reveal(Pane::Inspector);
        Ok(())
    }

    /// Compares a clip with one that differs in its mask or model: at once if there is one, else as soon as it is made.
    fn compare_with_twin(&mut self, clip: ClipId, found_as: &str, mask: &MaskChoice) -> Result<(), StudioError> {
        let model = self.settings.model(&self.studio, found_as)?;
        let precision = self.studio.device().ok_or(StudioError::NoDevice)?.precision;
        let item = twin(&self.studio.clip(clip)?, &model, found_as, mask, precision)?;
        match self.studio.find(&item.recipe)? {
            Some(same) if same == clip => self.toasts.say("That is the clip's own mask and model: choose another one".into()),
            Some(twin) => self.compare(clip, twin)?,
            None => {
                self.awaited_twins.push((clip, item.recipe.clone()));
                self.studio.enqueue(&[item])?;
                self.toasts.say("Its twin is in the queue; both are shown when it is done".into());
            }
        }
        Ok(())
    }

    /// Shows the twin that has come, if one was waited for.
    fn follow_twins(&mut self) {
        let found = |(_, recipe): &(ClipId, Recipe)| self.studio.find(recipe).ok().flatten();
        let come = self.awaited_twins.iter().enumerate().find_map(|(at, twin)| Some((at, found(twin)?)));
        if let Some((at, twin)) = come {
            let (clip, _) = self.awaited_twins.remove(at);
            if let Err(error) = self.compare(clip, twin) {
                self.toasts.error(error.to_string());
            }
        }
    }

    /// The shown clip's row may have changed.
    fn refresh_stage(&mut self) {
        let compared = self.stage.comparing().map(|pair| [pair.a.entry.id, pair.b.entry.id]);
        if let Some(pair) = compared {
            if let [Ok(a), Ok(b)] = pair.map(|clip| self.staged(clip)) {
                self.stage = Stage::Compare(Box::new(Comparing { a, b }));
            }
        } else if let Some(clip) = self.stage.clip().map(|staged| staged.entry.id) {
            self.show_clip(clip);
        }
    }

    /// Opens the painter over the plan of the settings.
    fn open_painter(&mut self) -> Result<(), StudioError> {
        let model = self.settings.model(&self.studio, &self.draft.model)?;
        let Some(plan) = &self.settings.forecast().last().mask.plan else { return Ok(()) };
        let opened = match &self.draft.mask {
            MaskChoice::File(path) => Some(path.as_path()),
            _ => None,
        };
        let searched = model.searched_plan(plan.frames());
        let draft = &self.draft;
        let calls = Sampler::new(draft.sampler, draft.steps).map_or(draft.steps, |sampler| sampler.calls());
        let painter = MaskPainter::new(self.studio.home(), plan, calls, searched, opened).map_err(GenerateError::from)?;
        self.painter = Some((painter, model));
        Ok(())
    }

    /// What is kept of the lab's result is chosen, as that is what it was made for.
    fn act_in_lab(&mut self, action: LabAction) -> Result<(), StudioError> {
        match self.lab.act(&self.studio, action)? {
            None => {
                if action != LabAction::Discard {
                    self.reveal(Pane::Lab);
                }
            }
            Some(LabKept::Plan(path)) => {
                self.toasts.say(format!("The plan is in {}, and is chosen", path.display()));
                let model = self.lab.wish().model.clone();
                if self.draft.model != model
                    && let Some(info) = self.studio.catalog().get(&model).model()
                {
                    self.draft.set_model(&model, info.folder.facts());
                }
                self.draft.mask = MaskChoice::File(path);
                self.settings.look_again();
            }
            Some(LabKept::Model(path)) => {
                let name = lasting_name(&path.display().to_string());
                self.settings.add_model(&self.studio, &name)?;
                let info = ModelInfo::find(&name)?;
                self.draft.set_model(&name, info.folder.facts());
                self.toasts.say(format!("The model is in {}, and is chosen", path.display()));
            }
        }
        Ok(())
    }

    fn open_export(&mut self, clip: ClipId) -> Result<(), StudioError> {
        let entry = self.studio.clip(clip)?;
        let range = self.player.state.range(entry.recipe.frames);
        self.export = Some(ExportDialog::new(&self.studio, entry, range, self.export_to.clone()));
        Ok(())
    }

    /// Changes what the person wants of the window, and keeps it.
    pub(super) fn prefer(&mut self, context: &Context, change: impl FnOnce(&mut Preferences)) {
        change(&mut self.preferences);
        self.preferences.apply(context);
        self.player.keys = self.preferences.keys.clone();
        if let Err(error) = self.preferences.save(self.studio.database()) {
            self.toasts.error(error.to_string());
        }
    }

    /// What the commands need to know.
    pub(super) fn situation<'a>(&'a self, context: &Context, state: &'a State) -> Situation<'a> {
        let clip = self.stage.clip();
        let step = clip.and_then(|clip| {
            let shown = self.player.state.step.filter(|_| clip.steps > 0).map_or(clip.steps, |step| step + 1);
            // The clip itself is the last step's; a branch leaves one before it.
            Some(shown.min(clip.steps.saturating_sub(1))).filter(|step| *step > 0)
        });
        Situation {
            state,
            preferences: &self.preferences,
            theme: context.options(|options| options.theme_preference),
            clip,
            shows_live: matches!(self.stage, Stage::Live),
            step,
            is_ready: self.settings.is_ready(),
            has_mask: self.settings.forecast().last().mask.plan.is_some(),
            leaves: self.leaving.is_some(),
            edits: self.editing.is_some(),
            can_undo: self.history.can_undo(),
            can_redo: self.history.can_redo(),
            has_deleted: self.last_deleted.is_some(),
            verifies: self.verifying.is_some(),
            look: self.player.state.look,
            page: self.inspector.page,
            compares: self.stage.comparing().is_some(),
            recording: self.studio.recording(),
            times_parts: self.studio.times_parts(),
            map: self.inspector.attention.map(AttentionFile::Png).filter(|_| self.inspector.page == Page::Attention),
        }
    }

    /// Brings a panel to the front.
    pub(super) fn reveal(&mut self, pane: Pane) {
        self.layout.make_active(|_, tile| matches!(tile, egui_tiles::Tile::Pane(other) if *other == pane));
    }

    /// Takes over what has happened in the studio since the last frame.
    pub(super) fn follow_studio(&mut self, context: &Context) {
        let state = self.studio.state();
        let live = state.live.as_ref().map(|live| live.item);
        if live.is_some() && live != self.live_seen && self.stage.comparing().is_none() {
            self.stage = Stage::Live;
        }
        self.live_seen = live.or(self.live_seen);
        if state.newest != self.newest_seen {
            self.newest_seen = state.newest;
            if let (Some(newest), true) = (state.newest, matches!(self.stage, Stage::Live | Stage::Empty)) {
                self.show_clip(newest);
            }
            self.follow_twins();
        }
        if matches!(self.stage, Stage::Live) && live.is_none() {
            // It was stopped: back to the newest clip.
            self.stage = Stage::Empty;
            if let Some(newest) = self.studio.clips(&Default::default()).ok().and_then(|clips| clips.first().map(|clip| clip.id))
            {
                self.show_clip(newest);
            }
        }
        if let Some(answer) = self.saving_map.as_ref().and_then(SavingMap::follow) {
            self.saving_map = None;
            match answer {
                Ok(None) => {}
                Ok(Some(path)) => self.toasts.say(format!("The map is in {}", path.display())),
                Err(error) => self.toasts.error(error.to_string()),
            }
        }
        if let Some((clip, task)) = &self.verifying
            && let Some(result) = task.take_result()
        {
            self.inspector.set_verdict(*clip, result.map_err(|error| error.to_string()));
            self.verifying = None;
        }
        let verifying = self.verifying.as_ref().map(|(clip, task)| (*clip, task.progress()));
        self.inspector.set_verifying(verifying);
        if let Some((_, _, task)) = &self.decoding
            && let Some(result) = task.take_result()
        {
            if let Err(error) = result {
                self.toasts.error(error.to_string());
            }
            self.decoding = None;
        }
        self.toasts.follow(context);
    }
}
