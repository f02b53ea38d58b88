//! The attention page over records whose numbers are known.

use std::sync::Arc;

use eframe::egui::{Key, Pos2, Role, Theme, Vec2, vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};
use tilereel::app::action::Action;
use tilereel::app::attention::{AttentionFile, AttentionPage, Pointed, Subject};
use tilereel::app::theme;
use tilereel::generate::attention_record::{AttentionRecord, Recording};
use tilereel::mask::MaskPlan;

const SIZE: Vec2 = vec2(320.0, 800.0);
const LAYERS: usize = 6;
const HEADS: usize = 3;
const FRAMES: usize = 8;
const STEPS: usize = 8;

/// Attention that falls off with the distance of frames, faster in later layers, and less sharply in later heads.
fn mass(step: usize, layer: usize, head: usize, query: usize, key: usize) -> f32 {
    let weight = |key: usize| {
        let distance = query.abs_diff(key) as f32;
        (-distance * (0.2 + 0.15 * layer as f32 + 0.03 * step as f32) / (1.0 + 0.3 * head as f32)).exp()
    };
    weight(key) / (0..FRAMES).map(weight).sum::<f32>()
}

fn record(step: usize) -> Arc<AttentionRecord> {
    let names = ["full", "4:4", "3:5", "2:6", "1:7", "2:6"];
    let layers = names.map(|name| MaskPlan::uniform(1, FRAMES, name).expect("a plan").layers()[0].clone());
    let plan = Arc::new(MaskPlan::of_layers(layers.to_vec()).expect("a plan"));
    let mut values = Vec::new();
    for layer in 0..LAYERS {
        for (head, query, key) in (0..HEADS).flat_map(|h| (0..FRAMES).flat_map(move |q| (0..FRAMES).map(move |k| (h, q, k)))) {
            values.push(mass(step, layer, head, query, key));
        }
    }
    let errors: Vec<f32> = (0..values.len()).map(|at| if at < HEADS * FRAMES * FRAMES { 0.0 } else { 0.002 }).collect();
    Arc::new(AttentionRecord::new(step, Recording::Sampled, plan, HEADS, &values, &errors))
}

#[derive(Default)]
struct Shown {
    page: AttentionPage,
    records: Vec<Option<Arc<AttentionRecord>>>,
    step: Option<usize>,
    pointed: Pointed,
    actions: Vec<Action>,
}

fn page(dark: bool, records: Vec<Option<Arc<AttentionRecord>>>) -> Harness<'static, Shown> {
    let step = records.iter().rposition(Option::is_some);
    let mut harness =
        Harness::builder().with_size(SIZE).with_theme(if dark { Theme::Dark } else { Theme::Light }).wgpu().build_ui_state(
            |ui, shown: &mut Shown| {
                if shown.records.is_empty() && shown.step.is_none() {
                    theme::install(ui.ctx());
                }
                eframe::egui::Frame::new().fill(ui.visuals().panel_fill).inner_margin(12.0).show(ui, |ui| {
                    let subject = Subject {
                        records: shown.records.clone(),
                        step: shown.step,
                        is_live: false,
                        recording: Some(Recording::Sampled),
                    };
                    shown.pointed = shown.page.show(ui, &subject, &mut shown.actions);
                    shown.step = shown.pointed.step.or(shown.step);
                });
            },
            Shown::default(),
        );
    harness.run_steps(2);
    harness.state_mut().records = records;
    harness.state_mut().step = step;
    harness.run_steps(3);
    harness
}

fn all() -> Vec<Option<Arc<AttentionRecord>>> {
    (0..STEPS).map(|step| Some(record(step))).collect()
}

fn image_named(harness: &Harness<'_, Shown>, start: &str) -> (eframe::egui::Rect, String) {
    let nodes = harness.query_all_by_role(Role::Image);
    let mut found = nodes.filter_map(|node| {
        let label = node.accesskit_node().label()?;
        label.starts_with(start).then(|| (node.rect(), label))
    });
    found.next().unwrap_or_else(|| panic!("there is no picture {start}"))
}

/// The middle of a tile of the map.
fn tile(harness: &Harness<'_, Shown>, query: usize, key: usize) -> Pos2 {
    let (rect, _) = image_named(harness, "Attention of layer");
    let side = (rect.width() - 22.0) / FRAMES as f32;
    rect.min + vec2(22.0, 22.0) + vec2(key as f32 + 0.5, query as f32 + 0.5) * side
}

#[test]
fn a_tile_under_the_pointer_is_said_in_numbers() {
    let mut harness = page(true, all());
    harness.state_mut().page.place.layer = 3;
    harness.state_mut().page.place.head = Some(1);
    harness.run_steps(2);
    harness.hover_at(tile(&harness, 2, 5));
    harness.run_steps(3);
    assert_eq!(harness.state().pointed.tile, Some([2, 5]));
    let want = 100.0 * mass(STEPS - 1, 3, 1, 2, 5);
    let sentence = format!("Frame 3 reads {want:.2} % ± 0.20 % from frame 6: skipped by the plan.");
    assert!(harness.query_by_label(&sentence).is_some(), "{sentence}");

    // The figures of the layer, from the formula.
    let plan = record(0).plan().layers()[3].clone();
    let (mut kept, mut tiles) = (0.0, 0);
    for (query, row) in plan.mask().rows().enumerate() {
        for (key, keeps) in row.iter().enumerate() {
            if *keeps {
                kept += mass(STEPS - 1, 3, 1, query, key) / FRAMES as f32;
                tiles += 1;
            }
        }
    }
    let facts = [format!("{:.1} %", 100.0 * kept), format!("{:.1} % of them: 2:6", 100.0 * tiles as f32 / 64.0)];
    for fact in facts {
        assert!(harness.query_by_label(&fact).is_some(), "{fact}");
    }
}

#[test]
fn keys_walk_over_tiles_layers_and_steps() {
    let mut harness = page(true, all());
    let place = tile(&harness, 1, 1);
    harness.hover_at(place);
    harness.drag_at(place);
    harness.drop_at(place);
    harness.run_steps(2);
    harness.hover_at(Pos2::new(2.0, 2.0));
    for key in [Key::ArrowDown, Key::ArrowRight, Key::ArrowRight] {
        harness.key_press(key);
        harness.run_steps(2);
    }
    assert_eq!(harness.state().pointed.tile, Some([2, 3]));
    assert!(image_named(&harness, "Attention of layer 1").1.contains("Frame 3 reads"));

    let (rect, _) = image_named(&harness, "Layers by steps");
    let cell = vec2((rect.width() - 22.0) / STEPS as f32, (rect.height() - 16.0) / LAYERS as f32);
    let place = rect.min + vec2(22.0, 0.0) + vec2(2.5, 4.5) * cell;
    harness.hover_at(place);
    harness.drag_at(place);
    harness.drop_at(place);
    harness.run_steps(3);
    assert_eq!((harness.state().page.place.layer, harness.state().step), (4, Some(2)));
    harness.key_press(Key::ArrowLeft);
    harness.run_steps(2);
    assert_eq!(harness.state().step, Some(1));
    let (_, words) = image_named(&harness, "Layers by steps");
    assert!(words.contains("Layer 5, step 2"), "{words}");
}

#[test]
fn the_table_has_every_number_and_files_are_asked_for() {
    let mut harness = page(false, all());
    harness.state_mut().page.place.layer = 4;
    harness.get_by_label("Table").click();
    harness.run_steps(3);
    let shown: Vec<String> = harness
        .query_all_by_role(Role::Label)
        .filter_map(|node| node.accesskit_node().value().or(node.accesskit_node().label()))
        .collect();
    for query in 0..FRAMES {
        for key in 0..FRAMES {
            let mean = (0..HEADS).map(|head| mass(STEPS - 1, 4, head, query, key)).sum::<f32>() / HEADS as f32;
            let value = format!("{:.1}", 100.0 * mean);
            assert!(shown.iter().any(|text| text.trim_matches(['(', ')']) == value), "{value} is not in {shown:?}");
        }
    }
    for button in ["Save PNG", "Save CSV", "Off"] {
        harness.get_by_label(button).click();
        harness.run_steps(2);
    }
    let said: Vec<String> = harness
        .state()
        .actions
        .iter()
        .map(|action| match action {
            Action::SaveAttention(map) => {
                let (kind, layer, head) = (map.kind, map.place.layer, map.place.head);
                format!("{kind:?} of layer {layer}, head {head:?}, call {}", map.record.call)
            }
            other => format!("{other:?}"),
        })
        .collect();
    let file = |kind: AttentionFile| format!("{kind:?} of layer 4, head None, call {}", STEPS - 1);
    assert_eq!(said, [file(AttentionFile::Png), file(AttentionFile::Csv), "RecordAttention(None)".to_owned()]);
}

#[test]
fn without_records_it_says_how_to_get_them() {
    let harness = page(true, vec![None; STEPS]);
    assert!(harness.query_by_label("No attention is recorded").is_some());
}
