//! The recipe page over real clips.

use eframe::egui::{Role, Vec2, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use tilereel::app::action::Action;
use tilereel::app::inspector::Inspector;
use tilereel::studio::{ClipEntry, Leaving, Verdict, variations};

use super::panels::{Place, Stage, until, window};

const SIZE: Vec2 = vec2(320.0, 1400.0);

struct Shown {
    inspector: Inspector,
    clip: Option<ClipEntry>,
}

fn page(place: Place, clip: Option<ClipEntry>) -> Harness<'static, Stage<Shown>> {
    let shown = Shown { inspector: Inspector::default(), clip };
    let mut harness = window(SIZE, shown, place, |ui, stage| {
        let Shown { inspector, clip } = &mut stage.panel;
        let state = stage.place.studio.state();
        inspector.show(ui, &stage.place.studio, clip.as_ref(), state.live.as_ref(), None, &mut stage.actions);
    });
    harness.run_steps(3);
    harness
}

#[test]
fn every_fact_of_a_clip_is_there() {
    let place = Place::new();
    let clip = place.example();
    let recipe = clip.recipe.clone();
    let made = recipe.made.clone().expect("the example was made");
    let mut harness = page(place, Some(clip.clone()));
    let facts = [
        recipe.prompt.clone(),
        recipe.seed.to_string(),
        recipe.sampler.to_string(),
        recipe.model.sha256.clone(),
        recipe.program.clone(),
        made.device,
        made.kernel_tier,
        made.frames_sha256,
        format!("{} × {}", recipe.width, recipe.height),
        "The bundled example.".to_owned(),
    ];
    for fact in facts {
        assert!(harness.query_all_by_label(&fact).next().is_some(), "{fact} is not on the page");
    }
    let layers = recipe.mask_plan["layers"].as_array().expect("layers").len();
    let pictures = harness.query_all_by_role(Role::Image).filter(|node| {
        node.accesskit_node().label().is_some_and(|label| label.starts_with("Layer ") && label.contains("% of the tiles"))
    });
    assert_eq!(pictures.count(), layers, "a picture a layer");

    for button in ["Use settings", "Copy JSON", "Verify"] {
        harness.get_by_label(button).click();
        harness.run_steps(2);
    }
    let use_recipe = Action::UseRecipe { recipe: Box::new(recipe.clone()), model: clip.model };
    assert_eq!(harness.state().actions, [use_recipe, Action::CopyRecipe(clip.id), Action::Verify(clip.id)]);

    assert!(harness.query_by_role(Role::MultilineTextInput).is_none(), "JSON is folded");
    harness.get_by_label("Recipe as JSON").click();
    harness.run_steps(20);
    let json = harness.get_by_role(Role::MultilineTextInput).value().expect("a text");
    assert_eq!(json, recipe.to_json());
}

#[test]
fn verdicts_are_told_with_their_reasons() {
    let place = Place::new();
    let clip = place.example();
    let mut harness = page(place, Some(clip.clone()));
    harness.state_mut().panel.inspector.set_verifying(Some((clip.id, 0.5)));
    harness.run_steps(2);
    harness.get_by_label("Making it again");
    harness.get_by_label("Stop verifying").click();
    harness.run_steps(2);
    assert_eq!(harness.state().actions, [Action::StopVerifying]);
    let verdict = Verdict::Different { reasons: vec!["the driver was 1, and is 2".into()], psnr: Ok(vec![50.0, 41.25]) };
    harness.state_mut().panel.inspector.set_verdict(clip.id, Ok(verdict));
    harness.run_steps(2);
    for words in ["Not identical", "The driver was 1, and is 2.", "PSNR 41.2 dB in the worst frame."] {
        harness.get_by_label(words);
    }
    harness.state_mut().panel.inspector.set_verdict(clip.id, Err("No device is ready to run a model.".into()));
    harness.run_steps(2);
    harness.get_by_label("No device is ready to run a model.");
    // It is the verdict on one clip.
    harness.state_mut().panel.clip.as_mut().expect("a clip").id.0 += 1;
    harness.run_steps(2);
    assert!(harness.query_by_label("No device is ready to run a model.").is_none());
}

#[test]
fn a_run_its_branch_and_its_verification_are_read_as_they_are() {
    let place = Place::new();
    let mut item = place.item("a red ball");
    (item.recipe.frames, item.recipe.width, item.recipe.height) = (5, 64, 32);
    let model = tilereel::studio::ModelInfo::open(&item.model).expect("a model");
    item.recipe.set_mask(&model.folder, &"dense".into()).expect("a mask");
    place.studio.enqueue(&[item]).expect("a queue");
    place.wait("the clip", |state| state.queue.is_empty() && state.newest.is_some_and(|newest| newest.0 > 1));
    let clip = place.clips().remove(0);
    let leaving = Leaving { call: 3, ..place.studio.leaving(clip.id, 3).expect("its third step") };
    place.studio.enqueue(&variations(&leaving, &clip.model, 1).expect("a variation")).expect("a queue");
    let mut harness = page(place, None);
    until(&mut harness, "the run", |harness| harness.query_by_label_contains("After step 3 it leaves the run").is_some());
    assert!(harness.query_by_label("Verify").is_none(), "a run that goes on cannot be verified");
    until(&mut harness, "the branch", |harness| harness.state().place.studio.state().queue.is_empty());
    harness.run_steps(2);
    harness.get_by_label("No clip is shown");

    let branch = harness.state().place.clips().remove(0);
    let task = harness.state().place.studio.verify_clip(branch.id).expect("a verification");
    harness.state_mut().panel.clip = Some(branch.clone());
    let mut result = None;
    until(&mut harness, "the verification", |_| {
        result = task.take_result();
        result.is_some()
    });
    let verdict = result.expect("it has ended").map_err(|error| error.to_string());
    assert!(matches!(verdict, Ok(Verdict::Identical { .. })), "{verdict:?}");
    harness.state_mut().panel.inspector.set_verdict(branch.id, verdict);
    harness.run_steps(2);
    harness.get_by_label("Identical");
    harness.get_by_label_contains(&format!("leaves the run of seed {} with seed {}", clip.recipe.seed, branch.recipe.seed));
}
