//! PSNR and SSIM against ffmpeg's filters.

use std::path::Path;
use std::process::Command;

use tilereel::clip::{Comparison, Frames};

use super::judges::{folder, have, noisy_clip, output_of, write};

/// The values that a filter of ffmpeg reports under a key, for two clips as planar RGB. By its plain code: ffmpeg 5.1 counts
/// another SSIM with vector instructions where rows are no whole number of its vectors.
fn by_ffmpeg(a: &Path, b: &Path, filter: &str, key: &str) -> Vec<f64> {
    let graph = format!("[0]format=gbrp[a];[1]format=gbrp[b];[a][b]{filter},metadata=print:file=-");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-cpuflags", "0", "-i"]).arg(a).arg("-i").arg(b).args(["-lavfi", &graph, "-f", "null", "-"]);
    let text = String::from_utf8(output_of(&mut command)).expect("text");
    let values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    values.map(|value| value.parse().expect("a number")).collect()
}

fn close(what: &str, got: &[f64], want: &[f64], most: f64) {
    assert!(!want.is_empty() && got.len() == want.len(), "{what}: {} values, ffmpeg has {}", got.len(), want.len());
    let worst = got.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, f64::max);
    println!("{what}: {} frames, at most {worst:.1e} from ffmpeg", got.len());
    assert!(worst <= most, "{what}: {got:?} instead of {want:?}");
}

#[test]
fn psnr_and_ssim_are_those_of_ffmpeg() {
    if !have("ffmpeg") {
        return;
    }
    let folder = folder();
    // Also sizes that are no whole number of windows.
    for (width, height, count) in [(96, 64, 5), (75, 53, 3), (8, 8, 2)] {
        let a = noisy_clip(width, height, count, 24.0);
        let darker = |(at, value): (usize, &u8)| if at % 7 < 3 { value / 2 + 20 } else { value.saturating_add((at % 5) as u8) };
        let b = Frames { rgb: a.rgb.iter().enumerate().map(darker).collect(), ..a.clone() };
        let paths = ["a.apng", "b.apng"].map(|name| folder.path().join(name));
        write(&paths[0], &a, None);
        write(&paths[1], &b, None);
        let comparison = Comparison::of(&a, &b).expect("clips of one size");
        let [a, b] = &paths;
        close("PSNR", &comparison.psnr, &by_ffmpeg(a, b, "psnr", "lavfi.psnr.psnr_avg"), 1e-3);
        let ssim = comparison.ssim.expect("windows");
        close("SSIM", &ssim, &by_ffmpeg(a, b, "ssim", "lavfi.ssim.All"), 1e-4);

        // Over the whole clip.
        let mut command = Command::new("ffmpeg");
        let graph = "[0]format=gbrp[a];[1]format=gbrp[b];[a][b]psnr";
        command.args(["-hide_banner", "-i"]).arg(a).arg("-i").arg(b).args(["-lavfi", graph, "-f", "null", "-"]);
        let report = String::from_utf8(command.output().expect("ffmpeg runs").stderr).expect("text");
        let average = report.split("average:").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("an average");
        close("PSNR of the clip", &[comparison.mean_psnr], &[average.parse().expect("a number")], 1e-3);
    }
}
