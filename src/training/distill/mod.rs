//! Distillation: a model learns from another one, its teacher, to make clips in fewer calls or with fewer attention tiles.
//!
//! Two of the three stages of Efficient-vDiT (arXiv 2502.06155): multi-step latent consistency distillation ([`mlcd`]), and
//! the sparse student that imitates the dense model layer by layer ([`kd`]); the search for its masks lies between them. Behind
//! either, distribution matching ([`dmd`]) lets a student of few steps make clips that are as probable as its teacher's. All begin
//! with a model's weights, run in the loop of every training, and publish a model that clips are made with.

pub mod data;
pub mod dmd;
pub mod jump;
pub mod kd;
pub mod masks;
pub mod mlcd;
pub mod session;
pub mod student;
pub mod teacher;
