//! The mT5 encoder.

use std::path::Path;

use anyhow::{Context, Result, bail};
use tilereel::model::text::encoder::{TextEncoder, TextEncoderConfig};
use tilereel::model::weights::{Loader, WeightSource};

use crate::device::{TestDevice, Tolerances, case_name, cases, config, set_name, weights_file};
use crate::report::{Report, Tolerance};
use crate::tensors::FixtureFile;

const TOLERANCES: Tolerances = Tolerances { cpu: Tolerance { relative_l2: 1e-5, max_abs: 5e-5 }, gpu: 1e-4, half: 3e-2 };

pub fn recognises(folder: &Path) -> bool {
    config(folder).is_some_and(|config| config.get("d_kv").is_some() && config.get("feed_forward_proj").is_some())
}

pub fn load(folder: &Path, device: &TestDevice) -> Result<TextEncoder> {
    let config: TextEncoderConfig = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
    if let Some(reason) = config.unsupported() {
        bail!("unsupported: {reason}");
    }
    let source = WeightSource::open(&weights_file(folder)?)?;
    Ok(TextEncoder::load(Loader::new(&source, &device.compute), &config)?)
}

pub fn check(folder: &Path, device: &TestDevice, report: &mut Report) -> Result<()> {
    let encoder = load(folder, device)?;
    for file in cases(folder, &weights_file(folder)?)? {
        let case = FixtureFile::read(&file)?;
        let (set, name) = (set_name(folder), case_name(&file));
        let tolerance = device.tolerance(&TOLERANCES);
        let ids = case.get("in.input_ids").with_context(|| name.clone())?;
        let (batch, tokens) = (ids.shape[0], ids.shape[1]);
        let ids: Vec<u32> = ids.values.iter().map(|&id| id as u32).collect();
        let mut hidden: Vec<Vec<f32>> = Vec::new();
        let mut watch = |_: usize, x: &burn::tensor::Tensor<3>| hidden.push(x.clone().try_into_vec_as().expect("f32"));
        let output = encoder.forward(&ids, &case.get("in.attention_mask")?.values, batch, &mut watch);
        let output: Vec<f32> = output.try_into_vec_as()?;
        for (what, want) in case.tensors.iter().filter(|(name, _)| !name.starts_with("in.")) {
            let got = match what.as_str() {
                "out.last_hidden_state" => output.clone(),
                "mid.position_bias" => encoder.position_bias(tokens),
                "mid.relative_position_bucket" => (0..tokens).map(|key| encoder.bucket(0, key) as f32).collect(),
                other => match other.strip_prefix("mid.hidden_").and_then(|index| index.parse::<usize>().ok()) {
                    Some(index) if index < hidden.len() => hidden[index].clone(),
                    _ => {
                        report.exact(&set, &name, what, false, "the program records no such value");
                        continue;
                    }
                },
            };
            report.close(&set, &name, what, &got, &want.values, tolerance);
        }
    }
    Ok(())
}
