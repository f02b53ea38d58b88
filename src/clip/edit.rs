//! What a person does to a clip before it becomes a file: cut it, change its speed and its size, let it run to and fro.
//!
//! Edits make new frames out of a clip's own and leave the clip alone. How often a file plays is no matter of frames for the
//! kinds of files that can say it; see [`Loops`].

use std::fmt;
use std::num::NonZeroU16;
use std::ops::{ControlFlow, RangeInclusive};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::progress::{Meter, unwatched};
use super::rate::FRAMES_PER_SECOND;
use super::scale::{ScaleFilter, Scaler};
use super::{ClipError, Frames, LARGEST_SIDE, MOST_FRAME_BYTES};

/// How many times larger a clip can be made.
pub const SCALES: RangeInclusive<u32> = 1..=4;
/// More plays of a clip than this are a mistake, and a video file would hold every one of them.
pub const MOST_LOOPS: u16 = 1000;

/// How often a file shows its frames.
///
/// GIF, animated PNG and animated WebP say it in their header, and players obey. MP4 and WebM cannot say it: the frames are
/// repeated in the file, and for ever means once, for their players decide. A PNG sequence has its frames once in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loops {
    #[default]
    Forever,
    /// So many times in all; once is without a loop.
    Times(NonZeroU16),
}

impl Loops {
    /// How often the frames themselves are in a file that cannot say how often it plays.
    pub(super) fn copies(self) -> usize {
        match self {
            Loops::Forever => 1,
            Loops::Times(times) => usize::from(times.get()),
        }
    }

    /// The number of plays as most formats write it: 0 has no end.
    pub(super) fn number(self) -> u16 {
        match self {
            Loops::Forever => 0,
            Loops::Times(times) => times.get(),
        }
    }
}

impl fmt::Display for Loops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loops::Forever => f.write_str("forever"),
            Loops::Times(times) => write!(f, "{times}"),
        }
    }
}

impl FromStr for Loops {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let times = text.parse().ok().filter(|times: &NonZeroU16| times.get() <= MOST_LOOPS).map(Loops::Times);
        let forever = text.eq_ignore_ascii_case("forever").then_some(Loops::Forever);
        times.or(forever).ok_or_else(|| format!("write a number from 1 to {MOST_LOOPS}, or forever"))
    }
}

/// Why a clip cannot be edited so.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EditError {
    #[error("frames {first} to {last} cannot be taken: choose a first and a last one of this clip's frames 0 to {end}", end = count.saturating_sub(1))]
    Frames { first: usize, last: usize, count: usize },
    #[error(
        "{frames_per_second} frames per second cannot be written: use {} to {}",
        FRAMES_PER_SECOND.start(),
        FRAMES_PER_SECOND.end()
    )]
    FramesPerSecond { frames_per_second: f64 },
    #[error("a scale of {scale} is not possible: use a whole number from {} to {}", SCALES.start(), SCALES.end())]
    Scale { scale: u32 },
    #[error("a clip cannot be played {times} times: use 1 to {MOST_LOOPS}, or forever")]
    Loops { times: u16 },
    #[error(
        "{frames} frames of {width}x{height} pixels are too much: sides end at {LARGEST_SIDE} pixels and frames at {} MB \
         together; use a smaller scale or fewer frames",
        MOST_FRAME_BYTES >> 20
    )]
    TooLarge { width: usize, height: usize, frames: usize },
}

/// Choices about the frames of a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Edit {
    /// The in point, counted from 0.
    pub first_frame: usize,
    /// The out point: the last frame that is shown.
    pub last_frame: usize,
    /// How fast the frames are shown; the frames stay the same.
    pub frames_per_second: f64,
    /// 1 to 4.
    pub scale: u32,
    #[serde(default)]
    pub scale_filter: ScaleFilter,
    /// Forward and then backward, without showing an end twice: of 0 1 2 3 it makes 0 1 2 3 2 1.
    pub ping_pong: bool,
    pub loops: Loops,
}

/// The measures of an edited clip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EditedSize {
    pub width: usize,
    pub height: usize,
    /// Without the repetitions of [`Edit::loops`].
    pub frames: usize,
    /// How long one play takes.
    pub seconds: f64,
}

impl Edit {
    /// The edit that changes nothing.
    pub fn whole(frames: &Frames) -> Self {
        Edit {
            first_frame: 0,
            last_frame: frames.count().saturating_sub(1),
            frames_per_second: frames.frames_per_second,
            scale: 1,
            scale_filter: ScaleFilter::default(),
            ping_pong: false,
            loops: Loops::default(),
        }
    }

    /// Whether this can be done to a clip, and what comes out.
    ///
    /// # Errors
    /// The first choice that is outside of what is possible, with what is.
    pub fn check(&self, frames: &Frames) -> Result<EditedSize, EditError> {
        let (first, last, count) = (self.first_frame, self.last_frame, frames.count());
        if first > last || last >= count {
            return Err(EditError::Frames { first, last, count });
        }
        if !FRAMES_PER_SECOND.contains(&self.frames_per_second) {
            return Err(EditError::FramesPerSecond { frames_per_second: self.frames_per_second });
        }
        if !SCALES.contains(&self.scale) {
            return Err(EditError::Scale { scale: self.scale });
        }
        if let Loops::Times(times) = self.loops
            && times.get() > MOST_LOOPS
        {
            return Err(EditError::Loops { times: times.get() });
        }
        let shown = last - first + 1;
        let shown = if self.ping_pong { shown + shown.saturating_sub(2) } else { shown };
        let scale = self.scale as usize;
        let (width, height) = (frames.width.saturating_mul(scale), frames.height.saturating_mul(scale));
        let bytes = width.saturating_mul(height).saturating_mul(3).saturating_mul(shown);
        if width > LARGEST_SIDE || height > LARGEST_SIDE || bytes > MOST_FRAME_BYTES {
            return Err(EditError::TooLarge { width, height, frames: shown });
        }
        Ok(EditedSize { width, height, frames: shown, seconds: shown as f64 / self.frames_per_second })
    }

    /// The frames of the clip in the order in which they are shown.
    pub fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, last) = (self.first_frame, self.last_frame);
        let back = if self.ping_pong { first + 1..last } else { first..first };
        (first..=last).chain(back.rev())
    }

    /// The edited frames.
    ///
    /// # Errors
    /// [`ClipError::Edit`] as [`Edit::check`] says; [`ClipError::InvalidFrames`] for frames that make no clip.
    pub fn apply(&self, frames: &Frames) -> Result<Frames, ClipError> {
        self.apply_watched(frames, &mut unwatched)
    }

    /// As [`Edit::apply`]; `progress` gets the share that is done before every frame.
    ///
    /// # Errors
    /// Also [`ClipError::Stopped`] when `progress` breaks.
    pub fn apply_watched(&self, frames: &Frames, progress: &mut dyn FnMut(f64) -> ControlFlow<()>) -> Result<Frames, ClipError> {
        let size = self.check(frames)?;
        frames.check()?;
        let mut meter = Meter::new(progress);
        let scaled_bytes = size.width * size.height * 3;
        let mut rgb = Vec::with_capacity(scaled_bytes * size.frames);
        let mut scaler = Scaler::new((frames.width, frames.height), self.scale as usize, self.scale_filter);
        let forward = self.last_frame - self.first_frame + 1;
        for (done, index) in self.order().enumerate() {
            meter.count(done, size.frames)?;
            if done < forward {
                scaler.append(frames.frame(index), &mut rgb);
            } else {
                // On the way back every frame is there already.
                let at = (index - self.first_frame) * scaled_bytes;
                rgb.extend_from_within(at..at + scaled_bytes);
            }
        }
        Ok(Frames { width: size.width, height: size.height, frames_per_second: self.frames_per_second, rgb })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of 2x1 pixels that show their own number.
    fn numbered(count: u8) -> Frames {
        let rgb = (0..count).flat_map(|frame| [frame; 6]).collect();
        Frames { width: 2, height: 1, frames_per_second: 24.0, rgb }
    }

    fn shown(frames: &Frames) -> Vec<u8> {
        frames.iter().map(|frame| frame[0]).collect()
    }

    #[test]
    fn the_whole_clip_is_the_same() {
        let clip = numbered(5);
        assert_eq!(Edit::whole(&clip).apply(&clip).unwrap(), clip);
    }

    #[test]
    fn points_are_inclusive_and_ping_pong_shows_no_end_twice() {
        let clip = numbered(9);
        for (first, last, ping_pong, want) in [
            (2, 5, false, &[2, 3, 4, 5][..]),
            (2, 5, true, &[2, 3, 4, 5, 4, 3]),
            (8, 8, false, &[8]),
            (8, 8, true, &[8]),
            (0, 1, true, &[0, 1]),
            (0, 2, true, &[0, 1, 2, 1]),
        ] {
            let edit = Edit { first_frame: first, last_frame: last, ping_pong, frames_per_second: 12.0, ..Edit::whole(&clip) };
            let edited = edit.apply(&clip).unwrap();
            assert_eq!(shown(&edited), want);
            assert_eq!(edited.frames_per_second, 12.0);
            let size = edit.check(&clip).unwrap();
            assert_eq!((size.width, size.height, size.frames), (2, 1, want.len()));
            assert_eq!(size.seconds, want.len() as f64 / 12.0);
            assert_eq!(edit.order().collect::<Vec<_>>(), want.iter().map(|&frame| usize::from(frame)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn scaling_and_ping_pong_go_together() {
        let clip = numbered(3);
        for scale_filter in [ScaleFilter::Smooth, ScaleFilter::Pixels] {
            let edited = Edit { scale: 3, scale_filter, ping_pong: true, ..Edit::whole(&clip) }.apply(&clip).unwrap();
            assert_eq!((edited.width, edited.height, edited.count()), (6, 3, 4));
            assert_eq!(shown(&edited), [0, 1, 2, 1]);
        }
    }

    #[test]
    fn impossible_edits_name_what_is_possible() {
        let clip = numbered(5);
        let whole = Edit::whole(&clip);
        let times = |times| Loops::Times(NonZeroU16::new(times).unwrap());
        for (edit, words) in [
            (Edit { last_frame: 5, ..whole.clone() }, "frames 0 to 4"),
            (Edit { first_frame: 3, last_frame: 2, ..whole.clone() }, "frames 0 to 4"),
            (Edit { frames_per_second: 0.0, ..whole.clone() }, "0.001 to 1000"),
            (Edit { frames_per_second: f64::NAN, ..whole.clone() }, "0.001 to 1000"),
            (Edit { scale: 0, ..whole.clone() }, "from 1 to 4"),
            (Edit { scale: 5, ..whole.clone() }, "from 1 to 4"),
            (Edit { loops: times(1001), ..whole.clone() }, "1 to 1000"),
        ] {
            let error = edit.check(&clip).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert!(matches!(edit.apply(&clip), Err(ClipError::Edit(found)) if found.to_string() == error.to_string()));
        }
        let wide = Frames { width: 8000, height: 1, frames_per_second: 1.0, rgb: vec![0; 24_000] };
        assert!(Edit { scale: 2, ..Edit::whole(&wide) }.check(&wide).is_ok());
        let error = Edit { scale: 3, ..Edit::whole(&wide) }.check(&wide).unwrap_err();
        assert_eq!(error, EditError::TooLarge { width: 24_000, height: 3, frames: 1 });
        let none = numbered(0);
        assert!(matches!(Edit::whole(&none).check(&none), Err(EditError::Frames { .. })));
    }

    #[test]
    fn an_edit_can_be_stopped() {
        let clip = numbered(9);
        let mut calls = 0;
        let result = Edit::whole(&clip).apply_watched(&clip, &mut |share| {
            calls += 1;
            if share < 0.5 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        assert!(matches!(result, Err(ClipError::Stopped)));
        assert_eq!(calls, 6);
    }

    #[test]
    fn loops_are_read_as_they_are_shown() {
        for text in ["forever", "1", "12"] {
            assert_eq!(text.parse::<Loops>().unwrap().to_string(), text);
        }
        for text in ["0", "-1", "1001", "", "ever", "1.5"] {
            assert!(text.parse::<Loops>().is_err(), "{text}");
        }
        let edit = Edit { loops: "3".parse().unwrap(), ..Edit::whole(&numbered(2)) };
        let text = serde_json::to_string(&edit).unwrap();
        assert_eq!(serde_json::from_str::<Edit>(&text).unwrap(), edit);
        assert!(serde_json::from_str::<Loops>("{\"times\":0}").is_err());
    }
}
