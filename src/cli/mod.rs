//! The commands: what was typed becomes jobs for the engine, and their results become lines, files and an exit code.

/// As `println!`, which panics when the reader goes away (`| head`).
macro_rules! say {
    () => { $crate::cli::print_line(format_args!("")) };
    ($($text:tt)*) => { $crate::cli::print_line(format_args!($($text)*)) };
}

mod attention;
mod bench;
mod branch;
mod compare;
mod distill;
mod doctor;
mod evaluate;
mod export;
mod generate;
mod import;
mod library;
mod models;
mod progress;
mod queue;
mod reading;
mod reads;
mod reset_settings;
mod search;
mod settings;
mod sheet;
mod show;
mod timings;
mod train;
mod verify;
mod window;
mod words;
mod world;

use std::fmt;
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clap::{Parser, Subcommand};

use crate::generate::GenerateError;
use crate::studio::EngineError;
use crate::training::TrainError;

/// Turns prompts into video with a distilled, tile-sparse video diffusion transformer.
///
/// Without a command, the studio's window opens.
#[derive(Parser)]
#[command(name = "tilereel", version, max_term_width = 110, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    window: window::Arguments,
}

#[derive(Subcommand)]
enum Command {
    /// Make a clip from a prompt.
    Generate(Box<generate::Arguments>),
    /// Show the recipe inside a clip.
    Show(show::Arguments),
    /// Show where a clip's steps looked: a table, a heatmap, or all numbers.
    Attention(attention::Arguments),
    /// Write a clip as another file: cut, faster, larger, to and fro, in another format.
    Export(export::Arguments),
    /// Make a clip again from its own recipe and compare the frames.
    Verify(verify::Arguments),
    /// Compare two clips frame by frame: PSNR, SSIM, and what they cost to make.
    Compare(compare::Arguments),
    /// Show what a point of a clip reads from every frame: its self-attention as heat, table or JSON.
    Reads(Box<reads::Arguments>),
    /// Show where a clip sees the words of its prompt: their cross-attention as heat, table or JSON.
    Words(Box<words::Arguments>),
    /// List, show and change the clips that the studio keeps.
    #[command(subcommand)]
    Library(library::Command),
    /// List, change and work off the runs that wait.
    #[command(subcommand)]
    Queue(queue::Command),
    /// Say where the time of making a clip went: by phase, and by layer and kind of work if its parts were timed.
    Timings(timings::Arguments),
    /// Say which devices there are, which one runs the model, and whether it computes rightly.
    Doctor(doctor::Arguments),
    /// Take over a published model: its weights become 16-bit safetensors, once.
    Import(import::Arguments),
    /// List the models that can be named with --model.
    Models(models::Arguments),
    /// Put the window's settings, keys and layout back to those of the first start; clips, queue and prompts stay.
    ResetSettings,
    /// Make a contact sheet: one row of frames for each prompt of a text file.
    Sheet(Box<sheet::Arguments>),
    /// Make clips of the procedural world that mini learns from, and their sentences.
    World(world::Arguments),
    /// Train a model from nothing on the procedural world: its VAE, its transformer and text encoder, its judge.
    #[command(subcommand)]
    Train(train::Command),
    /// Make a model faster by teaching another one: fewer steps, fewer attention tiles.
    #[command(subcommand)]
    Distill(distill::Command),
    /// Find the mask of each layer that changes a model least: a plan for `distill kd`.
    Search(Box<search::Arguments>),
    /// Say how good a model is: what the judge reads from its clips, and decibels of its VAE.
    Evaluate(Box<evaluate::Arguments>),
    /// Measure how long things take on this machine.
    #[command(subcommand)]
    Bench(bench::Command),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Done,
    /// It ran, and the answer is no (verify found other frames).
    Differs,
    Stopped,
}

/// Runs the command line; prints errors; gives the exit code: 0 done, 1 failed, 2 wrong usage, 130 stopped.
pub fn run() -> ExitCode {
    let started = Instant::now();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            #[cfg(feature = "gui")]
            if let Some(error) = window::mistyped(&error, std::env::args().nth(1)) {
                eprintln!("error: {}", message(&error.into()));
                return ExitCode::from(2);
            }
            // Help and version are no errors; a closed pipe is none of ours.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    crate::studio::quiet_engine_panics();
    crate::gpu::self_test::keep_in(crate::generate::data_folder());
    let result = match cli.command {
        None => window::run(&cli.window, started),
        Some(command) => run_command(command, started),
    };
    match result {
        Ok(Status::Done) => ExitCode::SUCCESS,
        Ok(Status::Differs) => ExitCode::FAILURE,
        Ok(Status::Stopped) => ExitCode::from(130),
        Err(error) => {
            eprintln!("error: {}", message(&error));
            ExitCode::from(if is_usage(&error) { 2 } else { 1 })
        }
    }
}

/// The names of all commands.
#[cfg(feature = "gui")]
fn command_names() -> Vec<String> {
    <Cli as clap::CommandFactory>::command().get_subcommands().map(|command| command.get_name().to_owned()).collect()
}

fn run_command(command: Command, started: Instant) -> anyhow::Result<Status> {
    match command {
        Command::Generate(arguments) => generate::run(*arguments),
        Command::Show(arguments) => show::run(&arguments),
        Command::Attention(arguments) => attention::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Reads(arguments) => reads::run(&arguments),
        Command::Words(arguments) => words::run(&arguments),
        Command::Library(command) => library::run(command),
        Command::Queue(command) => queue::run(command),
        Command::Timings(arguments) => timings::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Models(arguments) => models::run(&arguments),
        Command::ResetSettings => reset_settings::run(),
        Command::Sheet(arguments) => sheet::run(*arguments),
        Command::World(arguments) => world::run(&arguments),
        Command::Evaluate(arguments) => evaluate::run(&arguments),
        Command::Train(command) => train::run(command),
        Command::Distill(command) => distill::run(command),
        Command::Search(arguments) => search::run(&arguments),
        Command::Bench(command) => bench::run(command, started),
    }
}

/// Whether what was typed is at fault, rather than a file or the device.
fn is_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<GenerateError>().is_some_and(GenerateError::is_usage)
            || matches!(cause.downcast_ref::<EngineError>(), Some(EngineError::Generate(error)) if error.is_usage())
            || cause.downcast_ref::<TrainError>().is_some_and(TrainError::is_usage)
            || cause.downcast_ref::<UsageError>().is_some()
    })
}

/// An error and its causes as sentences. Rooms word their errors for a place in the middle of a line, and some already name
/// their cause.
fn message(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{}: {cause}", text.trim_end_matches('.'));
        }
    }
    // A capital for a word, but not for the name of a file or of a sampler.
    let first = text.split_whitespace().next().unwrap_or_default();
    if !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_lowercase()) {
        text = text[..1].to_uppercase() + &text[1..];
    }
    if !text.ends_with(['.', '?']) {
        text.push('.');
    }
    text
}

/// Prints a line of a command's result.
fn print_line(line: fmt::Arguments<'_>) {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("error: The result cannot be printed: {error}.");
            std::process::exit(1);
        }
        // A reader that has seen enough is no error.
        Ok(()) | Err(_) => {}
    }
}

/// Flags that do not go together, or a value that no flag takes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C only sets a flag.
fn catch_interrupts() {
    // A second handler cannot be set; the first does the same.
    let _ = ctrlc::set_handler(|| INTERRUPTED.store(true, Ordering::Relaxed));
}

fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
