//! What the search looks at: latents on the model's own way from noise to clips, at some of its sampler's calls.

use std::ops::ControlFlow;

use burn::tensor::{Device, Tensor, TensorData};

use crate::mask::MaskPlan;
use crate::model::dit::{Call, Probe, TextContext, Transformer};
use crate::model::sampler::Sampler;
use crate::model::sampling::{Sampling, SamplingError};
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
    /// Calls that are looked at, evenly over the way and its ranges; all of them if there are fewer, and at least one of a range.
    pub times: usize,
    /// Ranges of the way, equally long.
    pub ranges: usize,
}

impl Calibration<'_> {
    /// Samples a batch of prompts as the model does, and begins the calls that are looked at anew, with the prompts alone: those
    /// of each range by themselves. `empty` is the text without words; `batch` decides about the noise. Before each call `goes_on`
    /// is asked, with the share of the calls that are done; None if it said no.
    ///
    /// # Errors
    /// The device failed.
    pub fn states(
        &self,
        [prompts, empty]: [&TextContext; 2],
        batch: u64,
        goes_on: &mut dyn FnMut(f64) -> bool,
    ) -> Result<Option<Vec<Vec<State>>>, TrainError> {
        let failed = |error: SamplingError| TrainError::DeviceFailed { step: 0, reason: error.to_string() };
        let calls = Sampler::new(self.sampling.sampler, self.sampling.steps).map_err(|error| failed(error.into()))?.calls();
        let mut seen: Vec<(f32, Vec<f32>)> = Vec::new();
        let mut see = |call: usize, timestep: f32, latents: &[f32]| {
            seen.push((timestep, latents.to_vec()));
            if goes_on(call as f64 / calls.max(1) as f64) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        match self.sampling.run_seen(self.transformer, [prompts, empty], batch, self.device, &mut see) {
            Err(SamplingError::Stopped) => return Ok(None),
            sampled => sampled.map_err(failed)?,
        };
        let [count, _, _] = prompts.embedding.dims();
        let [channels, frames, height, width] = self.sampling.shape;
        let begin = |call: usize| {
            let (timestep, latents) = &seen[call];
            let data = TensorData::new(latents.clone(), [count, channels, frames, height, width]);
            let latents = Tensor::<5>::from_data(data, self.device);
            let call = self.transformer.begin(latents, &vec![*timestep; count], prompts, None, &mut Probe::default());
            State { tokens: call.tokens.clone(), call }
        };
        let of_range = |calls: Vec<usize>| calls.into_iter().map(begin).collect();
        Ok(Some(looked_at(seen.len(), self.times, self.ranges).into_iter().map(of_range).collect()))
    }
}

/// Where each of so many equally long ranges begins, as a share of the steps.
pub fn range_starts(ranges: usize) -> Vec<f64> {
    (0..ranges).map(|range| range as f64 / ranges as f64).collect()
}

/// The calls of each range that are looked at, of so many in all.
fn looked_at(calls: usize, times: usize, ranges: usize) -> Vec<Vec<usize>> {
    let starts: Vec<usize> = range_starts(ranges).into_iter().map(|from| MaskPlan::first_call(from, calls)).collect();
    let of_range = |range: usize| {
        let (begin, end) = (starts[range], starts.get(range + 1).copied().unwrap_or(calls));
        let wanted = times * (range + 1) / ranges - times * range / ranges;
        spread(end - begin, wanted).into_iter().map(|place| begin + place).collect()
    };
    (0..ranges).map(of_range).collect()
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

    #[test]
    fn every_range_is_looked_at() {
        assert_eq!(looked_at(8, 8, 1), [spread(8, 8)]);
        assert_eq!(looked_at(50, 4, 1), [spread(50, 4)]);
        assert_eq!(looked_at(8, 8, 2), [[0, 1, 2, 3], [4, 5, 6, 7]]);
        assert_eq!(looked_at(50, 5, 2), [vec![0, 12], vec![25, 33, 41]]);
        // The ranges are those that a plan has for so many calls.
        for (calls, ranges) in [(8, 5), (7, 3), (50, 7), (5, 5)] {
            let dense = || MaskPlan::dense(2, 4).expect("a plan");
            let plan =
                MaskPlan::of_ranges(range_starts(ranges).into_iter().map(|from| (from, dense())).collect()).expect("a plan");
            for times in [1, ranges, 20] {
                let looked = looked_at(calls, times, ranges);
                assert!(looked.len() == ranges && looked.iter().all(|calls| !calls.is_empty()), "{looked:?}");
                let places =
                    looked.iter().enumerate().flat_map(|(range, of_range)| of_range.iter().map(move |&call| (range, call)));
                places.for_each(|(range, call)| assert_eq!(plan.range_of(call, calls), range, "{calls} {ranges} {call}"));
            }
        }
    }
}
