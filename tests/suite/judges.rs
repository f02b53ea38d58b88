//! Clips to write, and the programs that judge what was written.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use tilereel::clip::{ClipFormat, Frames, WriteOptions, Written, write_clip};

/// Waves, a moving disc, and noise of the same sign in all channels (what 4:2:0 can carry), repeatable.
pub fn noisy_clip(width: usize, height: usize, count: usize, frames_per_second: f64) -> Frames {
    let mut state = 1u32;
    let mut rgb = Vec::with_capacity(width * height * count * 3);
    for frame in 0..count {
        for row in 0..height {
            for column in 0..width {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                let noise = f64::from(state % 13) - 6.0;
                let (x, y) = (column as f64, row as f64);
                let distance = (x - 20.0 - 3.0 * frame as f64).hypot(y - height as f64 / 2.0);
                let disc = if distance < height as f64 / 4.0 { 40.0 } else { 0.0 };
                for channel in 0..3 {
                    let waves = 60.0 * (x * 0.05 + f64::from(channel)).sin() + 30.0 * ((y + frame as f64) * 0.11).cos();
                    rgb.push((110.0 + waves + disc + noise).clamp(0.0, 255.0) as u8);
                }
            }
        }
    }
    Frames { width, height, frames_per_second, rgb }
}

pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

pub fn write(path: &Path, frames: &Frames, recipe: Option<&str>) -> Written {
    write_clip(path, frames, recipe, &WriteOptions::default()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether a program is there. Without it these tests say so, and fail where the variable CI is set.
pub fn have(program: &str) -> bool {
    let there = Command::new(program).arg("-version").output().is_ok();
    if !there {
        println!("skipped: {program} is missing");
        assert!(std::env::var_os("CI").is_none(), "{program} is missing");
    }
    there
}

pub fn output_of(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("the program starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// What ffmpeg makes of a file, as RGB frames.
pub fn decoded_by_ffmpeg(input: &Path, like: &Frames) -> Frames {
    let filter = "scale=in_color_matrix=bt709:in_range=tv:out_range=pc:\
                  flags=bicubic+accurate_rnd+full_chroma_int";
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-i"]).arg(input);
    if matches!(ClipFormat::from_path(input), Ok(ClipFormat::Mp4 | ClipFormat::Webm)) {
        command.args(["-vf", filter]);
    }
    command.args(["-pix_fmt", "rgb24", "-fps_mode", "passthrough", "-f", "rawvideo", "-"]);
    Frames { rgb: output_of(&mut command), ..like.clone() }
}

pub fn probe(path: &Path) -> Value {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-of", "json", "-count_frames"]).args(["-show_format", "-show_streams"]).arg(path);
    serde_json::from_slice(&output_of(&mut command)).expect("ffprobe speaks JSON")
}

pub fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}
