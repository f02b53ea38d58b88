//! The attention on the CPU device.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Shape, TensorData};

use super::super::cpu::lanes::InstructionSet;
use super::super::cpu::tile_attention::{
    KeptFrames, TileAttentionError, TileAttentionInput, TileAttentionOutput, TileAttentionShape,
    tile_attention as cpu_tile_attention,
};
use super::super::launch::KernelError;
use super::super::{OptionalTensor, values};
use super::{
    Attended, Gives, Operands, RecordPlace, Recorded, Sample, Seen, TileAttentionKernel, Tiles, backward, last, pair, scale,
};
use crate::gpu::tier::ShaderTier;
use crate::mask::KeyFrames;

impl TileAttentionKernel for Flex {
    fn tile_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        _tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let operands = Operands { query, key, value: Some(value), key_bias: key_bias.into_option() };
        last(run_on_cpu(operands, None, &tiles, Gives::Attention).0)
    }

    fn tile_attention_work(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        _tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let operands = Operands { query, key, value: Some(value), key_bias: key_bias.into_option() };
        let (_, work) = run_on_cpu(operands, None, &tiles, Gives::AttentionAndWork);
        FlexTensor::from_data(TensorData::new(vec![work as f32], [1]))
    }

    fn tile_attention_recorded(
        seen: Seen<Self>,
        key_bias: OptionalTensor<Self>,
        record: FloatTensor<Self>,
        place: RecordPlace,
        tiles: Tiles,
        _tier: ShaderTier,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let Seen { query, key, value } = seen;
        let operands = Operands { query, key, value: Some(value), key_bias: key_bias.into_option() };
        let mut recorded = Recorded { record, place };
        let gives = recorded.gives();
        let output = last(run_on_cpu(operands, Some(&mut recorded), &tiles, gives).0);
        (output, recorded.record)
    }

    fn tile_log_sums_recorded(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        key_bias: OptionalTensor<Self>,
        record: FloatTensor<Self>,
        place: RecordPlace,
        tiles: Tiles,
        _tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let operands = Operands { query, key, value: None, key_bias: key_bias.into_option() };
        let mut recorded = Recorded { record, place };
        run_on_cpu(operands, Some(&mut recorded), &tiles, Gives::LogSums);
        recorded.record
    }

    fn tile_attention_and_row_log_sums(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        _tier: ShaderTier,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let operands = Operands { query, key, value: Some(value), key_bias: key_bias.into_option() };
        pair(run_on_cpu(operands, None, &tiles, Gives::AttentionAndRowLogSums).0)
    }

    fn tile_attention_gradients(
        attended: Attended<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        _tier: ShaderTier,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let ([query, key, value], _) = backward::run_gradients_on_cpu(attended, key_bias.into_option(), &tiles);
        (query, key, value)
    }

    fn tile_attention_gradients_work(
        attended: Attended<Self>,
        key_bias: OptionalTensor<Self>,
        tiles: Tiles,
        _tier: ShaderTier,
    ) -> FloatTensor<Self> {
        let (_, work) = backward::run_gradients_on_cpu(attended, key_bias.into_option(), &tiles);
        FlexTensor::from_data(TensorData::new(vec![work as f32], [1]))
    }
}

/// The sizes of a call on the CPU.
pub(super) fn cpu_shape(query: &FlexTensor, key: &FlexTensor, tiles: &Tiles) -> TileAttentionShape {
    let [batch, heads, _, head_size]: [usize; 4] = query.layout().shape().dims();
    TileAttentionShape {
        batch,
        heads,
        head_size,
        query_frames: tiles.key_frames.query_frames(),
        query_tokens: tiles.query_tokens,
        key_frames: key.layout().shape()[2] / tiles.key_tokens,
        key_tokens: tiles.key_tokens,
    }
}

/// What a call on the CPU reads; the tensors are contiguous.
pub(super) fn cpu_input<'a>(
    query: &'a FlexTensor,
    key: &'a FlexTensor,
    value: Option<&'a FlexTensor>,
    key_bias: Option<&'a FlexTensor>,
    tiles: &'a Tiles,
) -> TileAttentionInput<'a> {
    TileAttentionInput {
        query: values(query),
        key: values(key),
        value: value.map(values),
        kept: KeptFrames { offsets: tiles.key_frames.offsets(), frames: tiles.key_frames.frames() },
        key_bias: key_bias.map(values),
        scale: scale(query.layout().shape()[3]),
    }
}

/// The attention and the row log-sums, as far as `gives` says, and the tiles that were computed, over all heads and clips. The
/// log-sums go into the record.
fn run_on_cpu(
    operands: Operands<FlexTensor>,
    recorded: Option<&mut Recorded<FlexTensor>>,
    tiles: &Tiles,
    gives: Gives,
) -> (Vec<FlexTensor>, u64) {
    let Operands { query, key, value, key_bias } = operands;
    let [query, key] = [query, key].map(|tensor| tensor.to_contiguous());
    let [value, key_bias] = [value, key_bias].map(|tensor| tensor.map(|tensor| tensor.to_contiguous()));
    let shape = cpu_shape(&query, &key, tiles);
    let input = cpu_input(&query, &key, value.as_ref(), key_bias.as_ref(), tiles);
    let batch_heads = shape.batch * shape.heads;
    let query_shape = query.layout().shape().clone();
    let row_shape = Shape::new([shape.batch, shape.heads, query_shape[2]]);
    let mut attention = gives.attends().then(|| vec![0.0; query_shape.num_elements()]);
    let mut row_log_sums = gives.gives_row_log_sums().then(|| vec![0.0; row_shape.num_elements()]);
    let (log_sums, sample) = match recorded {
        None => (None, None),
        Some(Recorded { record, place }) => {
            let (sample_at, length) =
                (place.sample_at(batch_heads, tiles), place.length([shape.batch, shape.heads], shape.key_frames, tiles));
            let part = &mut record.storage_mut::<f32>()[place.at..place.at + length];
            let (log_sums, of_sample) = part.split_at_mut(sample_at - place.at);
            (Some(log_sums), place.sample.as_ref().map(|sample| (sample, of_sample)))
        }
    };
    let output = TileAttentionOutput { attention: attention.as_deref_mut(), log_sums, row_log_sums: row_log_sums.as_deref_mut() };
    let set = InstructionSet::best();
    let work = cpu_tile_attention(set, &shape, &input, output).and_then(|work| {
        if let Some((sample, log_sums)) = sample {
            sampled_log_sums_on_cpu(set, &shape, &input, sample, log_sums)?;
        }
        Ok(work)
    });
    match work {
        Ok(work) => {
            let outputs = [(attention, query_shape), (row_log_sums, row_shape)];
            let tensor =
                |(values, shape): (Option<Vec<f32>>, Shape)| Some(FlexTensor::from_data(TensorData::new(values?, shape)));
            (outputs.into_iter().filter_map(tensor).collect(), work.tiles(&shape))
        }
        Err(error) => std::panic::panic_any(KernelError { kernel: "tile_attention", reason: error.to_string() }),
    }
}

/// The log-sums of sampled rows of the last clip over all frames, `[heads, key frames, rows]`.
fn sampled_log_sums_on_cpu(
    set: InstructionSet,
    shape: &TileAttentionShape,
    input: &TileAttentionInput<'_>,
    sample: &Sample,
    log_sums: &mut [f32],
) -> Result<(), TileAttentionError> {
    let last_clip = (shape.batch - 1) * shape.heads;
    let (queries, keys) = (shape.query_frames * shape.query_tokens, shape.key_frames * shape.key_tokens);
    let places =
        (0..shape.heads).flat_map(|head| sample.rows.iter().map(move |&row| (last_clip + head) * queries + row as usize));
    let query: Vec<f32> = places.flat_map(|place| &input.query[place * shape.head_size..][..shape.head_size]).copied().collect();
    let all = KeyFrames::of_one_query_frame(shape.key_frames);
    let sampled = TileAttentionShape { batch: 1, query_frames: 1, query_tokens: sample.rows.len(), ..*shape };
    let input = TileAttentionInput {
        query: &query,
        key: &input.key[last_clip * keys * shape.head_size..],
        value: None,
        kept: KeptFrames { offsets: all.offsets(), frames: all.frames() },
        key_bias: input.key_bias.map(|bias| &bias[(shape.batch - 1) * keys..]),
        scale: input.scale,
    };
    let output = TileAttentionOutput { log_sums: Some(log_sums), ..TileAttentionOutput::default() };
    cpu_tile_attention(set, &sampled, &input, output).map(|_| ())
}
