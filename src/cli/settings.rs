//! The flags that describe a clip, and how they become a recipe: defaults of the model, then a given recipe, then the flags.

use std::str::FromStr;

use clap::Args;

use super::UsageError;
use crate::generate::GenerateError;
use crate::generate::pipeline::transformer_config;
use crate::generate::recipe::{MaskChoice, ModelIdentity, Recipe};
use crate::gpu::device::{self, ComputeDevice, DeviceChoice, DeviceError, Precision, Residency};
use crate::model::folder::{ModelFolder, SearchPath};
use crate::model::sampler::SamplerKind;
use crate::studio::{DEFAULT_MODEL, DeviceWish, random_seed, warnings};

/// Which device, and how numbers are stored there.
#[derive(Args, Clone, Debug)]
pub struct DeviceArguments {
    /// auto, cpu, or an adapter's number or a part of its name (see `tilereel doctor`); several numbers with commas, such as
    /// 0,1, share the work: of a transformer's call (attention is not recorded then), of a training's step, of a table's rows
    #[arg(long, visible_alias = "devices", default_value = "auto")]
    pub device: String,
    /// f16 or f32; without it f16 on GPUs that have it, else f32
    #[arg(long, value_parser = parse_precision)]
    pub precision: Option<Precision>,
    /// Weights on the device (all), read from disk layer by layer (stream), or what fits (auto)
    #[arg(long, default_value = "auto", value_parser = parse_residency, value_name = "auto|all|stream")]
    pub resident: Residency,
}

impl DeviceArguments {
    /// # Errors
    /// It is no name of a device.
    pub fn wish(&self) -> Result<DeviceWish, GenerateError> {
        Ok(DeviceWish { choice: self.device.parse::<DeviceChoice>()?, precision: self.precision, residency: self.resident })
    }

    /// # Errors
    /// There is no such device, or it refuses.
    pub fn open(&self) -> Result<ComputeDevice, GenerateError> {
        let device = device::open(&self.device.parse::<DeviceChoice>()?, self.precision)?;
        if self.precision.is_some_and(|wanted| wanted != device.precision) {
            return Err(DeviceError::NoHalfFloats { name: device.name }.into());
        }
        Ok(device.with_residency(self.resident))
    }

    /// How many devices are named.
    pub fn count(&self) -> usize {
        match self.device.parse() {
            Ok(DeviceChoice::Several(choices)) => choices.len(),
            _ => 1,
        }
    }

    /// The first device, and those beside it, each for work of its own.
    ///
    /// # Errors
    /// As [`Self::open`]; or one has numbers of another precision.
    pub fn open_each(&self) -> anyhow::Result<(ComputeDevice, Vec<ComputeDevice>)> {
        let mut first = self.open()?;
        let others = std::mem::take(&mut first.others);
        if let Some(other) = others.iter().find(|other| other.precision != first.precision) {
            let (a, b) = (first.precision, other.precision);
            return Err(
                UsageError(format!("{} has numbers in {a}, {} in {b}. Add --precision f32.", first.name, other.name)).into()
            );
        }
        Ok((first, others))
    }
}

fn parse_residency(text: &str) -> Result<Residency, String> {
    match text {
        "auto" => Ok(Residency::Auto),
        "all" => Ok(Residency::All),
        "stream" => Ok(Residency::Stream),
        _ => Err("use auto, all or stream".into()),
    }
}

fn parse_precision(text: &str) -> Result<Precision, String> {
    match text {
        "f32" => Ok(Precision::F32),
        "f16" => Ok(Precision::F16),
        _ => Err("use f16 or f32".into()),
    }
}

fn whole_number<T: FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| "use a whole number, and not too large a one".into())
}

fn number(text: &str) -> Result<f64, String> {
    text.trim().parse().map_err(|_| "use a number, such as 3.5".into())
}

/// What the clip should be.
#[derive(Args, Clone, Debug, Default)]
pub struct ClipArguments {
    /// What the clip should not show; it needs --guidance above 1
    #[arg(long)]
    pub negative: Option<String>,
    /// Number that the noise is made from; without it a new one, which is printed
    #[arg(long, allow_negative_numbers = true, value_parser = whole_number::<u64>)]
    pub seed: Option<u64>,
    /// Sampling steps
    #[arg(long, allow_negative_numbers = true, value_parser = whole_number::<usize>)]
    pub steps: Option<usize>,
    /// Guidance scale; 1 is none
    #[arg(long, allow_negative_numbers = true, value_parser = number)]
    pub guidance: Option<f64>,
    /// ddim, ddim-trailing, euler-ancestral, pndm, .. (a wrong name lists all)
    #[arg(long)]
    pub sampler: Option<String>,
    /// Frames of the clip: 1, 5, 9, .. (4k + 1)
    #[arg(long, allow_negative_numbers = true, value_parser = whole_number::<usize>)]
    pub frames: Option<usize>,
    /// WIDTHxHEIGHT in pixels, both multiples of 16
    #[arg(long, allow_hyphen_values = true)]
    pub size: Option<String>,
    /// Frames per second of the file
    #[arg(long, allow_negative_numbers = true, value_parser = whole_number::<u32>)]
    pub fps: Option<u32>,
    /// base, fast, or a folder in the published layout [default: fast]
    #[arg(long)]
    pub model: Option<String>,
    /// Which attention tiles are computed: plan (the model's own), dense, K:N or near:D in every layer, or a plan's file
    #[arg(long)]
    pub mask: Option<String>,
}

/// A recipe with the model that it is for.
pub struct Prepared {
    pub folder: ModelFolder,
    pub recipe: Recipe,
    pub warnings: Vec<String>,
}

impl ClipArguments {
    /// Settles every setting. `base` is a recipe to start from; a prompt or flag that is given goes before it.
    ///
    /// # Errors
    /// The model is not found, or a setting cannot be used.
    pub fn prepare(&self, prompt: Option<&str>, base: Option<Recipe>, device: &ComputeDevice) -> anyhow::Result<Prepared> {
        let name = self.model.as_deref().or(base.as_ref().map(|recipe| recipe.model.name.as_str())).unwrap_or(DEFAULT_MODEL);
        let folder = ModelFolder::resolve(name, &SearchPath::standard()).map_err(GenerateError::from)?;
        let precision = device.precision;
        let mut other_model = false;
        let mut recipe = match base {
            Some(mut recipe) => {
                if let Some(prompt) = prompt {
                    recipe.prompt = prompt.to_owned();
                }
                if self.model.is_some() {
                    let sha256 = folder.hash().map_err(GenerateError::from)?;
                    other_model = sha256 != recipe.model.sha256;
                    recipe.model = ModelIdentity { name: folder.name().to_owned(), sha256 };
                }
                recipe
            }
            None => {
                let prompt = prompt.ok_or_else(|| {
                    UsageError(
                        "Say what the clip should show: tilereel generate \"a shiny red ball bounces on the snow at sunset\"."
                            .into(),
                    )
                })?;
                let mut recipe = Recipe::of_model(&folder, prompt, precision)?;
                recipe.seed = random_seed();
                recipe
            }
        };
        recipe.made = None;
        recipe.set_precision(precision);
        let frames_before = recipe.frames;
        self.apply(&mut recipe)?;
        recipe.check()?;
        if self.mask.is_some() || recipe.frames != frames_before || other_model {
            let choice = MaskChoice::from(self.mask.as_deref().unwrap_or("plan"));
            if let MaskChoice::File(path) = &choice
                && !path.exists()
            {
                let name = path.display();
                return Err(UsageError(format!("--mask {name} is no mask, and there is no such file. Write plan, dense, K:N (such as 2:6), near:D (such as near:1), or name the file of a mask plan.")).into());
            }
            recipe.set_mask(&folder, &choice)?;
        }
        recipe.plan(transformer_config(&folder)?.num_layers)?;
        let warnings = warnings(&recipe, folder.name(), folder.facts());
        Ok(Prepared { folder, recipe, warnings })
    }

    fn apply(&self, recipe: &mut Recipe) -> anyhow::Result<()> {
        fn set<T: Clone>(value: &mut T, flag: &Option<T>) {
            if let Some(flag) = flag {
                value.clone_from(flag);
            }
        }
        set(&mut recipe.negative_prompt, &self.negative);
        set(&mut recipe.seed, &self.seed);
        set(&mut recipe.steps, &self.steps);
        set(&mut recipe.guidance_scale, &self.guidance);
        set(&mut recipe.frames, &self.frames);
        set(&mut recipe.frames_per_second, &self.fps);
        if let Some(name) = &self.sampler {
            recipe.sampler = name.parse::<SamplerKind>().map_err(GenerateError::from)?;
        }
        if let Some(size) = &self.size {
            (recipe.width, recipe.height) = parse_size(size)?;
        }
        Ok(())
    }
}

fn parse_size(text: &str) -> Result<(usize, usize), UsageError> {
    let sides = text.split_once(['x', 'X', '×']).and_then(|(w, h)| Some((w.trim().parse().ok()?, h.trim().parse().ok()?)));
    sides.ok_or_else(|| UsageError(format!("--size {text} is not understood. Write WIDTHxHEIGHT, such as 256x144.")))
}
