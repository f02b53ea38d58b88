//! From the command line to a window: the studio is opened, then the window, which lives until it is closed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use eframe::egui::{IconData, ViewportBuilder};
use eframe::{NativeOptions, Renderer};

use super::bench::Report;
use super::graphics::Loss;
use super::window::Window;
use crate::studio::{DeviceWish, Home, Studio};

const SIZE: [f32; 2] = [1440.0, 900.0];
const LEAST_SIZE: [f32; 2] = [900.0, 600.0];
/// A window that lives shorter than this before its device is lost is not opened again.
const LEAST_LIFE: Duration = Duration::from_secs(10);
const ICON: &[u8] = include_bytes!("../../assets/icon.png");

/// What the command line says about the window.
#[derive(Clone, Debug)]
pub struct WindowOptions {
    pub home: Home,
    pub device: DeviceWish,
    /// A clip or recipe whose settings are taken at the start.
    pub open: Option<PathBuf>,
    /// Put into the prompt.
    pub prompt: Option<String>,
    /// Exports go there, without a dialog.
    pub export_to: Option<PathBuf>,
    /// When the program was started.
    pub started: Instant,
    /// The window runs the settings a few times, measures itself and closes.
    pub bench: Option<Report>,
}

/// Opens the window, and comes back when it is closed.
///
/// # Errors
/// The library cannot be used, or the system has no window or no graphics for one.
pub fn open(options: WindowOptions) -> anyhow::Result<()> {
    let studio = Arc::new(Studio::open(options.home.clone(), options.device.clone())?);
    let mut note = None;
    loop {
        let (loss, opened) = (Loss::default(), Instant::now());
        show(studio.clone(), options.clone(), loss.clone(), note.take())?;
        let Some(reason) = loss.reason() else { return Ok(()) };
        if opened.elapsed() < LEAST_LIFE {
            anyhow::bail!(
                "The graphics device of the window was lost again at once ({reason}). What was made is in the library, and what \
                 waits is in the queue: update the graphics driver, or go on with `tilereel queue run`."
            );
        }
        note = Some(format!("The window's graphics device was lost ({reason}), so the window was opened again; runs went on."));
    }
}

/// One window, until it is closed or its device is lost.
fn show(studio: Arc<Studio>, options: WindowOptions, loss: Loss, note: Option<String>) -> anyhow::Result<()> {
    let mut viewport = ViewportBuilder::default()
        .with_title("Tilereel")
        .with_app_id("tilereel")
        .with_inner_size(SIZE)
        .with_min_inner_size(LEAST_SIZE)
        .with_drag_and_drop(true);
    if let Some(icon) = icon() {
        viewport = viewport.with_icon(icon);
    }
    let native = NativeOptions {
        viewport,
        renderer: Renderer::Wgpu,
        persistence_path: Some(studio.home().window_file()),
        ..NativeOptions::default()
    };
    let create: eframe::AppCreator<'_> = Box::new(move |context| {
        let mut window = Window::new(context, studio, options);
        if let Some(painted_by) = &context.wgpu_render_state {
            loss.watch(painted_by, &context.egui_ctx);
        }
        window.reopened(loss, note);
        Ok(Box::new(window))
    });
    eframe::run_native("tilereel", native, create).map_err(|error| {
        anyhow!(
            "The window cannot be opened: {}. It needs a screen and graphics that Vulkan, Metal, DX12 or GL reach, in \
             software too (on Debian: mesa-vulkan-drivers). Everything works without it: tilereel generate \"a shiny red ball \
             bounces on the snow at sunset\".",
            without_source(&error.to_string())
        )
    })
}

/// A system's error without the place in the windowing crate's source that noticed it.
fn without_source(error: &str) -> &str {
    let what = error.rfind(".rs:").and_then(|place| error[place + 4..].split_once(": ")).map_or(error, |(_, what)| what);
    what.trim_end_matches('.')
}

fn icon() -> Option<IconData> {
    let picture = image::load_from_memory_with_format(ICON, image::ImageFormat::Png).ok()?.into_rgba8();
    let (width, height) = picture.dimensions();
    Some(IconData { rgba: picture.into_raw(), width, height })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_names_no_source_file() {
        let of_winit =
            "winit EventLoopError: os error at /a/winit-0.30.13/src/mod.rs:788: Failed to open connection to X server.";
        assert_eq!(without_source(of_winit), "Failed to open connection to X server");
        assert_eq!(without_source("no adapter"), "no adapter");
    }
}
