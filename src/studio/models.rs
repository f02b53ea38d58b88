//! The models that can be chosen: opened, with what the settings panel asks of them.

use std::path::Path;
use std::sync::Arc;

use crate::generate::GenerateError;
use crate::generate::estimate::{Estimate, ModelCosts, Speeds};
use crate::generate::pipeline::{load_tokenizer, transformer_config};
use crate::generate::recipe::{MaskChoice, Recipe};
use crate::gpu::device::{ComputeDevice, Precision};
use crate::mask::{MaskPlan, Neighbours};
use crate::model::folder::{ListedModel, ModelFolder, SearchPath, list};
use crate::model::text::{Tokenizer, prompt_text};

/// From so many seconds on a run counts as slow.
const SLOW_SECONDS: f64 = 600.0;

/// A model whose files were found and listed, but not loaded.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// The name or folder that it was asked for by.
    pub name: String,
    pub folder: ModelFolder,
    pub layers: usize,
    pub costs: ModelCosts,
    /// Its own settings, without a prompt and without its hash.
    pub(super) recipe: Recipe,
    tokenizer: Arc<Tokenizer>,
}

/// One position of the mask dial.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskStop {
    pub choice: MaskChoice,
    /// `dense`, `plan` or the paper's k:(F-k).
    pub name: String,
    /// Share of the tiles that are computed.
    pub density: f64,
}

/// Whether a run suits this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Fits,
    Slow,
    WontFit,
}

impl ModelInfo {
    /// Opens a model by its name or folder. All files are read once for their hash, so a large model takes a while.
    ///
    /// # Errors
    /// There is no such model, or a part of it is missing or damaged.
    pub fn open(name: &str) -> Result<Self, GenerateError> {
        let model = Self::find(name)?;
        model.folder.hash()?;
        Ok(model)
    }

    /// As [`ModelInfo::open`], but without the hash: quick for every model.
    ///
    /// # Errors
    /// As there.
    pub fn find(name: &str) -> Result<Self, GenerateError> {
        Self::of_folder(name, ModelFolder::resolve(name, &SearchPath::standard())?)
    }

    /// As [`ModelInfo::find`], of a folder that was found before.
    ///
    /// # Errors
    /// A part of it is damaged.
    pub fn of_folder(name: &str, folder: ModelFolder) -> Result<Self, GenerateError> {
        Ok(Self {
            name: name.to_owned(),
            layers: transformer_config(&folder)?.num_layers,
            costs: ModelCosts::of(&folder)?,
            recipe: Recipe::without_hash(&folder, "", Precision::F32)?,
            tokenizer: Arc::new(load_tokenizer(&folder)?),
            folder,
        })
    }

    /// How many tokens a prompt has, its template and end included. The model reads the first `max_tokens` of its facts.
    pub fn prompt_tokens(&self, prompt: &str) -> usize {
        let defaults = &self.folder.facts().defaults;
        let text = prompt_text(prompt, &defaults.prompt_template, defaults.clean_caption);
        // A text that the tokenizer fails at is told when it runs.
        self.tokenizer.encode_unpadded(&text).map_or(0, |ids| ids.len())
    }

    /// The plan that was searched for the model, for so many latent frames; none if it has none that can be adapted.
    pub fn searched_plan(&self, latent_frames: usize) -> Option<MaskPlan> {
        let text = self.folder.mask_plan().ok()??;
        MaskPlan::from_json(&text).and_then(|plan| plan.adapted(latent_frames)).ok()
    }

    /// The positions of the mask dial for so many latent frames, densest first.
    pub fn mask_stops(&self, latent_frames: usize) -> Vec<MaskStop> {
        let mut stops = Vec::new();
        let mut add = |choice: MaskChoice, name: &str, plan: Option<MaskPlan>| {
            if let Some(plan) = plan {
                stops.push(MaskStop { choice, name: name.to_owned(), density: plan.density() });
            }
        };
        add(MaskChoice::Dense, "dense", MaskPlan::dense(self.layers, latent_frames).ok());
        add(MaskChoice::Plan, "plan", self.searched_plan(latent_frames));
        for neighbours in Neighbours::MEASURED {
            let plan = MaskPlan::uniform(self.layers, latent_frames, &neighbours.name()).ok();
            // In a clip of few frames everything is near.
            add(MaskChoice::Uniform(neighbours.name()), &neighbours.name(), plan.filter(|plan| plan.density() < 1.0));
        }
        for references in 1..latent_frames {
            let name = format!("{references}:{}", latent_frames - references);
            // Not every number of evenly spaced reference frames has room.
            add(MaskChoice::Uniform(name.clone()), &name, MaskPlan::uniform(self.layers, latent_frames, &name).ok());
        }
        stops.sort_by(|a, b| b.density.total_cmp(&a.density));
        stops
    }

    /// # Errors
    /// The recipe is not one for this model.
    pub fn estimate(&self, recipe: &Recipe, device: &ComputeDevice, speeds: &Speeds) -> Result<Estimate, GenerateError> {
        self.costs.estimate(recipe, device, speeds)
    }
}

/// A device that has less memory than a run needs there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    pub device: String,
    pub needed_bytes: u64,
    pub free_bytes: u64,
    /// It only takes a share, and could be left out.
    pub is_helper: bool,
}

impl Shortage {
    /// The first of the devices that is short of memory; `free` is what a device has for the run, not known on some. Devices of one
    /// adapter share its memory, and so does what runs on the CPU.
    pub fn find(estimate: &Estimate, device: &ComputeDevice, free: impl Fn(&ComputeDevice) -> Option<u64>) -> Option<Self> {
        let needed = std::iter::once(estimate.memory_bytes).chain(estimate.others_memory_bytes.iter().copied());
        let devices: Vec<_> = std::iter::once(device).chain(&device.others).zip(needed).collect();
        devices.iter().enumerate().find_map(|(at, (device, _))| {
            let needed_bytes =
                devices[..=at].iter().filter(|(other, _)| other.place() == device.place()).map(|(_, needed)| needed).sum();
            let free_bytes = free(device).filter(|free| needed_bytes > *free)?;
            Some(Self { device: device.name.clone(), needed_bytes, free_bytes, is_helper: at > 0 })
        })
    }
}

impl Fit {
    /// `shortage` is what [`Shortage::find`] found.
    pub fn of(estimate: &Estimate, shortage: Option<&Shortage>) -> Self {
        if shortage.is_some() {
            Self::WontFit
        } else if estimate.seconds > SLOW_SECONDS {
            Self::Slow
        } else {
            Self::Fits
        }
    }

    pub fn words(self) -> &'static str {
        match self {
            Self::Fits => "Fits",
            Self::Slow => "Slow",
            Self::WontFit => "Won't fit",
        }
    }
}

/// Memory that a run on this device may take now: the device's own, or on the CPU what is free. None where it is not known.
pub fn free_memory(device: &ComputeDevice) -> Option<u64> {
    match &device.adapter {
        Some(adapter) => adapter.memory_bytes,
        None => {
            let mut system = sysinfo::System::new().ok()?;
            system.refresh_memory();
            Some(system.available_memory()).filter(|&bytes| bytes > 0)
        }
    }
}

/// The models that the search path holds, and those folders that the person opened.
pub fn listed(opened: &[String]) -> Vec<ListedModel> {
    let mut models = list(&SearchPath::standard());
    for name in opened {
        if models.iter().all(|model| model.location != *name && model.name != *name) {
            let folder = ModelFolder::resolve(name, &SearchPath::standard());
            models.push(ListedModel { name: name.clone(), location: name.clone(), folder });
        }
    }
    models
}

/// Where a model lies whose name alone might mean another on the next start.
pub fn lasting_name(name: &str) -> String {
    match Path::new(name) {
        path if path.is_dir() => std::path::absolute(path).map_or_else(|_| name.to_owned(), |path| path.display().to_string()),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_of_the_vocabulary_is_known_to_the_tokenizer() {
        for name in ["base", "fast"] {
            let model = ModelInfo::open(name).unwrap();
            let vocabulary = &model.folder.facts().vocabulary;
            let titles: Vec<&str> = vocabulary.iter().map(|group| group.title.as_str()).collect();
            assert_eq!(titles, ["material", "colour", "shape", "motion", "ground", "light", "camera"]);
            for phrase in vocabulary.iter().flat_map(|group| &group.words).flatten() {
                let ids = model.tokenizer.encode_unpadded(phrase).unwrap();
                let pieces: Vec<&str> = ids.iter().map(|&id| model.tokenizer.piece(id).unwrap()).collect();
                assert!(!pieces.contains(&"<unk>"), "{phrase}: {pieces:?}");
            }
            let unknown = model.tokenizer.encode_unpadded("\u{4e2d}").unwrap();
            assert!(unknown.iter().any(|&id| model.tokenizer.piece(id) == Some("<unk>")), "the test could not fail");
        }
    }

    #[test]
    fn the_tokens_of_a_prompt_are_counted_as_the_model_reads_them() {
        let model = ModelInfo::open("fast").unwrap();
        // Only the end of the text.
        assert_eq!(model.prompt_tokens(""), 1);
        let short = model.prompt_tokens("a shiny red ball bounces on the snow at sunset");
        assert!((9..20).contains(&short), "{short}");
        assert_eq!(model.prompt_tokens("a  Shiny red BALL bounces on the snow at sunset "), short);
        assert!(model.prompt_tokens(&"a red ball ".repeat(30)) > model.folder.facts().trained.max_tokens);
    }

    #[test]
    fn every_device_needs_room_of_its_own() {
        use crate::gpu::device::{AdapterReport, DeviceChoice, open};

        let model = ModelInfo::find("fast").unwrap();
        let cpu = open(&DeviceChoice::Cpu, None).unwrap();
        let on = |index, gigabytes: u64| {
            let report = AdapterReport { memory_bytes: Some(gigabytes << 30), ..AdapterReport::stand_in(index, "G") };
            ComputeDevice { adapter: Some(Box::new(report)), name: format!("G{index}"), ..cpu.clone() }
        };
        let with = |first: ComputeDevice, others: Vec<ComputeDevice>| ComputeDevice { others, ..first };
        let recipe = Recipe::of_model(&model.folder, "a red ball", Precision::F32).unwrap();
        let find = |device: &ComputeDevice| {
            let mut estimate = model.estimate(&recipe, device, &Speeds::default()).unwrap();
            estimate.memory_bytes = 10 << 30;
            estimate.others_memory_bytes.fill(6 << 30);
            Shortage::find(&estimate, device, free_memory)
        };
        assert_eq!(find(&with(on(0, 10), vec![on(1, 6), on(2, 8)])), None);
        let short = find(&with(on(0, 10), vec![on(1, 6), on(2, 5)])).unwrap();
        assert_eq!((short.device.as_str(), short.is_helper), ("G2", true));
        assert_eq!((short.needed_bytes, short.free_bytes), (6 << 30, 5 << 30));
        let first = find(&with(on(0, 9), vec![on(1, 6)])).unwrap();
        assert_eq!((first.device.as_str(), first.is_helper), ("G0", false));
        // Two devices of one adapter.
        let twice = find(&with(on(0, 12), vec![on(0, 12)])).unwrap();
        assert_eq!((twice.needed_bytes, twice.free_bytes, twice.is_helper), (16 << 30, 12 << 30, true));
        assert_eq!(find(&with(on(0, 16), vec![on(0, 16)])), None);
    }

    #[test]
    fn the_dial_goes_from_dense_to_sparse_through_the_plan() {
        let model = ModelInfo::open("fast").unwrap();
        let stops = model.mask_stops(8);
        assert!(stops.windows(2).all(|pair| pair[0].density >= pair[1].density));
        assert_eq!((stops[0].name.as_str(), stops[0].density), ("dense", 1.0));
        assert!(stops.iter().any(|stop| stop.choice == MaskChoice::Plan && stop.density < 1.0));
        // 1:7 keeps a row, a column and the diagonal of 8 x 8 tiles: 15 + 7 of 64.
        let last = stops.last().unwrap();
        assert_eq!((last.name.as_str(), last.density), ("1:7", 22.0 / 64.0));
        let near = |frames| -> Vec<(String, f64)> {
            let stops = model.mask_stops(frames).into_iter();
            stops.filter(|stop| stop.name.starts_with("near")).map(|stop| (stop.name, stop.density)).collect()
        };
        assert_eq!(near(8), [("near:2".to_owned(), 34.0 / 64.0), ("near:1".to_owned(), 22.0 / 64.0)]);
        assert_eq!(near(3), [("near:1".to_owned(), 7.0 / 9.0)], "each stop leaves something out");
        for frames in [1, 2, 24] {
            assert!(!model.mask_stops(frames).is_empty());
        }
    }
}
