//! The attention's gradient: [`tile_attention`](super::tile_attention) on a device that differentiates keeps the log-sum of every
//! row, and its backward pass is a kernel of its own that walks the same tiles.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend};

use super::super::OptionalTensor;
use super::{Attended, TileAttentionKernel, Tiles};
use crate::gpu::tier::ShaderTier;

/// What the backward pass needs of the forward pass.
#[derive(Clone, Debug)]
struct Saved<T> {
    query: NodeId,
    key: NodeId,
    value: NodeId,
    key_bias: Option<T>,
    output: T,
    row_log_sums: T,
    tiles: Tiles,
    tier: ShaderTier,
}

#[derive(Debug)]
struct AttentionStep;

impl<B: Backend + TileAttentionKernel> Backward<B, 3> for AttentionStep {
    type State = Saved<FloatTensor<B>>;

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let Saved { query, key, value, key_bias, output, row_log_sums, tiles, tier } = ops.state;
        let attended = Attended {
            query: checkpointer.retrieve_node_output(query),
            key: checkpointer.retrieve_node_output(key),
            value: checkpointer.retrieve_node_output(value),
            output,
            row_log_sums,
            output_gradient: gradients.consume::<B>(&ops.node),
        };
        let (query, key, value) = B::tile_attention_gradients(attended, OptionalTensor::of(key_bias), tiles, tier);
        for (parent, gradient) in ops.parents.into_iter().zip([query, key, value]) {
            if let Some(parent) = parent {
                gradients.register::<B>(parent.id, gradient);
            }
        }
    }
}

fn inner<B: Backend, C: CheckpointStrategy>(tensor: OptionalTensor<Autodiff<B, C>>) -> OptionalTensor<B> {
    OptionalTensor::of(tensor.into_option().map(Autodiff::<B, C>::inner))
}

/// Only the attention has a gradient, with respect to query, key and value. What is measured beside it is a constant to the
/// graph, as the attention that comes with a measurement is.
impl<B: Backend + TileAttentionKernel, C: CheckpointStrategy> TileAttentionKernel for Autodiff<B, C> {
    fn tile_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let key_bias = inner(key_bias).into_option();
        let nodes = [query.node(), key.node(), value.node()];
        match AttentionStep.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut step) => {
                let nodes = [&query, &key, &value].map(|tensor| step.checkpoint(tensor));
                let [query, key, value] = [query, key, value].map(Self::inner);
                let bias = OptionalTensor::of(key_bias.clone());
                let (output, row_log_sums) = B::tile_attention_and_row_log_sums(query, key, value, bias, tiles.clone(), tier);
                let [query, key, value] = nodes;
                let saved = Saved { query, key, value, key_bias, output: output.clone(), row_log_sums, tiles, tier };
                step.finish(saved, output)
            }
            OpsKind::UnTracked(step) => {
                let [query, key, value] = [query, key, value].map(Self::inner);
                step.finish(B::tile_attention(query, key, value, OptionalTensor::of(key_bias), tiles, tier))
            }
        }
    }

    fn tile_attention_work(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let [query, key, value] = [query, key, value].map(Self::inner);
        Self::from_inner(B::tile_attention_work(query, key, value, inner(key_bias), tiles, tier))
    }

    fn tile_attention_and_log_sums(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [query, key, value] = [query, key, value].map(Self::inner);
        let (output, log_sums) = B::tile_attention_and_log_sums(query, key, value, inner(key_bias), tiles, tier);
        (Self::from_inner(output), Self::from_inner(log_sums))
    }

    fn tile_log_sums(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let [query, key] = [query, key].map(Self::inner);
        Self::from_inner(B::tile_log_sums(query, key, inner(key_bias), tiles, tier))
    }

    fn tile_attention_and_row_log_sums(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [query, key, value] = [query, key, value].map(Self::inner);
        let (output, log_sums) = B::tile_attention_and_row_log_sums(query, key, value, inner(key_bias), tiles, tier);
        (Self::from_inner(output), Self::from_inner(log_sums))
    }

    fn tile_attention_gradients(
        attended: Attended<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (query, key, value) = B::tile_attention_gradients(without_graph(attended), inner(key_bias), tiles, tier);
        (Self::from_inner(query), Self::from_inner(key), Self::from_inner(value))
    }

    fn tile_attention_gradients_work(
        attended: Attended<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let attended = without_graph(attended);
        Self::from_inner(B::tile_attention_gradients_work(attended, inner(key_bias), tiles, tier))
    }
}

fn without_graph<B: Backend, C: CheckpointStrategy>(attended: Attended<Autodiff<B, C>>) -> Attended<B> {
    Attended {
        query: Autodiff::<B, C>::inner(attended.query),
        key: Autodiff::<B, C>::inner(attended.key),
        value: Autodiff::<B, C>::inner(attended.value),
        output: Autodiff::<B, C>::inner(attended.output),
        row_log_sums: Autodiff::<B, C>::inner(attended.row_log_sums),
        output_gradient: Autodiff::<B, C>::inner(attended.output_gradient),
    }
}
