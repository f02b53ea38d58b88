//! Making a clip again from its recipe, and what comes of the comparison.

use crate::clip::{ClipError, Frames};
use crate::generate::recipe::Recipe;
use crate::gpu::device::ComputeDevice;

/// What a second making has shown.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// All pixels of all frames are the same.
    Identical {
        frames_sha256: String,
        /// What shows that the file was edited since, if anything does.
        edited: Option<String>,
    },
    Different {
        /// Why that may be, such as another device.
        reasons: Vec<String>,
        /// Of each frame against those of the file, whose compression counts too, in decibels; or why there is none.
        psnr: Result<Vec<f64>, String>,
    },
}

impl Verdict {
    /// Compares `again` with the clip of `recipe`. `stored` gives the frames of its file.
    pub fn of(
        recipe: &Recipe,
        again: &Frames,
        device: &ComputeDevice,
        stored: impl FnOnce() -> Result<Frames, ClipError>,
    ) -> Self {
        let made = recipe.made.as_ref();
        let (stored, frames_sha256) = (stored(), again.sha256());
        let edited = stored.as_ref().ok().and_then(|stored| edited(stored, again));
        if made.is_some_and(|made| made.frames_sha256 == frames_sha256) {
            return Self::Identical { frames_sha256, edited };
        }
        let here = format!("{}, {}", device.name, device.precision);
        let mut reasons = Vec::new();
        if let Some(made) = made {
            let there = format!("{}, {}", made.device, recipe.precision);
            let driver = device.adapter.as_ref().map(|adapter| adapter.driver.as_str()).unwrap_or_default();
            if there != here {
                reasons.push(format!("it was made on {there}, and this is {here}"));
            } else if made.driver != driver {
                reasons.push(format!("the driver was {}, and is {driver}", made.driver));
            }
            if !made.earlier_devices.is_empty() {
                reasons.push(format!("its first steps were made on {}", made.earlier_devices.join(", ")));
            }
            if made.kernel_tier != device.kernel_tier() {
                reasons.push(format!("the kernels were {}, and are {}", made.kernel_tier, device.kernel_tier()));
            }
        }
        let program = Recipe::program();
        if recipe.program != program {
            reasons.push(format!("it was made by {}, and this is {program}", recipe.program));
        }
        let psnr = match (stored, edited) {
            (_, Some(edited)) => Err(edited),
            (stored, None) => stored.map(|stored| stored.psnr(again)).map_err(|error| error.to_string()),
        };
        Self::Different { reasons, psnr }
    }

    /// The verdict as one sentence.
    pub fn sentence(&self) -> String {
        match self {
            Self::Identical { frames_sha256, edited: None } => format!("identical (SHA-256 {frames_sha256})"),
            Self::Identical { frames_sha256, edited: Some(edited) } => {
                format!("identical (SHA-256 {frames_sha256}). That is about the frames as they were made: {edited}")
            }
            Self::Different { reasons, psnr } => {
                let why = if reasons.is_empty() { "for no reason that is known".to_owned() } else { reasons.join("; ") };
                match psnr {
                    Ok(psnr) => {
                        let worst = psnr.iter().copied().fold(f64::INFINITY, f64::min);
                        format!(
                            "not identical: {why}. PSNR against the file, its compression included: {worst:.1} dB in the worst frame"
                        )
                    }
                    Err(error) => {
                        format!("not identical: {why}. The file's frames cannot be compared: {}", error.trim_end_matches('.'))
                    }
                }
            }
        }
    }
}

/// What shows that a file was edited after its frames were made, if anything does. H.264 adds a column or row to odd sides.
fn edited(stored: &Frames, made: &Frames) -> Option<String> {
    let even = |side: usize| side.next_multiple_of(2);
    let same_size = (even(stored.width), even(stored.height)) == (even(made.width), even(made.height));
    let text = |frames: &Frames| format!("{} frames of {}x{}", frames.count(), frames.width, frames.height);
    (!same_size || stored.count() != made.count())
        .then(|| format!("the file was edited since, and has {} instead of {}", text(stored), text(made)))
}
