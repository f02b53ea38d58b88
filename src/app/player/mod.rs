//! The player, which is the live preview as well: the picture, a ruler of frames, a ruler of steps, and the controls.
//!
//! It is a widget over plain data. The caller hands a [`Source`] over for every frame of the window and gets back what it
//! should do ([`PlayerEvent`]): load or decode pictures that are missing, or branch. While a picture is missing, the one most
//! like it stands in; nothing ever covers it.

mod frame_ruler;
pub mod heat;
pub mod inspect;
pub mod keys;
mod picture;
mod point;
mod reads_strip;
mod ruler;
pub mod source;
pub mod state;
mod step_ruler;
pub mod textures;
mod transport;
pub mod versus;
mod word_row;

use eframe::egui::{Ui, vec2};

use self::inspect::{Inspect, Question};
use self::keys::PlayerCommand;
use self::source::{Pictures, Source};
use self::state::{Look, PlayerState};
use self::textures::Textures;
use self::versus::{Versus, View};
use super::shortcuts::Keys;
use super::theme;

/// What the player asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlayerEvent {
    /// These pictures are shown, or would be, and are not there. Comes again with every frame of the window until they are.
    Want(Pictures),
    /// The same, of the clip that the first is compared with.
    WantOther(Pictures),
    /// Another look was chosen for the steps.
    LookChanged(Look),
    /// Go on from the latent after this step with other settings.
    BranchFrom(usize),
}

/// A player: what the person chose, and the pictures on the graphics card.
#[derive(Default)]
pub struct Player {
    pub state: PlayerState,
    /// How two clips are shown together.
    pub view: View,
    textures: Textures,
    /// The clip of the last frame of the window.
    source: Option<u64>,
    /// The window's clock when the clip last moved.
    moved_at: Option<f64>,
    /// While the person drags through the frames: where the drag began, and whether to play on after it.
    scrub: Option<Scrub>,
    /// The window is not painted for the next frame sooner than this: for adapters that take long to paint it.
    pub least_repaint_seconds: f32,
    /// The keys that it listens to.
    pub keys: Keys,
    /// What was asked of it from outside, until it is shown.
    asked: Vec<PlayerCommand>,
    /// Where a picture larger than its place was moved to, in points.
    pan: eframe::egui::Vec2,
    /// What is looked at inside of the clip.
    pub inspect: Inspect,
    /// Two latent frames that stand out in the picture and in the rulers: one that reads, and one that is read.
    pub highlight: Option<[usize; 2]>,
}

#[derive(Debug, Clone, Copy)]
struct Scrub {
    frame: usize,
    was_playing: bool,
}

impl Player {
    pub fn new(state: PlayerState) -> Self {
        Self { state, ..Self::default() }
    }

    /// Has it do something when it is shown next.
    pub fn ask(&mut self, command: PlayerCommand) {
        self.asked.push(command);
    }

    /// The pictures on the graphics card.
    pub fn textures(&self) -> &Textures {
        &self.textures
    }

    /// The step that is on show, from 0; None for the finished clip, and while there is no step.
    pub fn shown_step(&self, source: &Source) -> Option<usize> {
        match source.wanted(self.state.step, self.state.look) {
            Pictures::Step(step, _) => (step < source.steps.len()).then_some(step),
            Pictures::Finished => None,
        }
    }

    /// What is to be known for what is looked at; [`Inspect::answers`] takes the answers.
    pub fn question(&self, source: &Source) -> Question {
        // The finished clip is what the last step led to.
        let step = self.shown_step(source).map_or(source.steps.len(), |step| step + 1);
        self.inspect.question(source, step)
    }

    /// Fills the place that `ui` has left. `buttons` go to the right end of the controls, from right to left.
    pub fn show(&mut self, ui: &mut Ui, source: &Source, buttons: impl FnOnce(&mut Ui)) -> Vec<PlayerEvent> {
        self.show_with(ui, source, None, buttons)
    }

    /// As [`Self::show`], with another clip that plays in step with the first.
    pub fn show_pair(
        &mut self,
        ui: &mut Ui,
        source: &Source,
        other: Versus<'_>,
        buttons: impl FnOnce(&mut Ui),
    ) -> Vec<PlayerEvent> {
        self.show_with(ui, source, Some(other), buttons)
    }

    fn show_with(
        &mut self,
        ui: &mut Ui,
        source: &Source,
        other: Option<Versus<'_>>,
        buttons: impl FnOnce(&mut Ui),
    ) -> Vec<PlayerEvent> {
        let mut events = Vec::new();
        if self.source.replace(source.id) != Some(source.id) {
            self.state.rewind();
            (self.moved_at, self.scrub, self.pan) = (None, None, Default::default());
            self.inspect.rewind();
            if self.inspect.on {
                // What is known of this clip comes with the next frame.
                ui.ctx().request_repaint();
            }
        }
        let now = ui.input(|input| input.time);
        if let Some(before) = self.moved_at {
            self.state.advance(now - before, source.frames, source.frames_per_second);
        }
        for command in std::mem::take(&mut self.asked) {
            keys::perform(&mut self.state, &mut self.inspect, source, command);
        }
        keys::handle(ui, &mut self.state, &mut self.inspect, source, &self.keys);
        let asked = self.question(source);

        let wide = ui.available_width() >= transport::LEAST_WIDTH_OF_ONE_ROW;
        let rows = if wide { 1.0 } else { 2.0 };
        let controls = rows * (theme::CONTROL_HEIGHT + theme::SPACE_SMALL);
        let steps_height = step_ruler::height(source, ui.available_width());
        let rulers = frame_ruler::HEIGHT + theme::SPACE_SMALL + steps_height + theme::SPACE_SMALL;
        if self.inspect.on {
            self.word_row(ui);
        }
        self.inspect.follow_answers();
        let strip_height = if self.inspect.on { reads_strip::height(source, ui.available_width()) } else { 0.0 };
        let picture_height = (ui.available_height() - rulers - controls - strip_height).max(picture::LEAST_HEIGHT);

        let size = vec2(ui.available_width(), picture_height);
        self.picture(ui, size, source, other.as_ref(), &mut events);
        if self.inspect.on {
            self.reads_strip(ui, source);
        }
        self.frame_ruler(ui, source);
        self.step_ruler(ui, steps_height, source, &mut events);
        self.transport(ui, wide, source, &mut events, buttons);

        if self.question(source) != asked {
            // Its answer may be at hand.
            ui.ctx().request_repaint();
        }
        self.moved_at = self.state.playing.then_some(now);
        if let Some(seconds) = self.state.until_next_frame(source.frames, source.frames_per_second) {
            ui.ctx().request_repaint_after_secs((seconds as f32).max(self.least_repaint_seconds));
        }
        events
    }

    /// Holds the clip still while the person drags through its frames.
    fn begin_scrub(&mut self, frames: usize) {
        self.scrub = Some(Scrub { frame: self.state.frame(frames), was_playing: self.state.playing });
        self.state.playing = false;
    }

    fn end_scrub(&mut self) {
        if let Some(scrub) = self.scrub.take() {
            self.state.playing = scrub.was_playing;
        }
    }
}
