//! What the search looks at: latents on the model's own way from noise to clips, at some of its sampler's calls.

use burn::tensor::{Device, Tensor, TensorData};

use crate::model::dit::{Call, Probe, TextContext, Transformer};
use crate::model::sampling::Sampling;
use crate::training::error::TrainError;

/// One call of the network for some prompts, and how far it has come.
pub struct State {
    pub call: Call,
    /// What the next block gets, `[prompts, tokens, width]`.
    pub tokens: Tensor<3>,
}

/// How the model is used: prompts that are sampled together, in batches.
pub struct Calibration<'a> {
    pub transformer: &'a Transformer,
    pub sampling: &'a Sampling,
    pub device: &'a Device,
    /// Calls that are looked at, evenly over the way; all of them if there are fewer.
    pub times: usize,
}

impl Calibration<'_> {
    /// Samples a batch of prompts as the model does, and begins the calls that are looked at anew, with the prompts alone.
    /// `empty` is the text without words; `batch` decides about the noise.
    ///
    /// # Errors
    /// The device failed.
    pub fn states(&self, prompts: &TextContext, empty: &TextContext, batch: u64) -> Result<Vec<State>, TrainError> {
        let mut seen: Vec<(f32, Vec<f32>)> = Vec::new();
        let mut see = |_: usize, timestep: f32, latents: &[f32]| seen.push((timestep, latents.to_vec()));
        let sampled = self.sampling.run_seen(self.transformer, [prompts, empty], batch, self.device, &mut see);
        sampled.map_err(|error| TrainError::DeviceFailed { step: 0, reason: error.to_string() })?;
        let [count, _, _] = prompts.embedding.dims();
        let [channels, frames, height, width] = self.sampling.shape;
        let states = spread(seen.len(), self.times).into_iter().map(|call| {
            let (timestep, latents) = &seen[call];
            let data = TensorData::new(latents.clone(), [count, channels, frames, height, width]);
            let latents = Tensor::<5>::from_data(data, self.device);
            let call = self.transformer.begin(latents, &vec![*timestep; count], prompts, None, &mut Probe::default());
            State { tokens: call.tokens.clone(), call }
        });
        Ok(states.collect())
    }
}

/// At most `wanted` of `count` places, evenly, the first among them.
fn spread(count: usize, wanted: usize) -> Vec<usize> {
    let wanted = wanted.clamp(1, count.max(1)).min(count);
    (0..wanted).map(|place| place * count / wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_spread_evenly() {
        assert_eq!(spread(8, 8), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(spread(50, 4), [0, 12, 25, 37]);
        assert_eq!(spread(3, 9), [0, 1, 2]);
        assert_eq!(spread(0, 4), [0; 0]);
    }
}
