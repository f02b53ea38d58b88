//! CausalVideoVAE: encode, decode, tiles, intermediate values, and the wrapper that makes frames.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail};
use burn::tensor::Tensor;
use tilereel::model::vae::{Sites, Tiling, Vae, VaeConfig, channels_first, to_rgb8};
use tilereel::model::weights::{Loader, WeightSource};

use crate::device::{TestDevice, Tolerances, case_name, cases, config, set_name, weights_file};
use crate::dit::tensor5;
use crate::report::{Report, Tolerance};
use crate::tensors::FixtureFile;

const TOLERANCES: Tolerances = Tolerances { cpu: Tolerance { relative_l2: 1.5e-5, max_abs: 1e-4 }, gpu: 2e-4, half: 6e-2 };

pub fn recognises(folder: &Path) -> bool {
    config(folder).is_some_and(|config| config["_class_name"] == "CausalVAEModel")
}

pub fn load(folder: &Path, device: &TestDevice) -> Result<Vae> {
    let config: VaeConfig = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
    if let Some(reason) = config.unsupported() {
        bail!("unsupported: {reason}");
    }
    let source = WeightSource::open(&weights_file(folder)?)?;
    Ok(Vae::load(Loader::new(&source, &device.compute), &config)?)
}

pub fn check(folder: &Path, device: &TestDevice, report: &mut Report) -> Result<()> {
    let vae = load(folder, device)?;
    for file in cases(folder, &weights_file(folder)?)? {
        check_case(folder, &file, &vae, device, report).with_context(|| case_name(&file))?;
    }
    Ok(())
}

fn check_case(folder: &Path, file: &Path, vae: &Vae, device: &TestDevice, report: &mut Report) -> Result<()> {
    let case = FixtureFile::read(file)?;
    let (set, name) = (set_name(folder), case_name(file));
    let tolerance = device.tolerance(&TOLERANCES);
    let tiling = tiling(&case.metadata)?;
    let mut seen: HashMap<String, Vec<f32>> = HashMap::new();
    let mut watch = |site: String, x: Tensor<5>| {
        seen.insert(format!("mid.{site}"), values(channels_first(x)));
    };
    let mut results: Vec<(&str, Vec<f32>)> = Vec::new();

    if let Some(latent) = case.tensors.get("in.latent") {
        let video = vae.decode(tensor5(latent, device)?, tiling, &mut Sites::new(&mut watch)).expect("nobody stops it");
        results.push(("out.sample", values(channels_first(video))));
    } else if let Some(latent) = case.tensors.get("in.latent_scaled") {
        let latent = tensor5(latent, device)? / vae.scaling_factor();
        let video = vae.decode(latent, tiling, &mut Sites::new(&mut watch)).expect("nobody stops it");
        let wanted = case.get("out.frames_u8_bthwc")?;
        let got = to_rgb8(&values(video.clone()));
        compare_frames(report, &set, &name, &got, &wanted.values, device);
        results.push(("out.video_btchw", values(video.permute([0, 1, 4, 2, 3]))));
    } else if let Some(video) = case.tensors.get("in.video") {
        let noise = tensor5(case.get("in.noise")?, device)?;
        let posterior = vae.encode(tensor5(video, device)?, tiling, &mut Sites::new(&mut watch));
        let latent = posterior.sample(noise);
        let moments = case.get("out.moments")?;
        // The recorded moments hold the log-variance before it is clamped; it stays inside the clamp in these cases.
        let unclamped = Tensor::cat(vec![posterior.mean.clone(), posterior.log_variance.clone()], 1);
        if moments.values.iter().all(|m| m.abs() < 20.0) {
            results.push(("out.moments", values(unclamped)));
        }
        results.push(("out.mean", values(posterior.mean)));
        results.push(("out.logvar", values(posterior.log_variance)));
        results.push(("out.latent", values(latent.clone())));
        results.push(("out.latent_scaled", values(latent * vae.scaling_factor())));
    } else {
        bail!("neither a latent nor a video goes in");
    }

    for (mid, want) in case.tensors.iter().filter(|(name, _)| name.starts_with("mid.")) {
        match seen.get(mid) {
            Some(got) => report.close(&set, &name, mid, got, &want.values, tolerance),
            None => report.exact(&set, &name, mid, false, "the program records no such value"),
        }
    }
    for (what, want) in case.tensors.iter().filter(|(name, _)| name.starts_with("out.")) {
        match results.iter().find(|(name, _)| name == what) {
            Some((_, got)) => report.close(&set, &name, what, got, &want.values, tolerance),
            None if what == "out.frames_u8_bthwc" || what == "out.moments" => {}
            None => report.exact(&set, &name, what, false, "the program gives no such output"),
        }
    }
    Ok(())
}

/// 8-bit frames: all within 1, at most 0.1 % of the values differ (2 or so of a small clip); looser on a GPU.
pub fn compare_frames(report: &mut Report, set: &str, case: &str, got: &[u8], want: &[f32], device: &TestDevice) {
    let far = got.iter().zip(want).map(|(&g, &w)| (f32::from(g) - w).abs()).fold(0.0, f32::max);
    let differing = got.iter().zip(want).filter(|(g, w)| f32::from(**g) != **w).count();
    let half = device.compute.precision == tilereel::gpu::device::Precision::F16;
    let (limit, share) = match (half, device.compute.is_cpu()) {
        (true, _) => (24.0, 1.0),
        (false, true) => (1.0, 0.001),
        (false, false) => (2.0, 0.05),
    };
    let ok = got.len() == want.len() && far <= limit && differing as f64 <= (share * want.len() as f64).max(2.0);
    report.exact(set, case, "frames", ok, format!("{differing} of {} values differ, by {far} at most", want.len()));
}

fn tiling(metadata: &HashMap<String, String>) -> Result<Option<Tiling>> {
    let Some(size) = metadata.get("tile_sample_min_size") else { return Ok(None) };
    let number = |key: &str| -> Result<usize> { Ok(metadata.get(key).with_context(|| key.to_owned())?.parse()?) };
    Ok(Some(Tiling {
        sample_size: size.parse()?,
        sample_frames: number("tile_sample_min_size_t")?,
        latent_size: number("tile_latent_min_size")?,
        latent_frames: number("tile_latent_min_size_t")?,
        overlap: metadata.get("tile_overlap_factor").context("tile_overlap_factor")?.parse()?,
    }))
}

fn values(x: Tensor<5>) -> Vec<f32> {
    x.cast(burn::tensor::FloatDType::F32).try_into_vec_as().expect("readable")
}
