//! The errors of all masks in all layers, one layer after the other.

use std::sync::Arc;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::calibration::State;
use super::candidates::Candidates;
use super::choose::below;
use crate::mask::KeyFrames;
use crate::model::dit::Transformer;
use crate::training::error::TrainError;
use crate::training::sums::means_of_samples;

/// What a layer is fed with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// What the dense model gives: errors of layers do not know of each other.
    Independent,
    /// What the layers before it give with the masks that they have got: the sparsest below this threshold.
    Greedy(f64),
}

/// What was found for a layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Of each candidate but the dense one, sparsest first: the mean of `|masked - full|^2 / |full|^2` over all samples.
    pub losses: Vec<f64>,
    /// In greedy order the mask that the next layers were fed through, else the dense one.
    pub fed_through: usize,
}

/// Sees every row, and says whether to go on: with `false` the search ends after it.
pub type Seen<'a> = &'a mut dyn FnMut(&[Row]) -> Result<bool, TrainError>;

/// Measures the layers behind those that are known already, which are only walked through. Gives the rows of all layers, or
/// none if it was stopped.
///
/// # Errors
/// The device failed, or an output is not a number.
pub fn measure(
    transformer: &Transformer,
    states: &mut [State],
    candidates: &Candidates,
    order: Order,
    known: Vec<Row>,
    seen: Seen<'_>,
) -> Result<Option<Vec<Row>>, TrainError> {
    let masks: Vec<Arc<KeyFrames>> = candidates.all().iter().map(|mask| Arc::new(mask.mask().key_frames())).collect();
    let (tiles, mut rows) = (candidates.tiles(), known);
    for layer in 0..transformer.layers() {
        let block = |state: &State, mask: usize| transformer.block(layer, state.tokens.clone(), &state.call, &masks[mask]);
        if let Some(row) = rows.get(layer) {
            let mask = row.fed_through.min(candidates.dense());
            states.iter_mut().for_each(|state| state.tokens = block(state, mask));
            continue;
        }
        let (mut errors, mut full_outputs) = (Vec::new(), Vec::new());
        for state in states.iter() {
            let full = block(state, candidates.dense());
            let of_mask = |mask| relative_error(block(state, mask), &full);
            errors.extend((0..candidates.sparse().len()).map(of_mask));
            full_outputs.push(full);
        }
        let losses = means(errors, candidates.sparse().len(), layer)?;
        let fed_through = match order {
            Order::Independent => candidates.dense(),
            Order::Greedy(threshold) => below(threshold, &losses, &tiles),
        };
        for (state, full) in states.iter_mut().zip(full_outputs) {
            state.tokens = if fed_through == candidates.dense() { full } else { block(state, fed_through) };
        }
        rows.push(Row { losses, fed_through });
        if !seen(&rows)? {
            return Ok(None);
        }
    }
    Ok(Some(rows))
}

/// Measures all layers in one range of steps after the other, each with states of its own, as [`measure`] does. Rows come range
/// by range, also those that are known already.
///
/// # Errors
/// As [`measure`].
pub fn measure_ranges(
    transformer: &Transformer,
    ranges: Vec<Vec<State>>,
    candidates: &Candidates,
    order: Order,
    known: &[Row],
    seen: Seen<'_>,
) -> Result<Option<Vec<Row>>, TrainError> {
    let (layers, mut rows) = (transformer.layers(), Vec::new());
    for (range, mut states) in ranges.into_iter().enumerate() {
        let known = &known[(range * layers).min(known.len())..((range + 1) * layers).min(known.len())];
        if known.len() == layers {
            rows.extend_from_slice(known);
            continue;
        }
        let mut with_earlier = |own: &[Row]| seen(&[&rows, own].concat());
        let own = measure(transformer, &mut states, candidates, order, known.to_vec(), &mut with_earlier)?;
        let Some(own) = own else { return Ok(None) };
        rows.extend(own);
    }
    Ok(Some(rows))
}

/// `|masked - full|^2 / |full|^2` of each sample, `[samples]`.
fn relative_error(masked: Tensor<3>, full: &Tensor<3>) -> Tensor<1> {
    let difference = masked - full.clone();
    means_of_samples(difference.clone() * difference) / means_of_samples(full.clone() * full.clone())
}

/// The mean of each mask's errors, which come state by state and in each mask by mask.
fn means(errors: Vec<Tensor<1>>, masks: usize, layer: usize) -> Result<Vec<f64>, TrainError> {
    let failed = |reason: String| TrainError::DeviceFailed { step: layer as u64, reason };
    if masks == 0 {
        return Ok(Vec::new());
    }
    let samples: Vec<usize> = errors.iter().map(|errors| errors.dims()[0]).collect();
    let values: Vec<f32> = Tensor::cat(errors, 0).try_into_vec_as().map_err(|error| failed(error.to_string()))?;
    let (mut sums, mut counts, mut rest) = (vec![0.0; masks], vec![0usize; masks], &values[..]);
    for (place, samples) in samples.into_iter().enumerate() {
        let (own, behind) = rest.split_at(samples);
        sums[place % masks] += own.iter().map(|&error| f64::from(error)).sum::<f64>();
        counts[place % masks] += samples;
        rest = behind;
    }
    let means: Vec<f64> = sums.iter().zip(counts).map(|(sum, count)| sum / count.max(1) as f64).collect();
    match means.iter().all(|mean| mean.is_finite()) {
        true => Ok(means),
        false => Err(failed(format!("block {layer} of the model gives values that are not numbers"))),
    }
}
