//! `tilereel timings`: where the time of making a clip went.

use clap::Args;

use super::Status;
use crate::generate::timings::Timings;
use crate::gpu::spans::Kind;
use crate::studio::words::{clock, kind, phase, share};
use crate::studio::{ClipId, Home};

#[derive(Args)]
pub struct Arguments {
    /// The number of a clip of the library; `generate --timings` says it of others
    clip: i64,
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<Status> {
    let home = Home::standard()?;
    let clip = super::library::open(&home)?.clip(ClipId(arguments.clip))?;
    let Some(timings) = Timings::read(&home.timings_file(clip.id)) else {
        anyhow::bail!(
            "Clip {} has no times: it was made before they were kept. Queue it again with: tilereel library rerun {0}",
            clip.id.0
        );
    };
    if arguments.json {
        say!("{}", timings.to_json());
    } else {
        print(&timings);
    }
    Ok(Status::Done)
}

/// Prints the times as tables.
pub fn print(timings: &Timings) {
    let percent = |seconds: f64| 100.0 * seconds / timings.seconds.max(f64::MIN_POSITIVE);
    let row = |name: &str, seconds: f64| say!("{name:<28} {seconds:>9.3} s {:>6.1} %", percent(seconds));
    say!("{}, timed by {}", timings.device, clock(timings.clock));
    row("whole run", timings.seconds);
    row("sum of the parts", timings.sum_seconds());
    if let Some(step) = timings.typical_step_seconds() {
        say!("{:<28} {step:>9.3} s, of {}", "a warm step", timings.step_seconds.len());
    }
    say!("");
    timings.phases.iter().for_each(|time| row(phase(time.phase), time.seconds));
    if timings.clock.is_none() {
        return;
    }
    say!("");
    timings.shares().into_iter().for_each(|(what, seconds)| row(share(what), seconds));
    for time in timings.phases.iter().filter(|time| !time.parts.is_empty()) {
        let names = Kind::ALL.map(|one| format!(" {:>13}", kind(one))).concat();
        say!("\n{:<18}{names} {:>9}", phase(time.phase), "sum");
        for (layer, seconds) in time.layers() {
            let cells = seconds.map(|one| if one > 0.0 { format!(" {one:>13.4}") } else { format!(" {:>13}", "") }).concat();
            let name = if layer.is_empty() { "between layers" } else { layer };
            say!("{name:<18}{cells} {:>9.4}", seconds.iter().sum::<f64>());
        }
        say!("{:<18}{:>94.4}", "idle", time.idle_seconds());
    }
}
