//! What the player does: its clock, its direction, what it repeats, and which step it shows. No widgets here.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

/// The fastest that J and L go.
const FASTEST: f64 = 4.0;
/// A longer pause between two pictures is not made up for: the program was busy or asleep.
const LONGEST_TICK_SECONDS: f64 = 0.5;
/// Where a frame is entered when it is played backwards: near its end.
const NEARLY_ONE: f64 = 0.999;

/// What happens at the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeat {
    Once,
    #[default]
    Loop,
    PingPong,
}

/// The size of the picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Zoom {
    /// As large as the place allows.
    #[default]
    Fit,
    /// A pixel of the clip is a pixel of the screen.
    Full,
    Double,
}

/// How the latent after a step becomes a picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Look {
    /// The linear projection: at once, but small and rough.
    #[default]
    Projection,
    /// The true decoder: as the clip will be, but it takes its time.
    Decoder,
}

/// What a person can change about playing. Saved with the layout, apart from what belongs to one clip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PlayerState {
    pub playing: bool,
    /// Times the clip's rate; negative runs backwards.
    pub speed: f64,
    pub repeat: Repeat,
    pub zoom: Zoom,
    pub look: Look,
    /// The clock, in frames: frame n is shown from n until n + 1.
    #[serde(skip)]
    position: f64,
    /// The step of denoising that is shown, from 0; None follows the newest, and in the end the finished clip.
    #[serde(skip)]
    pub step: Option<usize>,
    /// First and last frame of what plays and is exported.
    #[serde(skip)]
    in_point: Option<usize>,
    #[serde(skip)]
    out_point: Option<usize>,
}

impl Default for PlayerState {
    fn default() -> Self {
        Self {
            playing: true,
            speed: 1.0,
            repeat: Repeat::default(),
            zoom: Zoom::default(),
            look: Look::default(),
            position: 0.0,
            step: None,
            in_point: None,
            out_point: None,
        }
    }
}

impl PlayerState {
    /// Forgets what belongs to one clip: position, step, in and out point.
    pub fn rewind(&mut self) {
        (self.position, self.step, self.in_point, self.out_point) = (0.0, None, None, None);
    }

    /// The frame that is shown, of a clip with `frames`.
    pub fn frame(&self, frames: usize) -> usize {
        (self.position.max(0.0) as usize).min(frames.saturating_sub(1))
    }

    /// First and last frame of what plays, of a clip with `frames`.
    pub fn range(&self, frames: usize) -> RangeInclusive<usize> {
        let last = frames.saturating_sub(1);
        let end = self.out_point.unwrap_or(last).min(last);
        self.in_point.unwrap_or(0).min(end)..=end
    }

    /// Whether a part is marked, and not the whole clip.
    pub fn has_range(&self) -> bool {
        self.in_point.is_some() || self.out_point.is_some()
    }

    /// Makes `frame` the first that plays; the end moves along where it would come before it.
    pub fn set_in(&mut self, frame: usize, frames: usize) {
        let end = *self.range(frames).end();
        self.mark(frame, end.max(frame), frames);
    }

    /// Makes `frame` the last that plays; the start moves along where it would come after it.
    pub fn set_out(&mut self, frame: usize, frames: usize) {
        let start = *self.range(frames).start();
        self.mark(start.min(frame), frame, frames);
    }

    pub fn clear_range(&mut self) {
        (self.in_point, self.out_point) = (None, None);
    }

    fn mark(&mut self, start: usize, end: usize, frames: usize) {
        let last = frames.saturating_sub(1);
        self.in_point = (start > 0).then_some(start.min(last));
        self.out_point = (end < last).then_some(end);
    }

    /// Shows a frame, for its whole time whichever way the clip runs.
    pub fn go_to(&mut self, frame: usize, frames: usize) {
        let frame = frame.min(frames.saturating_sub(1));
        self.position = frame as f64 + if self.speed < 0.0 { NEARLY_ONE } else { 0.0 };
    }

    /// Pauses, and goes `by` frames on; at the ends of the clip it stays.
    pub fn step_frames(&mut self, by: isize, frames: usize) {
        self.playing = false;
        self.go_to(self.frame(frames).saturating_add_signed(by), frames);
    }

    /// Plays or pauses. A clip that has come to its end starts again.
    pub fn toggle(&mut self, frames: usize) {
        self.playing = !self.playing;
        let range = self.range(frames);
        if self.playing && self.repeat == Repeat::Once {
            let frame = self.frame(frames);
            if self.speed > 0.0 && frame >= *range.end() {
                self.go_to(*range.start(), frames);
            } else if self.speed < 0.0 && frame <= *range.start() {
                self.go_to(*range.end(), frames);
            }
        }
    }

    /// L: plays; once more, and it plays faster.
    pub fn forward(&mut self) {
        self.shuttle(1.0);
    }

    /// J: plays backwards; once more, and faster.
    pub fn reverse(&mut self) {
        self.shuttle(-1.0);
    }

    /// K: pauses, and forgets the speed.
    pub fn halt(&mut self) {
        (self.playing, self.speed) = (false, 1.0);
    }

    fn shuttle(&mut self, direction: f64) {
        let same_way = self.playing && self.speed * direction > 0.0;
        self.speed = if same_way { (self.speed * 2.0).clamp(-FASTEST, FASTEST) } else { direction };
        self.playing = true;
    }

    /// Lets `seconds` pass. Outside of the marked part it plays on until it comes to its end.
    pub fn advance(&mut self, seconds: f64, frames: usize, frames_per_second: f64) {
        if !self.playing || frames == 0 {
            return;
        }
        let range = self.range(frames);
        let (first, last) = (*range.start() as f64, *range.end() as f64);
        let count = last - first + 1.0;
        let moved = self.position + seconds.clamp(0.0, LONGEST_TICK_SECONDS) * frames_per_second * self.speed;
        let past = match self.repeat {
            // On the way back the first frame belongs to the next way there.
            Repeat::PingPong if self.speed < 0.0 => moved < first + 1.0,
            _ if self.speed < 0.0 => moved < first,
            _ => moved >= last + 1.0,
        };
        self.position = match self.repeat {
            _ if !past => moved.clamp(0.0, frames as f64 - 1.0 + NEARLY_ONE),
            Repeat::Once => {
                self.playing = false;
                if self.speed < 0.0 { first } else { last }
            }
            Repeat::Loop => (first + (moved - first).rem_euclid(count)).min(last + NEARLY_ONE),
            Repeat::PingPong if count < 2.0 => first,
            Repeat::PingPong => self.turn(moved, first, last),
        };
    }

    /// Back from an end: the last frame is shown once and then the one before it, as an exported ping-pong does.
    fn turn(&mut self, moved: f64, first: f64, last: f64) -> f64 {
        // A way there and back; the two ends are in it once.
        let way = 2.0 * (last - first);
        let backwards = self.speed < 0.0;
        // Time along the way: 0 at the first frame's start; frame n on the way back is shown from `way - n` on.
        let along = if backwards { way - (moved - first) + 1.0 } else { moved - first }.rem_euclid(way);
        let forwards_again = along < last - first + 1.0;
        self.speed = if forwards_again { self.speed.abs() } else { -self.speed.abs() };
        if forwards_again { first + along } else { first + way - along + NEARLY_ONE }
    }

    /// Seconds until another frame is to be shown; None while it stands still.
    pub fn until_next_frame(&self, frames: usize, frames_per_second: f64) -> Option<f64> {
        let rate = frames_per_second * self.speed.abs();
        if !self.playing || frames < 2 || rate <= 0.0 {
            return None;
        }
        let within = self.position - self.position.floor();
        let rest = if self.speed < 0.0 { within } else { 1.0 - within };
        // Past the boundary by a hair, or the next frame would find itself still in this one.
        Some((rest + 1e-3) / rate)
    }

    /// Shows step `cell`, where `newest` is the last that can be shown; the newest means to follow.
    pub fn show_step(&mut self, cell: usize, newest: usize) {
        self.step = (cell < newest).then_some(cell);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The frames that are shown, one look in the middle of each frame's time.
    fn played(state: &mut PlayerState, frames: usize, looks: usize) -> Vec<usize> {
        let second = 1.0 / 24.0;
        state.advance(second / 2.0 / state.speed.abs(), frames, 24.0);
        (0..looks)
            .map(|_| {
                let frame = state.frame(frames);
                state.advance(second / state.speed.abs(), frames, 24.0);
                frame
            })
            .collect()
    }

    #[test]
    fn a_loop_shows_every_frame_equally_often() {
        let mut state = PlayerState::default();
        assert_eq!(played(&mut state, 3, 7), [0, 1, 2, 0, 1, 2, 0]);
        let mut state = PlayerState { speed: -1.0, ..PlayerState::default() };
        state.go_to(1, 3);
        assert_eq!(played(&mut state, 3, 6), [1, 0, 2, 1, 0, 2]);
    }

    #[test]
    fn ping_pong_shows_its_ends_once_as_an_export_does() {
        let mut state = PlayerState { repeat: Repeat::PingPong, ..PlayerState::default() };
        assert_eq!(played(&mut state, 4, 14), [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]);
        let mut state = PlayerState { repeat: Repeat::PingPong, ..PlayerState::default() };
        state.set_in(2, 9);
        state.set_out(4, 9);
        state.go_to(2, 9);
        assert_eq!(played(&mut state, 9, 9), [2, 3, 4, 3, 2, 3, 4, 3, 2]);
        let mut two = PlayerState { repeat: Repeat::PingPong, ..PlayerState::default() };
        assert_eq!(played(&mut two, 2, 5), [0, 1, 0, 1, 0]);
        let mut one = PlayerState { repeat: Repeat::PingPong, ..PlayerState::default() };
        assert_eq!(played(&mut one, 1, 3), [0, 0, 0]);
    }

    #[test]
    fn once_stops_at_the_end_and_starts_again_on_the_next_play() {
        let mut state = PlayerState { repeat: Repeat::Once, ..PlayerState::default() };
        assert_eq!(played(&mut state, 3, 5), [0, 1, 2, 2, 2]);
        assert!(!state.playing);
        state.toggle(3);
        assert!(state.playing);
        assert_eq!(state.frame(3), 0);
    }

    #[test]
    fn the_marked_part_is_what_loops() {
        let mut state = PlayerState::default();
        state.set_in(2, 8);
        state.set_out(4, 8);
        state.go_to(2, 8);
        assert_eq!(played(&mut state, 8, 7), [2, 3, 4, 2, 3, 4, 2]);
        assert!(state.has_range());
        // An end before the start takes the start along, and the other way round.
        state.set_out(1, 8);
        assert_eq!(state.range(8), 1..=1);
        state.set_in(6, 8);
        assert_eq!(state.range(8), 6..=6);
        state.set_out(7, 8);
        state.set_in(0, 8);
        assert!(!state.has_range());
        // Points of a longer clip do not leave a shorter one.
        state.set_in(7, 8);
        assert_eq!(state.range(3), 2..=2);
        assert_eq!(state.range(0), 0..=0);
    }

    #[test]
    fn j_k_l_shuttle() {
        let mut state = PlayerState::default();
        state.halt();
        let mut speeds = Vec::new();
        for _ in 0..4 {
            state.forward();
            speeds.push(state.speed);
        }
        state.reverse();
        speeds.push(state.speed);
        state.reverse();
        speeds.push(state.speed);
        assert_eq!(speeds, [1.0, 2.0, 4.0, 4.0, -1.0, -2.0]);
        state.halt();
        assert!(!state.playing);
        assert_eq!(state.speed, 1.0);
    }

    #[test]
    fn the_next_frame_comes_at_its_boundary() {
        let mut state = PlayerState { speed: 2.0, ..PlayerState::default() };
        let wait = state.until_next_frame(5, 10.0).unwrap();
        assert!((wait - 0.05).abs() < 1e-3, "{wait}");
        state.advance(wait, 5, 10.0);
        assert_eq!(state.frame(5), 1);
        for speed in [-4.0, -1.0, 0.25, 1.0, 4.0] {
            for repeat in [Repeat::Loop, Repeat::PingPong] {
                let mut state = PlayerState { speed, repeat, ..PlayerState::default() };
                state.go_to(2, 5);
                for _ in 0..50 {
                    let before = state.frame(5);
                    let wait = state.until_next_frame(5, 24.0).unwrap();
                    state.advance(wait, 5, 24.0);
                    assert_ne!(state.frame(5), before, "speed {speed}, {repeat:?}: a repaint that changes nothing");
                }
            }
        }
        state.playing = false;
        assert_eq!(state.until_next_frame(5, 10.0), None);
    }

    #[test]
    fn stepping_pauses_and_stays_inside() {
        let mut state = PlayerState::default();
        state.step_frames(-1, 5);
        assert_eq!((state.playing, state.frame(5)), (false, 0));
        for _ in 0..9 {
            state.step_frames(1, 5);
        }
        assert_eq!(state.frame(5), 4);
    }

    #[test]
    fn what_belongs_to_a_clip_is_not_saved() {
        let mut state = PlayerState { zoom: Zoom::Double, ..PlayerState::default() };
        state.go_to(3, 9);
        state.set_in(2, 9);
        state.step = Some(1);
        let saved = serde_json::to_string(&state).unwrap();
        let loaded: PlayerState = serde_json::from_str(&saved).unwrap();
        assert_eq!(loaded, PlayerState { zoom: Zoom::Double, ..PlayerState::default() });
        assert_eq!(serde_json::from_str::<PlayerState>("{}").unwrap(), PlayerState::default());
    }
}
