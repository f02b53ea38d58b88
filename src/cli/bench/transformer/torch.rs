//! The figures of `tests/bench/torch_baseline.py`, and what stands beside them.

use std::path::Path;

use anyhow::Context;
use serde::Deserialize;

use crate::mask::{LayerMask, MaskPlan};

/// What the script writes.
#[derive(Debug, Deserialize)]
pub(super) struct TorchFile {
    pub device: String,
    pub torch: String,
    pub cases: Vec<TorchCase>,
}

/// One measurement of the script.
#[derive(Debug, Deserialize)]
pub(super) struct TorchCase {
    pub kind: TorchKind,
    /// Latent frames and tokens of each; 0 for a matrix product.
    #[serde(default)]
    pub frames: usize,
    #[serde(default)]
    pub tokens_per_frame: usize,
    /// `full` or `K:N`; neighbours are not measured there.
    #[serde(default)]
    pub mask: String,
    #[serde(default)]
    pub heads: usize,
    #[serde(default)]
    pub head: usize,
    pub median_millis: f64,
    #[serde(default)]
    pub tflop_per_second: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum TorchKind {
    Matmul,
    /// Self-attention: scaled_dot_product_attention, or FlexAttention where the mask is not full.
    Attention,
    /// Cross-attention to the text.
    TextAttention,
    /// A whole block as torch runs it eagerly.
    Block,
    /// The same after torch.compile.
    CompiledBlock,
}

/// Sizes of a call of one row.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallSizes {
    pub frames: usize,
    pub tokens_per_frame: usize,
    pub heads: usize,
    pub head: usize,
}

impl TorchFile {
    /// # Errors
    /// It cannot be read, or is not what the script writes.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("Cannot read {shown}. Write it with tests/bench/torch_baseline.py."))?;
        serde_json::from_str(&text).with_context(|| format!("{shown} is not what tests/bench/torch_baseline.py writes"))
    }

    /// The fastest matrix product, in operations a second.
    pub fn ceiling(&self) -> Option<f64> {
        let products = self.cases.iter().filter(|case| case.kind == TorchKind::Matmul);
        products.map(|case| case.tflop_per_second * 1e12).max_by(f64::total_cmp)
    }

    /// Milliseconds of one row through all layers of a plan; none if a mask of it was not measured at this size.
    pub fn millis(&self, kind: TorchKind, plan: &MaskPlan, sizes: CallSizes) -> Option<f64> {
        plan.layers().iter().map(|layer| self.layer_millis(kind, layer, sizes)).sum()
    }

    fn layer_millis(&self, kind: TorchKind, layer: &LayerMask, sizes: CallSizes) -> Option<f64> {
        let mask = layer.name();
        let same_size = |case: &&TorchCase| {
            case.kind == kind
                && [case.frames, case.tokens_per_frame, case.heads, case.head]
                    == [sizes.frames, sizes.tokens_per_frame, sizes.heads, sizes.head]
        };
        // The text is seen by all tokens, whatever the mask.
        let same_mask = |case: &&TorchCase| kind == TorchKind::TextAttention || case.mask == mask;
        self.cases.iter().filter(same_size).find(same_mask).map(|case| case.median_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_the_sum_of_its_layers() {
        let text = r#"{"device": "card", "torch": "2.9", "cases": [
            {"kind": "matmul", "median_millis": 1.0, "tflop_per_second": 600.0},
            {"kind": "attention", "frames": 8, "tokens_per_frame": 10, "heads": 2, "head": 6, "mask": "full", "median_millis": 3.0},
            {"kind": "attention", "frames": 8, "tokens_per_frame": 10, "heads": 2, "head": 6, "mask": "1:7", "median_millis": 1.0},
            {"kind": "text_attention", "frames": 8, "tokens_per_frame": 10, "heads": 2, "head": 6, "median_millis": 0.5}]}"#;
        let file: TorchFile = serde_json::from_str(text).unwrap();
        let sizes = CallSizes { frames: 8, tokens_per_frame: 10, heads: 2, head: 6 };
        let layers = ["full", "1:7", "1:7"].map(|name| LayerMask::named(name, 8).unwrap());
        let plan = MaskPlan::of_layers(layers.to_vec()).unwrap();
        assert_eq!(file.ceiling(), Some(6e14));
        assert_eq!(file.millis(TorchKind::Attention, &plan, sizes), Some(5.0));
        assert_eq!(file.millis(TorchKind::TextAttention, &plan, sizes), Some(1.5));
        assert_eq!(file.millis(TorchKind::Block, &plan, sizes), None);
        let other = MaskPlan::uniform(3, 8, "2:6").unwrap();
        assert_eq!(file.millis(TorchKind::Attention, &other, sizes), None);
        assert_eq!(file.millis(TorchKind::Attention, &plan, CallSizes { head: 12, ..sizes }), None);
    }
}
