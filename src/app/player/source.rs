//! What the player is given to show: the pictures of every step of denoising, and the finished clip.

use std::sync::Arc;

use super::state::Look;
use crate::clip::Frames;
pub use crate::model::latent::latent_frame;

/// A clip, finished or in the making. Cheap to make for every frame of the window: pictures are shared.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// Tells one clip from another. Pictures of one id never change once they are there.
    pub id: u64,
    /// The clip's, which previews may be smaller than.
    pub width: usize,
    pub height: usize,
    pub frames: usize,
    pub frames_per_second: f64,
    /// How many steps the sampler makes.
    pub calls: usize,
    /// The steps that are done, in order.
    pub steps: Vec<Step>,
    /// Whether there is a finished clip, though its frames may still load.
    pub complete: bool,
    /// The frames of the finished clip; None while they load.
    pub finished: Option<Arc<Frames>>,
    /// Whether more steps are on their way.
    pub generating: bool,
}

/// The pictures of the estimated clean clip after a step. None where they are not there yet, or were never asked for.
#[derive(Debug, Clone, Default)]
pub struct Step {
    /// By the linear projection: one frame a latent frame, of any size.
    pub projection: Option<Arc<Frames>>,
    /// By the decoder: the frames of the clip.
    pub decoded: Option<Arc<Frames>>,
}

/// One set of pictures of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pictures {
    Step(usize, Look),
    Finished,
}

impl Source {
    /// The cell of the newest thing to show: a step, or `calls` for the finished clip.
    pub fn newest_cell(&self) -> usize {
        if self.complete { self.calls } else { self.steps.len().saturating_sub(1) }
    }

    /// What was asked for: a step, or the newest.
    pub fn wanted(&self, step: Option<usize>, look: Look) -> Pictures {
        match step.filter(|&step| step < self.steps.len()) {
            Some(step) => Pictures::Step(step, look),
            None if self.complete => Pictures::Finished,
            None => Pictures::Step(self.newest_cell(), look),
        }
    }

    /// The frames of a set, if they are there.
    pub fn pictures(&self, pictures: Pictures) -> Option<&Arc<Frames>> {
        match pictures {
            Pictures::Finished => self.finished.as_ref(),
            Pictures::Step(step, look) => {
                let step = self.steps.get(step)?;
                match look {
                    Look::Projection => step.projection.as_ref(),
                    Look::Decoder => step.decoded.as_ref(),
                }
            }
        }
    }

    /// What to show for what was asked for: the set itself, or else the one most like it that is there.
    pub fn nearest(&self, wanted: Pictures) -> Option<Pictures> {
        let is_there = |pictures: &Pictures| self.pictures(*pictures).is_some_and(|frames| frames.count() > 0);
        if is_there(&wanted) {
            return Some(wanted);
        }
        let (center, look) = match wanted {
            Pictures::Step(step, look) => (step, look),
            Pictures::Finished => (self.steps.len(), Look::Decoder),
        };
        let other = if look == Look::Decoder { Look::Projection } else { Look::Decoder };
        let steps = 0..self.steps.len();
        steps
            .flat_map(|step| [(step, look), (step, other)])
            .filter(|&(step, look)| is_there(&Pictures::Step(step, look)))
            // Of two equally far, the later step is nearer to the clip.
            .min_by_key(|&(step, found)| (step.abs_diff(center), step < center, found != look))
            .map(|(step, look)| Pictures::Step(step, look))
            .or_else(|| is_there(&Pictures::Finished).then_some(Pictures::Finished))
    }

    /// The picture of a set that is shown at a frame of the clip.
    pub fn picture_at(&self, pictures: Pictures, frame: usize) -> usize {
        self.pictures(pictures).map_or(0, |frames| picture_of_frame(frame, self.frames, frames.count()))
    }
}

/// The picture for `frame` of a clip with `frames`, from a set of `pictures`: its own where there is one a frame, that of its
/// latent frame where there is one a latent frame, and otherwise the one at the same share of the time.
pub fn picture_of_frame(frame: usize, frames: usize, pictures: usize) -> usize {
    let picture = if pictures == frames {
        frame
    } else if pictures == latent_frame(frames.saturating_sub(1)) + 1 {
        latent_frame(frame)
    } else {
        frame * pictures / frames.max(1)
    };
    picture.min(pictures.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(count: usize) -> Arc<Frames> {
        Arc::new(Frames { width: 1, height: 1, frames_per_second: 24.0, rgb: vec![0; count * 3] })
    }

    #[test]
    fn latent_frames_are_those_of_the_causal_autoencoder() {
        // By construction: a list with the first frame once and every later latent frame four times.
        for latent_frames in 1..40 {
            let of_frame: Vec<usize> =
                (0..latent_frames).flat_map(|latent| vec![latent; if latent == 0 { 1 } else { 4 }]).collect();
            let frames = of_frame.len();
            assert_eq!(frames, 4 * (latent_frames - 1) + 1);
            for (frame, &latent) in of_frame.iter().enumerate() {
                assert_eq!(latent_frame(frame), latent);
                assert_eq!(picture_of_frame(frame, frames, latent_frames), latent);
                assert_eq!(picture_of_frame(frame, frames, frames), frame);
            }
        }
    }

    #[test]
    fn any_set_of_pictures_has_one_for_every_frame() {
        for frames in 1..30 {
            for pictures in 1..40 {
                let shown: Vec<usize> = (0..frames).map(|frame| picture_of_frame(frame, frames, pictures)).collect();
                assert!(shown.iter().all(|&picture| picture < pictures));
                assert!(shown.is_sorted() && shown[0] == 0);
            }
        }
    }

    #[test]
    fn the_nearest_picture_stands_in() {
        let step = |projection: bool, decoded: bool| Step {
            projection: projection.then(|| frames(2)),
            decoded: decoded.then(|| frames(5)),
        };
        let mut source = Source {
            frames: 5,
            calls: 4,
            steps: vec![step(true, false), step(false, false), step(true, true), step(false, false)],
            complete: true,
            ..Source::default()
        };
        use Look::{Decoder, Projection};
        use Pictures::{Finished, Step as At};
        assert_eq!(source.nearest(At(0, Projection)), Some(At(0, Projection)));
        assert_eq!(source.nearest(At(0, Decoder)), Some(At(0, Projection)), "the other look of the same step");
        assert_eq!(source.nearest(At(1, Projection)), Some(At(2, Projection)), "the later of two neighbours");
        assert_eq!(source.nearest(At(3, Decoder)), Some(At(2, Decoder)));
        assert_eq!(source.nearest(Finished), Some(At(2, Decoder)), "the last step while the clip loads");
        source.finished = Some(frames(5));
        assert_eq!(source.nearest(Finished), Some(Finished));
        source.steps.clear();
        assert_eq!(source.nearest(At(0, Projection)), Some(Finished));
        assert_eq!(Source::default().nearest(At(0, Projection)), None);
    }

    #[test]
    fn following_shows_the_newest() {
        let mut source = Source { calls: 3, frames: 5, ..Source::default() };
        assert_eq!(source.wanted(None, Look::Projection), Pictures::Step(0, Look::Projection));
        source.steps = vec![Step::default(), Step::default()];
        assert_eq!(source.wanted(None, Look::Projection), Pictures::Step(1, Look::Projection));
        assert_eq!(source.wanted(Some(0), Look::Decoder), Pictures::Step(0, Look::Decoder));
        assert_eq!(source.wanted(Some(7), Look::Decoder), Pictures::Step(1, Look::Decoder), "a step that is not done");
        source.complete = true;
        assert_eq!(source.wanted(None, Look::Projection), Pictures::Finished);
    }
}
