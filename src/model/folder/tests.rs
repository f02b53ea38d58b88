//! Folders of models as people have them: whole, in parts, of other families, damaged; on disk and inside the program.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::model::sampler::SamplerKind;
use crate::model::weights::{StoredType, WeightError};

fn mini() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/models/mini")
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

/// A model on disk in the published layout, under names that say nothing, with tiny weight files.
struct Root {
    _guard: tempfile::TempDir,
    path: PathBuf,
}

impl Root {
    fn new() -> Self {
        let guard = tempfile::tempdir().unwrap();
        let root = Self { path: guard.path().join("root"), _guard: guard };
        root.write("alpha/config.json", r#"{"_class_name":"OpenSoraT2V","sample_size":[90,160],"sample_size_t":8}"#);
        root.write_weights("alpha/diffusion_pytorch_model.safetensors");
        root.write("beta/config.json", r#"{"_class_name":"CausalVAEModel"}"#);
        root.write_weights("beta/weights.safetensors");
        root.write("gamma/config.json", r#"{"model_type":"mt5"}"#);
        root.write("gamma/spiece.model", "pieces");
        root.write_weights("gamma/model.safetensors");
        root
    }

    fn write(&self, relative: &str, content: impl AsRef<[u8]>) {
        let path = self.path.join(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn write_weights(&self, relative: &str) {
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]).unwrap();
        self.write(relative, safetensors::serialize([("w", view)], None).unwrap());
    }

    fn remove(&self, relative: &str) {
        let path = self.path.join(relative);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }

    fn open(&self) -> Result<ModelFolder, FolderError> {
        self.resolve("alpha")
    }

    /// Resolves a path below the root, without any search path.
    fn resolve(&self, relative: &str) -> Result<ModelFolder, FolderError> {
        ModelFolder::resolve(self.path.join(relative).to_str().unwrap(), &SearchPath::default())
    }

    fn search(&self) -> SearchPath {
        SearchPath { folders: vec![self.path.clone()], built_in: false }
    }
}

#[test]
fn parts_are_found_by_their_configuration() {
    let root = Root::new();
    let model = root.open().unwrap();
    assert_eq!(model.name(), "alpha");
    assert_eq!(model.vae_config()["_class_name"], "CausalVAEModel");
    assert_eq!(model.text_encoder_config()["model_type"], "mt5");
    assert_eq!(model.transformer_config()["sample_size_t"], 8);
    assert_eq!(model.vae_weights().unwrap().info("w").unwrap().stored, StoredType::F32);
    assert!(matches!(model.tokenizer().unwrap().model, TokenizerModel::SentencePiece(bytes) if bytes == b"pieces"));
    assert_eq!(model.mask_plan().unwrap(), None);
    assert_eq!(model.preview_projection().unwrap(), None);
    // Published: no tilereel.json, so all from the configuration and the reference.
    let defaults = &model.facts().defaults;
    assert_eq!((defaults.width, defaults.height, defaults.frames, defaults.steps), (1280, 720, 29, 100));
    assert!(defaults.negative_prompt.starts_with("nsfw, lowres") && defaults.negative_prompt.ends_with("username, blurry."));
}

#[test]
fn a_root_with_one_transformer_means_it_and_with_several_asks() {
    let root = Root::new();
    assert_eq!(root.resolve("").unwrap().name(), "alpha");
    assert_eq!(root.resolve("beta/../alpha").unwrap().name(), "alpha");
    copy_folder(&root.path.join("alpha"), &root.path.join("delta"));
    let text = root.resolve("").unwrap_err().to_string();
    assert!(text.contains("several transformers") && text.contains("alpha") && text.contains("delta"), "{text}");
    assert_eq!(root.resolve("delta").unwrap().name(), "delta");
}

#[test]
fn names_are_looked_up_in_order() {
    let (first, second) = (Root::new(), Root::new());
    second.write("alpha/tilereel.json", r#"{"card":"second"}"#);
    copy_folder(&second.path.join("alpha"), &second.path.join("only-here"));
    let mut search = first.search();
    search.folders.push(first.path.join("absent"));
    // The second is found as a folder of roots.
    search.folders.push(second.path.parent().unwrap().to_owned());

    assert_eq!(ModelFolder::resolve("alpha", &search).unwrap().facts().card, None);
    assert_eq!(ModelFolder::resolve("only-here", &search).unwrap().facts().card.as_deref(), Some("second"));
    assert_eq!(ModelFolder::resolve("root/only-here", &search).unwrap().name(), "only-here");
    let names: Vec<String> = list(&search).into_iter().map(|model| model.name).collect();
    assert_eq!(names, ["root/alpha", "root/only-here"]);

    let text = ModelFolder::resolve("omega", &search).unwrap_err().to_string();
    for part in ["no model omega", "absent (no such folder)", "root/alpha  (", "root/only-here  (", "TILEREEL_MODELS"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    let text = ModelFolder::resolve("root", &search).unwrap_err().to_string();
    assert!(text.contains("root/alpha") && text.contains("root/only-here"), "{text}");
}

#[test]
fn every_missing_part_is_listed_at_once() {
    let root = Root::new();
    root.remove("beta");
    root.remove("gamma/spiece.model");
    root.remove("alpha/diffusion_pytorch_model.safetensors");
    root.write("epsilon/config.json", r#"{"_class_name":"WFVAEModel"}"#);
    let text = root.open().unwrap_err().to_string();
    for part in [
        "is not complete",
        "the weights of the transformer, in",
        "the folder of the VAE",
        "the tokenizer (spiece.model or tokenizer.json), in",
        "epsilon is a wavelet VAE",
        "Expected layout",
    ] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    assert!(!text.contains("folder of the text encoder"), "{text}");
}

#[test]
fn other_families_and_wrong_folders_are_named() {
    let root = Root::new();
    for (class, words) in [("UNet2DConditionModel", "UNet"), ("OpenSoraT2V_v1_3", "1.3"), ("LatteT2V", "Latte")] {
        root.write("alpha/config.json", format!(r#"{{"_class_name":"{class}"}}"#));
        for relative in ["alpha", ""] {
            let error = root.resolve(relative).unwrap_err();
            assert!(matches!(error, FolderError::WrongFamily { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains(words) && text.contains("Open-Sora-Plan 1.2"), "{text}");
        }
    }
    let text = root.resolve("beta").unwrap_err().to_string();
    assert!(text.contains("is a VAE, a part of a model"), "{text}");
    assert!(root.resolve("gamma").unwrap_err().to_string().contains("is a text encoder"));
    root.write("empty/notes.txt", "");
    assert!(matches!(root.resolve("empty"), Err(FolderError::NoModel { .. })));
    assert!(matches!(root.resolve("absent"), Err(FolderError::UnknownModel { .. })));
}

#[test]
fn doubled_parts_are_not_guessed() {
    let root = Root::new();
    copy_folder(&root.path.join("beta"), &root.path.join("zeta"));
    let text = root.open().unwrap_err().to_string();
    assert!(text.contains("several folders with a VAE: beta, zeta"), "{text}");
    root.remove("zeta");
    root.write_weights("beta/other.safetensors");
    let text = root.open().unwrap_err().to_string();
    assert!(text.contains("other.safetensors, weights.safetensors") && text.contains("index.json"), "{text}");
    // A published name settles it.
    root.write_weights("beta/diffusion_pytorch_model.safetensors");
    root.open().unwrap();
}

#[test]
fn weights_may_be_pickles_or_sharded() {
    let root = Root::new();
    let pickle =
        |name: &str| fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pickle_tiny").join(name)).unwrap();
    root.remove("beta/weights.safetensors");
    root.write("beta/checkpoint.ckpt", pickle("checkpoint.ckpt"));
    root.remove("gamma/model.safetensors");
    root.write("gamma/pytorch_model.bin", pickle("pytorch_model.bin"));
    root.write("gamma/training_args.bin", "");
    root.remove("alpha/diffusion_pytorch_model.safetensors");
    root.write_weights("alpha/part-1.safetensors");
    root.write("alpha/diffusion_pytorch_model.safetensors.index.json", r#"{"weight_map":{"w":"part-1.safetensors"}}"#);
    let model = root.open().unwrap();
    assert!(model.vae_weights().unwrap().info("quant_conv.conv.bias").is_some());
    assert!(model.text_encoder_weights().unwrap().info("shared.weight").is_some());
    assert_eq!(model.transformer_weights().unwrap().read_f32("w").unwrap(), [0.0]);
    model.hash().unwrap();
}

#[test]
fn hostile_configurations_are_errors_with_the_path() {
    let root = Root::new();
    let endless = format!(r#"{{"x":"{}"}}"#, "y".repeat(2 << 20));
    let deep = "[".repeat(200_000);
    for file in ["alpha/config.json", "beta/config.json", "gamma/config.json", "alpha/tilereel.json"] {
        let before = fs::read(root.path.join(file)).ok();
        for content in ["", "not json", "[1]", "null", "\u{feff}{}", &deep, &endless] {
            root.write(file, content);
            let error = root.open().unwrap_err();
            assert!(matches!(error, FolderError::NotJson { .. } | FolderError::TooLarge { .. }), "{file}: {error}");
            let name = Path::new(file).components().next_back().unwrap().as_os_str().to_str().unwrap();
            assert!(error.to_string().contains(name), "{file}: {error}");
        }
        match before {
            Some(content) => root.write(file, content),
            None => root.remove(file),
        }
    }
    root.open().unwrap();
    root.write("alpha/config.json", r#"{"_class_name":"OpenSoraT2V","sample_size":"x","sample_size_t":8}"#);
    assert!(matches!(root.open(), Err(FolderError::Fact { .. })));
    // A damaged folder of the wanted name must not make the name mean another model.
    root.write("alpha/config.json", "{");
    assert!(matches!(ModelFolder::resolve("alpha", &root.search()), Err(FolderError::NotJson { .. })));
}

#[test]
fn stated_facts_lie_over_derived_ones() {
    let root = Root::new();
    root.write(
        "alpha/tilereel.json",
        r#"{"defaults":{"sampler":"ddim","steps":20},"trained":{"max_tokens":300},"mask_plan":"plan.json"}"#,
    );
    let model = root.open().unwrap();
    let facts = model.facts();
    assert_eq!((facts.defaults.sampler, facts.defaults.steps, facts.trained.max_tokens), (SamplerKind::Ddim, 20, 300));
    assert_eq!((facts.defaults.guidance_scale, facts.defaults.width), (7.5, 1280));
    assert!(matches!(model.mask_plan(), Err(FolderError::Unreadable { .. })));
    root.write("alpha/plan.json", "{}");
    assert_eq!(model.mask_plan().unwrap().as_deref(), Some("{}"));

    for (facts, reason) in [
        (r#"{"defaults":{"step":20}}"#, "unknown field `step`"),
        (r#"{"defaults":{"sampler":"magic"}}"#, "magic"),
        (r#"{"defaults":{"steps":-1}}"#, "invalid value"),
        (r#"{"defaults":{"steps":0}}"#, "a number of steps is 0"),
        (r#"{"defaults":{"frames":30}}"#, "4k + 1"),
        (r#"{"defaults":{"width":100}}"#, "multiple of 16"),
        (r#"{"defaults":{"guidance_scale":-2.0}}"#, "guidance_scale"),
        (r#"{"defaults":{"prompt_template":"no place"}}"#, "prompt_template"),
        (r#"{"trained":{"max_tokens":1000000}}"#, "max_tokens"),
        (r#"{"mask_plan":"../../secret"}"#, "mask_plan must be"),
        (r#"{"trained":7}"#, "invalid type"),
    ] {
        root.write("alpha/tilereel.json", facts);
        let text = root.open().unwrap_err().to_string();
        assert!(text.contains(reason) && text.contains("tilereel.json"), "{facts}: {text}");
    }
}

#[test]
fn the_hash_follows_the_content_and_not_the_names() {
    let root = Root::new();
    let before = root.open().unwrap().hash().unwrap();
    assert_eq!(before.len(), 64);
    assert_eq!(root.open().unwrap().hash().unwrap(), before);
    fs::rename(root.path.join("alpha"), root.path.join("renamed")).unwrap();
    assert_eq!(root.resolve("renamed").unwrap().hash().unwrap(), before);
    root.write("gamma/spiece.model", "other pieces");
    let after = root.resolve("renamed").unwrap().hash().unwrap();
    assert_ne!(after, before);
    // The same length, so that only the content or its time can tell.
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[1; 4]).unwrap();
    root.write("beta/weights.safetensors", safetensors::serialize([("w", view)], None).unwrap());
    let times = fs::FileTimes::new().set_modified(std::time::SystemTime::UNIX_EPOCH);
    let file = fs::File::options().write(true).open(root.path.join("beta/weights.safetensors")).unwrap();
    file.set_times(times).unwrap();
    assert_ne!(root.resolve("renamed").unwrap().hash().unwrap(), after);
}

#[test]
fn weights_that_are_damaged_say_so_when_opened() {
    let root = Root::new();
    root.write("alpha/diffusion_pytorch_model.safetensors", "<html>not found</html>");
    let error = root.open().unwrap().transformer_weights().unwrap_err();
    assert!(matches!(error, FolderError::Weights(WeightError::Header { .. })), "{error}");
}

#[test]
fn mini_on_disk_states_its_facts() {
    let search = SearchPath { folders: vec![mini()], built_in: false };
    let base = ModelFolder::resolve("base", &search).unwrap();
    let fast = ModelFolder::resolve("mini/fast", &search).unwrap();
    let settings = |model: &ModelFolder| {
        let defaults = &model.facts().defaults;
        (defaults.sampler, defaults.steps, defaults.guidance_scale)
    };
    assert_eq!(settings(&base), (SamplerKind::Ddim, 50, 2.0));
    assert_eq!(settings(&fast), (SamplerKind::DdimTrailing, 4, 1.0));
    for model in [&base, &fast] {
        let ModelFacts { defaults, trained, .. } = model.facts();
        assert_eq!((defaults.frames, defaults.width, defaults.height), (29, 256, 144));
        assert_eq!((trained.max_tokens, defaults.prompt_template.as_str()), (48, "{}"));
        assert_eq!((&trained.frames[..], &trained.sizes[..]), (&[1, 29, 93][..], &[[256, 144]][..]));
        assert_eq!(model.transformer_weights().unwrap().tensors().len(), 12 * 21 + 15);
    }
    assert_eq!(base.mask_plan().unwrap(), None);
    assert!(fast.mask_plan().unwrap().unwrap().contains("\"refs\""));
    assert_ne!(base.hash().unwrap(), fast.hash().unwrap());
}

#[cfg(feature = "embedded-mini")]
#[test]
fn the_built_in_model_equals_the_one_on_disk() {
    fn compare(built_in: &ModelFiles, disk: &ModelFiles) -> usize {
        let names =
            |files: &ModelFiles| -> Vec<String> { files.file_names().into_iter().filter(|name| name != "README.md").collect() };
        assert_eq!(names(built_in), names(disk), "files of {}", disk.location(""));
        for name in names(disk) {
            assert!(built_in.read(&name).unwrap() == disk.read(&name).unwrap(), "{} differs", disk.location(&name));
        }
        let (inner, outer) = (built_in.subfolders(), disk.subfolders());
        assert_eq!(inner.len(), outer.len(), "folders of {}", disk.location(""));
        names(disk).len() + inner.iter().zip(&outer).map(|(inner, outer)| compare(inner, outer)).sum::<usize>()
    }
    let built_in = ModelFiles::built_in().unwrap();
    assert!(compare(&built_in, &ModelFiles::Disk(mini())) >= 14);

    let search = SearchPath { folders: Vec::new(), built_in: true };
    let names: Vec<String> = list(&search).into_iter().map(|model| model.name).collect();
    assert_eq!(names, ["mini/base", "mini/fast"]);
    let inside = ModelFolder::resolve("fast", &search).unwrap();
    assert_eq!(inside.location(), "built-in mini/fast");
    let outside = ModelFolder::resolve(mini().join("fast").to_str().unwrap(), &search).unwrap();
    assert_eq!(inside.hash().unwrap(), outside.hash().unwrap());
    assert_eq!(inside.mask_plan().unwrap(), outside.mask_plan().unwrap());
    let name = "transformer_blocks.3.attn1.to_q.weight";
    let read = |model: &ModelFolder| model.transformer_weights().unwrap().read_f32(name).unwrap();
    assert_eq!(read(&inside), read(&outside));
    assert!(ModelFiles::Embedded("fast".to_owned()).read("absent").is_err());
}

#[cfg(feature = "embedded-mini")]
#[test]
fn the_standard_search_path_knows_base_and_fast() {
    let search = SearchPath::standard();
    for name in ["base", "fast", "mini/base"] {
        ModelFolder::resolve(name, &search).unwrap();
    }
}
