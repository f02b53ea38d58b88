//! The devices that share a run: a row of boxes over adapters that this machine need not have.

use eframe::egui::accesskit::{Role, Toggled};
use eframe::egui::{Frame, Theme, Ui, Vec2};
use egui_kittest::kittest::{NodeT, Queryable};
use egui_kittest::{Harness, SnapshotOptions};
use tilereel::app::action::Action;
use tilereel::app::{devices_row, theme};
use tilereel::gpu::device::AdapterReport;
use tilereel::studio::ChosenDevice;

use super::states::{COLOUR_DISTANCE, FOLDER, make_smaller, paints_in_software};

fn adapter(index: usize, name: &str, gigabytes: Option<u64>) -> AdapterReport {
    AdapterReport {
        index,
        name: name.to_owned(),
        backend: "Vulkan".to_owned(),
        driver: "a driver".to_owned(),
        kind: "DiscreteGpu".to_owned(),
        software: false,
        half_floats: true,
        subgroups: true,
        subgroup_sizes: [32, 32],
        timestamps: true,
        cooperative_matrices: Vec::new(),
        largest_binding_bytes: 1 << 31,
        workgroup_memory_bytes: 48 << 10,
        workgroup_invocations: 1024,
        memory_bytes: gigabytes.map(|gigabytes| gigabytes * 1_000_000_000),
    }
}

/// What the row shows, and what was clicked.
struct Row {
    adapters: Vec<AdapterReport>,
    chosen: Vec<ChosenDevice>,
    actions: Vec<Action>,
}

impl Row {
    fn new() -> Self {
        let adapters = vec![
            adapter(0, "NVIDIA H200", Some(141)),
            adapter(1, "NVIDIA H200", Some(141)),
            adapter(2, "A card with a name that is too long for the panel", Some(16)),
            adapter(3, "AMD Radeon 780M", None),
        ];
        Self { adapters, chosen: Vec::new(), actions: Vec::new() }
    }

    fn of(&self, index: usize) -> ChosenDevice {
        ChosenDevice::adapter(&self.adapters, index).expect("an adapter")
    }

    fn show(&mut self, ui: &mut Ui) {
        Frame::central_panel(ui.style()).show(ui, |ui| {
            devices_row::show(ui, &self.adapters, &self.chosen, None, &mut self.actions);
        });
        // As the studio does.
        for action in &self.actions {
            let Action::UseDevices { devices, remember: true } = action else { panic!("{action:?}") };
            self.chosen.clone_from(devices);
        }
    }
}

fn harness(row: Row) -> Harness<'static, Row> {
    let builder =
        Harness::builder().with_size(Vec2::new(360.0, 260.0)).with_theme(Theme::Dark).with_context_setup(theme::install);
    builder.build_ui_state(|ui, row: &mut Row| row.show(ui), row)
}

/// Which boxes have a mark.
fn marks(harness: &Harness<'_, Row>) -> Vec<bool> {
    let boxes = harness.get_all_by_role(Role::CheckBox);
    boxes.map(|node| node.accesskit_node().toggled() == Some(Toggled::True)).collect()
}

fn click(harness: &mut Harness<'_, Row>, which: usize) {
    harness.get_all_by_role(Role::CheckBox).nth(which).expect("a box").click();
    harness.run();
}

#[test]
fn devices_are_chosen_by_boxes() {
    let mut harness = harness(Row::new());
    assert_eq!(marks(&harness), [false; 4]);
    harness.get_by_label("memory not known");
    click(&mut harness, 1);
    assert_eq!(harness.state().chosen, [harness.state().of(1)]);
    assert!(harness.query_by_label_contains("They share each step").is_none(), "one shares nothing");
    click(&mut harness, 0);
    assert_eq!(harness.state().chosen, [harness.state().of(1), harness.state().of(0)], "the first stays first");
    assert_eq!(marks(&harness), [true, true, false, false]);
    harness.get_by_label("141.0 GB, first");
    harness.get_by_label_contains("They share each step");
    click(&mut harness, 1);
    assert_eq!(harness.state().chosen, [harness.state().of(0)]);
    click(&mut harness, 0);
    assert_eq!(harness.state().chosen, [], "the choice is the program's again");
}

#[test]
fn a_device_that_is_gone_is_shown_and_can_be_forgotten() {
    let mut row = Row::new();
    let gone = ChosenDevice::Adapter { name: "Gone 9000".into(), backend: "Vulkan".into(), place: 0 };
    row.adapters.truncate(1);
    assert!(!devices_row::is_needed(&row.adapters, &[row.of(0)]));
    assert!(devices_row::is_needed(&row.adapters, std::slice::from_ref(&gone)));
    row.chosen = vec![gone.clone()];
    let mut harness = harness(row);
    harness.get_by_label("Gone 9000 (Vulkan), not there now");
    harness.get_by_label_contains("None of the chosen devices is there");
    click(&mut harness, 0);
    assert_eq!(harness.state().chosen, [gone, harness.state().of(0)]);
    click(&mut harness, 1);
    assert_eq!(harness.state().chosen, [harness.state().of(0)]);
    assert!(harness.query_by_label_contains("Gone 9000").is_none());
}

#[test]
fn the_row_looks_as_it_should() {
    if !paints_in_software() {
        return;
    }
    let mut row = Row::new();
    let gone = ChosenDevice::Adapter { name: "NVIDIA H100".into(), backend: "Vulkan".into(), place: 0 };
    row.chosen = vec![row.of(1), row.of(0), gone];
    let builder =
        Harness::builder().with_size(Vec2::new(360.0, 260.0)).with_theme(Theme::Dark).with_context_setup(theme::install);
    let mut harness = builder.wgpu().build_ui_state(|ui, row: &mut Row| row.show(ui), row);
    harness.run();
    let options = SnapshotOptions::new().output_path(FOLDER).threshold(COLOUR_DISTANCE).max_failed_pixels(200);
    harness.snapshot_options("devices-dark", &options);
    make_smaller("devices-dark");
}
