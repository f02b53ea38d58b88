//! Tests of what no single room can hold alone: the architecture, the shaders, the kernels on every device, the clip
//! files, the window.

mod architecture;
mod cli;
mod clips;
mod compare;
mod device_lost;
mod export;
mod judges;
mod kernels;
mod launches;
mod matrix_shaders;
mod parallel;
mod recording;
mod replay;
mod shaders;
mod streaming;
mod studio;
mod timings;
mod training;
#[cfg(feature = "gui")]
mod window;
mod world;
