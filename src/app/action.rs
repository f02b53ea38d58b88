//! What a person can do in the window, as data: panels say it, the window does it. One list, so that a key, a button and a
//! menu mean the same.

use std::path::PathBuf;

use super::attention::MapFile;
use super::inspector::Page;
use super::lab::LabAction;
use super::layout::Pane;
use super::player::keys::PlayerCommand;
use super::preferences::Level;
use crate::generate::attention_record::Recording;
use crate::generate::recipe::Recipe;
use crate::studio::{ChosenDevice, ClipId, ItemId, Remedy};

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Puts the runs of the settings into the queue.
    Generate,
    /// Fills the settings from a recipe; `model` is where its model was found.
    UseRecipe {
        recipe: Box<Recipe>,
        model: String,
    },
    /// Reads a recipe from a clip or JSON file that was dropped or chosen, into the settings.
    OpenFile(PathBuf),
    /// Opens a folder in the published layout as a model.
    OpenModel(PathBuf),
    /// Asks for such a folder.
    ChooseModel,
    /// Opens the painter over the mask of the settings.
    PaintMask,
    Lab(LabAction),

    /// Shows a clip of the library in the player.
    ShowClip(ClipId),
    /// Shows two clips of the library in step.
    Compare {
        a: ClipId,
        b: ClipId,
    },
    /// Compares a clip with one of the same recipe and all attention computed, which is made if the library has none.
    CompareWithDense(ClipId),
    /// The same with the mask and the model of the settings.
    CompareWithSettings(ClipId),
    SwapCompared,
    LeaveCompare,
    /// Goes to a frame of the shown clip, counted from 0, and stays there.
    GoToFrame(usize),
    /// Shows the run that goes on.
    ShowLive,
    /// Has a step of the shown clip decoded.
    DecodeStep {
        clip: ClipId,
        step: usize,
    },
    /// Fills the settings from a clip, to go on from its step with another prompt, seed or mask; the next `Generate` makes
    /// the branch.
    Branch {
        clip: ClipId,
        step: usize,
    },
    /// Makes the branch a clip of its own again.
    LeaveBranch,
    /// Leaves the item of the queue as it is whose settings are in the panel.
    LeaveEdit,
    /// Queues clips that leave this one at a step with other seeds.
    Variations {
        clip: ClipId,
        step: usize,
        count: u32,
    },
    Export(ClipId),
    Verify(ClipId),
    VerifyFile(PathBuf),
    /// Queues the clip's recipe once more.
    RunAgain(ClipId),
    CopyRecipe(ClipId),
    OpenFolder(ClipId),
    Favourite(ClipId, bool),
    Delete(ClipId),
    /// Brings the clip back that was deleted last.
    UndoDelete,
    /// Brings a clip back from the trash.
    Restore(ClipId),
    /// Gives a verification up.
    StopVerifying,
    /// Shows a file of this system, such as an export, in its folder.
    ShowInFolder(PathBuf),

    Stop(ItemId),
    Resume {
        item: ItemId,
        force: bool,
    },
    Remove(ItemId),
    MoveTo {
        item: ItemId,
        place: usize,
    },
    /// Takes an item's settings into the panel; the next `Generate` replaces the item.
    Edit(ItemId),
    Pause,
    Unpause,
    /// What an error's button says.
    Mend {
        item: ItemId,
        remedy: Remedy,
    },
    CopyText(String),
    DismissNote(String),

    /// Shows steps through the decoder, or through the projection.
    DecodePreviews(bool),
    /// Whether the next runs record their attention, and how.
    RecordAttention(Option<Recording>),
    /// Asks for a file, and writes the map of a layer into it; of one head, or of all.
    SaveAttention(MapFile),
    /// Has the parts of the next runs timed.
    TimeParts(bool),
    /// Has the next runs made on these devices, until the program ends or in later starts too.
    UseDevices {
        devices: Vec<ChosenDevice>,
        remember: bool,
    },
    Theme(eframe::egui::ThemePreference),
    ResetLayout,

    /// Takes the last change of the settings back, or makes it again.
    Undo,
    Redo,
    /// Shows some or all of the settings.
    Level(Level),
    /// Opens the list of all commands, or the keys.
    Palette,
    Keys,
    /// Has the player do something.
    Play(PlayerCommand),
    /// Brings a panel to the front.
    Reveal(Pane),
    /// Brings the inspector to the front, with one of its pages.
    ShowPage(Page),
    /// Shows everything so large, in percent.
    Scale(u32),
    ReducedMotion(bool),
    Notify(bool),
    /// Shows the first hint, or takes it away for good.
    Hint(bool),
}
