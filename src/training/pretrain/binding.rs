//! Whether a text encoder learns from nothing which word belongs to which.

use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};
use serde_json::json;

use super::base::{OPTIMISER, matrix_rate};
use super::initial;
use crate::gpu::device::{self, DeviceChoice};
use crate::model::text::encoder::TextEncoderConfig;
use crate::model::text::trainable::TrainableTextEncoder;
use crate::model::weights::{Loader, PublishedParameters};
use crate::training::parameters::Parameters;
use crate::training::random::{Random, Stream};
use crate::training::sums::{mean, sum};
use crate::training::trainer::{Alone, Loss, Share, Trainer};

const COLOURS: usize = 6;
const TOKENS: usize = 16;
const SENTENCES: usize = 16;
const STEPS: u64 = 80;
const WARM_UP: u64 = 50;

#[derive(Module, Debug)]
struct Reader {
    encoder: TrainableTextEncoder,
}

struct Batch {
    ids: Vec<u32>,
    /// Places of the nouns among all tokens, and the colours in front of them.
    nouns: Vec<i32>,
    colours: Vec<usize>,
}

/// Sentences of filling words with two nouns, each with a colour before it.
fn batch(random: Random, step: u64) -> Batch {
    let (mut ids, mut nouns, mut colours) = (Vec::new(), Vec::new(), Vec::new());
    for sentence in 0..SENTENCES as u64 {
        let below = |place: u64, count: usize| random.below(Stream::Clip, step, sentence * 64 + place, count);
        let start = ids.len();
        ids.extend((0..TOKENS as u64).map(|place| (20 + below(place, 20)) as u32));
        let first = below(40, TOKENS / 2 - 1);
        let second = TOKENS / 2 + below(41, TOKENS / 2 - 1);
        for (noun, place) in [first, second].into_iter().enumerate() {
            let colour = below(42 + noun as u64, COLOURS);
            ids[start + place] = (2 + colour) as u32;
            ids[start + place + 1] = (10 + below(50 + noun as u64, 6)) as u32;
            nouns.push((start + place + 1) as i32);
            colours.push(colour);
        }
    }
    Batch { ids, nouns, colours }
}

/// What the encoder says at each noun, its first values as logits of the colours.
fn logits(network: &Reader, batch: &Batch) -> Tensor<2> {
    let mask = vec![1.0; batch.ids.len()];
    let embedding = network.encoder.forward(&batch.ids, &mask, SENTENCES);
    let [sentences, tokens, width] = embedding.dims();
    let rows = embedding.reshape([sentences * tokens, width]);
    let places = Tensor::<1, Int>::from_data(TensorData::new(batch.nouns.clone(), [batch.nouns.len()]), &rows.device());
    rows.select(0, places).narrow(1, 0, COLOURS)
}

fn loss(network: &Reader, batch: Batch) -> Loss {
    let logits = logits(network, &batch);
    let mut wanted = vec![0f32; batch.colours.len() * COLOURS];
    batch.colours.iter().enumerate().for_each(|(row, &colour)| wanted[row * COLOURS + colour] = 1.0);
    let wanted: Tensor<2> = Tensor::from_data(TensorData::new(wanted, [batch.colours.len(), COLOURS]), &logits.device());
    let right = mean(logits.clone().argmax(1).equal(wanted.clone().argmax(1)).float());
    Loss { total: -sum(log_softmax(logits * 3.0, 1) * wanted) / batch.colours.len() as f64, numbers: vec![right] }
}

/// With whole steps for the queries, or with T5's own first table of positions, only one of two colours is right at the end here.
#[test]
fn a_text_encoder_learns_which_word_belongs_to_which() {
    let device = device::open(&DeviceChoice::Cpu, None).expect("the CPU");
    // The encoder of mini.
    let config = json!({
        "model_type": "mt5", "d_model": 192, "d_ff": 512, "d_kv": 48, "num_heads": 4, "num_layers": 4, "vocab_size": 40,
        "feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128,
        "layer_norm_epsilon": 1e-6,
    });
    let config: TextEncoderConfig = serde_json::from_value(config).expect("a configuration");
    let noted = PublishedParameters::default();
    let initial = initial::text_encoder(1, &config);
    let encoder = TrainableTextEncoder::load(Loader::initial(&initial, &device).noting(&noted), &config).expect("an encoder");
    let parameters = Parameters::of(&[("reader", noted)], &|_, parameter| matrix_rate(&parameter.name, &config));
    let mut trainer = Trainer::new(Reader { encoder }, parameters, OPTIMISER, "reader", 1, &device);
    let (random, mut right) = (Random::new(3), Vec::new());
    for step in 0..STEPS {
        let factor = ((step + 1) as f64 / WARM_UP as f64).min(1.0);
        let numbers = trainer.step(Share::whole(vec![batch(random, step)]), factor, loss, &Alone).expect("a step");
        let numbers: Vec<f32> = numbers.try_into_vec_as().expect("numbers");
        right.push(numbers[1]);
    }
    let last = &right[right.len() - 20..];
    let mean = last.iter().sum::<f32>() / last.len() as f32;
    assert!(mean > 0.9, "{mean}: {right:?}");
}
