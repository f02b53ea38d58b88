//! The studio window: one panel, one file. It talks to the studio and shows plain data; it holds no model code.

mod action;
mod bench;
mod drop_target;
pub mod icons;
mod layout;
pub mod player;
mod smoothness;
mod stage;
mod status_bar;
pub mod theme;
mod toasts;

pub mod action;
mod controls;
mod file_dialog;
pub mod forecast;
pub mod icons;
pub mod mask_dial;
pub mod models_menu;
pub mod prompt;
pub mod settings;
pub mod theme;
pub mod vocabulary;

use std::path::PathBuf;
use std::time::Instant;

use crate::studio::{DeviceWish, Home};

pub use bench::Report;
pub struct WindowOptions {
    pub home: Home,
    pub device: DeviceWish,
    pub open: Option<PathBuf>,
    pub prompt: Option<String>,
    pub export_to: Option<PathBuf>,
    pub started: Instant,
    pub bench: Option<Report>,
}
pub fn open(_: WindowOptions) -> anyhow::Result<()> {
    Ok(())
}
