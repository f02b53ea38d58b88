//! The studio window: one panel, one file. It talks to the studio and shows plain data; it holds no model code.

pub mod action;
mod bench;
mod controls;
mod drop_target;
mod file_dialog;
pub mod forecast;
pub mod icons;
mod layout;
pub mod mask_dial;
pub mod models_menu;
pub mod player;
pub mod prompt;
pub mod settings;
mod smoothness;
mod stage;
mod status_bar;
pub mod theme;
mod toasts;
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
