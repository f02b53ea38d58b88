//! Samplers against runs of the reference with a fake model: latents after every call, timesteps, noise levels, draws.
//!
//! A run file holds `<sampler>.in.unit_noise`, `.in.noise` (in the order of drawing), `.in.noise_draws` (a call),
//! `.out.x` (the start and one row a call) and tables; the fake model is a formula in the file's metadata. A table file
//! holds `<sampler>.timesteps` and `.sigmas`.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use safetensors::{Dtype, SafeTensors};
use tilereel::model::sampler::schedule::NoiseSchedule;
use tilereel::model::sampler::{Sampler, SamplerKind};

use crate::report::{Report, Tolerance};

/// The reference's own f32 error is 4e-7 of the largest |x| of a step.
const LATENT: Tolerance = Tolerance { relative_l2: 5e-6, max_abs: 5e-6 };

/// true if a tensor file of this folder holds runs or tables of known samplers
pub fn recognises(folder: &Path) -> bool {
    let holds_runs = |path: &PathBuf| {
        let Ok(bytes) = fs::read(path) else { return false };
        SafeTensors::deserialize(&bytes).is_ok_and(|tensors| !samplers_of(&tensors).is_empty())
    };
    tensor_files(folder).is_ok_and(|files| files.iter().any(holds_runs))
}

/// compares every sampler of every file of the folder
pub fn check(folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let set = folder.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    for path in tensor_files(folder)? {
        let bytes = fs::read(&path)?;
        let tensors = SafeTensors::deserialize(&bytes).with_context(|| format!("reading {}", path.display()))?;
        let (_, header) = SafeTensors::read_metadata(&bytes)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let stem = path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        for name in samplers_of(&tensors) {
            let kind: SamplerKind = name.parse()?;
            let reference = Reference { tensors: &tensors, prefix: &name };
            let case = format!("{stem} {name}");
            check_tables(kind, &reference, &set, &case, report)?;
            if reference.has("out.x") {
                check_run(kind, &reference, &metadata, &set, &case, report).with_context(|| case.clone())?;
            }
        }
    }
    Ok(())
}

/// Timesteps, noise levels, start deviation and alpha-bar, whichever the file has.
fn check_tables(kind: SamplerKind, reference: &Reference, set: &str, case: &str, report: &mut Report) -> anyhow::Result<()> {
    let sampler = reference.sampler(kind)?;
    for prefix in ["", "out."] {
        let name = format!("{prefix}timesteps");
        if reference.has(&name) {
            let want = reference.numbers(&name)?;
            let got: Vec<f32> = (0..sampler.calls()).map(|call| sampler.timestep(call)).collect();
            if reference.is_whole(&name)? {
                report.exact(set, case, "timesteps", got == want, first_difference(&got, &want));
            } else {
                report.close(set, case, "timesteps", &got, &want, Tolerance { relative_l2: 1e-6, max_abs: 1e-3 });
            }
        }
        let name = format!("{prefix}sigmas");
        if reference.has(&name) {
            let want = reference.numbers(&name)?;
            report.close(set, case, "sigmas", sampler.sigmas(), &want, Tolerance { relative_l2: 1e-6, max_abs: 1e-4 });
        }
    }
    if reference.has("out.init_noise_sigma") {
        let want = reference.numbers("out.init_noise_sigma")?;
        let tolerance = Tolerance { relative_l2: 1e-6, max_abs: 1e-4 };
        report.close(set, case, "init_noise_sigma", &[sampler.init_noise_sigma()], &want, tolerance);
    }
    if reference.has("out.alphas_cumprod") {
        let want = reference.numbers("out.alphas_cumprod")?;
        let schedule = match kind {
            SamplerKind::Heun | SamplerKind::Kdpm2Ancestral => NoiseSchedule::second_order_default(),
            _ => NoiseSchedule::trained(),
        };
        // The file samples the table; every sampled value must be in it.
        let found = |value: &f32| schedule.alphas_cumprod().iter().any(|other| (other / value - 1.0).abs() < 1e-6);
        report.exact(set, case, "alphas_cumprod", want.iter().all(found), format!("{want:?}"));
    }
    Ok(())
}

/// Walks the whole run on our own latents and reports the worst call.
fn check_run(
    kind: SamplerKind,
    reference: &Reference,
    metadata: &HashMap<String, String>,
    set: &str,
    case: &str,
    report: &mut Report,
) -> anyhow::Result<()> {
    let model = FakeModel::parse(metadata.get("fake_model").context("the metadata names no fake_model")?)?;
    let mut sampler = reference.sampler(kind)?;
    let unit_noise = reference.numbers("in.unit_noise")?;
    let rows = reference.numbers("out.x")?;
    let mut noise = match reference.has("in.noise") {
        true => reference.numbers("in.noise")?,
        false => Vec::new(),
    }
    .into_iter();
    let want_draws = reference.numbers("in.noise_draws")?;
    let len = unit_noise.len();
    ensure!(rows.len() == (sampler.calls() + 1) * len, "out.x has not one row a call");

    let mut x: Vec<f32> = unit_noise.iter().map(|value| value * sampler.init_noise_sigma()).collect();
    let mut draws = Vec::new();
    let mut worst = (0, -1.0, Vec::new(), Vec::new());
    for (row, want) in rows.chunks(len).enumerate() {
        if row > 0 {
            let call = row - 1;
            let epsilon = model.epsilon(sampler.timestep(call), &sampler.scale_model_input(call, &x));
            let mut drawn = 0.0;
            let step = sampler.step(call, &epsilon, &x, &mut |out: &mut [f32]| {
                drawn += 1.0;
                out.iter_mut().for_each(|value| *value = noise.next().unwrap_or(f32::NAN));
            });
            draws.push(drawn);
            x = step.x;
        }
        let largest = want.iter().fold(f32::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
        let scaled = |values: &[f32]| values.iter().map(|value| value / largest).collect::<Vec<f32>>();
        let (got, want) = (scaled(&x), scaled(want));
        let error = got.iter().zip(&want).map(|(got, want)| (got - want).abs()).fold(0.0, f32::max);
        if error > worst.1 || error.is_nan() {
            worst = (row, error, got, want);
        }
    }
    let what = format!("x after {} calls, the worst of {} (of the largest |x|)", worst.0, sampler.calls());
    report.close(set, case, &what, &worst.2, &worst.3, LATENT);
    report.exact(set, case, "noise draws", draws == want_draws, first_difference(&draws, &want_draws));
    Ok(())
}

/// What to say about two lists of whole numbers.
fn first_difference(got: &[f32], want: &[f32]) -> String {
    match got.iter().zip(want).position(|(got, want)| got != want) {
        Some(call) => format!("{} instead of {} in call {call}", got[call], want[call]),
        None => format!("{} calls, {} expected", got.len(), want.len()),
    }
}

fn tensor_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    files.sort();
    Ok(files)
}

/// The reference names under which a file holds a run or tables.
fn samplers_of(tensors: &SafeTensors) -> BTreeSet<String> {
    let names = tensors.names();
    let prefixes = names.iter().filter_map(|name| {
        let (prefix, rest) = name.split_once('.')?;
        let known = ["out.x", "timesteps", "sigmas"].contains(&rest) && prefix.parse::<SamplerKind>().is_ok();
        known.then(|| prefix.to_owned())
    });
    prefixes.collect()
}

/// The tensors of one sampler.
struct Reference<'a> {
    tensors: &'a SafeTensors<'a>,
    prefix: &'a str,
}

impl Reference<'_> {
    fn name(&self, rest: &str) -> String {
        format!("{}.{rest}", self.prefix)
    }

    fn has(&self, rest: &str) -> bool {
        self.tensors.tensor(&self.name(rest)).is_ok()
    }

    fn is_whole(&self, rest: &str) -> anyhow::Result<bool> {
        Ok(self.tensors.tensor(&self.name(rest))?.dtype() == Dtype::I64)
    }

    fn numbers(&self, rest: &str) -> anyhow::Result<Vec<f32>> {
        let name = self.name(rest);
        let tensor = self.tensors.tensor(&name).with_context(|| name.clone())?;
        let bytes = tensor.data();
        Ok(match tensor.dtype() {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|&word| f32::from_le_bytes(word)).collect(),
            Dtype::F64 => bytes.as_chunks().0.iter().map(|&word| f64::from_le_bytes(word) as f32).collect(),
            Dtype::I64 => bytes.as_chunks().0.iter().map(|&word| i64::from_le_bytes(word) as f32).collect(),
            other => bail!("{name} is {other:?}"),
        })
    }

    /// Our sampler with as many model calls as the reference made.
    fn sampler(&self, kind: SamplerKind) -> anyhow::Result<Sampler> {
        let name = if self.has("timesteps") { "timesteps" } else { "out.timesteps" };
        let calls = self.numbers(name)?.len();
        let steps = match kind {
            SamplerKind::Pndm => calls.saturating_sub(9),
            SamplerKind::Heun | SamplerKind::Kdpm2Ancestral => calls.div_ceil(2),
            _ => calls,
        };
        Ok(Sampler::new(kind, steps)?)
    }
}

/// `eps = a*x_in + b*sin(c*x_in) + d*t/e`, any of the terms any number of times.
struct FakeModel(Vec<Term>);

enum Term {
    Input { factor: f32 },
    Sine { factor: f32, frequency: f32 },
    Time { factor: f32, divisor: f32 },
}

impl FakeModel {
    fn parse(text: &str) -> anyhow::Result<FakeModel> {
        let formula = text.split(',').next().unwrap_or_default().replace(' ', "");
        let formula = formula.strip_prefix("eps=").with_context(|| format!("no formula for eps in {text:?}"))?;
        let terms = formula.replace('-', "+-");
        let terms = terms.split('+').filter(|term| !term.is_empty());
        terms
            .map(|term| Term::parse(term).with_context(|| format!("{term:?} of {text:?}")))
            .collect::<anyhow::Result<_>>()
            .map(FakeModel)
    }

    fn epsilon(&self, timestep: f32, x_in: &[f32]) -> Vec<f32> {
        let term_at = |term: &Term, x: f32| match term {
            Term::Input { factor } => factor * x,
            Term::Sine { factor, frequency } => factor * (frequency * x).sin(),
            Term::Time { factor, divisor } => factor * timestep / divisor,
        };
        x_in.iter().map(|&x| self.0.iter().map(|term| term_at(term, x)).sum()).collect()
    }
}

impl Term {
    fn parse(text: &str) -> anyhow::Result<Term> {
        let (factor, rest) = text.split_once('*').context("a term begins with its factor")?;
        let factor: f32 = factor.parse()?;
        if rest == "x_in" {
            return Ok(Term::Input { factor });
        }
        if let Some(inner) = rest.strip_prefix("sin(").and_then(|inner| inner.strip_suffix(")")) {
            let frequency = inner.strip_suffix("x_in").context("a sine of x_in")?.trim_end_matches('*');
            let frequency = if frequency.is_empty() { 1.0 } else { frequency.parse()? };
            return Ok(Term::Sine { factor, frequency });
        }
        let divisor = rest.strip_prefix('t').context("a term of x_in, sin(x_in) or t")?;
        let divisor = if divisor.is_empty() { 1.0 } else { divisor.strip_prefix('/').context("t / number")?.parse()? };
        Ok(Term::Time { factor, divisor })
    }
}
