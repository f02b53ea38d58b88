//! Which kernels a part of the self-test runs, on which sizes, and how much they may be off.

use super::{Bench, Part, SelfTestLine};
use crate::gpu::device::Precision;
use crate::gpu::kernels::block_product::Block;
use crate::gpu::kernels::conv3d::Geometry;
use crate::gpu::kernels::linear::Cut;
use crate::gpu::kernels::product::{LARGE, SMALL, SQUARE};
use crate::gpu::kernels::tile_attention::Gives;
use crate::gpu::tier::KernelTier;

/// Gradients of parameters are sums in f32 in both precisions. Matrices may cut off where other sums round; terms of 11 bits
/// would show at 2e-4.
const SUMS: f64 = 1e-5;
const MATRIX_SUMS: f64 = 5e-5;
/// Small singular values grow by 3.4 in each of five steps, and what 11 bits cut off grows with them.
const NEWTON_SCHULZ: f64 = 5e-3;
/// Log-sums and what follows from them are f32 in both precisions.
const LOG_SUMS: f64 = 1e-5;

const CAUSAL: Geometry =
    Geometry { kernel: [3, 3, 3], stride: [1, 1, 1], causal_frames: 2, top: 1, bottom: 1, left: 1, right: 1 };
const HALVING: Geometry =
    Geometry { kernel: [3, 3, 3], stride: [2, 2, 2], causal_frames: 2, top: 0, bottom: 1, left: 0, right: 1 };
/// Few taps, for pictures that are large enough for large blocks.
const LINE: Geometry = Geometry { kernel: [1, 1, 3], stride: [1, 1, 1], causal_frames: 0, top: 0, bottom: 0, left: 1, right: 1 };

/// What errors of results in the storage type may be.
struct Limits {
    plain: f64,
    large_logits: f64,
    convolution: f64,
    statistics: f64,
}

impl Limits {
    /// f16 results are rounded to 11 bits: 2^-12 to 2^-11 of themselves.
    fn of(precision: Precision) -> Self {
        match precision {
            Precision::F16 => Self { plain: 6e-4, large_logits: 6e-4, convolution: 6e-4, statistics: 1e-5 },
            Precision::F32 => Self { plain: 2e-6, large_logits: 2e-5, convolution: 2e-6, statistics: 1e-5 },
        }
    }
}

impl Bench<'_> {
    pub(super) fn lines(&self, part: Part) -> Vec<SelfTestLine> {
        let limits = Limits::of(self.device.precision);
        let on_matrices = self.device.tier == KernelTier::Matrix;
        let on_subgroups = matches!(self.device.tier, KernelTier::Subgroup { .. });
        match part {
            Part::Forward => {
                let mut lines = self.forward_lines(&limits);
                lines.extend(self.transformer_lines());
                if on_matrices {
                    lines.extend(self.matrix_lines(limits.plain));
                }
                if on_subgroups {
                    lines.extend(self.subgroup_lines(&limits));
                }
                lines
            }
            Part::Training => {
                let mut lines = self.gradient_lines(&limits);
                lines.extend(self.transformer_gradient_lines());
                if on_matrices {
                    lines.extend(self.matrix_gradient_lines(limits.plain));
                }
                if on_subgroups {
                    lines.extend(self.subgroup_gradient_lines(&limits));
                }
                lines
            }
        }
    }

    fn forward_lines(&self, limits: &Limits) -> Vec<SelfTestLine> {
        let &Limits { plain, large_logits, convolution, statistics } = limits;
        vec![
            self.line("tile attention", plain, || self.attention(96, [37, 37], 1.0, false, Gives::Attention)),
            self.line("tile attention, key bias", plain, || self.attention(20, [37, 37], 1.0, true, Gives::Attention)),
            self.line("tile attention, large logits", large_logits, || {
                self.attention(96, [37, 37], 400.0, false, Gives::Attention)
            }),
            self.line("tile attention, many keys", plain, || self.attention(96, [1, 1201], 1.0, false, Gives::Attention)),
            self.line("log-sums beside tile attention", LOG_SUMS, || {
                self.attention(20, [37, 37], 1.0, false, Gives::AttentionAndLogSums)
            }),
            self.line("log-sums of a sample", LOG_SUMS, || self.attention(20, [37, 37], 1.0, true, Gives::AttentionAndSample)),
            self.line("log-sums of tiles", LOG_SUMS, || self.attention(96, [37, 37], 1.0, false, Gives::LogSums)),
            self.line("mass of tiles", LOG_SUMS, || self.tile_mass(None)),
            self.line("mass of tiles, sampled", LOG_SUMS, || self.tile_mass(Some(5))),
            self.line("convolution", convolution, || self.convolution(CAUSAL, [35, 67], false)),
            self.line("convolution, normalised, residual", convolution, || self.convolution(CAUSAL, [35, 67], true)),
            self.line("convolution, stride 2", convolution, || self.convolution(HALVING, [35, 67], false)),
            self.line("group norm", statistics, || self.group_norm()),
            self.line("group norm with SiLU", convolution, || self.group_norm_silu(false)),
            self.line("linear", convolution, || self.linear([5, 40, 24], None)),
        ]
    }

    fn gradient_lines(&self, limits: &Limits) -> Vec<SelfTestLine> {
        let &Limits { plain, convolution, .. } = limits;
        let of_statistics = convolution.max(limits.statistics);
        vec![
            self.line("gradients of tile attention", plain, || self.attention_gradients(20, [37, 21])),
            self.line("gradient of group norm with SiLU", of_statistics, || self.group_norm_silu(true)),
            self.line("gradient of a weight", SUMS, || self.weight_gradient(CAUSAL, [2, 3, 7, 9, 35], 67)),
            self.line("gradient of an input", convolution, || self.input_gradient(CAUSAL, [2, 3, 7, 9, 35], 67)),
            self.line("gradient of an input, stride 2", convolution, || self.input_gradient(HALVING, [2, 3, 7, 9, 35], 67)),
        ]
    }

    /// Sizes that the matrix kernels take, among them some that are not whole blocks.
    fn matrix_lines(&self, limit: f64) -> Vec<SelfTestLine> {
        vec![
            self.line("tile attention on matrices, whole rounds", limit, || {
                self.attention(96, [200, 48], 1.0, false, Gives::Attention)
            }),
            self.line("tile attention on matrices, head of 48", limit, || {
                self.attention(48, [50, 49], 1.0, true, Gives::Attention)
            }),
            self.line("tile attention on matrices, head of 48, many rows", limit, || {
                self.attention(48, [3170, 20], 1.0, false, Gives::Attention)
            }),
            self.line("log-sums beside tile attention on matrices", LOG_SUMS, || {
                self.attention(96, [200, 48], 1.0, false, Gives::AttentionAndLogSums)
            }),
            self.line("log-sums of a sample on matrices", LOG_SUMS, || {
                self.attention(96, [200, 48], 1.0, false, Gives::AttentionAndSample)
            }),
            self.line("log-sums of a sample on matrices, head of 48", LOG_SUMS, || {
                self.attention(48, [50, 49], 1.0, true, Gives::AttentionAndSample)
            }),
            self.line("log-sums of tiles on matrices, head of 48", LOG_SUMS, || {
                self.attention(48, [50, 49], 1.0, false, Gives::LogSums)
            }),
            self.line("linear on matrices, large", limit, || self.linear([130, 64, 264], Some(Cut::Tile(LARGE)))),
            self.line("linear on matrices, square", limit, || self.linear([193, 64, 200], Some(Cut::Tile(SQUARE)))),
            self.line("linear on matrices, small", limit, || self.linear([70, 40, 136], Some(Cut::Tile(SMALL)))),
            self.line("convolution on matrices, 256 channels", limit, || self.convolution(CAUSAL, [40, 256], false)),
            self.line("convolution on matrices, 72 channels", limit, || self.convolution(HALVING, [4, 72], false)),
            self.line("convolution on matrices, 64 channels", limit, || self.convolution(CAUSAL, [64, 64], true)),
            self.line("convolution on matrices, 32 channels", limit, || self.convolution(CAUSAL, [24, 32], true)),
            self.line("convolution on matrices, 3 channels", limit, || self.convolution(CAUSAL, [32, 3], true)),
        ]
    }

    /// What the other lines, which run on the same tier, leave out: both blocks of the products, and other heads.
    fn subgroup_lines(&self, limits: &Limits) -> Vec<SelfTestLine> {
        let &Limits { plain, convolution, .. } = limits;
        vec![
            self.line("tile attention on subgroups, head of 48", plain, || {
                self.attention(48, [50, 64], 1.0, true, Gives::Attention)
            }),
            self.line("tile attention on subgroups, head of 128", plain, || {
                self.attention(128, [70, 33], 1.0, false, Gives::Attention)
            }),
            self.line("log-sums of a sample on subgroups", LOG_SUMS, || {
                self.attention(96, [70, 48], 1.0, true, Gives::AttentionAndSample)
            }),
            self.line("linear on subgroups, large", convolution, || self.linear([193, 68, 132], Some(Cut::Block(Block::Large)))),
            self.line("linear on subgroups, small", convolution, || self.linear([70, 40, 136], Some(Cut::Block(Block::Small)))),
            self.line("convolution on subgroups", convolution, || self.convolution(CAUSAL, [36, 68], true)),
            self.line("convolution on subgroups, stride 2", convolution, || self.convolution(HALVING, [4, 72], false)),
            self.line("convolution on subgroups, 3 channels", convolution, || self.convolution(CAUSAL, [32, 3], true)),
        ]
    }

    /// Channels in fours, which the subgroup kernels take; the other lines have others, which run on the plain tier.
    fn subgroup_gradient_lines(&self, limits: &Limits) -> Vec<SelfTestLine> {
        let &Limits { plain, convolution, .. } = limits;
        vec![
            self.line("gradients of tile attention on subgroups, head of 48", plain, || self.attention_gradients(48, [50, 70])),
            self.line("gradients of tile attention on subgroups, head of 96", plain, || self.attention_gradients(96, [70, 33])),
            self.line("gradients of tile attention on subgroups, head of 128", plain, || self.attention_gradients(128, [21, 37])),
            self.line("gradient of a weight on subgroups, a layer", SUMS, || self.layer_gradient([333, 136, 72])),
            self.line("gradient of a weight on subgroups, a small layer", SUMS, || self.layer_gradient([75, 40, 132])),
            self.line("gradient of a weight on subgroups, convolution", SUMS, || {
                self.weight_gradient(CAUSAL, [2, 3, 7, 41, 36], 68)
            }),
            self.line("gradient of a weight on subgroups, 4 channels in", SUMS, || {
                self.weight_gradient(CAUSAL, [2, 3, 7, 9, 4], 64)
            }),
            self.line("gradient of a weight on subgroups, stride 2", SUMS, || {
                self.weight_gradient(HALVING, [2, 3, 7, 9, 72], 40)
            }),
            self.line("gradient of an input on subgroups", convolution, || self.input_gradient(CAUSAL, [2, 3, 7, 9, 36], 68)),
            self.line("gradient of an input on subgroups, large", convolution, || {
                self.input_gradient(LINE, [1, 1, 129, 257, 64], 4)
            }),
            self.line("gradient of an input on subgroups, stride 2", convolution, || {
                self.input_gradient(HALVING, [2, 5, 7, 9, 72], 40)
            }),
        ]
    }

    fn matrix_gradient_lines(&self, limit: f64) -> Vec<SelfTestLine> {
        vec![
            self.line("gradients of tile attention on matrices, long frames", limit, || self.attention_gradients(48, [144, 288])),
            self.line("gradients of tile attention on matrices, short frames", limit, || self.attention_gradients(48, [50, 21])),
            self.line("gradients of tile attention on matrices, head of 96", limit, || self.attention_gradients(96, [144, 50])),
            self.line("Newton-Schulz steps on matrices", NEWTON_SCHULZ, || self.newton_schulz([3, 72, 136])),
            self.line("gradient of a weight on matrices, square", MATRIX_SUMS, || self.layer_gradient([700, 192, 192])),
            self.line("gradient of a weight on matrices, large", MATRIX_SUMS, || self.layer_gradient([333, 136, 264])),
            self.line("gradient of a weight on matrices, small", MATRIX_SUMS, || self.layer_gradient([333, 40, 72])),
            self.line("gradient of a weight on matrices, 64 channels", MATRIX_SUMS, || {
                self.weight_gradient(CAUSAL, [2, 3, 7, 41, 64], 64)
            }),
            self.line("gradient of a weight on matrices, 4 channels in", MATRIX_SUMS, || {
                self.weight_gradient(CAUSAL, [2, 3, 7, 9, 4], 64)
            }),
            self.line("gradient of a weight on matrices, 4 channels out", MATRIX_SUMS, || {
                self.weight_gradient(CAUSAL, [2, 3, 7, 9, 64], 4)
            }),
            self.line("gradient of a weight on matrices, stride 2", MATRIX_SUMS, || {
                self.weight_gradient(HALVING, [2, 3, 7, 9, 72], 40)
            }),
            self.line("gradient of an input on matrices, 64 channels", limit, || {
                self.input_gradient(CAUSAL, [2, 3, 7, 41, 64], 64)
            }),
            self.line("gradient of an input on matrices, 4 channels out", limit, || {
                self.input_gradient(CAUSAL, [2, 3, 7, 9, 64], 4)
            }),
            self.line("gradient of an input on matrices, stride 2", limit, || self.input_gradient(HALVING, [2, 5, 7, 9, 72], 40)),
        ]
    }
}
