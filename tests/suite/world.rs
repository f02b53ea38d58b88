//! The renderer's twins against each other, on random scenes.

use tilereel::gpu::device::{DeviceChoice, Precision, adapters, open};
use tilereel::world::renderer::{render, shots_of};
use tilereel::world::scene::Scene;

/// Scenes of the comparison, a frame of each.
const SCENES: u64 = 200;
const SIZE: [usize; 2] = [128, 72];
/// Of 255. Silhouettes and edges of tiles may flip.
const CLOSE: f32 = 2.0;

#[test]
fn the_shader_draws_what_its_twin_draws() {
    let Some(adapter) = adapters().into_iter().next() else {
        println!("skipped: there is no adapter");
        assert!(std::env::var_os("CI").is_none(), "CI installs one");
        return;
    };
    let adapter = open(&DeviceChoice::Name(adapter.name), Some(Precision::F32)).expect("the adapter opens");
    let cpu = open(&DeviceChoice::Cpu, None).expect("the CPU is there");
    let shots: Vec<_> = (0..SCENES)
        .map(|clip| {
            let shots = shots_of(&Scene::of_clip(7, clip), 29);
            shots[clip as usize % shots.len()]
        })
        .collect();
    let [got, want] = [&adapter, &cpu].map(|device| {
        let pictures = render(&shots, SIZE[0], SIZE[1], &device.device);
        pictures.try_into_vec_as::<f32>().expect("pictures")
    });
    assert_eq!(got.len(), want.len());
    let differences: Vec<f32> = got.iter().zip(&want).map(|(got, want)| 127.5 * (got - want).abs()).collect();
    let mean = differences.iter().sum::<f32>() / differences.len() as f32;
    let pixels = differences.chunks_exact(3);
    let far = pixels.clone().filter(|pixel| pixel.iter().any(|&difference| difference > CLOSE + 0.01)).count();
    let share = far as f32 / pixels.len() as f32;
    println!("{}: mean difference {mean:.4} of 255, {share:.6} of the pixels differ by more than {CLOSE}", adapter.name);
    assert!(share <= 1e-3 && mean <= 0.2, "mean {mean}, {share} of the pixels");
    // All light or all dark pictures would agree as well.
    let spread = want.iter().fold([1.0_f32, -1.0], |[low, high], &value| [low.min(value), high.max(value)]);
    assert!(spread[0] < -0.8 && spread[1] > 0.95, "{spread:?}");
}
