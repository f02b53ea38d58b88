//! Clip files judged by others: ffmpeg and ffprobe (and libwebp's tools where they are there) read what we wrote, and hostile bytes get errors.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use tilereel::clip::{ClipError, ClipFormat, Frames, WriteOptions, contact_sheet, read_frames, read_recipe, write_clip};

use super::judges::{decoded_by_ffmpeg, folder, have, least, noisy_clip, output_of, probe, write};

/// Quotes, brackets that end things in XML, other scripts, an emoji, escapes.
const RECIPE: &str = "{\"prompt\":\"a \\\"red\\\" fox 🦊 ]]> <&amp;> Füße 狐\\n\",\"seed\":1}";

#[test]
fn ffmpeg_sees_every_frame_of_every_kind() {
    if !have("ffmpeg") {
        return;
    }
    let folder = folder();
    let frames = noisy_clip(256, 144, 26, 24.0);
    // Measured: mp4 39.4, webm 37.6, gif 35.7; the others keep every bit.
    for (ending, least_psnr) in [("mp4", 39.0), ("webm", 37.0), ("gif", 35.0), ("apng", f64::INFINITY)] {
        let path = folder.path().join(format!("clip.{ending}"));
        let written = write(&path, &frames, Some(RECIPE));
        assert_eq!(written.bytes, fs::metadata(&path).unwrap().len());
        let decoded = decoded_by_ffmpeg(&path, &frames);
        assert_eq!(decoded.count(), frames.count(), "{ending}");
        let psnr = least(&decoded.psnr(&frames));
        println!("{ending}: {} bytes, at least {psnr:.2} dB by ffmpeg", written.bytes);
        assert!(psnr >= least_psnr, "{ending}: {psnr}");

        let stream = &probe(&path)["streams"][0];
        assert_eq!(stream["width"], 256, "{ending}");
        assert_eq!(stream["height"], 144, "{ending}");
        let rate = stream["avg_frame_rate"].as_str().unwrap();
        let (numerator, denominator) = rate.split_once('/').unwrap();
        let rate = numerator.parse::<f64>().unwrap() / denominator.parse::<f64>().unwrap();
        assert!((rate - written.frames_per_second).abs() < 0.15, "{ending}: {rate} for {}", written.frames_per_second);
    }

    let written = write(&folder.path().join("still.png"), &frames, Some(RECIPE));
    assert_eq!(written.paths.len(), 26);
    let pattern = folder.path().join("still-%04d.png");
    assert_eq!(decoded_by_ffmpeg(&pattern, &frames).rgb, frames.rgb);
}

#[test]
fn video_is_tagged_as_what_it_is() {
    if !have("ffmpeg") {
        return;
    }
    let folder = folder();
    for (ending, recipe_tag) in [("mp4", "tilereel.recipe"), ("webm", "TILEREEL_RECIPE")] {
        for (rate, fraction) in [(24.0, "24/1"), (23.976, "24000/1001"), (8.0, "8/1")] {
            let path = folder.path().join(format!("clip.{ending}"));
            write(&path, &noisy_clip(64, 48, 6, rate), Some(RECIPE));
            let probed = probe(&path);
            let stream = &probed["streams"][0];
            for (field, expected) in [
                ("color_range", "tv"),
                ("color_space", "bt709"),
                ("color_transfer", "bt709"),
                ("color_primaries", "bt709"),
                ("chroma_location", "left"),
                ("pix_fmt", "yuv420p"),
                ("r_frame_rate", fraction),
                ("nb_read_frames", "6"),
            ] {
                assert_eq!(stream[field], expected, "{ending} {rate}: {field}");
            }
            assert_eq!(probed["format"]["tags"][recipe_tag], RECIPE, "{ending}");
            let duration: f64 = probed["format"]["duration"].as_str().unwrap().parse().unwrap();
            assert!((duration - 6.0 / rate).abs() < 0.001, "{ending} {duration}");
        }
    }
}

#[test]
fn a_key_frame_comes_at_least_every_two_seconds() {
    if !have("ffmpeg") {
        return;
    }
    let folder = folder();
    for ending in ["mp4", "webm"] {
        let path = folder.path().join(format!("clip.{ending}"));
        write(&path, &noisy_clip(32, 32, 30, 6.0), None);
        let mut command = Command::new("ffprobe");
        command.args(["-v", "error", "-show_entries", "packet=flags", "-of", "csv=p=0"]).arg(&path);
        let text = String::from_utf8(output_of(&mut command)).unwrap();
        let keys: Vec<usize> =
            text.lines().enumerate().filter(|(_, flags)| flags.contains('K')).map(|(index, _)| index).collect();
        assert_eq!(keys.first(), Some(&0), "{ending}");
        assert!(keys.windows(2).all(|pair| pair[1] - pair[0] <= 12) && keys.len() >= 3, "{ending}: {keys:?}");
    }
}

#[test]
fn libwebp_shows_the_animation() {
    // Of Debian's package `webp`; ffmpeg 5.1 knows still WebP only.
    if !have("webpmux") || !have("dwebp") {
        return;
    }
    let folder = folder();
    let frames = noisy_clip(64, 48, 5, 24.0);
    let path = folder.path().join("clip.webp");
    write(&path, &frames, Some(RECIPE));
    let report = output_of(Command::new("webpmux").arg("-info").arg(&path));
    let report = String::from_utf8_lossy(&report).into_owned();
    for expected in ["64 x 48", "Number of frames: 5", "XMP metadata"] {
        assert!(report.contains(expected), "{expected}: {report}");
    }
    // 24 frames a second in milliseconds.
    let lengths: Vec<&str> =
        report.lines().filter(|line| line.contains(" 64 ")).filter_map(|line| line.split_whitespace().nth(6)).collect();
    assert_eq!(lengths, ["42", "41", "42", "42", "41"], "{report}");
    let (still, picture) = (folder.path().join("still.webp"), folder.path().join("a.png"));
    for index in 0..5 {
        let mut command = Command::new("webpmux");
        command.args(["-get", "frame", &(index + 1).to_string()]);
        output_of(command.arg(&path).arg("-o").arg(&still));
        output_of(Command::new("dwebp").arg(&still).arg("-o").arg(&picture));
        let seen = read_frames(&picture).unwrap();
        assert_eq!(seen.rgb, frames.frame(index), "frame {index}");
    }
}

#[test]
fn recipes_come_back_from_every_kind() {
    let folder = folder();
    let frames = noisy_clip(16, 16, 2, 24.0);
    let long = format!("{{\"prompt\":\"{}\"}}", "längere Wörter 🦊 ".repeat(5000));
    assert!(long.len() > 100 << 10);
    // Characters that XML cannot hold, or changes.
    let odd = "\u{FFFE}\u{1}\r\n\u{7F}".to_owned();
    let mut recipes = vec![String::new(), RECIPE.to_owned(), long, odd];
    // Lengths at which sizes need one byte more, or are forbidden, in one of the containers.
    for length in [100, 126, 127, 239, 240, 255, 1024, 1025, 16_382, 16_383, 16_384] {
        recipes.push("x".repeat(length));
    }
    for format in ClipFormat::ALL {
        for recipe in &recipes {
            let path = folder.path().join(format!("clip.{format}"));
            write(&path, &frames, Some(recipe));
            let got = read_recipe(&path).unwrap();
            assert_eq!(got.as_ref(), Some(recipe), "{format}, {} bytes", recipe.len());
        }
    }
}

#[test]
fn without_a_recipe_nothing_of_it_is_inside() {
    let folder = folder();
    let frames = noisy_clip(16, 16, 2, 24.0);
    for format in ClipFormat::ALL {
        let path = folder.path().join(format!("clip.{format}"));
        let written = write(&path, &frames, None);
        assert_eq!(read_recipe(&path).unwrap(), None, "{format}");
        for path in &written.paths {
            let text = String::from_utf8_lossy(&fs::read(path).unwrap()).to_lowercase();
            assert!(!text.contains("recipe"), "{format}");
        }
    }
}

#[test]
fn equal_frames_make_equal_files() {
    let folder = folder();
    let frames = noisy_clip(64, 48, 9, 24.0);
    for format in ClipFormat::ALL {
        let read_all = |name: &str| -> Vec<Vec<u8>> {
            let path = folder.path().join(format!("{name}.{format}"));
            let written = write(&path, &frames, Some(RECIPE));
            written.paths.iter().map(|path| fs::read(path).unwrap()).collect()
        };
        assert_eq!(read_all("first"), read_all("second"), "{format}");
    }
}

#[test]
fn frames_come_back_through_our_own_readers() {
    let folder = folder();
    let frames = noisy_clip(128, 96, 7, 24.0);
    for (format, least_psnr) in [
        (ClipFormat::Mp4, 39.0),
        (ClipFormat::Gif, 35.0),
        (ClipFormat::Apng, f64::INFINITY),
        (ClipFormat::Webp, f64::INFINITY),
        (ClipFormat::Png, f64::INFINITY),
    ] {
        let path = folder.path().join(format!("clip.{format}"));
        let written = write(&path, &frames, Some(RECIPE));
        let back = read_frames(&path).unwrap();
        assert_eq!((back.width, back.height, back.count()), (128, 96, 7));
        assert!(least(&back.psnr(&frames)) >= least_psnr, "{format}");
        assert!((written.frames_per_second - 24.0).abs() < 0.2, "{format}: {}", written.frames_per_second);
        assert_eq!(back.frames_per_second, 24.0, "{format}");
    }
    let path = folder.path().join("clip.webm");
    write(&path, &frames, None);
    assert!(matches!(read_frames(&path), Err(ClipError::NoBundledDecoder { .. })));
}

#[test]
fn our_reader_and_ffmpeg_agree_about_the_colours_of_mp4() {
    if !have("ffmpeg") {
        return;
    }
    let folder = folder();
    let path = folder.path().join("clip.mp4");
    let frames = noisy_clip(128, 96, 4, 24.0);
    write(&path, &frames, None);
    let psnr = least(&read_frames(&path).unwrap().psnr(&decoded_by_ffmpeg(&path, &frames)));
    println!("our RGB against ffmpeg's RGB of the same planes: {psnr:.2} dB");
    assert!(psnr > 42.0, "{psnr}");
}

#[test]
fn lossy_webp_is_smaller_and_still_good() {
    let folder = folder();
    let frames = noisy_clip(128, 96, 3, 24.0);
    let lossless = write(&folder.path().join("a.webp"), &frames, None);
    let path = folder.path().join("b.webp");
    let options = |quality| WriteOptions { webp_quality: Some(quality), ..WriteOptions::default() };
    let lossy = write_clip(&path, &frames, None, &options(90.0)).unwrap();
    assert!(lossy.bytes * 2 < lossless.bytes);
    assert!(least(&read_frames(&path).unwrap().psnr(&frames)) > 34.0);
    assert!(matches!(write_clip(&path, &frames, None, &options(f32::NAN)), Err(ClipError::Encode { .. })));
}

#[test]
fn odd_sides_are_kept_or_said() {
    let folder = folder();
    let frames = noisy_clip(35, 17, 2, 24.0);
    for format in ClipFormat::ALL {
        let path = folder.path().join(format!("clip.{format}"));
        let written = write(&path, &frames, None);
        let expected = match format {
            ClipFormat::Mp4 => (36, 18),
            _ => (35, 17),
        };
        if format == ClipFormat::Mp4 {
            assert!(written.note.unwrap().contains("36x18"));
        }
        if format != ClipFormat::Webm {
            let back = read_frames(&path).unwrap();
            assert_eq!((back.width, back.height), expected, "{format}");
        }
        if ["mp4", "webm"].contains(&format.ending()) && have("ffmpeg") {
            let stream = &probe(&path)["streams"][0];
            assert_eq!(stream["width"], expected.0, "{format}");
            assert_eq!(stream["height"], expected.1, "{format}");
            assert_eq!(stream["nb_read_frames"], "2", "{format}");
        }
    }
}

#[test]
fn the_index_of_mp4_comes_before_the_pictures() {
    let folder = folder();
    let path = folder.path().join("clip.mp4");
    write(&path, &noisy_clip(16, 16, 2, 24.0), None);
    let bytes = fs::read(&path).unwrap();
    let place = |kind: &[u8]| bytes.windows(4).position(|window| window == kind).unwrap();
    assert!(place(b"moov") < place(b"mdat"));
}

#[test]
fn gif_says_its_real_rate() {
    let folder = folder();
    let written = write(&folder.path().join("clip.gif"), &noisy_clip(16, 16, 29, 24.0), None);
    // 29 frames last 121 hundredths.
    assert!((written.frames_per_second - 2900.0 / 121.0).abs() < 1e-9);
    assert!(written.note.unwrap().contains("hundredths"));
    let exact = write(&folder.path().join("exact.gif"), &noisy_clip(16, 16, 4, 25.0), None);
    assert_eq!((exact.frames_per_second, exact.note), (25.0, None));
}

#[test]
fn a_contact_sheet_is_one_picture() {
    let folder = folder();
    let (a, b) = (noisy_clip(64, 32, 9, 24.0), noisy_clip(64, 32, 5, 24.0));
    let sheet = contact_sheet(&[&a, &b], 5, 64).unwrap();
    let path = folder.path().join("sheet.png");
    let written = write(&path, &sheet, None);
    assert_eq!(written.paths, std::slice::from_ref(&path));
    let back = read_frames(&path).unwrap();
    assert_eq!((back.width, back.height, back.count()), (320, 64, 1));
    // The second tile of the first row is frame 2 of 0..=8.
    assert_eq!(back.rgb[64 * 3..128 * 3], a.frame(2)[..64 * 3]);
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn errors_are_typed_and_leave_nothing_behind() {
    let folder = folder();
    let frames = noisy_clip(16, 16, 2, 24.0);
    let attempt =
        |name: &str, frames: &Frames| write_clip(&folder.path().join(name), frames, None, &WriteOptions::default()).unwrap_err();
    let error = attempt("clip.avi", &frames);
    assert!(error.to_string().contains(".webm"), "{error}");
    assert!(matches!(error, ClipError::UnknownEnding { .. }));
    assert!(matches!(attempt("no/such/folder/clip.mp4", &frames), ClipError::MissingFolder { .. }));
    let cut = Frames { rgb: frames.rgb[1..].to_vec(), ..frames.clone() };
    assert!(matches!(attempt("clip.gif", &cut), ClipError::InvalidFrames { .. }));
    for rate in [0.0, -24.0, f64::NAN] {
        let stopped = Frames { frames_per_second: rate, ..frames.clone() };
        assert!(matches!(attempt("a.webp", &stopped), ClipError::InvalidFrames { .. }));
    }
    let tiny = noisy_clip(8, 8, 1, 24.0);
    let error = attempt("clip.mp4", &tiny);
    assert!(error.to_string().contains("16x16"), "{error}");
    assert!(files_in(folder.path()).is_empty());

    // The fourth name of a sequence cannot be given: a folder has it.
    fs::create_dir(folder.path().join("s-0003.png")).unwrap();
    let five = noisy_clip(16, 16, 5, 24.0);
    assert!(matches!(attempt("s.png", &five), ClipError::Io { .. }));
    assert_eq!(files_in(folder.path()).len(), 1);

    assert!(matches!(read_recipe(&folder.path().join("none.mp4")), Err(ClipError::NoSuchFile { .. })));
    let text = folder.path().join("text.mp4");
    fs::write(&text, "not a clip").unwrap();
    assert!(matches!(read_recipe(&text), Err(ClipError::NotAClip { .. })));
    assert!(matches!(read_frames(&text), Err(ClipError::NotAClip { .. })));
}

#[test]
fn names_with_spaces_and_other_scripts_work_and_files_are_replaced() {
    let folder = folder();
    let inner = folder.path().join("mein Ordner 狐");
    fs::create_dir(&inner).unwrap();
    for format in ClipFormat::ALL {
        let path = inner.join(format!("ein Füchslein 🦊.{format}"));
        for count in [3, 1] {
            let written = write(&path, &noisy_clip(16, 16, count, 24.0), Some(RECIPE));
            for path in &written.paths {
                assert_eq!(read_recipe(path).unwrap().as_deref(), Some(RECIPE));
            }
        }
    }
    // 5 single files replaced, 3 of a sequence, 1 still.
    assert_eq!(files_in(&inner).len(), 9);
}

#[cfg(unix)]
#[test]
fn clips_have_the_permissions_of_ordinary_files() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let (clip, ordinary) = (folder.path().join("a.gif"), folder.path().join("b"));
    write(&clip, &noisy_clip(16, 16, 1, 24.0), None);
    fs::write(&ordinary, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&clip), mode(&ordinary));
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_takes_no_files_is_named() {
    // Nobody, not even root, creates files there.
    let error =
        write_clip(Path::new("/proc/self/clip.mp4"), &noisy_clip(16, 16, 1, 24.0), None, &WriteOptions::default()).unwrap_err();
    assert!(matches!(error, ClipError::NotWritable { .. } | ClipError::MissingFolder { .. }), "{error}");
}

/// Every way in which bytes can be hostile must come back, with frames or with an error, and without a panic.
fn survives(path: &Path, bytes: &[u8], what: &str) -> bool {
    fs::write(path, bytes).unwrap();
    catch_unwind(AssertUnwindSafe(|| {
        let recipe = read_recipe(path).is_ok();
        read_frames(path).is_ok() && recipe
    }))
    .unwrap_or_else(|_| panic!("{}: {what}", path.display()))
}

#[test]
fn hostile_files_get_errors() {
    let folder = folder();
    let frames = noisy_clip(16, 16, 3, 24.0);
    for format in ClipFormat::ALL {
        let path = folder.path().join(format!("clip.{format}"));
        let written = write(&path, &frames, Some(RECIPE));
        let file = fs::read(&written.paths[0]).unwrap();
        let hostile = folder.path().join(format!("hostile.{format}"));

        // GIF and PNG may lack their end mark; otherwise no part is the whole.
        let end_mark = match format {
            ClipFormat::Gif => 1,
            ClipFormat::Apng | ClipFormat::Png => 12,
            _ => 0,
        };
        for length in (0..file.len()).step_by(1 + file.len() / 400) {
            let readable = survives(&hostile, &file[..length], "cut");
            assert!(!readable || length + end_mark >= file.len(), "{format}: {length} of {} bytes read as whole", file.len());
        }

        let mut state = 7u32;
        for round in 0..1500usize {
            let mut bytes = file.clone();
            for _ in 0..=round % 3 {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                // Half of the rounds go for the headers, where the sizes are.
                let range = if round % 2 == 0 { bytes.len() } else { bytes.len().min(300) };
                let at = state as usize % range;
                bytes[at] = match round % 5 {
                    0 => 0xFF,
                    1 => 0,
                    2 => 0x7F,
                    _ => bytes[at] ^ (1 << (state >> 29)),
                };
            }
            survives(&hostile, &bytes, "flipped");
        }
    }
}
