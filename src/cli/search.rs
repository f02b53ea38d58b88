//! `tilereel search`: the masks of a plan, layer by layer, for a model that is there.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::settings::DeviceArguments;
use super::train::watch::Terminal;
use super::{Status, UsageError};
use crate::mask::{MOST_RANGES, MaskPlan};
use crate::training::run::Watcher;
use crate::training::search::candidates::Candidates;
use crate::training::search::choose::Goal;
use crate::training::search::measure::Order;
use crate::training::search::report::Found;
use crate::training::search::session::{SEED, Search, THRESHOLD, progress_of, prompts_of_world};
use crate::training::template::Template;

#[derive(Args)]
pub struct Arguments {
    /// The model whose masks are searched, by name or folder
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// The plan's file. A search that was stopped goes on from the file beside it that ends in .progress
    #[arg(long, short, value_name = "PLAN")]
    out: PathBuf,
    /// Masks that a layer may have, such as full,4:4,2:6,near:1 [default: those of the paper, near:1 and near:2]
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
    /// Calls of the sampler that are looked at, evenly over its steps, and at least one in each of its ranges
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    times: u32,
    /// Split the sampler's steps into so many equal ranges, each with masks of its own; limits then hold for the mean over them
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MOST_RANGES as i64), value_name = "RANGES")]
    step_ranges: u32,
    /// Prompts that are sampled together
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Frames of a clip, if not the model's own
    #[arg(long)]
    frames: Option<usize>,
    /// Number that the noise is made from
    #[arg(long, default_value_t = SEED)]
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
            return Ok(prompts_of_world(self.prompts as usize));
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
    let prompts = arguments.sentences()?;
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
    let (times, batch, seed) = (arguments.times as usize, arguments.batch as usize, arguments.seed);
    let step_ranges = arguments.step_ranges as usize;
    let search = Search { template, size, candidates, goal, order, prompts, times, step_ranges, batch, seed };
    let outcome = search.run(&arguments.out, &device, &mut terminal, &mut |_, _| {})?;
    drop(terminal);
    let Some(outcome) = outcome else {
        match progress_of(&arguments.out) {
            Some(progress) => eprintln!("Stopped. The same command goes on from {}.", progress.display()),
            None => eprintln!("Stopped; nothing was measured yet."),
        }
        return Ok(Status::Stopped);
    };
    tell(&outcome.found(), &outcome.plan, &arguments.out);
    Ok(Status::Done)
}

fn tell(found: &Found<'_>, plan: &MaskPlan, path: &Path) {
    let (names, ranges) = (found.candidates.names(), found.of.step_ranges);
    // With ranges of steps they have a column in front.
    let column = |text: String| if ranges > 1 { format!("| {text} ") } else { String::new() };
    say!("{}| layer | {} | mask |", column("range of steps".into()), names[..found.candidates.dense()].join(" | "));
    say!("{}|---|{}---|", if ranges > 1 { "|---" } else { "" }, "---|".repeat(found.candidates.dense()));
    for (place, (row, &mask)) in found.rows.iter().zip(found.chosen).enumerate() {
        let losses: Vec<String> = row.losses.iter().map(|loss| format!("{loss:.5}")).collect();
        let (range, layer) = (place / found.layers() + 1, place % found.layers() + 1);
        say!("{}| {layer} | {} | {} |", column(format!("{range} of {ranges}")), losses.join(" | "), names[mask]);
    }
    let dense = found.millis.last().copied().unwrap_or(0.0) * found.layers() as f64;
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
