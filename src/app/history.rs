//! Undo and redo of the settings. Changes of the same settings that follow each other quickly, or that are made in one drag, are
//! one step back.

use std::time::{Duration, Instant};

use crate::studio::Draft;

/// Changes of one setting that come sooner than this belong together.
const TOGETHER: Duration = Duration::from_millis(900);
const MOST_STEPS: usize = 200;

/// What was set before, and what was taken back.
#[derive(Default)]
pub struct History {
    earlier: Vec<Draft>,
    later: Vec<Draft>,
    /// The settings as they were last looked at.
    last: Option<Draft>,
    /// The settings that changed last, and when.
    changing: Option<(Vec<&'static str>, Instant)>,
}

impl History {
    /// Looks at the settings; `held` while the pointer holds a control.
    pub fn follow(&mut self, draft: &Draft, held: bool, now: Instant) {
        let Some(last) = &self.last else {
            self.last = Some(draft.clone());
            return;
        };
        let changed = differences(last, draft);
        if changed.is_empty() {
            if let (true, Some((_, when))) = (held, &mut self.changing) {
                *when = now;
            }
            return;
        }
        let goes_on = self.changing.as_ref().is_some_and(|(of, when)| *of == changed && now.duration_since(*when) < TOGETHER);
        if !goes_on {
            self.earlier.push(last.clone());
            if self.earlier.len() > MOST_STEPS {
                self.earlier.remove(0);
            }
        }
        self.later.clear();
        self.changing = Some((changed, now));
        self.last = Some(draft.clone());
    }

    /// Takes a change over that the person did not make, such as the next run's seed.
    pub fn accept(&mut self, draft: &Draft) {
        self.last = Some(draft.clone());
        self.changing = None;
    }

    pub fn can_undo(&self) -> bool {
        !self.earlier.is_empty()
    }

    pub fn can_redo(&self) -> bool {
        !self.later.is_empty()
    }

    /// Puts the settings back by one step; gives the names of those that changed.
    pub fn undo(&mut self, draft: &mut Draft) -> Option<Vec<&'static str>> {
        let before = self.earlier.pop()?;
        self.later.push(draft.clone());
        Some(self.put(draft, before))
    }

    pub fn redo(&mut self, draft: &mut Draft) -> Option<Vec<&'static str>> {
        let after = self.later.pop()?;
        self.earlier.push(draft.clone());
        Some(self.put(draft, after))
    }

    fn put(&mut self, draft: &mut Draft, other: Draft) -> Vec<&'static str> {
        let changed = differences(draft, &other);
        *draft = other;
        self.accept(draft);
        changed
    }
}

/// The names of the settings that differ.
pub fn differences(a: &Draft, b: &Draft) -> Vec<&'static str> {
    [
        ("model", a.model != b.model),
        ("prompt", a.prompt != b.prompt),
        ("negative prompt", a.negative_prompt != b.negative_prompt),
        ("attention mask", a.mask != b.mask),
        ("frames", a.frames != b.frames),
        ("size", (a.width, a.height) != (b.width, b.height)),
        ("rate", a.frames_per_second != b.frames_per_second),
        ("sampler", a.sampler != b.sampler),
        ("steps", a.steps != b.steps),
        ("guidance", a.guidance_scale != b.guidance_scale),
        ("seed", (a.seed, a.seed_locked) != (b.seed, b.seed_locked)),
        ("number of clips", a.clips != b.clips),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(steps: usize, frames: usize) -> Draft {
        Draft { steps, frames, seed: 1, ..Draft::first() }
    }

    #[test]
    fn a_drag_is_one_step_and_another_setting_is_another() {
        let mut history = History::default();
        let begin = Instant::now();
        let at = |millis| begin + Duration::from_millis(millis);
        history.follow(&draft(8, 29), false, at(0));
        for (steps, millis) in [(9, 10), (10, 100), (12, 900)] {
            history.follow(&draft(steps, 29), true, at(millis));
        }
        // Held still for long, and moved on: still the same drag.
        for millis in [1500, 2200, 2900] {
            history.follow(&draft(12, 29), true, at(millis));
        }
        history.follow(&draft(14, 29), true, at(3000));
        history.follow(&draft(14, 17), false, at(3100));
        history.follow(&draft(15, 17), false, at(9000));

        let mut now = draft(15, 17);
        assert_eq!(history.undo(&mut now), Some(vec!["steps"]));
        assert_eq!(history.undo(&mut now), Some(vec!["frames"]));
        assert_eq!((now.steps, now.frames), (14, 29));
        assert_eq!(history.undo(&mut now), Some(vec!["steps"]));
        assert_eq!((now.steps, history.undo(&mut now)), (8, None));
        for _ in 0..3 {
            history.redo(&mut now);
        }
        assert_eq!((now.steps, now.frames, history.can_redo()), (15, 17, false));
    }

    #[test]
    fn a_new_change_ends_the_way_forward_and_a_drawn_seed_is_no_step() {
        let mut history = History::default();
        let now = Instant::now();
        history.follow(&draft(8, 29), false, now);
        history.follow(&draft(9, 29), false, now);
        let mut draft_now = draft(9, 29);
        history.undo(&mut draft_now);
        assert!(history.can_redo());
        history.follow(&draft(8, 17), false, now);
        assert!(!history.can_redo());

        let drawn = Draft { seed: 77, ..draft(8, 17) };
        history.accept(&drawn);
        history.follow(&drawn, false, now);
        let mut draft_now = drawn;
        assert_eq!(history.undo(&mut draft_now), Some(vec!["frames", "seed"]), "back to the last settings that were set");
    }
}
