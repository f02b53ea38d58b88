//! `tilereel evaluate`: models through the eyes of the judge, as a table.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use super::progress::Bar;
use super::settings::DeviceArguments;
use super::{Status, UsageError};
use crate::clip::{WriteOptions, write_clip};
use crate::evaluate::{Amounts, Bench, EvaluateError, EvaluatedModel, Kept, Masks, Overrides, Station, Watcher, evaluate};
use crate::gpu::device::ComputeDevice;
use crate::mask::MaskPlan;
use crate::model::folder::{ModelFolder, SearchPath};
use crate::model::sampler::{SamplerError, SamplerKind};
use crate::model::weights::write_whole;

#[derive(Args)]
pub struct Arguments {
    /// Models, by name or folder, each with its own settings; all are compared with the first on the same prompts and noise
    #[arg(value_name = "MODEL", required_unless_present = "row")]
    models: Vec<String>,
    /// A further row of the table: NAME=MODEL, then what is other than the model's own, such as
    /// ,sampler=ddim-trailing,steps=8,guidance=1,plan=plan.json (or plan=dense, plan=2:6, plan=near:1)
    #[arg(long, value_name = "NAME=MODEL[,..]")]
    row: Vec<RowSpec>,
    /// The judge's folder, from `tilereel train judge`
    #[arg(long)]
    judge: PathBuf,
    /// Prompts that name every attribute
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    prompts: u32,
    /// Clips of every prompt, each from noise of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    clips_a_prompt: u32,
    /// Held-out clips for the ceiling and the Frechet distance
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    real: u32,
    /// Held-out clips for the VAE's decibels
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    decoded: u32,
    /// Prompts that are sampled together
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Sampling steps, if not the model's own
    #[arg(long)]
    steps: Option<usize>,
    /// Guidance scale, if not the model's own
    #[arg(long)]
    guidance: Option<f64>,
    /// Do not measure how long attention and a clip take
    #[arg(long)]
    no_times: bool,
    /// Number that the noise is made from
    #[arg(long, default_value_t = 21)]
    seed: u64,
    /// Write NAME.md, NAME.json and a chart of them, NAME.png
    #[arg(long, short, value_name = "NAME")]
    out: Option<PathBuf>,
    /// Keep what was read of each row's clips in a folder: rows that are there already are not made again, so that a stopped
    /// evaluation goes on and a longer table costs its new rows alone
    #[arg(long, value_name = "FOLDER")]
    keep: Option<PathBuf>,
    /// Print the table as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArguments,
}

/// A row as it is typed.
#[derive(Clone, Debug, PartialEq)]
struct RowSpec {
    name: String,
    model: String,
    sampler: Option<SamplerKind>,
    steps: Option<usize>,
    guidance: Option<f64>,
    plan: Option<String>,
}

impl RowSpec {
    fn of_model(model: &str) -> Self {
        let (name, model) = (model.to_owned(), model.to_owned());
        Self { name, model, sampler: None, steps: None, guidance: None, plan: None }
    }

    /// `dense`, the name of a mask, or a plan's file.
    fn masks(&self) -> anyhow::Result<Masks> {
        let Some(plan) = &self.plan else { return Ok(Masks::Own) };
        let path = Path::new(plan);
        Ok(match plan.as_str() {
            "dense" => Masks::Uniform("full".into()),
            _ if path.is_file() => Masks::Plan(MaskPlan::load(path)?),
            name if name.contains(':') => Masks::Uniform(name.to_owned()),
            _ => {
                return Err(UsageError(format!(
                    "There is no plan {plan}. Write plan=dense, plan=2:6, plan=near:1 or a plan's file."
                ))
                .into());
            }
        })
    }
}

impl FromStr for RowSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{what}; write NAME=MODEL,steps=8,guidance=1,sampler=ddim-trailing,plan=plan.json");
        let (name, rest) = text.split_once('=').ok_or_else(|| wrong("it has no name"))?;
        let mut parts = rest.split(',');
        let model = parts.next().unwrap_or_default();
        if name.trim().is_empty() || model.trim().is_empty() {
            return Err(wrong("it names no model"));
        }
        let mut spec = Self { name: name.trim().to_owned(), ..Self::of_model(model.trim()) };
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| wrong(&format!("{part} is no setting")))?;
            let value = value.trim();
            match key.trim() {
                "steps" => spec.steps = Some(value.parse().map_err(|_| wrong("steps is a whole number"))?),
                "guidance" => spec.guidance = Some(value.parse().map_err(|_| wrong("guidance is a number"))?),
                "sampler" => spec.sampler = Some(value.parse().map_err(|error: SamplerError| error.to_string())?),
                "plan" => spec.plan = Some(value.to_owned()),
                other => return Err(wrong(&format!("{other} is no setting"))),
            }
        }
        Ok(spec)
    }
}

struct Terminal(Bar);

impl Watcher for Terminal {
    fn doing(&mut self, what: &str, share: f64) {
        self.0.training(what.to_owned(), share);
    }

    fn stops(&self) -> bool {
        super::interrupted()
    }
}

pub fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    if arguments.steps == Some(0) || arguments.row.iter().any(|row| row.steps == Some(0)) {
        return Err(UsageError("Sampling needs at least one step.".into()).into());
    }
    let (first, others) = arguments.device.open_each()?;
    super::catch_interrupts();
    let load = |spec: &RowSpec, device: &ComputeDevice| -> anyhow::Result<EvaluatedModel> {
        let folder = ModelFolder::resolve(&spec.model, &SearchPath::standard())?;
        let overrides = Overrides {
            sampler: spec.sampler,
            steps: spec.steps.or(arguments.steps),
            guidance_scale: spec.guidance.or(arguments.guidance),
            masks: spec.masks()?,
            seed: arguments.seed,
        };
        let mut model = EvaluatedModel::load(folder, overrides, device)?;
        model.name.clone_from(&spec.name);
        Ok(model)
    };
    let named = arguments.models.iter().map(|model| RowSpec::of_model(model));
    let specs: Vec<RowSpec> = named.chain(arguments.row.iter().cloned()).collect();
    let devices: Vec<ComputeDevice> = std::iter::once(first).chain(others).collect();
    let stations = devices.iter().enumerate().map(|(index, device)| {
        // Dealt out in turn.
        let own = specs.iter().enumerate().skip(index).step_by(devices.len());
        let models = own.map(|(place, spec)| Ok((place, load(spec, device)?))).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Station { bench: Bench::open(&arguments.judge, device)?, device: device.clone(), models })
    });
    let stations = stations.collect::<anyhow::Result<Vec<_>>>()?;
    let amounts = Amounts {
        prompts: arguments.prompts as usize,
        clips_a_prompt: arguments.clips_a_prompt as usize,
        real: arguments.real as usize,
        decoded: arguments.decoded as usize,
        batch: arguments.batch as usize,
        times: !arguments.no_times,
    };
    let mut terminal = Terminal(Bar::new(false));
    let kept = Kept { folder: arguments.keep.clone() };
    let evaluation = evaluate(&stations, amounts, &kept, &mut terminal);
    terminal.0.clear();
    let evaluation = match evaluation {
        Err(EvaluateError::Stopped) => {
            match &arguments.keep {
                Some(folder) => eprintln!("Stopped; the rows that were done are kept in {}.", folder.display()),
                None => eprintln!("Stopped; nothing was written. With --keep FOLDER it could go on."),
            }
            return Ok(Status::Stopped);
        }
        other => other?,
    };
    let text = if arguments.json { evaluation.to_json() } else { evaluation.to_markdown() };
    say!("{}", text.trim_end());
    if let Some(out) = &arguments.out {
        write_whole(&out.with_extension("md"), evaluation.to_markdown().as_bytes())?;
        write_whole(&out.with_extension("json"), evaluation.to_json().as_bytes())?;
        write_clip(&out.with_extension("png"), &evaluation.to_chart(), None, &WriteOptions::default())?;
    }
    Ok(Status::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_as_they_are_typed() {
        let row: RowSpec = "sparse, 8=my/fast,steps=8,guidance=1.5,plan=2:6,sampler=ddim-trailing".parse().expect("a row");
        assert_eq!(
            (row.name.as_str(), row.model.as_str(), row.steps, row.guidance),
            ("sparse, 8", "my/fast", Some(8), Some(1.5))
        );
        assert_eq!((row.sampler, row.masks().expect("masks")), (Some(SamplerKind::DdimTrailing), Masks::Uniform("2:6".into())));
        let near: RowSpec = "near=my/fast,plan=near:2".parse().expect("a row");
        assert_eq!(near.masks().expect("masks"), Masks::Uniform("near:2".into()));
        let plain: RowSpec = "base=mini/base".parse().expect("a row");
        assert_eq!(plain, RowSpec { name: "base".into(), ..RowSpec::of_model("mini/base") });
        for wrong in ["mini/base", "a=", "=m", "a=m,8", "a=m,steps=x", "a=m,colour=red", "a=m,sampler=none"] {
            assert!(wrong.parse::<RowSpec>().is_err(), "{wrong}");
        }
        assert!("a=m,plan=nowhere.json".parse::<RowSpec>().expect("a row").masks().is_err());
    }
}
