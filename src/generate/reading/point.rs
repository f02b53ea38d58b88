//! How much one token reads from every other: a row of self-attention.

use burn::tensor::Tensor;

use super::PastCall;
use crate::generate::GenerateError;
use crate::generate::networks::read;
use crate::generate::observer::Observer;
use crate::generate::pipeline::LoadedModel;
use crate::model::dit::Site;
use crate::model::latent::TokenPlace;

/// Over which frames the softmax of a row goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Seen {
    /// Those that the layer's plan keeps for the token's frame: what the run computed.
    #[default]
    Plan,
    /// All, with the same queries and keys: what a dense layer would have read here.
    AllFrames,
}

/// A row of self-attention of one layer, for every head.
#[derive(Clone, Debug, PartialEq)]
pub struct PointReads {
    /// The token that reads.
    pub place: TokenPlace,
    /// From 0.
    pub layer: usize,
    /// Tokens: frames, height, width.
    pub grid: [usize; 3],
    pub heads: usize,
    /// For each latent frame whether the plan lets the token's frame see it.
    pub kept: Vec<bool>,
    /// The layer's mask by its name.
    pub mask: String,
    /// `query key / sqrt(head)`, `[heads][frames][height][width]`.
    scores: Vec<f32>,
}

impl PointReads {
    /// The weights of one head, or their mean over all heads: `[frames][height][width]`. They sum to 1.
    pub fn weights(&self, head: Option<usize>, seen: Seen) -> Vec<f32> {
        let tokens: usize = self.grid.iter().product();
        let frame_tokens = tokens / self.grid[0];
        let heads = head.map_or(0..self.heads, |head| head..head + 1);
        let mut sum = vec![0.0f64; tokens];
        for head in heads.clone() {
            let scores = &self.scores[head * tokens..(head + 1) * tokens];
            let is_seen = |token: usize| seen == Seen::AllFrames || self.kept[token / frame_tokens];
            let largest = (0..tokens).filter(|&token| is_seen(token)).map(|token| scores[token]).fold(f32::MIN, f32::max);
            let weight = |token: usize| if is_seen(token) { f64::from(scores[token] - largest).exp() } else { 0.0 };
            let weights: Vec<f64> = (0..tokens).map(weight).collect();
            let total: f64 = weights.iter().sum();
            sum.iter_mut().zip(&weights).for_each(|(sum, weight)| *sum += weight / total);
        }
        sum.into_iter().map(|sum| (sum / heads.len() as f64) as f32).collect()
    }

    /// What is read from each latent frame.
    pub fn frame_sums(&self, weights: &[f32]) -> Vec<f64> {
        let frame_tokens = self.grid[1] * self.grid[2];
        weights.chunks(frame_tokens).map(|frame| frame.iter().map(|&weight| f64::from(weight)).sum()).collect()
    }
}

/// How much the token at `place` reads from every token in `layer` (from 0) of a call.
///
/// # Errors
/// There is no such layer or token, the call cannot be made again, or the observer asked to stop.
pub fn point_reads(
    model: &mut LoadedModel,
    call: &PastCall,
    layer: usize,
    place: TokenPlace,
    observer: &mut dyn Observer,
) -> Result<PointReads, GenerateError> {
    let grid = call.recipe().size().token_grid();
    let token =
        place.index(grid).ok_or_else(|| GenerateError::Reading { reason: "the point lies outside of the clip".into() })?;
    let tokens: usize = grid.iter().product();
    let (mut query, mut key) = (None, None);
    let mut watch = |site: Site, at: usize, values: Tensor<3>| match site {
        Site::RotatedQuery if at == layer => query = Some(values),
        Site::RotatedKey if at == layer => key = Some(values),
        _ => {}
    };
    let (plan, _) = call.run(model, layer, observer, &mut watch)?;
    let (Some(query), Some(key)) = (query, key) else {
        return Err(GenerateError::Reading { reason: format!("layer {} was not reached", layer + 1) });
    };
    let [_, rows, head] = key.dims();
    let heads = rows / tokens;
    let query: Tensor<3> = query.reshape([heads, tokens, head]).narrow(1, token, 1);
    let key: Tensor<3> = key.reshape([heads, tokens, head]);
    let scores = (key * query).sum_dim(2) * (head as f64).powf(-0.5);
    let scores = read(scores, "read the attention")?;
    if !scores.iter().all(|score| score.is_finite()) {
        return Err(GenerateError::NotFinite { part: "transformer", step: 0 });
    }
    let mask = &plan.layers()[layer];
    let kept = (0..grid[0]).map(|frame| mask.mask().keeps(place.frame, frame)).collect();
    Ok(PointReads { place, layer, grid, heads, kept, mask: mask.name(), scores })
}
