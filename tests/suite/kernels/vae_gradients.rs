//! The gradient of a whole VAE, there and back, as its training takes it: against finite differences of the loss on the CPU, and on
//! every other device against the CPU.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::Gradients;
use tilereel::model::folder::{ModelFolder, SearchPath};
use tilereel::model::vae::{Sites, Vae, VaeConfig};
use tilereel::model::weights::Loader;

use super::*;

const FRAMES: usize = 5;
const SIDE: usize = 16;

fn load(device: &ComputeDevice) -> Vae {
    let search = SearchPath { folders: vec![concat!(env!("CARGO_MANIFEST_DIR"), "/assets/models").into()], built_in: false };
    let folder = ModelFolder::resolve("fast", &search).expect("mini");
    let source = folder.vae_weights().expect("its weights");
    let config: VaeConfig = serde_json::from_value(folder.vae_config().clone()).expect("its sizes");
    Vae::load(Loader::new(&source, device), &config).expect("the VAE")
}

/// Squared error and a small share of the posterior's distance from normal.
fn loss(vae: &Vae, device: &ComputeDevice, autodiff: bool) -> Tensor<1> {
    let smooth = |at: usize| (at as f32 * 0.013).sin() * 0.5 + (at as f32 * 0.00071).cos() * 0.4;
    let video: Vec<f32> = (0..3 * FRAMES * SIDE * SIDE).map(smooth).collect();
    let noise = seeded(30, 4 * 2 * (SIDE / 8) * (SIDE / 8));
    let (video, noise) =
        (exact(device, &video, [1, 3, FRAMES, SIDE, SIDE]), exact(device, &noise, [1, 4, 2, SIDE / 8, SIDE / 8]));
    let (video, noise) = if autodiff { (video.autodiff(), noise.autodiff()) } else { (video, noise) };
    let mut sites = Sites::default();
    let posterior = vae.encode(video.clone(), None, &mut sites);
    let decoded = vae.decode(posterior.sample(noise), None, &mut sites).expect("nobody stops it");
    let distance = (posterior.mean.powf_scalar(2.0) + posterior.log_variance.clone().exp() - posterior.log_variance).mean();
    let error = decoded - video.permute([0, 2, 3, 4, 1]);
    error.powf_scalar(2.0).mean() + distance * 1e-2
}

fn loss_of(vae: &Vae, device: &ComputeDevice) -> f64 {
    f64::from(read(loss(vae, device, false))[0])
}

/// The gradients of all parameters with their values.
struct Visit<'a> {
    gradients: &'a Gradients,
    found: Vec<(ParamId, Vec<f32>, Vec<f32>)>,
}

impl ModuleVisitor for Visit<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad(self.gradients).expect("every parameter has a gradient");
        self.found.push((param.id, read(param.val().inner()), read(gradient)));
    }
}

fn gradients(vae: &Vae, device: &ComputeDevice, scale: f64) -> Vec<(ParamId, Vec<f32>, Vec<f32>)> {
    let vae = vae.clone().train();
    let gradients = (loss(&vae, device, true) * scale).backward();
    let mut visit = Visit { gradients: &gradients, found: Vec::new() };
    vae.visit(&mut visit);
    visit
        .found
        .into_iter()
        .map(|(id, values, gradient)| (id, values, gradient.iter().map(|g| g / scale as f32).collect()))
        .collect()
}

/// Moves one parameter.
struct Move<'a> {
    moves: &'a HashMap<ParamId, Vec<f32>>,
}

impl ModuleMapper for Move<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let Some(by) = self.moves.get(&param.id) else { return param };
        let by = by.clone();
        param.map(|value| {
            let by = Tensor::from_data(TensorData::new(by, value.dims()), &value.device());
            value + by
        })
    }
}

fn norm(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

/// Every third parameter: weights and biases of norms and of convolutions, in all parts of the network.
#[test]
fn parameters_against_finite_differences() {
    let cpu = device::open(&DeviceChoice::Cpu, None).expect("the CPU is always there");
    let vae = load(&cpu);
    let whole = loss_of(&vae, &cpu);
    let found = gradients(&vae, &cpu, 1.0);
    let mut checked = 0;
    for (id, values, gradient) in found.iter().step_by(3) {
        // A step along the gradient that changes the loss by a thousandth, or the parameter by a hundredth.
        let length = norm(gradient);
        assert!(length.is_finite());
        let step = (1e-3 * whole / length).min(1e-2 * norm(values).max(1e-2));
        if step * length < 2e-5 * whole {
            // Too little for differences in f32; the other devices are compared with these as well.
            continue;
        }
        let moved = |sign: f64| {
            let by = gradient.iter().map(|&g| (f64::from(g) * sign * step / length) as f32).collect();
            loss_of(&vae.clone().map(&mut Move { moves: &HashMap::from([(*id, by)]) }), &cpu)
        };
        let slope = (moved(1.0) - moved(-1.0)) / (2.0 * step);
        let error = (slope - length).abs() / length;
        println!("{} values: {slope:.6e} along a gradient of {length:.6e}", values.len());
        assert!(error < 0.05, "a parameter of {} values: {slope:.6e} along a gradient of {length:.6e}", values.len());
        checked += 1;
    }
    println!("{checked} of {} parameters checked", found.len());
    assert!(5 * checked > found.len(), "only {checked} of {} parameters could be checked", found.len());
}

#[test]
fn other_devices_against_the_cpu() {
    let all = devices();
    let want = gradients(&load(&all[0]), &all[0], 1.0);
    for device in &all[1..] {
        // As the trainer does, so that small gradients keep their bits in f16.
        let half = device.precision == Precision::F16;
        let got = gradients(&load(device), device, if half { 1024.0 } else { 1.0 });
        let all_of = |found: &[(ParamId, Vec<f32>, Vec<f32>)]| found.iter().flat_map(|(.., g)| g.clone()).collect::<Vec<f32>>();
        let want: Vec<f64> = all_of(&want).into_iter().map(f64::from).collect();
        let error = relative_l2(&all_of(&got), &want);
        println!("{} {}: gradient of the VAE: {error:.1e}", device.name, device.precision);
        let limit = if half { 3e-2 } else { 1e-4 };
        assert!(error <= limit, "{} {}: {error:.2e}", device.name, device.precision);
    }
}
