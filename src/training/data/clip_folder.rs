//! A person's own clips: files in a folder, each with a sentence beside it, decoded by the system's ffmpeg.
//!
//! `ball.mp4` goes with `ball.txt`. Clips are scaled and cut to the size that the model is for, and begin at their first frame.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::model::latent::ClipSize;
use crate::training::error::TrainError;
use crate::world::scene::FRAMES_PER_SECOND;

/// What a file's name may end with.
const ENDINGS: [&str; 9] = ["mp4", "webm", "mov", "mkv", "avi", "gif", "webp", "m4v", "apng"];
/// Of a sentence's file, in bytes.
const LONGEST_SENTENCE: u64 = 1 << 16;

/// One clip with its sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnClip {
    pub path: PathBuf,
    pub sentence: String,
}

/// The clips of a folder, in the order of their names, and what identifies them.
///
/// # Errors
/// The folder cannot be read, holds no clips, or a clip has no sentence.
pub fn list(folder: &Path) -> Result<(Vec<OwnClip>, String), TrainError> {
    let unreadable = |path: &Path, reason: String| TrainError::Unreadable { path: path.to_owned(), reason };
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable(folder, error.kind().to_string()))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| is_clip(path)).collect();
    paths.sort();
    if paths.is_empty() {
        return Err(unreadable(folder, format!("it holds no clips ({})", ENDINGS.join(", "))));
    }
    let mut hash = Sha256::new();
    let mut clips = Vec::new();
    let mut silent = Vec::new();
    for path in paths {
        let text = path.with_extension("txt");
        let sentence = match std::fs::metadata(&text) {
            Ok(facts) if facts.len() <= LONGEST_SENTENCE => {
                std::fs::read_to_string(&text).map_err(|error| unreadable(&text, error.to_string()))?.trim().to_owned()
            }
            Ok(_) => return Err(unreadable(&text, format!("it is longer than {LONGEST_SENTENCE} bytes"))),
            Err(_) => String::new(),
        };
        if sentence.is_empty() {
            silent.push(text.file_name().unwrap_or_default().to_string_lossy().into_owned());
            continue;
        }
        let bytes = std::fs::metadata(&path).map_err(|error| unreadable(&path, error.kind().to_string()))?.len();
        hash.update(format!("{} {bytes}\n", path.display()));
        clips.push(OwnClip { path, sentence });
    }
    if !silent.is_empty() {
        let some = silent.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
        let more = if silent.len() > 3 { format!(" and {} more", silent.len() - 3) } else { String::new() };
        return Err(unreadable(
            folder,
            format!("every clip needs a sentence in a file beside it; missing or empty: {some}{more}"),
        ));
    }
    Ok((clips, hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}

fn is_clip(path: &Path) -> bool {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    path.is_file() && ENDINGS.contains(&ending.as_str())
}

/// The frames of a clip as values in [-1, 1], `[frames, height, width, 3]`. None if it is too short.
///
/// # Errors
/// There is no ffmpeg, or it cannot read the file.
pub fn decode(path: &Path, size: ClipSize) -> Result<Option<Vec<f32>>, TrainError> {
    let ClipSize { frames, width, height } = size;
    let unreadable = |reason: String| TrainError::Unreadable { path: path.to_owned(), reason };
    let filter = format!(
        "fps={FRAMES_PER_SECOND},scale={width}:{height}:force_original_aspect_ratio=increase:flags=area,crop={width}:{height}"
    );
    let mut child = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(path)
        .args(["-vf", &filter, "-frames:v", &frames.to_string(), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => unreadable("the program ffmpeg, which decodes clips, is not installed".into()),
            kind => unreadable(format!("ffmpeg cannot be started: {kind}")),
        })?;
    let bytes = frames * width * height * 3;
    let mut pixels = Vec::with_capacity(bytes);
    let read = child.stdout.take().map(|output| output.take(bytes as u64).read_to_end(&mut pixels));
    let result = child.wait_with_output().map_err(|error| unreadable(error.kind().to_string()))?;
    if let Some(Err(error)) = read {
        return Err(unreadable(error.kind().to_string()));
    }
    if !result.status.success() {
        let words = String::from_utf8_lossy(&result.stderr);
        return Err(unreadable(format!("ffmpeg cannot decode it ({})", words.lines().next().unwrap_or("no reason given"))));
    }
    let values = || pixels.iter().map(|&byte| f32::from(byte) * (2.0 / 255.0) - 1.0).collect();
    Ok((pixels.len() == bytes).then(values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_go_with_their_sentences() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        let refused = || list(folder.path()).expect_err("refused").to_string();
        assert!(refused().contains("holds no clips"), "{}", refused());
        write("b.mp4", "clip");
        write("a.WEBM", "clip");
        write("readme.md", "text");
        write("b.txt", " a red ball \n");
        assert!(refused().contains("a.txt"), "{}", refused());
        write("a.txt", "a blue cube");
        let (clips, identity) = list(folder.path()).expect("clips");
        assert_eq!(clips.iter().map(|clip| clip.sentence.as_str()).collect::<Vec<_>>(), ["a blue cube", "a red ball"]);
        write("b.mp4", "another clip");
        assert_ne!(list(folder.path()).expect("clips").1, identity);
    }

    #[test]
    fn what_is_no_clip_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.mp4");
        std::fs::write(&path, "no clip").expect("written");
        let error = decode(&path, ClipSize { frames: 5, width: 32, height: 32 }).expect_err("refused").to_string();
        assert!(error.contains("ffmpeg"), "{error}");
    }
}
