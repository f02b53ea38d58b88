//! A studio in a folder of its own, for panels to show: on the CPU, with the bundled example in its library.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eframe::egui::{Ui, Vec2};
use egui_kittest::Harness;
use tilereel::app::action::Action;
use tilereel::app::theme;
use tilereel::gpu::device::DeviceChoice;
use tilereel::studio::{ClipEntry, ClipFilter, ClipId, DeviceWish, Home, NewClip, NewItem, State, Studio};

const PATIENCE: Duration = Duration::from_secs(120);

/// A studio whose folder goes when it goes.
pub struct Place {
    pub studio: Arc<Studio>,
    pub folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let device = DeviceWish { choice: DeviceChoice::Cpu, precision: None, residency: Default::default() };
        let studio = Studio::open(Home::in_folder(folder.path().join("home")), device).expect("a studio");
        Self { studio: Arc::new(studio), folder }
    }

    pub fn clips(&self) -> Vec<ClipEntry> {
        self.studio.clips(&ClipFilter::default()).expect("the library")
    }

    pub fn example(&self) -> ClipEntry {
        self.clips().pop().expect("the example")
    }

    /// Puts copies of the example with these prompts into the library, the last one newest.
    pub fn add_clips(&self, prompts: &[&str]) -> Vec<ClipId> {
        let example = self.example();
        let home = self.studio.home();
        let add = |(seed, prompt): (u64, &&str)| {
            let mut recipe = example.recipe.clone();
            (recipe.prompt, recipe.seed) = ((*prompt).to_owned(), seed);
            let new = NewClip { recipe: &recipe, model: &example.model, seconds: 3.5, badges: &[] };
            let id = self.studio.database().add_clip(&new, |_| Ok(())).expect("a clip");
            fs::create_dir_all(home.clip_folder(id)).expect("its folder");
            fs::copy(home.clip_file(example.id), home.clip_file(id)).expect("its file");
            id
        };
        let ids = (1..).zip(prompts).map(add).collect();
        // Lets the studio say that the library has changed.
        self.studio.set_favourite(example.id, false).expect("the example");
        ids
    }

    /// A run like the example's, in more steps.
    pub fn item(&self, prompt: &str) -> NewItem {
        let example = self.example();
        let mut recipe = example.recipe;
        recipe.made = None;
        recipe.prompt = prompt.to_owned();
        recipe.steps = 8;
        NewItem { recipe, model: example.model, leaves: None, force: false }
    }

    /// Waits until the studio is so.
    pub fn wait(&self, what: &str, mut is_so: impl FnMut(&State) -> bool) {
        let started = Instant::now();
        while !is_so(&self.studio.state()) {
            assert!(started.elapsed() < PATIENCE, "{what} takes too long");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A panel in a window, the studio behind it, and what it said.
pub struct Stage<P> {
    pub panel: P,
    pub place: Place,
    pub actions: Vec<Action>,
}

/// A window with a panel alone. `show` draws it.
pub fn window<P: 'static>(
    size: Vec2,
    panel: P,
    place: Place,
    mut show: impl FnMut(&mut Ui, &mut Stage<P>) + 'static,
) -> Harness<'static, Stage<P>> {
    let stage = Stage { panel, place, actions: Vec::new() };
    let builder = Harness::builder().with_size(size).with_context_setup(theme::install);
    builder.build_ui_state(move |ui, stage: &mut Stage<P>| show(ui, stage), stage)
}

/// Paints frames until it is so; pictures come from other threads.
pub fn until<P>(harness: &mut Harness<'_, Stage<P>>, what: &str, mut is_so: impl FnMut(&Harness<'_, Stage<P>>) -> bool) {
    let started = Instant::now();
    loop {
        harness.step();
        if is_so(harness) {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}
