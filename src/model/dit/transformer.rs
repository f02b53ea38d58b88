//! The whole transformer.

use std::ops::Range;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use super::block::{Block, Context, Probe, Site};
use super::caption::Caption;
use super::config::TransformerConfig;
use super::embeddings::{AdaLayerNormSingle, CaptionProjection, FinalLayer, PatchEmbed, sinusoids};
use super::rope::{AngleRounding, RotaryCache, RotaryGrid, RotaryTables};
use crate::gpu::device::ComputeDevice;
use crate::gpu::spans::{self, Kind};
use crate::mask::KeyFrames;
use crate::model::weights::{Ahead, LayerStream, Loader, WeightError, WeightSource};

/// What a key that must not be seen has added to its score. The reference's value; a row whose keys are all hidden stays finite.
const HIDDEN: f32 = -10_000.0;

#[derive(Module, Debug)]
pub struct Transformer {
    pos_embed: PatchEmbed,
    adaln_single: AdaLayerNormSingle,
    caption_projection: CaptionProjection,
    /// None if they are streamed.
    blocks: Vec<Block>,
    #[module(skip)]
    stream: Option<LayerStream>,
    #[module(skip)]
    config: Arc<TransformerConfig>,
    last: FinalLayer,
    head_dim: usize,
    patch_size: usize,
    scales: [f64; 3],
    #[module(skip)]
    rounding: AngleRounding,
    #[module(skip)]
    rotary: Arc<RotaryCache>,
}

/// Encoded captions of one batch.
#[derive(Clone, Debug)]
pub struct TextContext {
    /// `[batch, tokens, caption channels]`; padded places hold whatever the encoder gave.
    pub embedding: Tensor<3>,
    /// 1 where a token counts, `[batch * tokens]`.
    pub mask: Vec<f32>,
}

impl TextContext {
    /// One row of the batch.
    #[must_use]
    pub fn row(&self, row: usize) -> Self {
        self.rows(row..row + 1)
    }

    /// Some rows of the batch.
    #[must_use]
    pub fn rows(&self, rows: Range<usize>) -> Self {
        let [_, tokens, _] = self.embedding.dims();
        let mask = self.mask[rows.start * tokens..rows.end * tokens].to_vec();
        Self { embedding: self.embedding.clone().narrow(0, rows.start, rows.len()), mask }
    }
}

impl Transformer {
    /// # Errors
    /// The weights do not fit the configuration.
    pub fn load(loader: Loader<'_>, config: &TransformerConfig) -> Result<Self, WeightError> {
        Self::load_parts(loader, config, None)
    }

    /// A transformer whose blocks stay in the file and pass through the device in every call.
    ///
    /// # Errors
    /// The weights do not fit the configuration, as far as their names and shapes tell.
    pub fn load_streamed(
        source: &Arc<WeightSource>,
        device: &ComputeDevice,
        config: &TransformerConfig,
    ) -> Result<Self, WeightError> {
        let stream = LayerStream::new(
            source.clone(),
            device,
            config.num_layers,
            |index| format!("{}.", Block::name(index)),
            Block::keeps_exact,
            Ahead::OneLayer,
        );
        Self::load_parts(Loader::new(source, device), config, Some(stream))
    }

    fn load_parts(mut loader: Loader<'_>, config: &TransformerConfig, stream: Option<LayerStream>) -> Result<Self, WeightError> {
        let pos_embed = PatchEmbed::load(&mut loader, config);
        let adaln_single = AdaLayerNormSingle::load(&mut loader, config);
        let caption_projection = CaptionProjection::load(&mut loader, config);
        let last = FinalLayer::load(&mut loader, config);
        if stream.is_some() {
            loader.only_check();
        }
        let blocks = (0..config.num_layers).map(|index| Block::load(&mut loader, index, config)).collect();
        let transformer = Self {
            pos_embed,
            adaln_single,
            caption_projection,
            blocks: if stream.is_some() { Vec::new() } else { blocks },
            stream,
            config: Arc::new(config.clone()),
            last,
            head_dim: config.attention_head_dim,
            patch_size: config.patch_size,
            scales: config.interpolation_scales(),
            rounding: config.rotary_angles,
            rotary: Arc::default(),
        };
        loader.finish(|_| false)?;
        Ok(transformer)
    }

    /// Channels of the latents that it takes.
    pub fn latent_channels(&self) -> usize {
        self.pos_embed.channels()
    }

    pub fn layers(&self) -> usize {
        self.stream.as_ref().map_or(self.blocks.len(), LayerStream::layers)
    }

    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    /// Bytes of a value of what blocks hand to their attention.
    pub fn stored_bytes(&self) -> usize {
        self.pos_embed.storage_type().size()
    }

    /// Whether blocks are read from their file in every call.
    pub fn is_streamed(&self) -> bool {
        self.stream.is_some()
    }

    /// A text as this network's blocks see it, for [`Self::forward_to`].
    pub fn caption(&self, text: &TextContext) -> Caption {
        let [batch, ..] = text.embedding.dims();
        self.caption_of(text.embedding.clone(), key_bias(&text.mask, batch, &text.embedding.device()))
    }

    /// [`Self::caption`] of a text whose mask is a bias already.
    pub(super) fn caption_of(&self, embedding: Tensor<3>, bias: Option<Tensor<2>>) -> Caption {
        Caption::new(self.caption_projection.forward(embedding), bias, self.layers(), self.stored_bytes())
    }

    /// [`Self::forward_to`] for a text that is used once.
    ///
    /// # Panics
    /// As [`Self::forward_to`].
    pub fn forward(
        &self,
        latents: Tensor<5>,
        timesteps: &[f32],
        text: &TextContext,
        latent_mask: Option<&[f32]>,
        key_frames: &[Arc<KeyFrames>],
        probe: &mut Probe<'_>,
    ) -> Tensor<5> {
        self.forward_to(latents, timesteps, &self.caption(text), latent_mask, key_frames, probe)
    }

    /// The predicted noise `[batch, channels, frames, height, width]` for latents of that shape, f32.
    ///
    /// `latent_mask` is 1 where a latent counts, row-major `[batch, frames, height, width]`; sampling never needs it.
    /// `key_frames` holds one entry a layer.
    ///
    /// # Panics
    /// With a [`WeightError`] if blocks are streamed and their file cannot be read any more.
    pub fn forward_to(
        &self,
        latents: Tensor<5>,
        timesteps: &[f32],
        caption: &Caption,
        latent_mask: Option<&[f32]>,
        key_frames: &[Arc<KeyFrames>],
        probe: &mut Probe<'_>,
    ) -> Tensor<5> {
        let sinusoids = sinusoids(timesteps, &latents.device());
        self.forward_from(latents, sinusoids, caption, latent_mask, key_frames, probe)
    }

    /// [`Self::forward_to`] for times that are on the device.
    pub(super) fn forward_from(
        &self,
        latents: Tensor<5>,
        sinusoids: Tensor<2>,
        caption: &Caption,
        latent_mask: Option<&[f32]>,
        key_frames: &[Arc<KeyFrames>],
        probe: &mut Probe<'_>,
    ) -> Tensor<5> {
        assert_eq!(key_frames.len(), self.layers(), "one mask a layer");
        let Call { tokens, context, embedded_timestep, grid } = self.begin_at(0, latents, sinusoids, caption, latent_mask, probe);
        let mut tokens = Some(tokens);
        let run = |index: usize, block: &Block| {
            if probe.stops() {
                return false;
            }
            probe.layer = index;
            let name = || format!("layer {}", index + 1);
            let before = tokens.take().expect("every block leaves tokens");
            tokens = Some(spans::layer(name, || block.forward(before, &context, &key_frames[index], probe)));
            true
        };
        if let Err(error) = self.each_block(run) {
            std::panic::panic_any(error);
        }
        let tokens = tokens.expect("every block leaves tokens");
        self.last.forward(tokens, embedded_timestep, grid)
    }

    /// Hands every block to `run`, first layer first, until it says no; streamed ones pass through the device.
    ///
    /// # Errors
    /// Blocks are streamed and their file cannot be read any more.
    pub fn each_block(&self, mut run: impl FnMut(usize, &Block) -> bool) -> Result<(), WeightError> {
        match &self.stream {
            None => {
                for (index, block) in self.blocks.iter().enumerate() {
                    if !run(index, block) {
                        break;
                    }
                }
                Ok(())
            }
            Some(stream) => stream.for_each(|loader, index| Block::load(loader, index, &self.config), run),
        }
    }

    /// Everything in front of the first block, for callers that go on block by block ([`Self::block`]); arguments as in
    /// [`Self::forward`].
    pub fn begin(
        &self,
        latents: Tensor<5>,
        timesteps: &[f32],
        text: &TextContext,
        latent_mask: Option<&[f32]>,
        probe: &mut Probe<'_>,
    ) -> Call {
        let sinusoids = sinusoids(timesteps, &latents.device());
        self.begin_at(0, latents, sinusoids, &self.caption(text), latent_mask, probe)
    }

    /// [`Self::begin`] for `latents` `[batch, channels, frames, height, width]` that are only some of a clip's frames, from
    /// `first_frame` on. All but self-attention is local to frames.
    pub fn begin_frames(&self, first_frame: usize, latents: Tensor<5>, timesteps: &[f32], text: &TextContext) -> Call {
        let sinusoids = sinusoids(timesteps, &latents.device());
        self.begin_at(first_frame, latents, sinusoids, &self.caption(text), None, &mut Probe::default())
    }

    /// Everything behind the last block: `tokens` of the call to the predicted noise `[batch, channels, frames, height, width]`.
    pub fn end(&self, tokens: Tensor<3>, call: Call) -> Tensor<5> {
        self.last.forward(tokens, call.embedded_timestep, call.grid)
    }

    fn begin_at(
        &self,
        first_frame: usize,
        latents: Tensor<5>,
        sinusoids: Tensor<2>,
        caption: &Caption,
        latent_mask: Option<&[f32]>,
        probe: &mut Probe<'_>,
    ) -> Call {
        let [batch, _, frames, height, width] = latents.dims();
        let device = latents.device();
        let p = self.patch_size;
        assert!(height % p == 0 && width % p == 0, "latent height and width must be multiples of the patch size");
        let grid = [frames, height / p, width / p];

        let tokens = self.pos_embed.forward(latents);
        let (embedded_timestep, modulations) = self.adaln_single.forward(sinusoids);
        probe.layer = 0;
        probe.see(Site::PatchEmbed, || tokens.clone());
        probe.see(Site::EmbeddedTimestep, || embedded_timestep.clone().unsqueeze_dim(1));
        probe.see(Site::Modulations, || modulations.clone().unsqueeze_dim(1));
        probe.see(Site::Caption, || caption.projected.clone());

        let [_, model_width] = embedded_timestep.dims();
        let context = Context {
            caption: caption.clone(),
            modulations: modulations.reshape([batch, 6, model_width]),
            latent_bias: latent_mask
                .and_then(|mask| key_bias(&pool_mask(mask, [batch * frames, height, width], p), batch, &device)),
            rope: spans::span(Kind::Normalisation, || self.rotary_tables(RotaryGrid { grid, first_frame }, &device)),
        };
        Call { tokens, context, embedded_timestep, grid }
    }

    fn rotary_tables(&self, of: RotaryGrid, device: &Device) -> RotaryTables {
        let make = || RotaryTables::new(of, self.head_dim, self.scales, self.rounding, device);
        self.rotary.tables(of, device, make)
    }

    /// The tables of calls for latents `[batch, channels, frames, height, width]` of whole clips.
    pub(super) fn rotary_tables_of(&self, [_, _, frames, height, width]: [usize; 5], device: &Device) -> RotaryTables {
        let p = self.patch_size;
        self.rotary_tables(RotaryGrid { grid: [frames, height / p, width / p], first_frame: 0 }, device)
    }

    /// What a block makes of `tokens` in a call.
    ///
    /// # Panics
    /// There is no such block, or blocks are streamed.
    pub fn block(&self, index: usize, tokens: Tensor<3>, call: &Call, key_frames: &Arc<KeyFrames>) -> Tensor<3> {
        self.blocks[index].forward(tokens, &call.context, key_frames, &mut Probe::default())
    }
}

/// A call of the network that has come to its first block.
pub struct Call {
    /// What the first block gets, `[batch, tokens, width]`.
    pub tokens: Tensor<3>,
    context: Context,
    embedded_timestep: Tensor<2>,
    /// Frames, rows and columns of tokens.
    grid: [usize; 3],
}

impl Call {
    /// Tokens of one frame.
    pub fn frame_tokens(&self) -> usize {
        self.grid[1] * self.grid[2]
    }

    /// Rotary tables of some of the call's tokens, one range of them after the other.
    pub fn rotary_rows(&self, ranges: &[Range<usize>]) -> RotaryTables {
        self.context.rope.rows(ranges)
    }

    pub(super) fn context(&self) -> &Context {
        &self.context
    }
}

/// Additive bias of masked keys `[batch, keys]`; none when every key is seen, as the reference drops such a mask.
fn key_bias(mask: &[f32], batch: usize, device: &Device) -> Option<Tensor<2>> {
    (!mask.iter().all(|&m| m == 1.0)).then(|| key_bias_of(mask, batch, device))
}

/// [`key_bias`] whether or not a key is masked.
pub(super) fn key_bias_of(mask: &[f32], batch: usize, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(biases(mask), [batch, mask.len() / batch]), device)
}

pub(super) fn biases(mask: &[f32]) -> Vec<f32> {
    mask.iter().map(|m| (1.0 - m) * HIDDEN).collect()
}

/// Largest mask value of every patch.
fn pool_mask(mask: &[f32], [frames, height, width]: [usize; 3], patch: usize) -> Vec<f32> {
    let mut pooled = Vec::with_capacity(mask.len() / (patch * patch));
    for frame in 0..frames {
        for y in (0..height).step_by(patch) {
            for x in (0..width).step_by(patch) {
                let cells = (0..patch * patch).map(|i| mask[(frame * height + y + i / patch) * width + x + i % patch]);
                pooled.push(cells.fold(f32::MIN, f32::max));
            }
        }
    }
    pooled
}
