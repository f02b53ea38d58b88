//! Answers to what the player asks about a clip: computed once, between the runs of the queue, and kept for a while.

use std::sync::Arc;

use super::player::inspect::{Answer, Answers, PointQuestion, Question, WordsQuestion};
use super::stage::Stage;
use crate::generate::reading::{PointReads, WordMaps};
use crate::mask::MaskPlan;
use crate::model::sampler::Sampler;
use crate::studio::{ClipEntry, ClipId, Studio, StudioError, Task, run_of_step};

/// Answers of each kind that are kept.
const MOST_KEPT: usize = 12;

/// What is asked about which clip.
type About<Q> = (ClipId, Q);

#[derive(Default)]
pub struct Readings {
    points: Answered<PointQuestion, PointReads>,
    words: Answered<WordsQuestion, WordMaps>,
    /// The prompt and the masks of the step that was asked about last.
    subject: Option<(About<usize>, Subject)>,
}

/// The prompt that a step read, and the names of all layers' masks.
type Subject = (Arc<str>, Arc<[String]>);

impl Readings {
    /// What is known for `question` about what is on stage, of whose clips `step` (from 1) is shown; what is not known is on its way.
    pub fn answers(&mut self, studio: &Studio, stage: &Stage, step: usize, question: Question) -> Answers {
        let unavailable = |reason| Answers { unavailable: Some(reason), ..Answers::default() };
        let Some(staged) = stage.clip() else {
            return unavailable("A clip can be looked into when it is finished.");
        };
        if staged.steps == 0 {
            return unavailable("The steps of this clip are not kept, so there is nothing to read again. Make it once more.");
        }
        let clip = staged.entry.id;
        let (prompt, masks) = self.subject(&staged.entry, step);
        Answers {
            unavailable: None,
            prompt,
            masks,
            point: self.points.answer(studio, question.point.map(|question| (clip, question)), |question| {
                studio.point_reads(clip, question.step, question.layer, question.place)
            }),
            words: self.words.answer(studio, question.words.map(|question| (clip, question)), |question| {
                studio.word_maps(clip, question.step, question.layer)
            }),
        }
    }

    fn subject(&mut self, entry: &ClipEntry, step: usize) -> Subject {
        if let Some((about, subject)) = &self.subject
            && *about == (entry.id, step)
        {
            return subject.clone();
        }
        let recipe = run_of_step(&entry.recipe, step);
        let calls = Sampler::new(recipe.sampler, recipe.steps).map_or(recipe.steps, |sampler| sampler.calls());
        let plan = MaskPlan::from_json(&recipe.mask_plan.to_string()).map(|plan| plan.at(step.saturating_sub(1), calls));
        // A damaged plan has no layers to choose from; asking says what is wrong with it.
        let masks: Arc<[String]> =
            plan.map_or_else(|_| [].into(), |plan| plan.layers().iter().map(|layer| layer.name()).collect());
        let subject = (recipe.prompt.into(), masks);
        self.subject = Some(((entry.id, step), subject.clone()));
        subject
    }
}

/// Questions of one kind: the answers that are kept, the latest first, and the one question in work.
struct Answered<Q, T> {
    kept: Vec<(About<Q>, Answer<T>)>,
    running: Option<(About<Q>, Task<T>)>,
}

impl<Q, T> Default for Answered<Q, T> {
    fn default() -> Self {
        Self { kept: Vec::new(), running: None }
    }
}

impl<Q: Copy + PartialEq, T: Send + 'static> Answered<Q, T> {
    fn answer(
        &mut self,
        studio: &Studio,
        about: Option<About<Q>>,
        ask: impl FnOnce(Q) -> Result<Task<T>, StudioError>,
    ) -> Answer<T> {
        self.collect();
        let Some(about) = about else { return Answer::None };
        if let Some(at) = self.kept.iter().position(|(other, _)| *other == about) {
            self.kept[..=at].rotate_right(1);
            return self.kept[0].1.clone();
        }
        if self.running.as_ref().is_none_or(|(other, _)| *other != about) {
            // Nobody waits for the other one any more.
            if let Some((_, task)) = self.running.take() {
                task.cancel();
            }
            match ask(about.1) {
                Ok(task) => self.running = Some((about, task)),
                // The device may be there a moment later.
                Err(StudioError::NoDevice) => return Answer::Waiting,
                Err(error) => {
                    self.keep(about, Answer::Failed(error.to_string().into()));
                    return self.kept[0].1.clone();
                }
            }
        }
        if studio.state().live.is_some() { Answer::Waiting } else { Answer::Computing }
    }

    /// Takes what has come.
    fn collect(&mut self) {
        let Some((about, task)) = &self.running else { return };
        if let Some(result) = task.take_result() {
            let answer = match result {
                Ok(value) => Answer::Ready(Arc::new(value)),
                Err(error) => Answer::Failed(error.to_string().into()),
            };
            self.keep(*about, answer);
            self.running = None;
        }
    }

    fn keep(&mut self, about: About<Q>, answer: Answer<T>) {
        self.kept.insert(0, (about, answer));
        self.kept.truncate(MOST_KEPT);
    }
}
