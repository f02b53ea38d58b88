//! Looking into the clip: a click on the picture asks what that point reads from every frame, a word of the prompt where it is seen.
//!
//! The player says what it wants to know ([`Question`]); its caller finds the answers ([`Answers`]), which may take a moment.

use std::sync::Arc;

use super::heat::Heat;
use super::source::Source;
use crate::generate::reading::{PointReads, Seen, WordMaps};
use crate::model::latent::{ClipSize, TokenPlace};
use crate::studio::heat::HeatMaps;

/// A point of the clip: a frame, and a place in it as shares of its width and height.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub frame: usize,
    pub x: f32,
    pub y: f32,
}

/// What a token reads, in a layer (from 0), at a step (from 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PointQuestion {
    pub step: usize,
    pub layer: usize,
    pub place: TokenPlace,
}

/// Where words are seen, in a layer (from 0) or on average, at a step (from 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WordsQuestion {
    pub step: usize,
    pub layer: Option<usize>,
}

/// What the player wants to know about the clip.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Question {
    pub point: Option<PointQuestion>,
    pub words: Option<WordsQuestion>,
}

/// What has become of a question.
#[derive(Debug, Default)]
pub enum Answer<T> {
    /// Nothing was asked.
    #[default]
    None,
    Computing,
    /// A run goes on, which comes first.
    Waiting,
    Ready(Arc<T>),
    Failed(Arc<str>),
}

impl<T> Answer<T> {
    fn ready(&self) -> Option<&Arc<T>> {
        match self {
            Self::Ready(value) => Some(value),
            _ => None,
        }
    }
}

impl<T> Clone for Answer<T> {
    fn clone(&self) -> Self {
        match self {
            Self::None => Self::None,
            Self::Computing => Self::Computing,
            Self::Waiting => Self::Waiting,
            Self::Ready(value) => Self::Ready(value.clone()),
            Self::Failed(reason) => Self::Failed(reason.clone()),
        }
    }
}

/// What the caller knows about the shown step.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// Why nothing can be asked, if it cannot.
    pub unavailable: Option<&'static str>,
    /// The prompt that the step read.
    pub prompt: Arc<str>,
    /// The names of all layers' masks.
    pub masks: Arc<[String]>,
    pub point: Answer<PointReads>,
    pub words: Answer<WordMaps>,
}

/// What the person has chosen to look at.
pub struct Inspect {
    pub on: bool,
    pub point: Option<Point>,
    /// Of self-attention, from 0.
    pub layer: usize,
    /// The mean over all heads without it.
    pub head: Option<usize>,
    pub seen: Seen,
    /// Of cross-attention; the mean over all layers without it.
    pub word_layer: Option<usize>,
    /// The word that stays when the pointer goes.
    pub kept_word: Option<usize>,
    /// The word under the pointer, or with the focus.
    pub(super) word: Option<usize>,
    /// Whether any word was looked at, so that their maps are wanted.
    pub(super) reads_words: bool,
    /// How strong heat lies over the picture, 0 to 1.
    pub opacity: f32,
    pub answers: Answers,
    pub(super) heat: Heat,
    /// What the heat was made from.
    shown: Option<Shown>,
    /// What the point reads from every frame, as the strip shows it; and of what that is.
    pub(super) sums: Vec<f64>,
    summed: Option<Shown>,
}

/// What heat is of: which numbers, and which part of them.
#[derive(Clone)]
enum Shown {
    Point(Arc<PointReads>, Option<usize>, Seen),
    Word(Arc<WordMaps>, usize),
}

impl Shown {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Point(a, head, seen), Self::Point(b, other_head, other_seen)) => {
                Arc::ptr_eq(a, b) && (head, seen) == (other_head, other_seen)
            }
            (Self::Word(a, word), Self::Word(b, other)) => Arc::ptr_eq(a, b) && word == other,
            _ => false,
        }
    }
}

impl Default for Inspect {
    fn default() -> Self {
        Self {
            on: false,
            point: None,
            layer: 0,
            head: None,
            seen: Seen::Plan,
            word_layer: None,
            kept_word: None,
            word: None,
            reads_words: false,
            opacity: 0.7,
            answers: Answers::default(),
            heat: Heat::default(),
            shown: None,
            sums: Vec::new(),
            summed: None,
        }
    }
}

impl Inspect {
    /// Forgets what belongs to one clip.
    pub(super) fn rewind(&mut self) {
        (self.point, self.word, self.kept_word, self.reads_words) = (None, None, None, false);
        self.answers = Answers::default();
    }

    /// The values that lie over the picture now.
    pub fn heat(&self) -> Option<&Arc<HeatMaps>> {
        self.heat.maps()
    }

    /// The word that is looked at.
    pub fn shown_word(&self) -> Option<usize> {
        self.word.or(self.kept_word)
    }

    /// What is to be known for what is looked at, at a step counted from 1.
    pub(super) fn question(&self, source: &Source, step: usize) -> Question {
        if !self.on || self.answers.unavailable.is_some() || step == 0 {
            return Question::default();
        }
        let layer = self.layer.min(self.answers.masks.len().saturating_sub(1));
        let point = self.point.and_then(|point| token_of(source, point));
        Question {
            point: point.map(|place| PointQuestion { step, layer, place }),
            words: self
                .reads_words
                .then(|| WordsQuestion { step, layer: self.word_layer.filter(|&layer| layer < self.answers.masks.len()) }),
        }
    }

    /// Makes the heat of what is looked at, if it is another than before.
    pub(super) fn follow_answers(&mut self) {
        let reads = self.answers.point.ready();
        // A head of another model may be one that this has not.
        let head = self.head.filter(|&head| reads.is_none_or(|reads| head < reads.heads));
        let point = reads.map(|reads| Shown::Point(reads.clone(), head, self.seen));
        let word = self.shown_word().and_then(|word| {
            let maps = self.answers.words.ready()?;
            (word < maps.words.len()).then(|| Shown::Word(maps.clone(), word))
        });
        // While a word's maps are on their way, the point's heat would be taken for them.
        let wanted = if !self.on {
            None
        } else if self.shown_word().is_some() {
            word
        } else {
            point.clone()
        };
        if !same(&self.summed, &point) {
            self.sums = reads.map_or_else(Vec::new, |reads| reads.frame_sums(&reads.weights(head, self.seen)));
            self.summed = point;
        }
        if same(&self.shown, &wanted) {
            return;
        }
        let maps = wanted.as_ref().map(|wanted| match wanted {
            Shown::Point(reads, head, seen) => HeatMaps::new(reads.grid, reads.weights(*head, *seen)),
            Shown::Word(maps, word) => HeatMaps::spread(maps.grid, maps.map(*word).to_vec()),
        });
        self.heat.set(maps.map(Arc::new));
        self.shown = wanted;
    }
}

fn same(a: &Option<Shown>, b: &Option<Shown>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a.is(b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

/// The size of a source's clip.
pub(super) fn size_of(source: &Source) -> ClipSize {
    ClipSize { frames: source.frames, width: source.width, height: source.height }
}

/// The pixel of a point.
pub(super) fn pixel_of(source: &Source, point: Point) -> (usize, usize) {
    let pixel = |share: f32, pixels: usize| ((share * pixels as f32) as usize).min(pixels.saturating_sub(1));
    (pixel(point.x, source.width), pixel(point.y, source.height))
}

/// The token that a point lies in.
pub(super) fn token_of(source: &Source, point: Point) -> Option<TokenPlace> {
    let (x, y) = pixel_of(source, point);
    size_of(source).token_at(point.frame, x, y)
}
