//! The masks of a network for every length of clips that it learns from, and for every time.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::mask::{KeyFrames, LayerMask, MaskError, MaskPlan};
use crate::model::sampler::Sampler;

/// For each of some numbers of latent frames, of each range of steps one entry a layer.
#[derive(Clone, Debug)]
pub struct Masks {
    by_latent_frames: BTreeMap<usize, Vec<Vec<Arc<KeyFrames>>>>,
}

impl Masks {
    /// Of a plan, for its own number of latent frames.
    pub fn of_plan(plan: &MaskPlan) -> Self {
        Self { by_latent_frames: BTreeMap::from([(plan.frames(), of_ranges(plan))]) }
    }

    /// Of a plan, for its own number of latent frames and for others, to which its rules apply anew as where clips are made
    /// ([`MaskPlan::adapted`]).
    ///
    /// # Errors
    /// A layer's mask follows no rule for another number.
    pub fn adapted(plan: &MaskPlan, latent_frames: &[usize]) -> Result<Self, MaskError> {
        let mut masks = Self::of_plan(plan);
        for &frames in latent_frames {
            masks.by_latent_frames.insert(frames, of_ranges(&plan.adapted(frames)?));
        }
        Ok(masks)
    }

    /// Of a plan that holds for all steps; of the first, if it has ranges.
    ///
    /// # Panics
    /// The masks were not made for this number of latent frames.
    pub fn of(&self, latent_frames: usize) -> &[Arc<KeyFrames>] {
        &self.ranges(latent_frames)[0]
    }

    /// Of each range of the plan's steps.
    ///
    /// # Panics
    /// As [`Self::of`].
    pub fn ranges(&self, latent_frames: usize) -> &[Vec<Arc<KeyFrames>>] {
        self.by_latent_frames
            .get(&latent_frames)
            .unwrap_or_else(|| panic!("there are no masks for {latent_frames} latent frames"))
    }
}

/// The masks of a plan for all steps as the network takes them; those of the first steps, if it has ranges.
pub fn key_frames(plan: &MaskPlan) -> Vec<Arc<KeyFrames>> {
    of_layers(plan.layers())
}

fn of_ranges(plan: &MaskPlan) -> Vec<Vec<Arc<KeyFrames>>> {
    plan.ranges().map(|(_, layers)| of_layers(layers)).collect()
}

fn of_layers(layers: &[LayerMask]) -> Vec<Arc<KeyFrames>> {
    layers.iter().map(|layer| Arc::new(layer.mask().key_frames())).collect()
}

/// Which range of a plan's steps a training time belongs to: that of the sampler's call that comes down through it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeTimes {
    /// The highest time of each range but the first, falling.
    highest: Vec<usize>,
}

impl RangeTimes {
    /// Of a plan that this sampler's calls obey.
    pub fn of(plan: &MaskPlan, sampler: &Sampler) -> Self {
        let calls = sampler.calls();
        let first = plan.ranges().skip(1).map(|(from, _)| MaskPlan::first_call(from, calls));
        // A range that begins behind the last call is never come to.
        let highest = first.filter(|&call| call < calls).map(|call| sampler.timestep(call).round() as usize);
        Self { highest: highest.collect() }
    }

    /// The range of a time.
    pub fn range_of(&self, time: usize) -> usize {
        self.highest.iter().filter(|&&highest| time <= highest).count()
    }

    /// Neighbouring samples of the same range, with its number.
    pub fn runs(&self, times: &[usize]) -> Vec<(usize, Range<usize>)> {
        let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
        for (sample, &time) in times.iter().enumerate() {
            let range = self.range_of(time);
            match runs.last_mut() {
                Some((of_run, samples)) if *of_run == range => samples.end = sample + 1,
                _ => runs.push((range, sample..sample + 1)),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::sampler::SamplerKind;

    /// At every time at which a sampler asks, the range is that of its call; between them that of the call before.
    #[test]
    fn a_time_belongs_to_the_range_of_its_call() {
        let of = |from: f64| (from, MaskPlan::dense(2, 4).expect("a plan"));
        for starts in [vec![0.0], vec![0.0, 0.5], vec![0.0, 0.3, 0.31, 0.8], vec![0.0, 0.2, 0.99]] {
            let plan = MaskPlan::of_ranges(starts.into_iter().map(of).collect()).expect("a plan");
            for (kind, steps) in [(SamplerKind::DdimTrailing, 8), (SamplerKind::DdimTrailing, 4), (SamplerKind::Ddim, 50)] {
                let sampler = Sampler::new(kind, steps).expect("a sampler");
                let times = RangeTimes::of(&plan, &sampler);
                let time_of = |call: usize| sampler.timestep(call) as usize;
                for call in 0..steps {
                    let range = plan.range_of(call, steps);
                    let lowest = if call + 1 < steps { time_of(call + 1) + 1 } else { 0 };
                    (lowest..=time_of(call)).for_each(|time| assert_eq!(times.range_of(time), range, "{call} of {steps}"));
                }
                assert_eq!(times.range_of(999), 0);
            }
        }
    }

    #[test]
    fn samples_of_a_range_stand_together() {
        let times = RangeTimes { highest: vec![500, 100] };
        assert_eq!(times.runs(&[3, 100, 101, 500, 501]), [(2, 0..2), (1, 2..4), (0, 4..5)]);
        assert_eq!(times.runs(&[700, 50, 800]), [(0, 0..1), (2, 1..2), (0, 2..3)]);
        assert_eq!(RangeTimes::default().runs(&[1, 999]), [(0, 0..2)]);
        assert_eq!(times.runs(&[]), []);
    }
}
