//! How much every token reads from each word of the prompt: cross-attention, summed over a word's tokens.

use burn::tensor::activation::softmax;
use burn::tensor::{FloatDType, Tensor, TensorData};

use super::PastCall;
use super::words::{Word, read_words};
use crate::generate::GenerateError;
use crate::generate::networks::read;
use crate::generate::observer::Observer;
use crate::generate::pipeline::LoadedModel;
use crate::model::dit::Site;

/// Cross-attention to every word of a prompt, the mean over heads, of one layer or of all.
#[derive(Clone, Debug, PartialEq)]
pub struct WordMaps {
    pub words: Vec<Word>,
    /// From 0; the mean over all layers without it.
    pub layer: Option<usize>,
    /// Tokens of the clip: frames, height, width.
    pub grid: [usize; 3],
    /// One map a word, and one for the rest.
    maps: Vec<Vec<f32>>,
}

impl WordMaps {
    /// The share of a word in what each token reads from the text, `[frames][height][width]`, each 0 to 1.
    pub fn map(&self, word: usize) -> &[f32] {
        &self.maps[word]
    }

    /// The share of what is no word of the prompt: the end of the text, and the words of the template. With all words it makes 1.
    pub fn rest(&self) -> &[f32] {
        &self.maps[self.words.len()]
    }

    /// The mean of a word's map.
    pub fn mean(&self, word: usize) -> f64 {
        mean(self.map(word))
    }

    /// The mean of [`Self::rest`].
    pub fn mean_rest(&self) -> f64 {
        mean(self.rest())
    }
}

fn mean(map: &[f32]) -> f64 {
    map.iter().map(|&share| f64::from(share)).sum::<f64>() / map.len().max(1) as f64
}

/// The cross-attention of a call to every word of its prompt: of `layer` (from 0), or the mean over all layers.
///
/// # Errors
/// There is no such layer, the call cannot be made again, or the observer asked to stop.
pub fn word_maps(
    model: &mut LoadedModel,
    call: &PastCall,
    layer: Option<usize>,
    observer: &mut dyn Observer,
) -> Result<WordMaps, GenerateError> {
    let recipe = call.recipe();
    let grid = recipe.size().token_grid();
    let tokens: usize = grid.iter().product();
    let (words, word_of_token) = read_words(model.tokenizer(), recipe)?;
    let device = model.networks().device.device.clone();

    // Adds up a word's tokens: [text tokens, words + 1], the rest in the last column, padding nowhere.
    let columns = words.len() + 1;
    let mut members = vec![0.0f32; recipe.max_tokens * columns];
    for (token, word) in word_of_token.iter().enumerate() {
        members[token * columns + word.unwrap_or(words.len())] = 1.0;
    }
    let members = Tensor::<2>::from_data(TensorData::new(members, [recipe.max_tokens, columns]), &device);
    // What hides the padding; the softmax of the kernel adds the same.
    let hidden: Vec<f32> = (0..recipe.max_tokens).map(|token| if token < word_of_token.len() { 0.0 } else { HIDDEN }).collect();
    let bias = Tensor::<2>::from_data(TensorData::new(hidden, [1, recipe.max_tokens]), &device);

    let last_layer = layer.unwrap_or(model.networks().transformer.layers().saturating_sub(1));
    let (mut query, mut sum, mut summed) = (None, None::<Tensor<2>>, 0);
    let mut watch = |site: Site, at: usize, values: Tensor<3>| {
        if layer.is_some_and(|layer| layer != at) {
            return;
        }
        match site {
            Site::CrossQuery => query = Some(values),
            Site::CrossKey => {
                let Some(query) = query.take() else { return };
                let heads = query.dims()[1] / tokens;
                let attention = shares(query, values, heads, &bias).matmul(members.clone());
                sum = Some(match sum.take() {
                    Some(sum) => sum + attention,
                    None => attention,
                });
                summed += heads;
            }
            _ => {}
        }
    };
    call.run(model, last_layer, observer, &mut watch)?;
    let Some(sum) = sum else { return Err(GenerateError::Reading { reason: "the layer was not reached".into() }) };
    let values = read(sum / summed as f64, "read the attention")?;
    if !values.iter().all(|share| share.is_finite()) {
        return Err(GenerateError::NotFinite { part: "transformer", step: 0 });
    }
    let map = |word: usize| values.iter().skip(word).step_by(columns).copied().collect();
    Ok(WordMaps { layer, grid, maps: (0..columns).map(map).collect(), words })
}

/// Far below any score.
const HIDDEN: f32 = -10_000.0;

/// The softmax over the text of every token, summed over heads: `[tokens, text tokens]`. Head by head, as all of them at once would
/// take gigabytes for a large clip.
fn shares(query: Tensor<3>, key: Tensor<3>, heads: usize, bias: &Tensor<2>) -> Tensor<2> {
    let ([_, rows, head], [_, text_rows, _]) = (query.dims(), key.dims());
    let (tokens, text_tokens) = (rows / heads, text_rows / heads);
    let query: Tensor<2> = query.cast(FloatDType::F32).reshape([rows, head]);
    let key: Tensor<2> = key.cast(FloatDType::F32).reshape([text_rows, head]);
    let of_head = |index: usize| {
        let query = query.clone().narrow(0, index * tokens, tokens);
        let key = key.clone().narrow(0, index * text_tokens, text_tokens);
        softmax(query.matmul(key.transpose()) * (head as f64).powf(-0.5) + bias.clone(), 1)
    };
    (1..heads).fold(of_head(0), |sum, index| sum + of_head(index))
}
