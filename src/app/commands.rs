//! Everything that can be done in the window, in one table: its name, what it does, its keys, and whether it can be done now. The
//! palette, the keys and the tooltips all read it.

use eframe::egui::{Context, Key, KeyboardShortcut, Modifiers, ThemePreference};

use super::action::Action;
use super::attention::{AttentionFile, MapFile};
use super::inspector::Page;
use super::lab::LabAction;
use super::layout::Pane;
use super::player::keys::PlayerCommand;
use super::player::state::Look;
use super::preferences::{Level, Preferences, SCALES};
use super::stage::StagedClip;
use crate::generate::attention_record::Recording;
use crate::gpu::device::AdapterReport;
use crate::studio::{ChosenDevice, ClipEntry, DeviceState, ItemId, ItemState, LabRun, QueueItem, Remedy, State};

/// One thing that can be done.
pub struct Command {
    /// Under which its keys are kept.
    pub id: &'static str,
    pub name: &'static str,
    pub does: &'static str,
    pub group: Group,
    pub keys: &'static [KeyboardShortcut],
    /// What it asks of the player, which looks at its keys by itself.
    pub player: Option<PlayerCommand>,
    /// What is done now, or why nothing can be.
    now: fn(&Situation<'_>) -> Now,
}

type Now = Result<Action, &'static str>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Settings,
    Run,
    Clip,
    Player,
    Window,
}

impl Group {
    pub const ALL: [Self; 5] = [Self::Settings, Self::Run, Self::Clip, Self::Player, Self::Window];

    pub fn name(self) -> &'static str {
        match self {
            Self::Settings => "Settings",
            Self::Run => "Runs",
            Self::Clip => "The shown clip",
            Self::Player => "Player",
            Self::Window => "Window",
        }
    }
}

/// What a command needs to know of the window.
pub struct Situation<'a> {
    pub state: &'a State,
    pub preferences: &'a Preferences,
    pub theme: ThemePreference,
    pub clip: Option<&'a StagedClip>,
    pub shows_live: bool,
    /// The step of the shown clip that a branch would leave, from 1; None if there is none.
    pub step: Option<usize>,
    pub is_ready: bool,
    /// The settings have a mask that can be painted on.
    pub has_mask: bool,
    pub leaves: bool,
    pub edits: bool,
    pub can_undo: bool,
    pub can_redo: bool,
    pub has_deleted: bool,
    pub verifies: bool,
    pub look: Look,
    /// Of the inspector.
    pub page: Page,
    pub compares: bool,
    pub recording: Option<Recording>,
    pub times_parts: bool,
    /// The map of attention that is on show.
    pub map: Option<MapFile>,
}

impl Situation<'_> {
    fn clip(&self) -> Result<&StagedClip, &'static str> {
        self.clip.ok_or("No clip is shown")
    }

    fn live(&self) -> Result<ItemId, &'static str> {
        self.state.live.as_ref().map(|live| live.item).ok_or("Nothing runs")
    }

    fn leaving(&self) -> Result<(crate::studio::ClipId, usize), &'static str> {
        let clip = self.clip()?.entry.id;
        self.step.map(|step| (clip, step)).ok_or("This clip has no step that could be left")
    }
}

impl Command {
    pub fn now(&self, situation: &Situation<'_>) -> Now {
        (self.now)(situation)
    }
}

pub fn find(id: &str) -> Option<&'static Command> {
    ALL.iter().find(|command| command.id == id)
}

const fn plain(key: Key) -> KeyboardShortcut {
    KeyboardShortcut::new(Modifiers::NONE, key)
}

const fn control(key: Key) -> KeyboardShortcut {
    KeyboardShortcut::new(Modifiers::COMMAND, key)
}

const fn control_shift(key: Key) -> KeyboardShortcut {
    KeyboardShortcut::new(Modifiers::COMMAND.plus(Modifiers::SHIFT), key)
}

const fn alt(key: Key) -> KeyboardShortcut {
    KeyboardShortcut::new(Modifiers::ALT, key)
}

/// Something is only taken from where it stands.
fn unless(off: bool, action: Action, why: &'static str) -> Now {
    if off { Err(why) } else { Ok(action) }
}

fn only_if(on: bool, action: Action, why: &'static str) -> Now {
    unless(!on, action, why)
}

fn playing(situation: &Situation<'_>, command: PlayerCommand) -> Now {
    only_if(situation.clip.is_some() || situation.shows_live, Action::Play(command), "Nothing is in the player")
}

macro_rules! command {
    ($group:ident, $id:literal, $name:literal, $does:literal, [$($key:expr),*], $now:expr) => {
        Command { id: $id, name: $name, does: $does, group: Group::$group, keys: &[$($key),*], player: None, now: $now }
    };
}

macro_rules! player {
    ($id:literal, $name:literal, $does:literal, [$($key:expr),*], $command:ident) => {
        Command {
            player: Some(PlayerCommand::$command),
            ..command!(Player, $id, $name, $does, [$($key),*], |s| playing(s, PlayerCommand::$command))
        }
    };
}

pub static ALL: &[Command] = &[
    command!(Settings, "generate", "Generate", "Puts the runs of the settings into the queue", [control(Key::Enter)], |s| {
        only_if(s.is_ready, Action::Generate, "The settings cannot be run now; the panel says why")
    }),
    command!(Settings, "undo", "Undo settings", "Takes the last change of the settings back", [control(Key::Z)], |s| {
        only_if(s.can_undo, Action::Undo, "No setting was changed yet")
    }),
    command!(
        Settings,
        "redo",
        "Redo settings",
        "Makes the change again that was taken back",
        [control_shift(Key::Z), control(Key::Y)],
        |s| only_if(s.can_redo, Action::Redo, "Nothing was taken back")
    ),
    command!(Settings, "simple", "Simple settings", "Shows prompt, model, size, steps and seed alone", [], |s| {
        unless(s.preferences.level == Level::Simple, Action::Level(Level::Simple), "It is on")
    }),
    command!(Settings, "lab", "All settings", "Shows every setting, the mask dial too", [], |s| {
        unless(s.preferences.level == Level::Lab, Action::Level(Level::Lab), "It is on")
    }),
    command!(Settings, "open-model", "Open a model's folder…", "Takes a folder into the list of models", [], |_| {
        Ok(Action::ChooseModel)
    }),
    command!(Settings, "leave-branch", "Leave the branch", "The next run makes a clip of its own again", [], |s| {
        only_if(s.leaves, Action::LeaveBranch, "The settings are not those of a branch")
    }),
    command!(Settings, "leave-edit", "Leave the item", "Leaves the item of the queue as it is", [], |s| {
        only_if(s.edits, Action::LeaveEdit, "The settings are not those of an item")
    }),
    command!(Run, "stop", "Stop the run", "Its finished steps are kept in the queue", [control(Key::Period)], |s| {
        s.live().map(Action::Stop)
    }),
    command!(Run, "pause", "Pause the queue", "The run stops behind its last finished step; the memory is given back", [], |s| {
        unless(s.state.is_paused, Action::Pause, "It rests already")
    }),
    command!(Run, "unpause", "Go on with the queue", "Loads the model again and goes on at the same step", [], |s| {
        only_if(s.state.is_paused, Action::Unpause, "It does not rest")
    }),
    command!(Run, "show-run", "Show the run", "Shows the run that goes on in the player", [control(Key::L)], |s| {
        s.live()?;
        unless(s.shows_live, Action::ShowLive, "It is shown")
    }),
    command!(Run, "lab-start", "Start the lab", "Begins what the lab's page says", [], |s| lab(s, LabAction::Start)),
    command!(Run, "lab-pause", "Pause the lab", "With a checkpoint, from which it goes on", [], |s| lab(s, LabAction::Pause)),
    command!(Run, "lab-go-on", "Go on with the lab", "Where it was paused", [], |s| lab(s, LabAction::GoOn)),
    command!(
        Run,
        "lab-compare",
        "Compare the lab's result",
        "Two clips of one seed: with every tile, and with the result",
        [],
        |s| { lab(s, LabAction::Compare) }
    ),
    command!(Run, "lab-keep", "Keep the lab's result", "As a plan of the mask dial, or a model of the menu", [], |s| {
        lab(s, LabAction::Keep)
    }),
    command!(Run, "lab-discard", "Discard the lab's run", "Removes all that it has left", [], |s| lab(s, LabAction::Discard)),
    command!(
        Run,
        "record-off",
        "Record no attention",
        "The next clips are made without a record of where layers look",
        [],
        |s| { record(s, None) }
    ),
    command!(
        Run,
        "record-sampled",
        "Record attention, sampled",
        "What plans skip is estimated from a sample of rows, with its error",
        [],
        |s| record(s, Some(Recording::Sampled))
    ),
    command!(Run, "record-exact", "Record attention, exact", "Every row of every tile is measured, which is slower", [], |s| {
        record(s, Some(Recording::Exact))
    }),
    command!(
        Run,
        "time-parts",
        "Time the parts of runs, or do not",
        "Layer by layer, which makes them a little slower",
        [],
        |s| { Ok(Action::TimeParts(!s.times_parts)) }
    ),
    command!(
        Clip,
        "compare-dense",
        "Compare with dense",
        "Makes the clip with all tiles, if it is not there, and shows both under a wipe",
        [],
        |s| Ok(Action::CompareWithDense(s.clip()?.entry.id))
    ),
    command!(
        Clip,
        "compare-settings",
        "Compare with the settings' plan and model",
        "Makes the clip so, if it is not there, and shows both under a wipe",
        [],
        |s| Ok(Action::CompareWithSettings(s.clip()?.entry.id))
    ),
    command!(Clip, "swap-compared", "Swap the two clips", "The left one goes to the right", [], |s| {
        only_if(s.compares, Action::SwapCompared, "No two clips are compared")
    }),
    command!(Clip, "leave-compare", "Leave the comparison", "Shows the first clip alone; so does Escape", [], |s| {
        only_if(s.compares, Action::LeaveCompare, "No two clips are compared")
    }),
    command!(Clip, "save-map", "Save the map of attention as PNG…", "The map on the page, with its scale", [], |s| {
        save_map(s, AttentionFile::Png)
    }),
    command!(Clip, "save-map-csv", "Save the map of attention as CSV…", "A line for each tile of it", [], |s| {
        save_map(s, AttentionFile::Csv)
    }),
    command!(
        Clip,
        "export",
        "Export the clip…",
        "Writes it as mp4, webm, gif, apng, webp or single pictures",
        [control(Key::E)],
        |s| { Ok(Action::Export(s.clip()?.entry.id)) }
    ),
    command!(
        Clip,
        "branch",
        "Branch from the shown step",
        "Goes on from it with another prompt, seed or mask",
        [control(Key::B)],
        |s| {
            let (clip, step) = s.leaving()?;
            Ok(Action::Branch { clip, step })
        }
    ),
    command!(Clip, "vary", "Vary from the shown step", "Queues four clips that leave it with other seeds", [], |s| {
        let (clip, step) = s.leaving()?;
        Ok(Action::Variations { clip, step, count: 4 })
    }),
    command!(Clip, "decode-step", "Decode the shown step", "Shows it through the true decoder, which takes its time", [], |s| {
        let (clip, step) = s.leaving()?;
        Ok(Action::DecodeStep { clip, step })
    }),
    command!(Clip, "use-settings", "Use the clip's settings", "Puts all of them into the panel", [control(Key::U)], |s| {
        let entry = &s.clip()?.entry;
        Ok(Action::UseRecipe { recipe: Box::new(entry.recipe.clone()), model: entry.model.clone() })
    }),
    command!(Clip, "run-again", "Make the clip again", "Queues its recipe once more", [], |s| {
        Ok(Action::RunAgain(s.clip()?.entry.id))
    }),
    command!(Clip, "verify", "Verify the clip", "Makes it again and compares every pixel", [], |s| {
        let clip = s.clip()?.entry.id;
        unless(s.verifies, Action::Verify(clip), "One clip is verified at a time")
    }),
    command!(Clip, "stop-verifying", "Stop verifying", "Gives the verification up", [], |s| {
        only_if(s.verifies, Action::StopVerifying, "Nothing is verified")
    }),
    command!(Clip, "copy-recipe", "Copy the recipe", "Puts the whole recipe into the clipboard as JSON", [], |s| {
        Ok(Action::CopyRecipe(s.clip()?.entry.id))
    }),
    command!(Clip, "favourite", "Mark as a favourite", "Marks the clip, or takes the mark away", [control(Key::D)], |s| {
        let entry = &s.clip()?.entry;
        Ok(Action::Favourite(entry.id, !entry.favourite))
    }),
    command!(Clip, "open-folder", "Open the clip's folder", "Shows its files", [], |s| Ok(Action::OpenFolder(
        s.clip()?.entry.id
    ))),
    command!(
        Clip,
        "delete",
        "Delete the clip",
        "Puts it into the trash, where it stays for a week",
        [control(Key::Delete)],
        |s| { Ok(Action::Delete(s.clip()?.entry.id)) }
    ),
    command!(
        Clip,
        "undelete",
        "Bring the deleted clip back",
        "The one that was deleted last",
        [control_shift(Key::Delete)],
        |s| { only_if(s.has_deleted, Action::UndoDelete, "No clip was deleted since the start") }
    ),
    player!("play", "Play or pause", "Twice forwards or backwards is faster", [plain(Key::Space)], Toggle),
    player!("frame-back", "Frame back", "Shows the frame before", [plain(Key::ArrowLeft), plain(Key::Comma)], FrameBack),
    player!("frame-forward", "Frame forward", "Shows the next frame", [plain(Key::ArrowRight), plain(Key::Period)], FrameForward),
    player!("to-start", "To the start", "Shows the first frame of the range", [plain(Key::Home)], ToStart),
    player!("to-end", "To the end", "Shows the last frame of the range", [plain(Key::End)], ToEnd),
    player!("reverse", "Play backwards", "Again is faster", [plain(Key::J)], Reverse),
    player!("halt", "Stand still", "Pauses the clip", [plain(Key::K)], Halt),
    player!("forward", "Play forwards", "Again is faster", [plain(Key::L)], Forward),
    player!("mark-in", "Begin the range here", "Playing and exporting begin at this frame", [plain(Key::I)], SetIn),
    player!("mark-out", "End the range here", "Playing and exporting end at this frame", [plain(Key::O)], SetOut),
    player!("step-back", "Step of denoising back", "Shows an earlier step", [plain(Key::OpenBracket)], StepBack),
    player!("step-forward", "Step of denoising forward", "Shows a later step", [plain(Key::CloseBracket)], StepForward),
    player!(
        "inspect",
        "Look into the clip",
        "What a point reads from every frame, and where the words of the prompt are",
        [plain(Key::A)],
        Inspect
    ),
    command!(Player, "decoder", "Steps through the decoder", "As the clip would be, but each takes its time", [], |s| {
        unless(s.look == Look::Decoder, Action::DecodePreviews(true), "They are shown so")
    }),
    command!(Player, "projection", "Steps through the projection", "At once, but small and rough", [], |s| {
        unless(s.look == Look::Projection, Action::DecodePreviews(false), "They are shown so")
    }),
    command!(Window, "palette", "All commands…", "Finds every command by its name", [control(Key::K)], |_| Ok(Action::Palette)),
    command!(Window, "keys", "Keys…", "Lists the keys of all commands, and changes them", [control(Key::Comma)], |_| Ok(
        Action::Keys
    )),
    command!(Window, "to-settings", "Go to the settings", "Brings their panel to the front", [alt(Key::Num1)], |_| {
        Ok(Action::Reveal(Pane::Settings))
    }),
    command!(Window, "to-player", "Go to the player", "Brings its panel to the front", [alt(Key::Num2)], |_| {
        Ok(Action::Reveal(Pane::Player))
    }),
    command!(Window, "to-lab", "Go to the lab", "Masks for a model, and students that live with them", [alt(Key::Num6)], |_| {
        Ok(Action::Reveal(Pane::Lab))
    }),
    command!(Window, "to-inspector", "Go to the inspector", "Brings its panel to the front", [alt(Key::Num3)], |_| {
        Ok(Action::Reveal(Pane::Inspector))
    }),
    command!(Window, "page-recipe", "Recipe page", "Everything that made the clip", [alt(Key::R)], |s| page(s, Page::Recipe)),
    command!(Window, "page-attention", "Attention page", "Where each layer looked at each step", [alt(Key::A)], |s| {
        page(s, Page::Attention)
    }),
    command!(Window, "page-time", "Time page", "Where the time went", [alt(Key::T)], |s| page(s, Page::Time)),
    command!(Window, "to-library", "Go to the library", "Brings its panel to the front", [alt(Key::Num4)], |_| {
        Ok(Action::Reveal(Pane::Library))
    }),
    command!(Window, "to-queue", "Go to the queue", "Brings its panel to the front", [alt(Key::Num5)], |_| {
        Ok(Action::Reveal(Pane::Queue))
    }),
    command!(Window, "larger", "Everything larger", "Up to 200 %", [control(Key::Plus), control(Key::Equals)], |s| {
        s.preferences.scale_by(1).map(Action::Scale).ok_or("It is as large as it gets")
    }),
    command!(Window, "smaller", "Everything smaller", "Down to 75 %", [control(Key::Minus)], |s| {
        s.preferences.scale_by(-1).map(Action::Scale).ok_or("It is as small as it gets")
    }),
    command!(Window, "usual-size", "Usual size", "Shows everything at 100 %", [control(Key::Num0)], |s| {
        unless(s.preferences.scale_percent == 100, Action::Scale(100), "It is so")
    }),
    command!(Window, "theme-system", "Theme of the system", "Light or dark as the system is", [], |s| {
        theme(s, ThemePreference::System)
    }),
    command!(Window, "theme-light", "Light theme", "Dark text on light ground", [], |s| theme(s, ThemePreference::Light)),
    command!(Window, "theme-dark", "Dark theme", "Light text on dark ground", [], |s| theme(s, ThemePreference::Dark)),
    command!(
        Window,
        "reduced-motion",
        "Less or more motion",
        "Without animations, nothing moves but what you move or play",
        [],
        |s| { Ok(Action::ReducedMotion(!s.preferences.reduced_motion)) }
    ),
    command!(
        Window,
        "notify",
        "Tell the end of long runs, or do not",
        "By the system, while the window is in the background",
        [],
        |s| { Ok(Action::Notify(!s.preferences.notify)) }
    ),
    command!(Window, "hint", "Show the first hint again", "What to look at in this window", [], |s| {
        only_if(s.preferences.hint_seen, Action::Hint(true), "It is shown")
    }),
    command!(Window, "hide-hint", "Take the first hint away", "It does not come back by itself", [], |s| {
        unless(s.preferences.hint_seen, Action::Hint(false), "It is not shown")
    }),
    command!(
        Window,
        "paint-mask",
        "Paint the mask…",
        "Chooses the attention tiles of each layer, which is saved as a plan file",
        [control(Key::M)],
        |s| only_if(s.has_mask, Action::PaintMask, "The model is still being opened, or no plan fits the settings")
    ),
    command!(Window, "reset-layout", "Put the panels back", "Every panel where it was at the first start", [], |_| {
        Ok(Action::ResetLayout)
    }),
];

fn record(situation: &Situation<'_>, recording: Option<Recording>) -> Now {
    unless(situation.recording == recording, Action::RecordAttention(recording), "It is so")
}

fn lab(situation: &Situation<'_>, action: LabAction) -> Now {
    let run = situation.state.lab.as_deref();
    let (can, why) = match action {
        LabAction::Start => (run.is_none(), "The lab has a run already"),
        LabAction::Pause => (run.is_some_and(LabRun::is_under_way), "The lab does not work"),
        LabAction::GoOn => (run.is_some_and(LabRun::can_go_on), "Nothing in the lab is paused"),
        LabAction::Compare | LabAction::Keep => {
            (run.is_some_and(|run| run.has_result && !run.is_under_way()), "The lab has no result")
        }
        LabAction::Discard => (run.is_some_and(|run| !run.is_under_way()), "The lab has nothing, or works: pause it first"),
    };
    only_if(can, Action::Lab(action), why)
}

fn save_map(situation: &Situation<'_>, kind: AttentionFile) -> Now {
    let map = situation.map.clone().ok_or("The attention page shows no map")?;
    Ok(Action::SaveAttention(MapFile { kind, ..map }))
}

fn page(situation: &Situation<'_>, page: Page) -> Now {
    unless(situation.page == page, Action::ShowPage(page), "It is shown")
}

fn theme(situation: &Situation<'_>, theme: ThemePreference) -> Now {
    unless(situation.theme == theme, Action::Theme(theme), "It is on")
}

/// A line of the palette.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Of the command, or of what it is done to.
    pub id: String,
    pub name: String,
    pub does: String,
    pub keys: String,
    pub action: Result<Action, String>,
}

/// Every command, and what can be done to each item of the queue, to clips of the library and to adapters.
pub fn entries(context: &Context, situation: &Situation<'_>, clips: &[ClipEntry], trash: &[ClipEntry]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = ALL
        .iter()
        .map(|command| Entry {
            id: command.id.into(),
            name: command.name.into(),
            does: command.does.into(),
            keys: situation.preferences.keys.text(context, command.id),
            action: command.now(situation).map_err(Into::into),
        })
        .collect();
    let last = situation.state.queue.len().saturating_sub(1);
    for (place, item) in situation.state.queue.iter().enumerate() {
        entries.extend(of_item(item, place, last));
    }
    for note in &situation.state.notes {
        entries.push(entry(format!("note {note}"), "Take the message away", note, Action::DismissNote(note.clone())));
    }
    entries.extend(of_devices(situation.state));
    entries.extend(SCALES.into_iter().filter(|&scale| scale != situation.preferences.scale_percent).map(|scale| {
        entry(
            format!("scale {scale}"),
            &format!("Everything at {scale} %"),
            "The size of text and controls",
            Action::Scale(scale),
        )
    }));
    let words = |clip: &ClipEntry| format!("clip {}, {}", clip.id.0, clip.recipe.prompt);
    for clip in clips {
        entries.push(entry(format!("show {}", clip.id.0), "Show", &words(clip), Action::ShowClip(clip.id)));
        if let Some(shown) = situation.clip.filter(|shown| shown.entry.id != clip.id) {
            let compare = Action::Compare { a: shown.entry.id, b: clip.id };
            entries.push(entry(format!("compare {}", clip.id.0), "Compare the shown clip with", &words(clip), compare));
        }
    }
    for clip in trash {
        entries.push(entry(
            format!("restore {}", clip.id.0),
            "Bring back from the trash",
            &words(clip),
            Action::Restore(clip.id),
        ));
    }
    entries
}

fn entry(id: String, name: &str, does: &str, action: Action) -> Entry {
    Entry { id, name: name.to_owned(), does: does.to_owned(), keys: String::new(), action: Ok(action) }
}

/// What can be done to an item of the queue.
fn of_item(item: &QueueItem, place: usize, last: usize) -> Vec<Entry> {
    let of = format!("item {}, {}", item.id.0, item.recipe.prompt);
    let id = |what: &str| format!("{what} item {}", item.id.0);
    let mut entries = Vec::new();
    let runs = item.state == ItemState::Running;
    if runs {
        entries.push(entry(id("stop"), "Stop", &of, Action::Stop(item.id)));
    } else {
        entries.push(entry(id("edit"), "Change the settings of", &of, Action::Edit(item.id)));
        entries.push(entry(id("remove"), "Remove from the queue", &of, Action::Remove(item.id)));
        if item.state == ItemState::Waiting {
            entries.push(entry(id("stop"), "Put aside", &of, Action::Stop(item.id)));
        } else {
            let force = item.force;
            entries.push(entry(id("resume"), "Go on with", &of, Action::Resume { item: item.id, force }));
        }
    }
    if place > 0 {
        entries.push(entry(id("up"), "Move up in the queue", &of, Action::MoveTo { item: item.id, place: place - 1 }));
    }
    if place < last {
        entries.push(entry(id("down"), "Move down in the queue", &of, Action::MoveTo { item: item.id, place: place + 1 }));
    }
    if let Some(report) = &item.report {
        entries.push(entry(id("copy report"), "Copy the error's details", &of, Action::CopyText(report.text())));
        for remedy in &report.remedies {
            let name = match remedy {
                Remedy::Retry => "Try again".to_owned(),
                Remedy::UseCpu => "Again on the CPU".to_owned(),
                Remedy::Frames(frames) => format!("Again with {frames} frames"),
                Remedy::Size(width, height) => format!("Again at {width} x {height}"),
                Remedy::RunAnyway => "Run anyway".to_owned(),
                Remedy::ChooseModel => "Choose another model".to_owned(),
                Remedy::EditSettings => "Put the settings back into the panel".to_owned(),
            };
            let action = Action::Mend { item: item.id, remedy: remedy.clone() };
            entries.push(entry(id(&format!("mend {name}")), &name, &of, action));
        }
    }
    entries
}

fn of_devices(state: &State) -> Vec<Entry> {
    let (used, is_alone) = match &state.device {
        DeviceState::Ready(device) => (Some(device.adapter.as_ref().map(|adapter| adapter.index)), device.others.is_empty()),
        DeviceState::Opening | DeviceState::Failed(_) => (None, false),
    };
    let use_them = |name: &str, does: &str, devices: Vec<ChosenDevice>| {
        entry(format!("device {name}"), &format!("Use {name}"), does, Action::UseDevices { devices, remember: true })
    };
    let one = |device: ChosenDevice, index: Option<usize>| {
        let entry = use_them(&device.name(), "Has the next runs made there", vec![device.clone()]);
        if is_alone && used == Some(index) { Entry { action: Err("It is used".into()), ..entry } } else { entry }
    };
    let adapters = state.adapters.iter().map(|adapter| (ChosenDevice::adapter(&state.adapters, adapter.index), adapter));
    let adapters: Vec<(ChosenDevice, &AdapterReport)> =
        adapters.filter_map(|(device, adapter)| Some((device?, adapter))).collect();
    let mut entries = vec![one(ChosenDevice::Cpu, None)];
    entries.extend(adapters.iter().map(|(device, adapter)| one(device.clone(), Some(adapter.index))));
    let hardware: Vec<_> = adapters.into_iter().filter(|(_, adapter)| !adapter.software).map(|(device, _)| device).collect();
    if hardware.len() > 1 {
        entries.push(use_them("all graphics adapters together", "They share each of the next runs", hardware));
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_are_unique() {
        for (at, command) in ALL.iter().enumerate() {
            for other in &ALL[..at] {
                assert!(command.id != other.id && command.name != other.name, "{} and {}", command.id, other.id);
            }
            assert!(!command.does.is_empty() && !command.does.ends_with('.'), "{}", command.id);
        }
    }

    #[test]
    fn every_group_has_commands() {
        for group in Group::ALL {
            assert!(ALL.iter().any(|command| command.group == group), "{}", group.name());
        }
    }
}
