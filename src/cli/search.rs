//! `tilereel search`: the masks of a plan, layer by layer, for a model that is there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::settings::DeviceArguments;
use super::train::watch::Terminal;
use super::{Status, UsageError};
use crate::mask::{KeyFrames, MaskPlan};
use crate::model::attention_time::AttentionShape;
use crate::model::dit::Transformer;
use crate::model::folder::{ModelFolder, SearchPath};
use crate::model::latent::ClipSize;
use crate::model::sampling::Sampling;
use crate::model::weights::Loader;
use crate::training::TrainError;
use crate::training::data::captions::{Captions, tokens_of};
use crate::training::distill::masks::key_frames;
use crate::training::distill::teacher::encoded;
use crate::training::run::Watcher;
use crate::training::search::calibration::{Calibration, State};
use crate::training::search::candidates::Candidates;
use crate::training::search::choose::{Goal, choose};
use crate::training::search::measure::{Order, Row, measure};
use crate::training::search::report::{Found, SearchOf, keep, kept, progress_path};
use crate::training::template::Template;
use crate::world::attributes::Attributes;
use crate::world::grammar::{Detail, caption};
use crate::world::seeds;

/// The threshold of mini's recipe, which leaves about half of the tiles.
const THRESHOLD: f64 = 0.004;

#[derive(Args)]
pub struct Arguments {
    /// The model whose masks are searched, by name or folder
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// The plan's file. A search that was stopped goes on from the file beside it that ends in .progress
    #[arg(long, short, value_name = "PLAN")]
    out: PathBuf,
    /// Masks that a layer may have, such as full,4:4,2:6 [default: those of the paper]
    #[arg(long, value_delimiter = ',', value_name = "MASKS")]
    candidates: Vec<String>,
    /// Whether a layer is fed by the layers before it with their masks, or by the dense model [default: greedy for a
    /// threshold, independent for a limit]
    #[arg(long, value_enum)]
    order: Option<OrderName>,
    /// Every layer takes the sparsest mask whose error is below this [default: 0.004]
    #[arg(long, value_parser = super::train::positive)]
    threshold: Option<f64>,
    /// Find the fastest plan whose layers' mean error is at most this
    #[arg(long, value_parser = super::train::positive, conflicts_with_all = ["threshold", "most_millis", "most_tiles"])]
    most_loss: Option<f64>,
    /// Find the plan of the least error whose attention takes at most so many milliseconds a call on this device
    #[arg(long, value_parser = super::train::positive, conflicts_with_all = ["threshold", "most_tiles"], value_name = "MILLISECONDS")]
    most_millis: Option<f64>,
    /// Find the plan of the least error that computes at most this share of all tiles, such as 0.5
    #[arg(long, value_parser = super::train::share, conflicts_with = "threshold", value_name = "SHARE")]
    most_tiles: Option<f64>,
    /// Prompts of the world whose clips are looked at
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    prompts: u32,
    /// A text file with one prompt a line, instead of those of the world
    #[arg(long, value_name = "FILE", conflicts_with = "prompts")]
    prompt_file: Option<PathBuf>,
    /// Calls of the sampler that are looked at, evenly over its steps
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    times: u32,
    /// Prompts that are sampled together
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Frames of a clip, if not the model's own
    #[arg(long)]
    frames: Option<usize>,
    /// Number that the noise is made from
    #[arg(long, default_value_t = 4)]
    seed: u64,
    /// Print no progress
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    device: DeviceArguments,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OrderName {
    Greedy,
    Independent,
}

impl Arguments {
    fn goal(&self) -> Result<(Goal, Order), UsageError> {
        let limits =
            [self.most_loss.map(Goal::MostLoss), self.most_millis.map(Goal::MostMillis), self.most_tiles.map(Goal::MostTiles)];
        let goal = limits.into_iter().flatten().next().unwrap_or(Goal::Threshold(self.threshold.unwrap_or(THRESHOLD)));
        let order = match (goal, self.order) {
            (Goal::Threshold(threshold), None | Some(OrderName::Greedy)) => Order::Greedy(threshold),
            (_, None | Some(OrderName::Independent)) => Order::Independent,
            (_, Some(OrderName::Greedy)) => {
                let text = "A limit is kept with errors in independent order. Leave --order greedy away, or use --threshold.";
                return Err(UsageError(text.into()));
            }
        };
        Ok((goal, order))
    }

    fn sentences(&self) -> Result<Vec<String>, UsageError> {
        let Some(path) = &self.prompt_file else {
            let seed = seeds::STATISTICS;
            let sentence = |clip| caption(&Attributes::of_clip(seed, clip), seed, clip, 0, Detail::All);
            return Ok((0..u64::from(self.prompts)).map(sentence).collect());
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| UsageError(format!("The prompts {} cannot be read: {}.", path.display(), error.kind())))?;
        let lines: Vec<String> = text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        match lines.is_empty() {
            true => Err(UsageError(format!("{} holds no prompts. Write one a line.", path.display()))),
            false => Ok(lines),
        }
    }
}

pub fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let (goal, order) = arguments.goal()?;
    let sentences = arguments.sentences()?;
    let template = Template::open(&arguments.model)?;
    let mut size = template.size();
    size.frames = arguments.frames.unwrap_or(size.frames);
    size.check().map_err(|error| UsageError(error.to_string()))?;
    let frames = size.latent_frames();
    let candidates = if arguments.candidates.is_empty() {
        Candidates::standard(frames)
    } else {
        Candidates::named(arguments.candidates.iter().map(|name| name.trim()), frames)
    };
    let candidates = candidates.map_err(|error| UsageError(format!("--candidates: {error}.")))?;
    let device = arguments.device.open()?;
    super::catch_interrupts();
    let mut terminal = Terminal::new(arguments.quiet);
    terminal.note(&format!("{}, {}, {} kernels", device.name, device.precision, device.tier.name()));
    let config = template.base_configs()?.transformer;
    let tokens_per_frame = size.tokens_per_frame();
    let of = SearchOf {
        model: template.name().to_owned(),
        model_sha256: ModelFolder::resolve(&arguments.model, &SearchPath::standard())?.hash()?,
        candidates: candidates.names(),
        latent_frames: frames,
        tokens_per_frame,
        threshold: if let Order::Greedy(threshold) = order { Some(threshold) } else { None },
        prompts: sentences,
        times: arguments.times as usize,
        batch: arguments.batch as usize,
        seed: arguments.seed,
        device: device.name.clone(),
        precision: device.precision.to_string(),
    };
    let progress = progress_path(&arguments.out);
    let known = kept(&progress, &of);
    if !known.is_empty() {
        terminal.note(&format!("goes on behind {} of {} layers", known.len(), config.num_layers));
    }
    let transformer = Transformer::load(Loader::new(&template.transformer_weights()?, &device), &config)?;
    let Some(mut states) = states(&template, &transformer, &of, size, &device, &mut terminal)? else {
        return stopped(&terminal, &progress);
    };
    let layers = transformer.layers();
    let mut seen = |rows: &[Row]| -> Result<bool, TrainError> {
        keep(&progress, &of, rows)?;
        terminal.doing(format!("layer {} of {layers}", rows.len()), rows.len() as f64 / layers as f64);
        Ok(!terminal.stops() || rows.len() == layers)
    };
    let Some(rows) = measure(&transformer, &mut states, &candidates, order, known, &mut seen)? else {
        return stopped(&terminal, &progress);
    };
    drop(states);
    let shape =
        AttentionShape { heads: config.num_attention_heads, head: config.attention_head_dim, frame_tokens: tokens_per_frame };
    let masks: Vec<Arc<KeyFrames>> = candidates.all().iter().map(|mask| Arc::new(mask.mask().key_frames())).collect();
    let millis = shape.millis(&masks, &device).map_err(|reason| TrainError::DeviceFailed { step: 0, reason })?;
    terminal.clear();
    let losses: Vec<Vec<f64>> = rows.iter().map(|row| row.losses.clone()).collect();
    let tiles: Vec<f64> = candidates.all().iter().map(|mask| mask.mask().kept_tiles() as f64).collect();
    let costs = if matches!(goal, Goal::MostTiles(_)) { &tiles } else { &millis };
    let Some(chosen) = choose(&losses, costs, goal) else {
        let least = layers as f64 * millis.iter().copied().fold(f64::INFINITY, f64::min);
        let text = format!(
            "No plan keeps that limit: the sparsest computes {:.1} % of the tiles, and the fastest attention takes {least:.3} ms a call here.",
            100.0 * tiles.first().zip(tiles.last()).map_or(1.0, |(sparsest, dense)| sparsest / dense)
        );
        return Err(UsageError(text).into());
    };
    let found = Found { of: &of, candidates: &candidates, rows: &rows, order, goal, millis: &millis, chosen: &chosen };
    let plan = found.plan()?;
    plan.save(&arguments.out)?;
    remove(&progress);
    tell(&found, &plan, &arguments.out);
    Ok(Status::Done)
}

/// The model's own way from noise to clips, with every frame seeing every frame. None if it was stopped.
fn states(
    template: &Template,
    transformer: &Transformer,
    of: &SearchOf,
    size: ClipSize,
    device: &crate::gpu::device::ComputeDevice,
    terminal: &mut Terminal,
) -> anyhow::Result<Option<Vec<State>>> {
    let (tokenizer, encoder, tokens) = (template.tokenizer()?, template.text_encoder(device)?, template.max_tokens());
    let defaults = &template.facts().defaults;
    let dense = MaskPlan::dense(transformer.layers(), size.latent_frames())?;
    let sampling = Sampling {
        sampler: defaults.sampler,
        steps: defaults.steps,
        guidance_scale: defaults.guidance_scale,
        shape: size.latent_shape(transformer.latent_channels()),
        key_frames: key_frames(&dense),
        seed: of.seed,
    };
    let calibration = Calibration { transformer, sampling: &sampling, device: &device.device, times: of.times };
    let text = |texts: &[String]| -> Result<_, TrainError> {
        let mut captions = Captions::default();
        for text in texts {
            captions.push(&tokens_of(&tokenizer, text, tokens)?);
        }
        Ok(encoded(&encoder, captions))
    };
    let mut states = Vec::new();
    for (batch, prompts) in of.prompts.chunks(of.batch.max(1)).enumerate() {
        let done = (batch * of.batch) as f64 / of.prompts.len() as f64;
        terminal.doing(format!("samples {} prompts", of.prompts.len()), done);
        if terminal.stops() {
            return Ok(None);
        }
        let empty = text(&vec![String::new(); prompts.len()])?;
        states.extend(calibration.states(&text(prompts)?, &empty, batch as u64)?);
    }
    Ok(Some(states))
}

fn stopped(terminal: &Terminal, progress: &Path) -> anyhow::Result<Status> {
    terminal.clear();
    match progress.is_file() {
        true => eprintln!("Stopped. The same command goes on from {}.", progress.display()),
        false => eprintln!("Stopped; nothing was measured yet."),
    }
    Ok(Status::Stopped)
}

/// The plan is there; what led to it is of no use any more, and no harm if it stays.
fn remove(progress: &Path) {
    if let Err(error) = std::fs::remove_file(progress) {
        log::debug!("could not remove {}: {error}", progress.display());
    }
}

fn tell(found: &Found<'_>, plan: &MaskPlan, path: &Path) {
    let names = found.candidates.names();
    say!("| layer | {} | mask |", names[..found.candidates.dense()].join(" | "));
    say!("|---|{}---|", "---|".repeat(found.candidates.dense()));
    for (layer, (row, &mask)) in found.rows.iter().zip(found.chosen).enumerate() {
        let losses: Vec<String> = row.losses.iter().map(|loss| format!("{loss:.5}")).collect();
        say!("| {} | {} | {} |", layer + 1, losses.join(" | "), names[mask]);
    }
    let dense = found.millis.last().copied().unwrap_or(0.0) * found.rows.len() as f64;
    say!();
    say!(
        "{}: {:.1} % of the tiles, mean error {:.5}, attention {:.3} ms a call (dense {dense:.3} ms) on {}",
        path.display(),
        100.0 * plan.density(),
        found.mean_loss(),
        found.total_millis(),
        found.of.device
    );
}
