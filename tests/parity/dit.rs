//! OpenSoraT2V: every output and every intermediate value that the reference recorded.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use burn::tensor::{Tensor, TensorData};
use tilereel::mask::{FrameMask, KeyFrames};
use tilereel::model::dit::{Probe, Site, TextContext, Transformer, TransformerConfig};
use tilereel::model::weights::{Loader, WeightSource};

use crate::device::{TestDevice, Tolerances, case_name, cases, config, set_name, weights_file};
use crate::report::{Report, Tolerance};
use crate::tensors::{Fixture, FixtureFile};

const TOLERANCES: Tolerances = Tolerances { cpu: Tolerance { relative_l2: 1e-5, max_abs: 5e-5 }, gpu: 1e-4, half: 3e-2 };

pub fn recognises(folder: &Path) -> bool {
    config(folder).is_some_and(|config| config["_class_name"] == "OpenSoraT2V")
}

pub fn load(folder: &Path, device: &TestDevice) -> Result<Transformer> {
    let config: TransformerConfig = serde_json::from_slice(&std::fs::read(folder.join("config.json"))?)?;
    if let Some(reason) = config.unsupported() {
        bail!("unsupported: {reason}");
    }
    let source = WeightSource::open(&weights_file(folder)?)?;
    Ok(Transformer::load(Loader::new(&source, &device.compute), &config)?)
}

pub fn check(folder: &Path, device: &TestDevice, report: &mut Report) -> Result<()> {
    let transformer = load(folder, device)?;
    for file in cases(folder, &weights_file(folder)?)? {
        check_case(folder, &file, &transformer, device, report).with_context(|| case_name(&file))?;
    }
    Ok(())
}

fn check_case(folder: &Path, file: &Path, transformer: &Transformer, device: &TestDevice, report: &mut Report) -> Result<()> {
    let case = FixtureFile::read(file)?;
    let (set, name) = (set_name(folder), case_name(file));
    let tolerance = device.tolerance(&TOLERANCES);

    let latents = case.get("in.hidden_states")?;
    let text = case.get("in.encoder_hidden_states")?;
    let (batch, frames) = (latents.shape[0], latents.shape[2]);
    let (text_tokens, channels) = (text.shape[text.shape.len() - 2], text.shape[text.shape.len() - 1]);
    let text = TextContext {
        embedding: Tensor::from_data(
            TensorData::new(text.values.clone(), [batch, text_tokens, channels]),
            &device.compute.device,
        ),
        mask: case.get("in.encoder_attention_mask")?.values.clone(),
    };
    let layers = transformer.layers();
    let key_frames: Vec<Arc<KeyFrames>> = match case.tensors.get("in.frame_masks") {
        Some(masks) => {
            let layers = masks.values.chunks(frames * frames);
            let mask = |cells: &[f32]| FrameMask::new(frames, cells.iter().map(|&cell| cell != 0.0).collect());
            layers.map(|cells| Ok(Arc::new(mask(cells)?.key_frames()))).collect::<Result<_>>()?
        }
        None => {
            let dense = Arc::new(KeyFrames::dense(frames));
            vec![dense; layers]
        }
    };
    let timesteps = &case.get("in.timestep")?.values;
    let mask = &case.get("in.attention_mask")?.values;
    let latents = tensor5(latents, device)?;

    // A case with `alt.*` records a fault of the reference; the sane result is in `alt`, and values behind the fault differ.
    let sane = case.tensors.iter().find(|(name, _)| name.starts_with("alt.")).map(|(_, fixture)| fixture.clone());
    let mut seen: Vec<(String, Vec<f32>)> = Vec::new();
    let mut watch = |site: Site, layer: usize, values: Tensor<3>| {
        let name = match site {
            Site::PatchEmbed => "mid.patch_embed".to_owned(),
            Site::EmbeddedTimestep => "mid.embedded_timestep".to_owned(),
            Site::Modulations => "mid.adaln_6d".to_owned(),
            Site::Caption => "mid.caption_projection".to_owned(),
            Site::Query => format!("mid.block_{layer}.attn1.q"),
            Site::Key => format!("mid.block_{layer}.attn1.k"),
            Site::RotatedQuery => format!("mid.block_{layer}.attn1.q_rope"),
            Site::RotatedKey => format!("mid.block_{layer}.attn1.k_rope"),
            Site::SelfAttention => format!("mid.block_{layer}.attn1.out"),
            Site::CrossQuery => format!("mid.block_{layer}.attn2.q"),
            Site::CrossKey => format!("mid.block_{layer}.attn2.k"),
            Site::CrossAttention => format!("mid.block_{layer}.attn2.out"),
            Site::FeedForward => format!("mid.block_{layer}.ff.out"),
            Site::Block => format!("mid.block_{layer}"),
        };
        seen.push((name, values.cast(burn::tensor::FloatDType::F32).try_into_vec_as().expect("readable")));
    };
    let output = transformer.forward(latents, timesteps, &text, Some(mask), &key_frames, &mut Probe::new(&mut watch));
    let output: Vec<f32> = output.try_into_vec_as()?;

    for (mid, want) in case.tensors.iter().filter(|(name, _)| name.starts_with("mid.")) {
        let Some((_, got)) = seen.iter().find(|(name, _)| name == mid) else {
            report.exact(&set, &name, mid, false, "the program records no such value");
            continue;
        };
        if sane.is_some() && mid.starts_with("mid.block_") {
            continue;
        }
        report.close(&set, &name, mid, got, &want.values, tolerance);
    }
    let want = match &sane {
        Some(sane) => sane,
        None => case.get("out.sample")?,
    };
    report.close(&set, &name, "out.sample", &output, &want.values, tolerance);
    Ok(())
}

pub fn tensor5(fixture: &Fixture, device: &TestDevice) -> Result<Tensor<5>> {
    let shape: [usize; 5] = fixture.shape.clone().try_into().map_err(|shape| anyhow::anyhow!("{shape:?} is not of five axes"))?;
    Ok(Tensor::from_data(TensorData::new(fixture.values.clone(), shape), &device.compute.device))
}
