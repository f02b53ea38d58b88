//! `tilereel evaluate`: models through the eyes of the judge, as a table.

use std::path::PathBuf;

use clap::Args;

use super::progress::Bar;
use super::settings::DeviceArguments;
use super::{Status, UsageError};
use crate::evaluate::{Amounts, Bench, EvaluateError, EvaluatedModel, Overrides, Watcher, evaluate};
use crate::model::folder::{ModelFolder, SearchPath};
use crate::model::weights::write_whole;

#[derive(Args)]
pub struct Arguments {
    /// One model or two, by name or folder; two are compared on the same prompts and noise
    #[arg(required = true, num_args = 1..=2, value_name = "MODEL")]
    models: Vec<String>,
    /// The judge's folder, from `tilereel train judge`
    #[arg(long)]
    judge: PathBuf,
    /// Prompts that name every attribute, each for one clip
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    prompts: u32,
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
    /// Number that the noise is made from
    #[arg(long, default_value_t = 21)]
    seed: u64,
    /// Write NAME.md and NAME.json
    #[arg(long, short, value_name = "NAME")]
    out: Option<PathBuf>,
    /// Print the table as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArguments,
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
    if arguments.steps == Some(0) {
        return Err(UsageError("Sampling needs at least one step.".into()).into());
    }
    let device = arguments.device.open()?;
    super::catch_interrupts();
    let overrides = Overrides { steps: arguments.steps, guidance_scale: arguments.guidance, seed: arguments.seed };
    let bench = Bench::open(&arguments.judge, &device)?;
    let load = |name: &String| -> Result<EvaluatedModel, EvaluateError> {
        let folder = ModelFolder::resolve(name, &SearchPath::standard())?;
        let mut model = EvaluatedModel::load(folder, overrides, &device)?;
        model.name.clone_from(name);
        Ok(model)
    };
    let models = arguments.models.iter().map(load).collect::<Result<Vec<_>, _>>()?;
    let amounts = Amounts {
        prompts: arguments.prompts as usize,
        real: arguments.real as usize,
        decoded: arguments.decoded as usize,
        batch: arguments.batch as usize,
    };
    let mut terminal = Terminal(Bar::new(false));
    let evaluation = evaluate(&models, &bench, amounts, &device, &mut terminal);
    terminal.0.clear();
    let evaluation = match evaluation {
        Err(EvaluateError::Stopped) => {
            eprintln!("Stopped; nothing was written.");
            return Ok(Status::Stopped);
        }
        other => other?,
    };
    let text = if arguments.json { evaluation.to_json() } else { evaluation.to_markdown() };
    say!("{}", text.trim_end());
    if let Some(out) = &arguments.out {
        write_whole(&out.with_extension("md"), evaluation.to_markdown().as_bytes())?;
        write_whole(&out.with_extension("json"), evaluation.to_json().as_bytes())?;
    }
    Ok(Status::Done)
}
