//! The kernels of the CPU device: plain Rust on slices of f32.
//!
//! Every kernel is written once over [`lanes::Lanes`] and compiled for three instruction sets; [`lanes::InstructionSet`]
//! picks one at run time. Work is divided among threads by output, and every output is summed in one fixed order that
//! depends on the shape only, so results do not depend on the number of threads. The two x86 sets with fused
//! multiply-add give the same bytes; the portable one differs in the last places where it has to round twice.
//!
//! Owns the arithmetic only: tensors, their layouts and the choice of the device belong to the launchers.

mod attention_panel;
pub mod conv3d;
mod conv3d_block;
pub mod conv3d_gradient;
mod conv3d_weight;
mod conv3d_winograd;
pub mod doubling;
pub mod gate_residual;
pub mod gelu;
pub mod group_norm;
pub mod heads;
pub mod lanes;
mod microkernel;
pub mod norm_modulate;
pub mod rms_norm;
pub mod tile_attention;
pub mod tile_attention_backward;
pub mod tile_mass;
