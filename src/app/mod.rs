//! The window.

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
use std::sync::{Arc, Mutex};
use std::time::Instant;

use crate::studio::{DeviceWish, Home};

pub type Report = Arc<Mutex<u32>>;
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
