//! OpenSoraT2V, the video diffusion transformer of Open-Sora-Plan v1.2: latents, a timestep and a caption to the noise.
//!
//! Self-attention obeys a [`crate::mask::MaskPlan`]: each layer computes only the frame-to-frame tiles that its mask keeps.

mod attention;
mod block;
mod caption;
mod config;
mod embeddings;
mod recorded;
mod recording;
pub mod rope;
mod sliced;
mod transformer;

pub use block::{Block, Probe, Site, feed_forward_tokens};
pub use caption::Caption;
pub use config::TransformerConfig;
pub use recorded::{Given, RecordedCall, hides_some};
pub use recording::{AttentionRecorder, ROWS_A_SAMPLE, Recording};
pub use sliced::{attend, attend_with_row_log_sums};
pub use transformer::{Call, TextContext, Transformer};
