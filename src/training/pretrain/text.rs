//! The text encoder by itself: to say, for each thing that a sentence can name, what it names.
//!
//! The published models take an encoder that has read a library before. That of mini begins from nothing, and what a transformer
//! teaches it comes late: a wrong colour is a small part of the error of a noisy latent. Here a small head asks it directly, and
//! is thrown away: a question attends to the sentence's embedding once, as the blocks of the transformer do, so that an answer
//! must lie in the embedding of one token or of few. The sentences are new in every step, and half of them have a second object.

use std::path::Path;

use burn::module::{Module, Param};
use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Device, Tensor, TensorData};

use super::base::{self, BaseConfigs, TEXT_ENCODER, matrix_rate};
use super::initial;
use crate::gpu::device::{ComputeDevice, Precision};
use crate::model::layers::{Linear, to_f32};
use crate::model::text::Tokenizer;
use crate::model::text::trainable::TrainableTextEncoder;
use crate::model::weights::{Loader, PublishedParameters, WeightError};
use crate::training::data::captions::{Captions, tokens_of};
use crate::training::error::TrainError;
use crate::training::folder::RunFolder;
use crate::training::optimiser::OptimiserSettings;
use crate::training::parameters::Parameters;
use crate::training::random::{Random, Stream};
use crate::training::run::{Batches, Task};
use crate::training::schedule::Schedule;
use crate::training::sums::{mean, sum};
use crate::training::trainer::{Loss, Trainer};
use crate::world::attributes::{Attributes, Camera, Colour, Ground, Light, Material, Motion, Second, Shape};
use crate::world::grammar::{Detail, Said, caption, read};
use crate::world::seeds;

/// What is trained, in the folder of a run.
pub const KIND: &str = "text";
/// As with the transformer, for a shorter run.
pub const OPTIMISER: OptimiserSettings = OptimiserSettings { average_decay: 0.99, ..base::OPTIMISER };
pub const SCHEDULE: Schedule = Schedule { warm_up_steps: 50, hold_share: 0.45 };
pub const BATCH: usize = 64;
/// Share of the sentences with a second object.
const SECOND_OBJECTS: f64 = 0.5;

/// Of them the last are about the second object.
const QUESTIONS: usize = 10;
const OF_SECOND: usize = 3;

/// What is asked of a sentence: the class of its answer if it gives one, and how many classes there are.
fn questions(said: &Said) -> [(Option<usize>, usize); QUESTIONS] {
    [
        (said.shape.map(Shape::class), Shape::ALL.len()),
        (said.colour.map(Colour::class), Colour::ALL.len()),
        (said.material.map(Material::class), Material::ALL.len()),
        (said.motion.map(Motion::class), Motion::ALL.len()),
        (said.camera.map(Camera::class), Camera::ALL.len()),
        (said.ground.map(Ground::class), Ground::ALL.len()),
        (said.light.map(Light::class), Light::ALL.len()),
        (said.second_shape.map(Shape::class), Shape::ALL.len()),
        (said.second_colour.map(Colour::class), Colour::ALL.len()),
        (said.second_material.map(Material::class), Material::ALL.len()),
    ]
}

/// The places of a sentence's answers: behind the classes stands "the sentence does not say".
fn answers(said: &Said) -> [usize; QUESTIONS] {
    questions(said).map(|(class, classes)| class.unwrap_or(classes))
}

/// How many answers each question has.
fn answer_counts() -> [usize; QUESTIONS] {
    questions(&Said::default()).map(|(_, classes)| classes + 1)
}

/// The encoder and the head that asks it.
#[derive(Module, Debug)]
pub struct Reader {
    pub text_encoder: TrainableTextEncoder,
    /// `[questions, d_model]`.
    questions: Param<Tensor<2>>,
    key: Linear,
    value: Linear,
    answers: Linear,
}

impl Reader {
    /// Logits of every question's answers, `[sentences, answers]` each.
    pub fn forward(&self, captions: &Captions) -> Vec<Tensor<2>> {
        let embedding = to_f32(self.text_encoder.forward(&captions.ids, &captions.mask, captions.sentences));
        let [sentences, tokens, width] = embedding.dims();
        let hidden: Vec<f32> = captions.mask.iter().map(|&counts| (counts - 1.0) * 1e4).collect();
        let hidden = Tensor::<3>::from_data(TensorData::new(hidden, [sentences, 1, tokens]), &embedding.device());
        let questions = self.questions.val().unsqueeze::<3>().expand([sentences, QUESTIONS, width]);
        let scores = questions.matmul(self.key.forward(embedding.clone()).swap_dims(1, 2)) / (width as f64).sqrt();
        let read = softmax(scores + hidden, 2).matmul(self.value.forward(embedding)); // [sentences, questions, d_model]
        let all = self.answers.forward(read);
        let mut at = 0;
        let own = answer_counts().into_iter().enumerate().map(|(question, count)| {
            at += count;
            all.clone().narrow(1, question, 1).narrow(2, at - count, count).reshape([sentences, count])
        });
        own.collect()
    }
}

/// A trainer of an encoder from nothing.
///
/// # Errors
/// The configuration asks for what cannot be.
pub fn trainer(
    configs: &BaseConfigs,
    settings: OptimiserSettings,
    seed: u64,
    device: &ComputeDevice,
) -> Result<Trainer<Reader>, WeightError> {
    let exact = ComputeDevice { precision: Precision::F32, ..device.clone() };
    let config = &configs.text_encoder;
    let (of_encoder, of_head) = (PublishedParameters::default(), PublishedParameters::default());
    let (for_encoder, for_head) = (initial::text_encoder(seed, config), initial::convolutions(seed));
    let text_encoder = TrainableTextEncoder::load(Loader::initial(&for_encoder, &exact).noting(&of_encoder), config)?;
    let mut loader = Loader::initial(&for_head, &exact).noting(&of_head);
    let width = config.d_model;
    let reader = Reader {
        text_encoder,
        questions: loader.exact("questions", [QUESTIONS, width]),
        key: loader.exact_linear("key", width, width, false),
        value: loader.exact_linear("value", width, width, false),
        answers: loader.exact_linear("answers", width, answer_counts().into_iter().sum(), true),
    };
    let parts = [(TEXT_ENCODER, of_encoder), ("head", of_head)];
    let parameters = Parameters::of(&parts, &|_, parameter| matrix_rate(&parameter.name, config));
    Ok(Trainer::new(reader, parameters, settings, KIND, seed, device))
}

/// Sentences, and what they say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TextBatch {
    pub captions: Captions,
    pub answers: Vec<[usize; QUESTIONS]>,
}

/// Makes batches of new sentences.
pub struct TextData {
    pub tokenizer: Tokenizer,
    /// Tokens of a sentence.
    pub max_tokens: usize,
    pub batch: usize,
    pub part: usize,
    pub random: Random,
}

impl TextData {
    fn sentence(&self, step: u64, sample: u64) -> String {
        let clip = step * self.batch as u64 + sample;
        let mut attributes = Attributes::of_clip(seeds::TRANSFORMER, clip);
        let has_second = self.random.uniform(Stream::SecondObject, step, sample) < SECOND_OBJECTS;
        attributes.second = has_second.then(|| {
            // Any other clip's first object.
            let other = self.random.below(Stream::Clip, step, sample, 1 << 30) as u64;
            let Attributes { shape, colour, material, .. } = Attributes::of_clip(seeds::TRANSFORMER, other);
            Second { shape, colour, material }
        });
        caption(
            &attributes,
            seeds::TRANSFORMER,
            clip,
            self.random.below(Stream::Sentence, step, sample, base::SENTENCES) as u64,
            Detail::Some,
        )
    }
}

impl Batches for TextData {
    type Batch = TextBatch;

    fn make(&self, step: u64) -> Result<Vec<TextBatch>, TrainError> {
        let samples: Vec<u64> = (0..self.batch as u64).collect();
        let parts = samples.chunks(self.part.max(1)).map(|samples| {
            let mut batch = TextBatch::default();
            for &sample in samples {
                let sentence = self.sentence(step, sample);
                batch.answers.push(answers(&read(&sentence)));
                batch.captions.push(&tokens_of(&self.tokenizer, &sentence, self.max_tokens)?);
            }
            Ok(batch)
        });
        parts.collect()
    }
}

/// Trains the text encoder.
pub struct TextTask {
    pub configs: BaseConfigs,
    pub batch: usize,
    pub device: Device,
}

impl TextTask {
    pub fn new(configs: BaseConfigs, batch: usize, device: &ComputeDevice) -> Self {
        Self { configs, batch, device: device.device.clone().autodiff() }
    }
}

impl Task for TextTask {
    type Network = Reader;
    type Batch = TextBatch;

    fn numbers(&self) -> &'static [&'static str] {
        &["wrong", "wrong_of_second"]
    }

    fn samples_a_step(&self) -> usize {
        self.batch
    }

    fn loss(&self, network: &Reader, batch: TextBatch) -> Loss {
        let TextBatch { captions, answers } = batch;
        let (sentences, mut total, mut wrong) = (answers.len(), Vec::new(), Vec::new());
        for (question, logits) in network.forward(&captions).into_iter().enumerate() {
            let [_, count] = logits.dims();
            let mut wanted = vec![0f32; sentences * count];
            answers.iter().enumerate().for_each(|(row, answers)| wanted[row * count + answers[question]] = 1.0);
            let wanted = Tensor::<2>::from_data(TensorData::new(wanted, [sentences, count]), &self.device);
            wrong.push(logits.clone().argmax(1).not_equal(wanted.clone().argmax(1)).float());
            total.push(sum(log_softmax(logits, 1) * wanted));
        }
        let of_second = mean(Tensor::cat(wrong[QUESTIONS - OF_SECOND..].to_vec(), 1));
        let numbers = vec![mean(Tensor::cat(wrong, 1)), of_second];
        Loss { total: -sum(Tensor::cat(total, 0)) / sentences as f64, numbers }
    }

    fn sheet(&self, _: &Reader, _: &Path) -> Result<(), TrainError> {
        Ok(())
    }

    fn publish(&self, trainer: &Trainer<Reader>, folder: &RunFolder) -> Result<(), TrainError> {
        let tensors = trainer.parameters().published(TEXT_ENCODER, &trainer.average()?);
        Ok(self.configs.write_text_encoder(folder, &tensors)?)
    }
}
