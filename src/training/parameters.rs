//! All parameters of a training as one vector.
//!
//! Networks have hundreds of small tensors, and an optimiser that goes from one to the next spends its time with launching
//! kernels. Here parameters lie end to end in one f32 vector, and so do their gradients, moments and averages: an update is a
//! few operations on vectors. Matrices of one shape lie together, so that they are one stack for the optimiser of matrices.
//!
//! Networks stay as they are: for a step, each parameter becomes a piece of the vector in the type in which the network
//! computes (pieces at multiples of [`ALIGNMENT`] are views, not copies).

use std::collections::HashMap;
use std::ops::Range;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Device, FloatDType, Gradients, Tensor, TensorData};
use sha2::{Digest, Sha256};

use crate::gpu::kernels::join::join;
use crate::model::weights::{PublishedParameter, PublishedParameters, WrittenTensor};

/// Elements. A device binds a piece of a buffer only where it begins at a multiple of up to 256 bytes; most want 32.
const ALIGNMENT: usize = 64;
/// The whole length is a multiple of this, so that sums over it have many equal columns.
const LENGTH_UNIT: usize = 4096;

/// One parameter's place.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The network that it belongs to, such as `transformer`.
    pub part: &'static str,
    pub published: PublishedParameter,
    pub start: usize,
}

impl Slot {
    fn range(&self) -> Range<usize> {
        self.start..self.start + self.published.elements()
    }
}

/// Matrices of one shape, end to end.
#[derive(Clone, Debug, PartialEq)]
pub struct Stack {
    pub start: usize,
    /// Each with its share of the learning rate.
    pub rates: Vec<f64>,
    /// Inputs of the layer.
    pub rows: usize,
    /// Outputs of the layer.
    pub columns: usize,
}

impl Stack {
    pub fn matrices(&self) -> usize {
        self.rates.len()
    }

    pub fn elements(&self) -> usize {
        self.matrices() * self.rows * self.columns
    }
}

/// Where every parameter lies: first the stacks of matrices, then everything else.
#[derive(Clone, Debug)]
pub struct Parameters {
    slots: Vec<Slot>,
    by_id: HashMap<ParamId, usize>,
    stacks: Vec<Stack>,
    /// Where what is in no stack begins.
    rest: usize,
    length: usize,
}

/// Says of a parameter with which share of the learning rate the optimiser of matrices trains it; None if another does.
pub type MatrixRate<'a> = &'a dyn Fn(&str, &PublishedParameter) -> Option<f64>;

impl Parameters {
    /// Lays out the parameters of some networks.
    pub fn of(parts: &[(&'static str, PublishedParameters)], matrix_rate: MatrixRate<'_>) -> Self {
        let all = parts.iter().flat_map(|(part, parameters)| {
            parameters.borrow().iter().map(|parameter| (*part, parameter.clone())).collect::<Vec<_>>()
        });
        let (mut hidden, mut rest): (Vec<_>, Vec<_>) =
            all.partition(|(part, parameter)| parameter.layout.matrix().is_some() && matrix_rate(part, parameter).is_some());
        // Stable: within a key they stay in the order of the networks.
        hidden.sort_by_key(|(_, parameter)| (parameter.layout.matrix(), parameter.follows_storage));
        rest.sort_by_key(|(_, parameter)| parameter.follows_storage);

        let (mut slots, mut stacks, mut end) = (Vec::new(), Vec::<Stack>::new(), 0usize);
        for (part, published) in hidden {
            let [rows, columns] = published.layout.matrix().unwrap_or_default();
            let rate = matrix_rate(part, &published).unwrap_or_default();
            match stacks.last_mut() {
                Some(stack) if (stack.rows, stack.columns) == (rows, columns) => stack.rates.push(rate),
                _ => {
                    end = end.next_multiple_of(ALIGNMENT);
                    stacks.push(Stack { start: end, rates: vec![rate], rows, columns });
                }
            }
            slots.push(Slot { part, start: end, published });
            end += rows * columns;
        }
        let begin = end.next_multiple_of(ALIGNMENT);
        end = begin;
        for (part, published) in rest {
            let start = end.next_multiple_of(ALIGNMENT);
            end = start + published.elements();
            slots.push(Slot { part, published, start });
        }
        let by_id = slots.iter().enumerate().map(|(index, slot)| (slot.published.id, index)).collect();
        Self { slots, by_id, stacks, rest: begin, length: end.next_multiple_of(LENGTH_UNIT) }
    }

    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    pub fn stacks(&self) -> &[Stack] {
        &self.stacks
    }

    /// Where what is in no stack begins; it goes on to the end.
    pub fn rest(&self) -> usize {
        self.rest
    }

    /// Elements of the vector, with the gaps.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Parameters, without the gaps.
    pub fn count(&self) -> usize {
        self.slots.iter().map(|slot| slot.published.elements()).sum()
    }

    /// Identifies names, shapes and places: a vector means the same wherever this is the same.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for slot in &self.slots {
            let published = &slot.published;
            hash.update(format!(
                "{}/{} {:?} {:?} {}\n",
                slot.part, published.name, published.shape, published.layout, slot.start
            ));
        }
        hash.update(format!("{} {}", self.rest, self.length));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The vector of a network's parameters as they are.
    pub fn gather<M: Module>(&self, network: &M) -> Tensor<1> {
        let mut visitor = Gather { parameters: self, gradients: None, pieces: vec![None; self.slots.len()] };
        network.visit(&mut visitor);
        self.join(visitor.pieces, &network_device(network))
    }

    /// The vector of the gradients of [`Self::network`]'s parameters, in f32; 0 where there is none.
    pub fn gather_gradients<M: Module>(&self, network: &M, gradients: &mut Gradients) -> Tensor<1> {
        let mut visitor = Gather { parameters: self, gradients: Some(gradients), pieces: vec![None; self.slots.len()] };
        network.visit(&mut visitor);
        self.join(visitor.pieces, &network_device(network).without_autodiff())
    }

    /// Joins neighbours of one type first and converts them together.
    fn join(&self, pieces: Vec<Option<Tensor<1>>>, device: &Device) -> Tensor<1> {
        let (mut joined, mut run) = (Vec::new(), Vec::<Tensor<1>>::new());
        let mut end = 0;
        let mut add = |piece: Tensor<1>, last: bool| {
            if run.first().is_some_and(|first| first.dtype() != piece.dtype()) {
                joined.push(to_f32(join(std::mem::take(&mut run))));
            }
            run.push(piece);
            if last {
                joined.push(to_f32(join(std::mem::take(&mut run))));
            }
        };
        for (slot, piece) in self.slots.iter().zip(pieces) {
            let range = slot.range();
            let piece = piece.unwrap_or_else(|| Tensor::zeros([range.len()], device));
            if range.start > end {
                add(Tensor::zeros([range.start - end], (device, piece.dtype())), false);
            }
            end = range.end;
            add(piece, end == self.length);
        }
        if end < self.length {
            add(Tensor::zeros([self.length - end], (device, burn::tensor::DType::F32)), true);
        }
        join(joined)
    }

    /// `network` with the values of `vector`, those that follow the storage type in `storage`. With `track`, gradients are
    /// recorded for each parameter.
    pub fn network<M: Module>(&self, network: &M, vector: &Tensor<1>, storage: FloatDType, track: bool) -> M {
        let stored = if storage == FloatDType::F32 { vector.clone() } else { vector.clone().cast(storage) };
        network.clone().map(&mut Scatter { parameters: self, exact: vector.clone(), stored, track })
    }

    /// The parameters of one network as published tensors, from a vector that was read.
    pub fn published(&self, part: &str, vector: &[f32]) -> Vec<WrittenTensor> {
        let slots = self.slots.iter().filter(|slot| slot.part == part);
        let tensors = slots.map(|slot| WrittenTensor {
            name: slot.published.name.clone(),
            shape: slot.published.shape.clone(),
            values: slot.published.layout.for_file(vector[slot.range()].to_vec()),
        });
        let mut tensors: Vec<WrittenTensor> = tensors.collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        tensors
    }

    /// 1 where a parameter of [`Self::rest`] is a table or a matrix, whose values an optimiser lets decay, and 0 elsewhere.
    pub fn decay_mask(&self, device: &Device) -> Tensor<1> {
        let mut mask = vec![0.0f32; self.length - self.rest];
        for slot in self.slots.iter().filter(|slot| slot.start >= self.rest && slot.published.shape.len() > 1) {
            let range = slot.range();
            mask[range.start - self.rest..range.end - self.rest].fill(1.0);
        }
        let length = mask.len();
        Tensor::from_data(TensorData::new(mask, [length]), device)
    }
}

fn to_f32(x: Tensor<1>) -> Tensor<1> {
    if x.dtype() == burn::tensor::DType::F32 { x } else { x.cast(FloatDType::F32) }
}

fn network_device<M: Module>(network: &M) -> Device {
    network.devices().into_iter().next().unwrap_or_else(Device::flex)
}

/// Takes values or gradients out of a network.
struct Gather<'a> {
    parameters: &'a Parameters,
    gradients: Option<&'a mut Gradients>,
    pieces: Vec<Option<Tensor<1>>>,
}

impl ModuleVisitor for Gather<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some(&index) = self.parameters.by_id.get(&param.id) else { return };
        let value = match &mut self.gradients {
            Some(gradients) => param.val().grad_remove(gradients),
            None => Some(param.val().without_autodiff()),
        };
        let elements = self.parameters.slots[index].published.elements();
        self.pieces[index] = value.map(|value| value.reshape([elements]));
    }
}

/// Puts pieces of a vector into a network.
struct Scatter<'a> {
    parameters: &'a Parameters,
    exact: Tensor<1>,
    stored: Tensor<1>,
    track: bool,
}

impl ModuleMapper for Scatter<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(&index) = self.parameters.by_id.get(&param.id) else { return param };
        let slot = &self.parameters.slots[index];
        let from = if slot.published.follows_storage { &self.stored } else { &self.exact };
        let shape = param.dims();
        let piece: Tensor<D> = from.clone().narrow(0, slot.start, slot.published.elements()).reshape(shape);
        let piece = if self.track { piece.autodiff().require_grad() } else { piece };
        Param::initialized(param.id, piece)
    }
}
