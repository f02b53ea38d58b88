//! Tilereel turns prompts into video with a distilled, tile-sparse video diffusion transformer.
//!
//! ```text
//! prompt -> text -> noise -> sampler <-> dit (mask plan -> kernels -> shaders) -> vae -> frames -> preview | clip file
//! ```
//!
//! The rooms, from top to bottom; an import points downward only, which `tests/suite/architecture.rs` holds:
//!
//! | room | what it owns |
//! |---|---|
//! | [`cli`] | flags to the window or a command, one file each; no model code |
//! | `app` | the studio's window, with the feature `gui`: one panel, one file; no model code |
//! | [`studio`] | what fronts talk to: the engine's thread, queue, library, exports, errors as a person reads them |
//! | [`generate`] | recipe to clip: the pipeline, step records, previews, the cost estimate |
//! | [`parallel`] | one transformer on several devices: shares of frames, what a layer exchanges, the threads |
//! | [`training`] | how networks learn: optimiser, loop, checkpoints, data; what is trained |
//! | [`evaluate`] | how good a model is: the judge's table, intervals, distances |
//! | [`world`] | the procedural world that mini learns from: scenes, sentences, their renderer |
//! | [`model`] | the networks under their published names: `text`, `dit`, `vae`, `sampler`, `weights`, `folder` |
//! | [`clip`] | frames to files and back, with the recipe inside |
//! | [`gpu`] | devices, kernels, the kernels' self-test |
//! | [`mask`] | which frame sees which: plans, families, densities; plain integers |

#[cfg(feature = "gui")]
pub mod app;
pub mod cli;
pub mod clip;
pub mod evaluate;
pub mod generate;
pub mod gpu;
pub mod mask;
pub mod model;
pub mod parallel;
pub mod studio;
pub mod training;
pub mod world;
