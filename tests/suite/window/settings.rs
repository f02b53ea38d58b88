//! The panel of prompt and settings over a real studio and the real models, on the CPU.

use std::time::{Duration, Instant};

use eframe::egui::accesskit::Role;
use eframe::egui::{Event, Key, Theme, Ui, Vec2};
use egui_kittest::kittest::{NodeT, Queryable};
use egui_kittest::{Harness, Node};
use tilereel::app::action::Action;
use tilereel::app::settings::{SettingsPanel, first_draft};
use tilereel::app::theme;
use tilereel::generate::recipe::MaskChoice;
use tilereel::studio::{ClipId, Draft, ItemId, Leaving, NewItem, Opened, Studio};

use crate::studio::Place;

const PATIENCE: Duration = Duration::from_secs(60);

/// The panel as the window holds it.
pub struct Stage {
    pub studio: Studio,
    pub draft: Draft,
    pub panel: SettingsPanel,
    pub leaving: Option<Leaving>,
    pub editing: Option<ItemId>,
    pub actions: Vec<Action>,
    pub place: Place,
}

impl Stage {
    pub fn new() -> Self {
        let place = Place::new();
        let mut draft = first_draft();
        draft.seed = 7;
        let studio = place.open();
        Self { studio, draft, panel: SettingsPanel::default(), leaving: None, editing: None, actions: Vec::new(), place }
    }

    pub fn show(&mut self, ui: &mut Ui) {
        let Self { studio, draft, panel, leaving, editing, actions, .. } = self;
        panel.show(ui, studio, draft, leaving.as_ref(), *editing, actions);
    }
}

/// A tall panel, so that nothing has to be scrolled to.
fn stage(stage: Stage) -> Harness<'static, Stage> {
    let builder =
        Harness::builder().with_size(Vec2::new(360.0, 1240.0)).with_theme(Theme::Dark).with_context_setup(theme::install);
    let mut harness = builder.build_ui_state(|ui, stage: &mut Stage| stage.show(ui), stage);
    settle(&mut harness);
    harness
}

/// Waits until the model and the device are there.
pub fn settle(harness: &mut Harness<'_, Stage>) {
    let start = Instant::now();
    loop {
        harness.run();
        let stage = harness.state();
        let ready = matches!(stage.studio.catalog().get(&stage.draft.model), Opened::Ready(_));
        if ready && stage.studio.device().is_some() && stage.studio.catalog().entries().is_some() {
            harness.run();
            return;
        }
        assert!(start.elapsed() < PATIENCE, "the model is not opened");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn click(harness: &mut Harness<'_, Stage>, name: &str) {
    harness.get_by_label(name).click();
    harness.run();
}

/// A control by its role and name: both halves of a slider have the same one.
fn control<'a>(harness: &'a Harness<'_, Stage>, role: Role, name: &'a str) -> Node<'a> {
    harness.get_by_role_and_label(role, name)
}

fn type_into(harness: &mut Harness<'_, Stage>, role: Role, name: &str, text: &str) {
    control(harness, role, name).click();
    harness.run();
    harness.key_press_modifiers(eframe::egui::Modifiers::COMMAND, Key::A);
    harness.run();
    harness.event(Event::Text(text.into()));
    harness.run();
    harness.key_press(Key::Enter);
    harness.run();
}

fn generate_button(harness: &Harness<'_, Stage>, name: &str) -> (String, bool) {
    let node = harness.get_all_by_role(Role::Button).find(|node| label(node).starts_with(name));
    let node = node.unwrap_or_else(|| panic!("no button begins with {name}"));
    (label(&node), node.accesskit_node().is_disabled())
}

fn label(node: &Node<'_>) -> String {
    node.accesskit_node().label().unwrap_or_default()
}

#[test]
fn the_first_start_needs_one_click() {
    let mut harness = stage(Stage::new());
    let (text, disabled) = generate_button(&harness, "Make my first clip");
    assert!(!disabled && (text.contains("about") || text.contains("second")), "the time is told before: {text}");
    harness.get_by_label(&text).click();
    harness.run();
    assert_eq!(harness.state().actions, [Action::Generate]);

    let stage = harness.state_mut();
    let model = stage.panel.model(&stage.studio, "fast").unwrap();
    let items = stage.draft.items(&model, stage.studio.device().unwrap().precision).unwrap();
    stage.studio.pause().expect("it is remembered");
    stage.studio.enqueue(&items).unwrap();
    harness.run();
    generate_button(&harness, "Generate");
}

#[test]
fn words_are_put_into_the_prompt() {
    let mut harness = stage(Stage::new());
    assert_eq!(harness.state().draft.prompt, "a shiny red ball bounces on the snow at sunset");
    click(&mut harness, "Words: colour");
    click(&mut harness, "orange");
    click(&mut harness, "Words: material");
    click(&mut harness, "shiny");
    click(&mut harness, "Words: camera");
    click(&mut harness, "the camera zooms in");
    let wanted = "an orange ball bounces on the snow at sunset while the camera zooms in";
    assert_eq!(harness.state().draft.prompt, wanted);
    assert_eq!(control(&harness, Role::MultilineTextInput, "Prompt").value().as_deref(), Some(wanted));
    let chip = harness.get_by_label("the camera zooms in");
    assert_eq!(chip.accesskit_node().toggled(), Some(eframe::egui::accesskit::Toggled::True), "a word that is there is marked");
}

#[test]
fn a_prompt_is_typed_and_told_when_it_is_too_long() {
    let mut harness = stage(Stage::new());
    harness.state_mut().draft.prompt.clear();
    harness.run();
    let (_, disabled) = generate_button(&harness, "Make my first clip");
    assert!(disabled, "an empty prompt cannot be made");
    harness.get_by_label_contains("The prompt is empty");
    control(&harness, Role::MultilineTextInput, "Prompt").focus();
    harness.run();
    control(&harness, Role::MultilineTextInput, "Prompt").type_text("a blue cube");
    harness.run();
    assert_eq!(harness.state().draft.prompt, "a blue cube");
    assert!(harness.query_by_label_contains("its end has no effect").is_none());
    harness.state_mut().draft.prompt = "a blue cube next to a red ball ".repeat(9);
    harness.run();
    harness.get_by_label_contains("fast reads 48: its end has no effect");
}

#[test]
fn the_negative_prompt_says_when_it_has_no_effect() {
    let mut harness = stage(Stage::new());
    click(&mut harness, "Add a negative prompt");
    harness.get_by_label_contains("It has no effect: guidance is 1");
    harness.state_mut().draft.guidance_scale = 3.0;
    harness.run();
    assert!(harness.query_by_label_contains("It has no effect: guidance is 1").is_none());
    // The model's own guidance is 1, which is warned about, and is one click away.
    harness.get_by_label_contains("fast has its guidance built in");
    click(&mut harness, "Reset guidance");
    assert_eq!(harness.state().draft.guidance_scale, 1.0);
}

#[test]
fn earlier_prompts_are_found_and_taken() {
    let place = Stage::new();
    for prompt in ["a green cone spins", "a pink ring swings at night", "a white cube rests"] {
        place.studio.database().remember_prompt(prompt).unwrap();
    }
    let mut harness = stage(place);
    click(&mut harness, "Earlier prompts");
    let top = |harness: &Harness<'_, Stage>, prompt: &str| harness.get_by_label(prompt).rect().top();
    assert!(top(&harness, "a white cube rests") < top(&harness, "a green cone spins"), "the newest comes first");
    harness.get_by_label("Search earlier prompts").focus();
    harness.run();
    harness.get_by_label("Search earlier prompts").type_text("RING");
    harness.run();
    assert!(harness.query_by_label("a white cube rests").is_none());
    click(&mut harness, "a pink ring swings at night");
    assert_eq!(harness.state().draft.prompt, "a pink ring swings at night");
    assert!(harness.query_by_label("Search earlier prompts").is_none(), "the menu closes");
}

#[test]
fn the_dial_shows_what_it_costs_before_the_run() {
    let mut harness = stage(Stage::new());
    let seconds = |harness: &Harness<'_, Stage>| harness.state().panel.forecast().last().estimate.clone().expect("an estimate");
    let plan = seconds(&harness);
    let said = |harness: &Harness<'_, Stage>| harness.get_by_label_contains("Tiles: ").value().unwrap_or_default();
    assert_eq!(said(&harness), "Tiles: 43 %");
    control(&harness, Role::Slider, "Mask dial").focus();
    harness.run();
    harness.key_press(Key::Home);
    harness.run();
    assert_eq!(harness.state().draft.mask, MaskChoice::Dense);
    assert_eq!(said(&harness), "Tiles: 100 %");
    let dense = seconds(&harness);
    assert!(dense.seconds > plan.seconds && dense.flops.sampling > plan.flops.sampling, "{dense:?} {plan:?}");
    assert_eq!(dense.density, 1.0);
    harness.key_press(Key::End);
    harness.run();
    assert_eq!(harness.state().draft.mask, MaskChoice::Uniform("1:7".into()));
    assert!(seconds(&harness).seconds < plan.seconds);
    let dial = control(&harness, Role::Slider, "Mask dial");
    assert_eq!(dial.value().as_deref(), Some("1:7 in every layer, 34 % of the tiles"));
    // As a screen reader moves it: neighbours of as many tiles stand before it, and before them the plan.
    dial.decrement_accesskit();
    harness.run();
    assert_eq!(harness.state().draft.mask, MaskChoice::Uniform("near:1".into()));
    assert_eq!(said(&harness), "Tiles: 34 %");
    let dial = control(&harness, Role::Slider, "Mask dial");
    assert_eq!(dial.value().as_deref(), Some("near:1 in every layer, 34 % of the tiles"));
    dial.decrement_accesskit();
    harness.run();
    assert_eq!(harness.state().draft.mask, MaskChoice::Plan);

    // And with the pointer, from the right end to the left one.
    let rect = control(&harness, Role::Slider, "Mask dial").rect();
    let y = rect.top() + 14.0;
    harness.drag_at(eframe::egui::pos2(rect.right() - 4.0, y));
    harness.run();
    assert_eq!(harness.state().draft.mask, MaskChoice::Uniform("1:7".into()));
    harness.hover_at(eframe::egui::pos2(rect.left() + 4.0, y));
    harness.run();
    assert_eq!(harness.state().draft.mask, MaskChoice::Dense);
    harness.drop_at(eframe::egui::pos2(rect.left() + 4.0, y));
    harness.run();
}

#[test]
fn costs_are_computed_when_something_changes_and_not_when_it_is_painted() {
    let mut harness = stage(Stage::new());
    let computed = |harness: &Harness<'_, Stage>| harness.state().panel.forecast().computed();
    let before = computed(&harness);
    harness.run_steps(20);
    assert_eq!(computed(&harness), before, "nothing changed");
    harness.state_mut().draft.prompt.push_str(" on a lake");
    harness.state_mut().draft.seed = 9;
    harness.state_mut().draft.clips = 3;
    harness.run_steps(5);
    assert_eq!(computed(&harness), before, "costs do not depend on the prompt or the seed");
    harness.state_mut().draft.steps = 9;
    harness.run_steps(5);
    assert_eq!(computed(&harness), before + 1);
    harness.state_mut().draft.mask = MaskChoice::Dense;
    harness.run_steps(5);
    assert_eq!(computed(&harness), before + 2);
}

#[test]
fn illegal_numbers_snap_and_say_why() {
    let mut harness = stage(Stage::new());
    type_into(&mut harness, Role::SpinButton, "Width in pixels", "250");
    assert_eq!((harness.state().draft.width, harness.state().draft.height), (256, 144));
    harness.get_by_label_contains("250 became 256.");
    type_into(&mut harness, Role::SpinButton, "Height in pixels", "100");
    assert_eq!(harness.state().draft.height, 96);
    harness.get_by_label_contains("100 became 96. Sides are multiples of 16 pixels");
    harness.get_by_label_contains("fast was trained at 256x144");
    click(&mut harness, "Reset size");
    assert_eq!((harness.state().draft.width, harness.state().draft.height), (256, 144));
    assert!(harness.query_by_label_contains("became 96").is_none());

    type_into(&mut harness, Role::SpinButton, "Frames", "47");
    assert_eq!(harness.state().draft.frames, 49);
    harness.get_by_label_contains("47 became 49. 4k + 1 frames");
    harness.get_by_label_contains("The plan was made for 8 latent frames");
    let slider = control(&harness, Role::Slider, "Frames");
    slider.increment_accesskit();
    harness.run();
    assert_eq!(harness.state().draft.frames, 53, "the slider has legal counts only");
    click(&mut harness, "Reset frames");
    assert_eq!(harness.state().draft.frames, 29);
    assert!(harness.query_by_label_contains("The plan was made for").is_none());
}

/// The mask 4:4 has no meaning for another number of frames; its 4 references have.
#[test]
fn a_mask_follows_the_frames() {
    let mut harness = stage(Stage::new());
    harness.state_mut().draft.mask = MaskChoice::Uniform("4:4".into());
    harness.run();
    control(&harness, Role::Slider, "Frames").increment_accesskit();
    harness.run();
    assert_eq!((harness.state().draft.frames, &harness.state().draft.mask), (33, &MaskChoice::Uniform("3:6".into())));
    let (_, disabled) = generate_button(&harness, "Make my first clip");
    assert!(!disabled);
    // What comes from elsewhere and does not fit is told.
    harness.state_mut().draft.mask = MaskChoice::Uniform("4:4".into());
    harness.run();
    let (_, disabled) = generate_button(&harness, "Make my first clip");
    assert!(disabled);
    harness.get_by_label_contains("There is no such mask for 9 latent frames");
}

#[test]
fn a_plan_from_a_file_is_adapted_and_told() {
    let mut harness = stage(Stage::new());
    let path = harness.state().place.home.folder().join("plan.json");
    let plan = tilereel::mask::MaskPlan::uniform(12, 24, "2:22").unwrap();
    plan.save(&path).unwrap();
    click(&mut harness, "File…");
    harness.get_by_label("Path of a mask plan").focus();
    harness.run();
    harness.event(Event::Text(path.display().to_string()));
    harness.run();
    harness.key_press(Key::Enter);
    harness.run();
    assert_eq!(harness.state().draft.mask, MaskChoice::File(path.clone()));
    harness.get_by_label("Mask: plan.json");
    harness.get_by_label_contains("The plan was made for 24 latent frames. For these 8");
    let plan = tilereel::mask::MaskPlan::uniform(3, 8, "2:6").unwrap();
    plan.save(&path).unwrap();
    harness.state_mut().draft.steps = 9;
    harness.run();
    harness.get_by_label_contains("The plan does not fit: the plan has 3 layers and the model 12");
    assert!(generate_button(&harness, "Make my first clip").1);
}

#[test]
fn a_seed_is_typed_locked_and_drawn() {
    let mut harness = stage(Stage::new());
    type_into(&mut harness, Role::TextInput, "Seed", "18446744073709551615");
    assert_eq!((harness.state().draft.seed, harness.state().draft.seed_locked), (u64::MAX, true));
    click(&mut harness, "Draw another seed");
    assert_ne!(harness.state().draft.seed, u64::MAX);
    click(&mut harness, "Keep the seed");
    assert!(!harness.state().draft.seed_locked);
    harness.state_mut().draft.seed = 40;
    harness.state_mut().draft.clips = 4;
    harness.run();
    harness.get_by_label("seeds 40 to 43");
    generate_button(&harness, "Generate 4 clips");
}

#[test]
fn another_model_brings_its_own_settings() {
    let mut harness = stage(Stage::new());
    harness.state_mut().draft.prompt = "a blue cone".into();
    harness.run();
    click(&mut harness, "Model: fast");
    let base = harness.get_all_by_role(Role::Button).find(|node| label(node).starts_with("Model base")).expect("base is listed");
    assert!(
        label(&base).contains("Fits") || label(&base).contains("Slow") || label(&base).contains("Won't fit"),
        "{}",
        label(&base)
    );
    base.click();
    harness.run();
    settle(&mut harness);
    let draft = &harness.state().draft;
    assert_eq!(
        (draft.model.as_str(), draft.steps, draft.guidance_scale, draft.prompt.as_str()),
        ("base", 50, 2.0, "a blue cone")
    );
    let estimate = harness.state().panel.forecast().last().estimate.clone().unwrap();
    assert_eq!(estimate.model_calls, 50);
    click(&mut harness, "Model: base");
    harness.get_by_label("Path of a model's folder").focus();
    harness.run();
    harness.get_by_label("Path of a model's folder").type_text("/no/such/model");
    harness.run();
    harness.key_press(Key::Enter);
    harness.run();
    assert_eq!(harness.state().actions, [Action::OpenModel("/no/such/model".into())]);
    // What the window then does.
    let stage = harness.state_mut();
    stage.panel.add_model(&stage.studio, "/no/such/model").unwrap();
    stage.draft.model = "/no/such/model".into();
    let start = Instant::now();
    while harness.query_by_label_contains("The model cannot be used").is_none() {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
        harness.run();
    }
    assert!(generate_button(&harness, "Make my first clip").1);
    // What happened stands alone; where was looked is told to those who ask.
    harness.get_by_label("There is no model /no/such/model.");
    assert!(harness.query_by_label_contains("Looked in").is_none());
    click(&mut harness, "Details");
    harness.run_steps(20);
    assert!(harness.query_by_label_contains("Looked in").is_some());
    click(&mut harness, "Try again");
    while harness.query_by_label("Use fast").is_none() {
        assert!(start.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
        harness.run();
    }
    click(&mut harness, "Use fast");
    assert_eq!(harness.state().draft.model, "fast");
}

#[test]
fn a_branch_shows_what_it_keeps() {
    let mut place = Stage::new();
    let model = tilereel::studio::ModelInfo::open("fast").unwrap();
    let recipe = place.draft.recipe(&model, tilereel::gpu::device::Precision::F32).unwrap();
    place.leaving = Some(Leaving { clip: ClipId(1), recipe, call: 3 });
    let mut harness = stage(place);
    harness.get_by_label_contains("Goes on from step 3 of");
    assert!(control(&harness, Role::Slider, "Steps").accesskit_node().is_disabled());
    assert!(control(&harness, Role::Slider, "Frames").accesskit_node().is_disabled());
    assert!(!control(&harness, Role::Slider, "Guidance").accesskit_node().is_disabled());
    harness.get_by_label_contains("Steps is fixed: A branch keeps this");
    harness.get_by_label_contains("Nothing differs from the clip that it leaves");
    // One of four calls is left.
    assert_eq!(harness.state().panel.forecast().last().estimate.as_ref().unwrap().model_calls, 1);
    harness.state_mut().draft.seed += 1;
    harness.run();
    assert!(harness.query_by_label_contains("Nothing differs").is_none());
    click(&mut harness, "Leave the branch");
    assert_eq!(harness.state().actions, [Action::LeaveBranch]);
}

#[test]
fn items_of_the_queue_have_a_prediction() {
    let mut harness = stage(Stage::new());
    let stage = harness.state_mut();
    stage.studio.pause().expect("it is remembered");
    let model = stage.panel.model(&stage.studio, "fast").unwrap();
    let NewItem { recipe, .. } = stage.draft.items(&model, stage.studio.device().unwrap().precision).unwrap().remove(0);
    stage.studio.enqueue(&[NewItem { recipe, model: "fast".into(), leaves: None, force: false }]).unwrap();
    harness.run();
    let stage = harness.state();
    let item = stage.studio.state().queue[0].clone();
    let here = stage.panel.forecast().last().estimate.as_ref().unwrap().seconds;
    assert_eq!(stage.panel.item_seconds(&item), Some(here));
}
