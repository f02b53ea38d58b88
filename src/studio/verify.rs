//! Making a clip again from its recipe, and what comes of the comparison.

use crate::clip::{ClipError, Frames};
use crate::generate::recipe::Recipe;
use crate::gpu::device::ComputeDevice;

/// What a second making has shown.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// All pixels of all frames are the same.
    Identical { frames_sha256: String },
    Different {
        /// Why that may be, such as another device.
        reasons: Vec<String>,
        /// Of each frame against those of the file, whose compression counts too, in decibels; or why there is none.
        psnr: Result<Vec<f64>, String>,
    },
}

impl Verdict {
    /// Compares `again` with the clip of `recipe`. `stored` gives the frames of its file, and is asked only where they differ.
    pub fn of(
        recipe: &Recipe,
        again: &Frames,
        device: &ComputeDevice,
        stored: impl FnOnce() -> Result<Frames, ClipError>,
    ) -> Self {
        let made = recipe.made.as_ref();
        let frames_sha256 = again.sha256();
        if made.is_some_and(|made| made.frames_sha256 == frames_sha256) {
            return Self::Identical { frames_sha256 };
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
            if made.kernel_tier != device.kernel_tier() {
                reasons.push(format!("the kernels were {}, and are {}", made.kernel_tier, device.kernel_tier()));
            }
        }
        let program = Recipe::program();
        if recipe.program != program {
            reasons.push(format!("it was made by {}, and this is {program}", recipe.program));
        }
        let psnr = stored().map_err(|error| error.to_string()).and_then(|stored| {
            let same_size = (stored.width, stored.height, stored.count()) == (again.width, again.height, again.count());
            same_size.then(|| stored.psnr(again)).ok_or_else(|| {
                format!(
                    "the file was edited: it has {} frames of {}x{}, and {} of {}x{} were made",
                    stored.count(),
                    stored.width,
                    stored.height,
                    again.count(),
                    again.width,
                    again.height
                )
            })
        });
        Self::Different { reasons, psnr }
    }

    /// The verdict as one sentence.
    pub fn sentence(&self) -> String {
        match self {
            Self::Identical { frames_sha256 } => format!("identical (SHA-256 {frames_sha256})"),
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
