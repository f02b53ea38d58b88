//! The device that paints the window. It is not the engine's: when it is lost, runs go on, and the window is opened again.

use std::sync::{Arc, OnceLock};

use eframe::egui::Context;
use eframe::egui_wgpu::RenderState;

/// Why the device was lost, as soon as it is.
#[derive(Clone, Debug, Default)]
pub struct Loss(Arc<OnceLock<String>>);

impl Loss {
    /// Looks after the device of a window. What is asked of it after it was lost fails quietly instead of ending the program.
    pub fn watch(&self, painted_by: &RenderState, context: &Context) {
        let (lost, waking) = (self.0.clone(), context.clone());
        painted_by.device.set_device_lost_callback(move |kind, message| {
            log::error!("the window's graphics device was lost: {kind:?} {message}");
            let message = message.trim().trim_end_matches('.');
            let _ = lost.set(if message.is_empty() { format!("{kind:?}").to_lowercase() } else { message.to_owned() });
            waking.request_repaint();
        });
        let lost = self.0.clone();
        painted_by.device.on_uncaptured_error(Arc::new(move |error| match lost.get() {
            Some(_) => log::debug!("an error on a lost device: {error}"),
            // As wgpu does by itself: it is a fault of this program.
            None => panic!("wgpu error: {error}"),
        }));
    }

    pub fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}
