//! Errors as a person reads them: what happened, why, what mends it, and the details for a report.

use serde::{Deserialize, Serialize};

use super::{EngineError, LabWish, Shortage, StudioError};
use crate::clip::ClipError;
use crate::generate::GenerateError;
use crate::generate::estimate::Estimate;
use crate::generate::recipe::Recipe;
use crate::gpu::device::ComputeDevice;
use crate::training::TrainError;

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    OutOfMemory,
    DeviceLost,
    DriverTimeout,
    /// The device answers, but computes wrongly.
    WrongNumbers,
    /// A file is missing, damaged, or of another kind.
    BadFile,
    /// A folder cannot be written, or the disk is full.
    Disk,
    /// The settings cannot be used as they are.
    Settings,
    Other,
}

/// What a button beside an error does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// Again, from the last finished step.
    Retry,
    /// Again on the CPU, from the last finished step where the precision allows it.
    UseCpu,
    /// The same with fewer frames.
    Frames(usize),
    /// The same at a smaller size: width and height.
    Size(usize, usize),
    /// Though the estimate says that it does not fit.
    RunAnyway,
    /// Choose the model, or its folder, again.
    ChooseModel,
    /// Put the settings back into the panel.
    EditSettings,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReport {
    pub fault: Fault,
    /// What happened, in a few words.
    pub what: String,
    /// Why, and what to do, in sentences.
    pub why: String,
    pub remedies: Vec<Remedy>,
    /// For those who help: one fact a line.
    pub details: String,
}

impl ErrorReport {
    /// A run ended with an error.
    pub fn of_run(error: &StudioError, recipe: &Recipe, device: Option<&ComputeDevice>) -> Self {
        let fault = Fault::of(error);
        let on_adapter = device.is_some_and(|device| !device.is_cpu());
        let mut remedies = match fault {
            Fault::OutOfMemory => smaller(recipe),
            Fault::DeviceLost | Fault::DriverTimeout | Fault::Other | Fault::Disk => vec![Remedy::Retry],
            Fault::WrongNumbers => Vec::new(),
            Fault::BadFile => vec![Remedy::ChooseModel, Remedy::Retry],
            Fault::Settings => vec![Remedy::EditSettings],
        };
        if on_adapter && matches!(fault, Fault::OutOfMemory | Fault::DeviceLost | Fault::DriverTimeout | Fault::WrongNumbers) {
            remedies.push(Remedy::UseCpu);
        }
        Self {
            fault,
            what: fault.sentence().into(),
            why: error.to_string(),
            remedies,
            details: details(&format!("{error:?}"), recipe, device),
        }
    }

    /// A run of the lab ended with an error.
    pub fn of_lab(error: &StudioError, wish: &LabWish, device: &ComputeDevice) -> Self {
        let fault = Fault::of(error);
        let mut remedies = match fault {
            Fault::OutOfMemory | Fault::Settings | Fault::BadFile => vec![Remedy::EditSettings, Remedy::Retry],
            Fault::WrongNumbers => Vec::new(),
            Fault::DeviceLost | Fault::DriverTimeout | Fault::Other | Fault::Disk => vec![Remedy::Retry],
        };
        if !device.is_cpu()
            && matches!(fault, Fault::OutOfMemory | Fault::DeviceLost | Fault::DriverTimeout | Fault::WrongNumbers)
        {
            remedies.push(Remedy::UseCpu);
        }
        let wished = serde_json::json!(wish);
        let details = format!(
            "program: {}\nsystem: {} {}\ndevice: {}, {}, {} kernels\nlab: {wished}\nerror: {error:?}",
            Recipe::program(),
            std::env::consts::OS,
            std::env::consts::ARCH,
            device.name,
            device.precision,
            device.kernel_tier(),
        );
        Self { fault, what: fault.sentence().into(), why: error.to_string(), remedies, details }
    }

    /// A run was not begun, as it needs more memory than there is.
    pub fn of_memory(estimate: &Estimate, shortage: &Shortage, recipe: &Recipe, device: &ComputeDevice) -> Self {
        let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
        let mut remedies = smaller(recipe);
        remedies.push(Remedy::RunAnyway);
        let (needed, free) = (gigabytes(shortage.needed_bytes), gigabytes(shortage.free_bytes));
        let leave_out = if shortage.is_helper {
            " The device only takes a share: without it, which the settings can say, the others make the clip."
        } else {
            ""
        };
        Self {
            fault: Fault::OutOfMemory,
            what: format!("This needs {needed}, and {free} are free"),
            why: format!(
                "The estimate for {} frames at {}x{} on {} is {needed} of memory. It was not begun, since a program that takes too much may be ended by the system.{leave_out}",
                recipe.frames, recipe.width, recipe.height, shortage.device
            ),
            remedies,
            details: details(&format!("{estimate:?}"), recipe, Some(device)),
        }
    }

    /// All of it, for the clipboard.
    pub fn text(&self) -> String {
        format!("{}\n\n{}\n\n{}\n", self.what, self.why, self.details)
    }
}

impl Fault {
    fn of(error: &StudioError) -> Self {
        match error {
            StudioError::Engine(error) => Self::of_engine(error),
            StudioError::Generate(error) => Self::of_generate(error),
            StudioError::Clip(error) => Self::of_clip(error),
            StudioError::Files { .. } => Self::Disk,
            StudioError::Database { .. } | StudioError::NewerDatabase { .. } => Self::BadFile,
            StudioError::NoSuchStep { .. } | StudioError::NoAttention { .. } => Self::Settings,
            _ => Self::Other,
        }
    }

    fn of_engine(error: &EngineError) -> Self {
        match error {
            EngineError::Generate(error) => Self::of_generate(error),
            EngineError::Train(error) => Self::of_training(error),
            EngineError::Kernel(error) => Self::of_driver_words(&error.reason),
            EngineError::Panicked { message } => Self::of_driver_words(message),
            EngineError::Gone => Self::Other,
        }
    }

    fn of_generate(error: &GenerateError) -> Self {
        match error {
            // A model that is not there any more is no fault of the settings.
            GenerateError::Folder(_) => Self::BadFile,
            error if error.is_usage() => Self::Settings,
            GenerateError::DeviceLost { .. } => Self::DeviceLost,
            GenerateError::DeviceFailed { reason, .. } => Self::of_driver_words(reason),
            GenerateError::NotFinite { .. } | GenerateError::WrongKernel { .. } => Self::WrongNumbers,
            GenerateError::RecordNotWritten { .. } => Self::Disk,
            GenerateError::Clip(error) => Self::of_clip(error),
            GenerateError::Weights(_)
            | GenerateError::Text(_)
            | GenerateError::Unsupported { .. }
            | GenerateError::OtherModel { .. }
            | GenerateError::NoRecipe { .. }
            | GenerateError::NewerRecipe { .. }
            | GenerateError::StepRecord { .. } => Self::BadFile,
            _ => Self::Other,
        }
    }

    fn of_training(error: &TrainError) -> Self {
        match error {
            TrainError::DeviceFailed { reason, .. } => Self::of_driver_words(reason),
            TrainError::Write(_) => Self::Disk,
            TrainError::Clip(error) => Self::of_clip(error),
            TrainError::Checkpoint { .. }
            | TrainError::NoCheckpoint { .. }
            | TrainError::Latents { .. }
            | TrainError::Unreadable { .. }
            | TrainError::Unsupported { .. }
            | TrainError::Weights(_)
            | TrainError::Folder(_)
            | TrainError::Text(_) => Self::BadFile,
            TrainError::NoPlan { .. } | TrainError::TeachersPlace { .. } | TrainError::Mask(_) | TrainError::Settings(_) => {
                Self::Settings
            }
            TrainError::Diverged { .. } | TrainError::Occupied { .. } | TrainError::WrongKernel { .. } => Self::Other,
        }
    }

    fn of_clip(error: &ClipError) -> Self {
        match error {
            ClipError::Io { .. } => Self::Disk,
            ClipError::NotAClip { .. } | ClipError::NoSuchFile { .. } | ClipError::TooLarge { .. } => Self::BadFile,
            _ => Self::Other,
        }
    }

    /// Drivers and libraries hand on words, not kinds.
    fn of_driver_words(reason: &str) -> Self {
        let reason = reason.to_lowercase();
        let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
        // A device that is lost refuses memory too, so it is looked for first.
        if has(&["timeout", "timed out", "watchdog", "hung"]) {
            Self::DriverTimeout
        } else if has(&["lost", "poisoned", "removed", "destroyed"]) {
            Self::DeviceLost
        } else if has(&["out of memory", "outofmemory", "not enough memory", "can't allocate", "allocation", "buffer too big"]) {
            Self::OutOfMemory
        } else {
            Self::Other
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::OutOfMemory => "The memory was not enough",
            Self::DeviceLost => "The graphics device went away",
            Self::DriverTimeout => "The graphics driver took too long and gave up",
            Self::WrongNumbers => "The device computes wrongly",
            Self::BadFile => "A file cannot be used",
            Self::Disk => "A file could not be written",
            Self::Settings => "These settings cannot be used",
            Self::Other => "The run could not go on",
        }
    }
}

/// The next smaller clips worth trying.
fn smaller(recipe: &Recipe) -> Vec<Remedy> {
    let mut remedies = Vec::new();
    if recipe.frames > 29 {
        remedies.push(Remedy::Frames(29));
    } else if recipe.frames > 1 {
        remedies.push(Remedy::Frames((recipe.frames / 2).saturating_sub(1) / 4 * 4 + 1));
    }
    let half = |side: usize| (side / 2 / 16 * 16).max(16);
    if recipe.width > 64 && recipe.height > 64 {
        remedies.push(Remedy::Size(half(recipe.width), half(recipe.height)));
    }
    remedies
}

fn details(error: &str, recipe: &Recipe, device: Option<&ComputeDevice>) -> String {
    let device = match device {
        None => "none was opened".to_owned(),
        Some(device) => {
            let driver = device.adapter.as_ref().map_or("no driver", |adapter| adapter.driver.as_str());
            format!("{}, {driver}, {}, {} kernels", device.name, device.precision, device.kernel_tier())
        }
    };
    format!(
        "program: {}\nsystem: {} {}\ndevice: {device}\nmodel: {} {}\nclip: {} frames, {}x{}, {} steps of {}, guidance {}\nerror: {error}",
        Recipe::program(),
        std::env::consts::OS,
        std::env::consts::ARCH,
        recipe.model.name,
        recipe.model.sha256,
        recipe.frames,
        recipe.width,
        recipe.height,
        recipe.steps,
        recipe.sampler,
        recipe.guidance_scale,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::kernels::KernelError;
    use crate::studio::tests::recipe;

    #[test]
    fn faults_are_told_apart() {
        let of = |error: EngineError| Fault::of(&StudioError::Engine(error));
        let failed =
            |reason: &str| of(EngineError::Generate(GenerateError::DeviceFailed { doing: "sampled", reason: reason.into() }));
        assert_eq!(failed("Out of Memory"), Fault::OutOfMemory);
        assert_eq!(failed("Device is lost: Unknown; out of memory"), Fault::DeviceLost);
        assert_eq!(failed("VK_TIMEOUT: timeout while waiting"), Fault::DriverTimeout);
        assert_eq!(of(EngineError::Kernel(KernelError { kernel: "k", reason: "device_poisoned".into() })), Fault::DeviceLost);
        assert_eq!(of(EngineError::Panicked { message: "index out of range".into() }), Fault::Other);
        let not_finite = GenerateError::NotFinite { part: "VAE", step: 0 };
        assert_eq!(Fault::of(&not_finite.into()), Fault::WrongNumbers);
        assert_eq!(Fault::of(&GenerateError::EmptyPrompt.into()), Fault::Settings);
    }

    #[test]
    fn a_report_says_all_and_offers_legal_sizes() {
        let recipe = recipe("a red ball");
        let error = EngineError::Generate(GenerateError::DeviceFailed { doing: "sampled", reason: "out of memory".into() });
        let report = ErrorReport::of_run(&error.into(), &recipe, None);
        for remedy in &report.remedies {
            let mut smaller = recipe.clone();
            match *remedy {
                Remedy::Frames(frames) => smaller.frames = frames,
                Remedy::Size(width, height) => (smaller.width, smaller.height) = (width, height),
                _ => continue,
            }
            assert_eq!(smaller.size().check(), Ok(()));
            assert_ne!(smaller.size(), recipe.size());
        }
        assert!(report.remedies.len() >= 2);
        let text = report.text();
        for part in ["not enough", "out of memory", "device: none", "29 frames, 256x144", env!("CARGO_PKG_VERSION")] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
