//! The search for each layer's mask: how much of a block's output changes with it, and what that allows.
//!
//! Stage 2 of Efficient-vDiT (its algorithm 1; the text is not at hand, so samples and tensor are those of mini's recipe): the
//! error of a mask is `|masked - full|^2 / |full|^2` of the block's output, over latents of the model's own way from noise to a
//! clip ([`calibration`]). [`measure`] finds all errors, layer by layer; [`choose`] makes a plan of them: the sparsest mask
//! below a threshold, or the best under a limit of error or of time. Steps may be split into equal ranges, each with masks of its
//! own: then errors are those of a layer in a range, and limits hold for the mean over the ranges.

mod bound;
pub mod calibration;
pub mod candidates;
pub mod choose;
pub mod measure;
pub mod report;
pub mod session;
