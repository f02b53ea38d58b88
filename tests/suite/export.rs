//! Edited clips as others see them: which frames, how large, how fast, how often; and that a stopped export leaves nothing.

use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tilereel::clip::{
    ClipError, ClipFormat, Edit, Frames, Loops, ScaleFilter, WriteOptions, read_frames, read_recipe, write_clip,
    write_clip_watched,
};
use tilereel::studio::{ExportError, ExportRequest, export};

use super::judges::{decoded_by_ffmpeg, folder, have, least, noisy_clip, output_of, probe};

fn times(times: &str) -> Loops {
    times.parse().expect("a number of loops")
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

/// These frames of a clip, every pixel a square of `scale`, by counting.
fn squares(clip: &Frames, order: &[usize], scale: usize, frames_per_second: f64) -> Frames {
    let (width, height) = (clip.width * scale, clip.height * scale);
    let mut rgb = Vec::new();
    for &frame in order {
        for row in 0..height {
            for column in 0..width {
                let at = (row / scale * clip.width + column / scale) * 3;
                rgb.extend_from_slice(&clip.frame(frame)[at..at + 3]);
            }
        }
    }
    Frames { width, height, frames_per_second, rgb }
}

/// The frames of an animated WebP, by libwebp's tools; ffmpeg 5.1 knows still WebP only.
fn decoded_by_libwebp(path: &Path, like: &Frames) -> Frames {
    let folder = folder();
    let (still, picture) = (folder.path().join("still.webp"), folder.path().join("a.png"));
    let mut rgb = Vec::new();
    for index in 1..=webpmux_says(path, "Number of frames:").parse().expect("a count") {
        let index: usize = index;
        output_of(Command::new("webpmux").args(["-get", "frame", &index.to_string()]).arg(path).arg("-o").arg(&still));
        output_of(Command::new("dwebp").arg(&still).arg("-o").arg(&picture));
        rgb.extend(decoded_by_ffmpeg(&picture, like).rgb);
    }
    Frames { rgb, ..like.clone() }
}

/// The word behind a label in what webpmux tells of a file.
fn webpmux_says(path: &Path, label: &str) -> String {
    let report = output_of(Command::new("webpmux").arg("-info").arg(path));
    let report = String::from_utf8_lossy(&report);
    let (_, rest) = report.split_once(label).unwrap_or_else(|| panic!("{label}: {report}"));
    rest.trim_start_matches([' ', ':']).split_whitespace().next().expect("a value").to_owned()
}

/// How often players show a file: 0 for ever. The GIF goes through libwebp's converter, which counts as browsers do.
fn plays(path: &Path) -> u64 {
    let loop_count = |path: &Path| webpmux_says(path, "Loop Count").parse().expect("a loop count");
    match ClipFormat::from_path(path).unwrap() {
        ClipFormat::Gif => {
            let folder = folder();
            let converted = folder.path().join("converted.webp");
            output_of(Command::new("gif2webp").arg("-quiet").arg(path).arg("-o").arg(&converted));
            loop_count(&converted)
        }
        ClipFormat::Apng => {
            let output = Command::new("ffprobe").args(["-v", "debug"]).arg(path).output().expect("ffprobe starts");
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let (_, rest) = text.split_once("num_play: ").unwrap_or_else(|| panic!("{text}"));
            rest.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number of plays")
        }
        ClipFormat::Webp => loop_count(path),
        other => panic!("{other} does not say how often it plays"),
    }
}

#[test]
fn every_kind_holds_the_edited_frames() {
    if !["ffmpeg", "webpmux", "dwebp", "gif2webp"].into_iter().all(have) {
        return;
    }
    let folder = folder();
    let clip = noisy_clip(48, 32, 9, 24.0);
    let edit = Edit {
        first_frame: 2,
        last_frame: 5,
        frames_per_second: 10.0,
        scale: 2,
        scale_filter: ScaleFilter::Pixels,
        ping_pong: true,
        loops: times("3"),
    };
    let once = [2, 3, 4, 5, 4, 3];
    let frames = Arc::new(clip.clone());
    // Measured: mp4 41.2, webm 39.0, gif 40.2; the others keep every bit.
    for (format, least_psnr) in [
        (ClipFormat::Mp4, 40.5),
        (ClipFormat::Webm, 38.5),
        (ClipFormat::Gif, 39.5),
        (ClipFormat::Apng, f64::INFINITY),
        (ClipFormat::Webp, f64::INFINITY),
        (ClipFormat::Png, f64::INFINITY),
    ] {
        let path = folder.path().join(format!("clip.{format}"));
        let options = WriteOptions::default();
        let request = ExportRequest {
            frames: frames.clone(),
            edit: edit.clone(),
            path: path.clone(),
            recipe: Some("{}".to_owned()),
            options,
        };
        let written = export::run(&request, &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(written.frames_per_second, 10.0, "{format}");
        assert_eq!(read_recipe(&path).unwrap().as_deref(), Some("{}"));

        let repeated = matches!(format, ClipFormat::Mp4 | ClipFormat::Webm);
        let expected = squares(&clip, &once.repeat(if repeated { 3 } else { 1 }), 2, 10.0);
        let decoded = match format {
            ClipFormat::Webp => decoded_by_libwebp(&path, &expected),
            ClipFormat::Png => decoded_by_ffmpeg(&folder.path().join("clip-%04d.png"), &expected),
            _ => decoded_by_ffmpeg(&path, &expected),
        };
        assert_eq!(decoded.count(), expected.count(), "{format}");
        let psnr = least(&decoded.psnr(&expected));
        println!("{format}: at least {psnr:.2} dB");
        assert!(psnr >= least_psnr, "{format}: {psnr}");

        match format {
            ClipFormat::Gif | ClipFormat::Apng | ClipFormat::Webp => assert_eq!(plays(&path), 3, "{format}"),
            ClipFormat::Mp4 | ClipFormat::Webm => {
                let probed = probe(&path);
                assert_eq!(probed["streams"][0]["r_frame_rate"], "10/1", "{format}");
                let seconds: f64 = probed["format"]["duration"].as_str().unwrap().parse().unwrap();
                assert!((seconds - 1.8).abs() < 0.001, "{format}: {seconds}");
            }
            ClipFormat::Png => assert_eq!(written.paths.len(), 6),
        }
    }
}

#[test]
fn files_say_how_often_they_play() {
    if !["ffprobe", "webpmux", "gif2webp"].into_iter().all(have) {
        return;
    }
    let folder = folder();
    let clip = noisy_clip(16, 16, 3, 10.0);
    for ending in ["gif", "apng", "webp"] {
        for (loops, expected) in [("forever", 0), ("1", 1), ("2", 2), ("1000", 1000)] {
            let path = folder.path().join(format!("clip.{ending}"));
            let options = WriteOptions { loops: times(loops), ..WriteOptions::default() };
            write_clip(&path, &clip, None, &options).unwrap();
            assert_eq!(plays(&path), expected, "{ending}, {loops}");
            assert_eq!(read_frames(&path).unwrap().count(), 3);
        }
    }
}

#[test]
fn smooth_scaling_is_what_ffmpeg_makes() {
    if !have("ffmpeg") {
        return;
    }
    let clip = noisy_clip(48, 32, 2, 24.0);
    for scale in 2..=4u32 {
        let edited = Edit { scale, ..Edit::whole(&clip) }.apply(&clip).unwrap();
        // Planar RGB keeps its scaler from going through YUV.
        let filter = format!("format=gbrp,scale=iw*{scale}:ih*{scale}:flags=lanczos+accurate_rnd");
        let mut child = Command::new("ffmpeg")
            .args(["-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-video_size", "48x32", "-i", "-", "-vf", &filter])
            .args(["-pix_fmt", "rgb24", "-f", "rawvideo", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ffmpeg starts");
        // Both frames fit into a pipe's buffer.
        child.stdin.take().unwrap().write_all(&clip.rgb).unwrap();
        let output = child.wait_with_output().unwrap();
        let theirs = Frames { rgb: output.stdout, ..edited.clone() };
        assert_eq!(theirs.count(), 2);
        let psnr = least(&edited.psnr(&theirs));
        println!("{scale} times: {psnr:.2} dB against ffmpeg's");
        assert!(psnr > 50.0, "{scale}: {psnr}");
    }
}

#[test]
fn progress_rises_from_nothing_to_all_at_least_once_a_frame() {
    let folder = folder();
    let clip = noisy_clip(32, 32, 12, 24.0);
    for format in ClipFormat::ALL {
        let path = folder.path().join(format!("clip.{format}"));
        let mut shares = Vec::new();
        let mut look = |share| {
            if share == 1.0 {
                let there = names_in(folder.path()).into_iter().any(|name| name.ends_with(&format!(".{format}")));
                assert!(!there, "{format}: the file has its name too early");
            }
            shares.push(share);
            ControlFlow::Continue(())
        };
        write_clip_watched(&path, &clip, None, &WriteOptions::default(), &mut look).unwrap();
        assert_eq!((shares.first(), shares.last()), (Some(&0.0), Some(&1.0)), "{format}");
        assert!(shares.is_sorted(), "{format}: {shares:?}");
        let mut distinct = shares.clone();
        distinct.dedup();
        assert!(distinct.len() > 12, "{format}: {shares:?}");
        assert!(shares.iter().filter(|&&share| share == 1.0).count() == 1, "{format}: {shares:?}");
        fs::remove_dir_all(folder.path()).unwrap();
        fs::create_dir(folder.path()).unwrap();
    }
}

#[test]
fn a_stopped_export_leaves_the_old_file_and_nothing_else() {
    let clip = Arc::new(noisy_clip(32, 32, 12, 24.0));
    for format in ClipFormat::ALL {
        for stop_at in [0.0, 0.3, 0.7, 1.0] {
            let folder = folder();
            let path = folder.path().join(format!("clip.{format}"));
            let old = if format == ClipFormat::Png { folder.path().join("clip-0000.png") } else { path.clone() };
            fs::write(&old, "the old file").unwrap();
            let request = ExportRequest {
                frames: clip.clone(),
                edit: Edit { scale: 2, ..Edit::whole(&clip) },
                path,
                recipe: None,
                options: WriteOptions { sidecar: Some("{}".to_owned()), ..WriteOptions::default() },
            };
            let stop = &mut |share| if share < stop_at { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
            let error = export::run(&request, stop).unwrap_err();
            assert!(matches!(error, ExportError::Clip(ClipError::Stopped)), "{format} at {stop_at}: {error}");
            assert_eq!(names_in(folder.path()), [old.file_name().unwrap().to_string_lossy()], "{format} at {stop_at}");
            assert_eq!(fs::read(&old).unwrap(), b"the old file", "{format} at {stop_at}");
        }
    }
}

#[test]
fn the_recipe_lies_beside_the_clip_when_asked() {
    let folder = folder();
    let clip = noisy_clip(16, 16, 3, 24.0);
    for format in ClipFormat::ALL {
        let path = folder.path().join(format!("{format}.{format}"));
        let options = WriteOptions { sidecar: Some("{\"seed\":1}".to_owned()), ..WriteOptions::default() };
        let written = write_clip(&path, &clip, None, &options).unwrap();
        let beside = folder.path().join(format!("{format}.recipe.json"));
        assert_eq!(written.sidecar.as_ref(), Some(&beside));
        assert_eq!(fs::read_to_string(&beside).unwrap(), "{\"seed\":1}");
        assert_eq!(read_recipe(&path).unwrap(), None, "{format}");
        let bytes: u64 = written.paths.iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert_eq!((written.paths.len(), written.bytes), (if format == ClipFormat::Png { 3 } else { 1 }, bytes));
    }
    // Where a folder has its name, there is no clip either.
    fs::create_dir(folder.path().join("other.recipe.json")).unwrap();
    let before = names_in(folder.path());
    let options = WriteOptions { sidecar: Some(String::new()), ..WriteOptions::default() };
    assert!(write_clip(&folder.path().join("other.gif"), &clip, None, &options).is_err());
    assert_eq!(names_in(folder.path()), before);
}

#[test]
fn a_shorter_sequence_over_a_longer_one_is_said() {
    let folder = folder();
    let path = folder.path().join("clip.png");
    let note = |count| write_clip(&path, &noisy_clip(16, 16, count, 24.0), None, &WriteOptions::default()).unwrap().note;
    assert_eq!(note(4), None);
    assert!(note(2).is_some_and(|note| note.contains("clip-0002.png")));
}
