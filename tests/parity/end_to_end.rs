//! Whole runs of the reference's pipeline: text, sampler walk with given noise, decoding.
//!
//! A case names the other sets whose networks it uses, which lie beside its own folder. It begins from given text embeddings,
//! or from prompts where it also names a tokenizer and a text encoder.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use burn::tensor::{Tensor, TensorData};
use tilereel::generate::networks::{Networks, Recorded, Timing, Walk};
use tilereel::generate::observer::Unobserved;
use tilereel::mask::{KeyFrames, MaskPlan};
use tilereel::model::dit::{Probe, TextContext, hides_some};
use tilereel::model::latent::{ClipSize, Latent};
use tilereel::model::sampler::{Sampler, SamplerKind};
use tilereel::model::text::clean_caption;
use tilereel::model::vae::to_rgb8;

use crate::device::{TestDevice, Tolerances, case_name, cases, config, set_name};
use crate::report::{Report, Tolerance};
use crate::tensors::FixtureFile;
use crate::{dit, text_encoder, tokenizer, vae};

const TOLERANCES: Tolerances = Tolerances { cpu: Tolerance::relative(5e-5), gpu: 1e-3, half: 2e-2 };
/// One call of the transformer, and the text embeddings.
const ONE_CALL: Tolerances = Tolerances { cpu: Tolerance { relative_l2: 1e-5, max_abs: 5e-5 }, gpu: 1e-4, half: 3e-2 };

pub fn recognises(folder: &Path) -> bool {
    cases(folder, Path::new("")).is_ok_and(|files| {
        let is_run = |file: &PathBuf| {
            FixtureFile::read(file)
                .is_ok_and(|case| ["scheduler", "transformer", "vae"].iter().all(|key| case.metadata.contains_key(*key)))
        };
        !files.is_empty() && files.iter().all(is_run)
    })
}

pub fn check(folder: &Path, device: &TestDevice, report: &mut Report) -> Result<()> {
    for file in cases(folder, Path::new(""))? {
        let name = case_name(&file);
        let run =
            Run { set: set_name(folder), case: FixtureFile::read(&file)?, name: name.clone(), beside: folder.join(".."), device };
        run.check(report).with_context(|| name)?;
    }
    Ok(())
}

struct Run<'a> {
    set: String,
    name: String,
    case: FixtureFile,
    /// Where the sets of the networks lie.
    beside: PathBuf,
    device: &'a TestDevice,
}

impl Run<'_> {
    fn check(&self, report: &mut Report) -> Result<()> {
        let transformer = dit::load(&self.folder_of("transformer")?, self.device)?;
        let vae = vae::load(&self.folder_of("vae")?, self.device)?;
        let config = config(&self.folder_of("transformer")?).context("config.json")?;
        let channels = config["in_channels"].as_u64().context("in_channels")? as usize;
        let compute = self.device.compute.clone();
        // Every call by itself first.
        let recorded = RefCell::new(Recorded::Never);
        let networks = Networks { transformer, vae, channels, device: compute, team: None, recorded };

        let size = ClipSize { frames: self.number("num_frames")?, width: self.number("width")?, height: self.number("height")? };
        let guidance_scale: f64 = self.number("guidance_scale")?;
        let steps: usize = self.number("num_inference_steps")?;
        let kind: SamplerKind = self.text("scheduler")?.parse()?;
        let sampler = Sampler::new(kind, steps)?;
        let text = self.text_context(guidance_scale > 1.0, report)?;
        let plan = Arc::new(MaskPlan::dense(networks.transformer.layers(), size.latent_frames())?);
        let dense = Arc::new(KeyFrames::dense(size.latent_frames()));
        let key_frames = vec![dense; networks.transformer.layers()];

        let timesteps: Vec<f32> = (0..sampler.calls()).map(|call| sampler.timestep(call)).collect();
        self.close(report, "out.timesteps", &timesteps, Tolerance { relative_l2: 1e-6, max_abs: 1e-3 })?;

        let unit_noise = self.case.get("in.unit_noise")?;
        let shape: [usize; 5] =
            unit_noise.shape.clone().try_into().map_err(|shape| anyhow::anyhow!("noise of shape {shape:?}"))?;
        ensure!(shape[0] == 1, "runs of several clips at once are not compared");
        let shape = size.latent_shape(shape[1]);
        let sigma = sampler.init_noise_sigma();
        let start = Latent { shape, values: unit_noise.values.iter().map(|x| x * sigma).collect() };
        self.check_first_call(&networks, &sampler, &start, &text, &key_frames, report)?;

        let step_noise = self.case.tensors.get("in.step_noise");
        let calls = sampler.calls();
        let walk = || -> Result<(Latent, Vec<f32>)> {
            let (mut draws, mut latents) = (0, Vec::new());
            let mut walk = Walk {
                sampler: Sampler::new(kind, steps)?,
                calls: 0..calls,
                size,
                frames_per_second: 24.0,
                guidance_scale,
                text: &text,
                plan: &plan,
                noise: &mut |_, noise| {
                    let all = step_noise.map_or(&[][..], |noise| &noise.values);
                    noise.copy_from_slice(all.chunks_exact(noise.len()).nth(draws).expect("the case has noise for every draw"));
                    draws += 1;
                },
                after_step: &mut |sampler, call, latent, _, _| {
                    if calls_back(kind, sampler.calls(), steps, call) {
                        latents.extend_from_slice(&latent.values);
                    }
                    Ok(())
                },
            };
            let latent = networks.sample(start.clone(), &mut walk, &mut Timing::default(), &mut Unobserved)?;
            Ok((latent, latents))
        };
        let (latent, latents) = walk()?;
        if !self.device.compute.is_cpu() && hides_some(&text) {
            // Then as a call that was quick before.
            networks.recorded.replace(Recorded::NotYet { last_call_seconds: 0.0 });
            for what in ["recorded", "played back"] {
                let is_same = walk()? == (latent.clone(), latents.clone());
                report.exact(&self.set, &self.name, what, is_same, "the same walk");
            }
            let is_recorded = matches!(*networks.recorded.borrow(), Recorded::Call(_));
            report.exact(&self.set, &self.name, "recording", is_recorded, "what the device keeps of a call");
        }
        let tolerance = self.device.tolerance(&TOLERANCES);
        self.close(report, "out.latents_per_step", &latents, tolerance)?;
        self.close(report, "out.latent", &latent.values, tolerance)?;

        let video = networks.decode_values(&latent, size, &|| false)?;
        let frames = &self.case.get("out.frames_u8_bthwc")?.values;
        vae::compare_frames(report, &self.set, &self.name, &to_rgb8(&video), frames, self.device);
        self.close(report, "out.decoded_btchw", &channels_before_pixels(&video, size), tolerance)?;
        self.check_coverage(report);
        Ok(())
    }

    /// The prompt's row, with the negative prompt's before it if the run is guided.
    fn text_context(&self, guided: bool, report: &mut Report) -> Result<TextContext> {
        let prompts: &[&str] = if guided { &["negative_prompt", "prompt"] } else { &["prompt"] };
        let device = &self.device.compute.device;
        let (mut embeddings, mut masks) = (Vec::new(), Vec::new());
        for prompt in prompts {
            if let Ok(embedding) = self.case.get(&format!("in.{prompt}_embeds")) {
                let [_, tokens, channels] = embedding.shape[..] else {
                    anyhow::bail!("embeddings of shape {:?}", embedding.shape)
                };
                embeddings.push(Tensor::<3>::from_data(TensorData::new(embedding.values.clone(), [1, tokens, channels]), device));
                masks.extend_from_slice(&self.case.get(&format!("in.{prompt}_attention_mask"))?.values);
                continue;
            }
            let (tokenizer, length) = (tokenizer::load(&self.folder_of("tokenizer")?)?, self.number("max_sequence_length")?);
            let cleaned = clean_caption(self.text(prompt)?);
            let want = self.text(&format!("{prompt}_clean"))?;
            report.exact(
                &self.set,
                &self.name,
                &format!("{prompt}_clean"),
                cleaned == want,
                format_args!("got {cleaned:?}, want {want:?}"),
            );
            let tokens = tokenizer.encode(&cleaned, length)?;
            let short = prompt.strip_suffix("_prompt").unwrap_or(prompt);
            let mask: Vec<f32> = tokens.mask.iter().map(|&mask| f32::from(mask)).collect();
            let ids: Vec<f32> = tokens.ids.iter().map(|&id| id as f32).collect();
            for (what, got) in [("ids", &ids), ("mask", &mask)] {
                let equal = *got == self.case.get(&format!("mid.{short}_{what}"))?.values;
                report.exact(&self.set, &self.name, &format!("mid.{short}_{what}"), equal, format!("{} values", got.len()));
            }
            let encoder = text_encoder::load(&self.folder_of("text_encoder")?, self.device)?;
            let embedding = encoder.forward(&tokens.ids, &mask, 1, &mut |_, _| {});
            let values: Vec<f32> = embedding.clone().try_into_vec_as()?;
            self.close(report, &format!("mid.{prompt}_embeds"), &values, self.device.tolerance(&ONE_CALL))?;
            embeddings.push(embedding);
            masks.extend(mask);
        }
        Ok(TextContext { embedding: Tensor::cat(embeddings, 0), mask: masks })
    }

    /// The transformer's answer in the first call, before guidance.
    fn check_first_call(
        &self,
        networks: &Networks,
        sampler: &Sampler,
        start: &Latent,
        text: &TextContext,
        key_frames: &[Arc<KeyFrames>],
        report: &mut Report,
    ) -> Result<()> {
        let [copies, _, _] = text.embedding.dims();
        let input = Latent { shape: start.shape, values: sampler.scale_model_input(0, &start.values) };
        let input = input.to_tensor(copies, &self.device.compute.device);
        let timesteps = vec![sampler.timestep(0); copies];
        let output = networks.transformer.forward(input, &timesteps, text, None, key_frames, &mut Probe::default());
        let output: Vec<f32> = output.try_into_vec_as()?;
        self.close(report, "mid.model_output_step0", &output, self.device.tolerance(&ONE_CALL))
    }

    /// Everything that the reference recorded has a comparison above.
    fn check_coverage(&self, report: &mut Report) {
        let outputs =
            ["timesteps", "latents_per_step", "latent", "decoded_btchw", "frames_u8_bthwc"].map(|part| format!("out.{part}"));
        let intermediate = [
            "model_output_step0",
            "prompt_ids",
            "prompt_mask",
            "prompt_embeds",
            "negative_ids",
            "negative_mask",
            "negative_prompt_embeds",
        ]
        .map(|part| format!("mid.{part}"));
        for name in self.case.tensors.keys().filter(|name| !name.starts_with("in.")) {
            if !outputs.contains(name) && !intermediate.contains(name) {
                report.exact(&self.set, &self.name, name, false, "nothing compares this value");
            }
        }
    }

    fn close(&self, report: &mut Report, what: &str, got: &[f32], tolerance: Tolerance) -> Result<()> {
        report.close(&self.set, &self.name, what, got, &self.case.get(what)?.values, tolerance);
        Ok(())
    }

    fn text(&self, key: &str) -> Result<&str> {
        self.case.metadata.get(key).map(String::as_str).with_context(|| format!("the case does not say {key}"))
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<T> {
        let text = self.text(key)?;
        text.parse().ok().with_context(|| format!("{key} is {text}"))
    }

    fn folder_of(&self, part: &str) -> Result<PathBuf> {
        Ok(self.beside.join(self.text(part)?))
    }
}

/// Whether the reference's pipeline calls back after a call: once a step, and not while a multistep method warms up.
fn calls_back(kind: SamplerKind, calls: usize, steps: usize, call: usize) -> bool {
    let order = match kind {
        SamplerKind::Heun | SamplerKind::Kdpm2Ancestral => 2,
        _ => 1,
    };
    let warmup = calls.saturating_sub(steps * order);
    call + 1 == calls || (call + 1 > warmup && (call + 1).is_multiple_of(order))
}

/// `[frames, height, width, 3]` to `[frames, 3, height, width]`.
fn channels_before_pixels(video: &[f32], size: ClipSize) -> Vec<f32> {
    let frames = video.chunks_exact(size.height * size.width * 3);
    frames.flat_map(|frame| (0..3).flat_map(|channel| frame.iter().copied().skip(channel).step_by(3))).collect()
}
