//! A measurement, not a test: how smooth the window stays while the engine works on the same GPU. Offscreen, since the machine
//! may have no screen; every frame is painted and read back.
//!
//! `cargo test --release --test suite window::smooth -- --ignored --nocapture`

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use eframe::egui::Vec2;
use egui_kittest::Harness;
use tilereel::app::{Report, Window};
use tilereel::gpu::device::DeviceChoice;
use tilereel::model::folder::{ModelFolder, SearchPath};
use tilereel::studio::{DeviceWish, Draft, Studio};

use super::whole::options;
use crate::studio::Place;

const MODEL: &str = "base";
const PROMPT: &str = "a shiny red ball bounces on the snow at sunset";
/// All four runs, also where a processor makes them.
const LIMIT: Duration = Duration::from_secs(900);
/// As often as a usual screen.
const PACE: Duration = Duration::from_millis(16);

#[test]
#[ignore = "a measurement that needs a GPU"]
fn the_window_beside_the_engine() {
    let place = Place::new();
    let device = DeviceWish { choice: DeviceChoice::Auto, precision: None, residency: Default::default() };
    let studio = Arc::new(Studio::open(place.home.clone(), device.clone()).expect("a studio"));
    // A clip that takes a second or more on a fast card: below that clocks and first uses decide, and nobody waits.
    let folder = ModelFolder::resolve(MODEL, &SearchPath::standard()).expect("the built-in model");
    let draft = Draft { prompt: PROMPT.into(), ..Draft::of_model(MODEL, folder.facts()) };
    studio.database().set_preference("draft", &draft).expect("it is kept");
    let report = Report::default();
    let mut options = options(&place);
    (options.device, options.bench) = (device, Some(report.clone()));
    let mut setup = egui_kittest::wgpu::default_wgpu_setup();
    if let eframe::egui_wgpu::WgpuSetup::CreateNew(setup) = &mut setup {
        setup.native_adapter_selector = Some(Arc::new(|adapters, _| {
            let hardware = adapters.iter().find(|adapter| adapter.get_info().device_type != wgpu::DeviceType::Cpu);
            hardware.or(adapters.first()).cloned().ok_or_else(|| "there is no adapter".to_owned())
        }));
    }
    let mut harness = Harness::builder()
        .with_size(Vec2::new(1440.0, 900.0))
        .with_step_dt(1.0 / 60.0)
        .wgpu_setup(setup)
        .build_eframe(move |context| Window::new(context, studio, options));
    let started = Instant::now();
    loop {
        assert!(started.elapsed() < LIMIT, "the runs do not end: {:?}", report.lock().unwrap_or_else(PoisonError::into_inner));
        harness.step();
        harness.render().expect("a picture");
        let figures = report.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if figures.stop_millis > 0.0 {
            println!("{:#}", serde_json::json!(figures));
            return;
        }
        std::thread::sleep(PACE);
    }
}
