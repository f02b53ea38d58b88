//! The window.

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
