//! Models that are incomplete, damaged, of another kind, or meant to do harm.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{SMALL, Workplace};

const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

/// A copy of the small model in which a test may spoil what it likes.
struct Model {
    place: Workplace,
}

impl Model {
    fn new() -> Self {
        let model = Self { place: Workplace::new() };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/models/mini");
        for folder in ["fast", "vae", "text_encoder"] {
            fs::create_dir_all(model.path(folder)).expect("a folder");
            for entry in fs::read_dir(source.join(folder)).expect("the model of this project") {
                let entry = entry.expect("an entry");
                fs::copy(entry.path(), model.path(folder).join(entry.file_name())).expect("a copy");
            }
        }
        model
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.place.path("mine").join(relative)
    }

    fn read(&self, relative: &str) -> Vec<u8> {
        fs::read(self.path(relative)).expect("a file of the model")
    }

    fn write(&self, relative: &str, content: impl AsRef<[u8]>) {
        // Never through a link or over a read-only copy.
        let _ = fs::remove_file(self.path(relative));
        fs::write(self.path(relative), content).expect("a file can be written");
    }

    fn remove(&self, relative: &str) {
        fs::remove_file(self.path(relative)).expect("a file of the model");
    }

    fn set(&self, config: &str, key: &str, value: Value) {
        let mut content: Value = serde_json::from_slice(&self.read(config)).expect("JSON");
        content[key] = value;
        self.write(config, content.to_string());
    }

    /// Rewrites a safetensors file: its header, and its data.
    fn rewrite(&self, weights: &str, change: impl FnOnce(&mut serde_json::Map<String, Value>, &mut Vec<u8>)) {
        let bytes = self.read(weights);
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
        let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
        let mut data = bytes[8 + length..].to_vec();
        change(header.as_object_mut().expect("an object"), &mut data);
        let header = header.to_string();
        self.write(weights, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat());
    }

    fn cut(&self, file: &str, bytes: usize) {
        self.write(file, &self.read(file)[..bytes]);
    }

    fn refused(&self, words: &[&str]) {
        self.place.refuses(&[&SMALL[..], &["x", "--model", "mine/fast", "--out", "clip.mp4"]].concat(), 1, words);
    }
}

#[test]
fn a_copy_of_the_model_works_and_is_the_same_model() {
    let model = Model::new();
    model.place.generate(&["x", "--model", "mine/fast", "--out", "mine.apng"]).succeeds();
    model.place.generate(&["x", "--model", "mine", "--out", "root.apng"]).succeeds();
    model.place.generate(&["x", "--model", "mini/fast", "--out", "own.apng"]).succeeds();
    assert_eq!(model.place.read("mine.apng"), model.place.read("own.apng"));
    assert_eq!(model.place.read("root.apng"), model.place.read("own.apng"));
}

#[test]
fn folders_that_are_no_such_model_are_explained() {
    let place = Workplace::new();
    fs::create_dir(place.path("empty")).expect("a folder");
    place.refuses(
        &[&SMALL[..], &["x", "--model", "./empty"]].concat(),
        1,
        &["empty holds no model", "Expected layout:", "config.json"],
    );

    /// What is done to a model, and the words that must tell of it.
    type Row<'a> = (fn(&Model), &'a [&'a str]);
    let rows: &[Row<'_>] = &[
        (
            |model| model.set("fast/config.json", "_class_name", json!("UNet2DConditionModel")),
            &["mine/fast is a diffusion UNet", "UNet2DConditionModel", "Supported is", "OpenSoraT2V"],
        ),
        (|model| model.write("fast/config.json", "{ no"), &["fast/config.json is not the expected JSON", "line 1"]),
        (|model| model.write("fast/config.json", "[]"), &["fast/config.json is not the expected JSON", "not an object"]),
        (
            |model| model.set("fast/config.json", "num_layers", json!("many")),
            &["mine/fast cannot be used", "transformer's config.json", "at num_layers", "\"many\""],
        ),
        (|model| model.set("fast/config.json", "num_layers", json!(1_000_000_000)), &["the transformer", "absurdly large"]),
        (|model| model.set("fast/config.json", "attention_head_dim", json!(u64::MAX)), &["the transformer", "absurdly large"]),
        (|model| model.set("vae/config.json", "hidden_size", json!(1_000_000_000_000_u64)), &["the VAE", "absurdly large"]),
        (|model| model.set("text_encoder/config.json", "num_heads", json!(0)), &["the text encoder", "zero"]),
        (|model| model.set("vae/config.json", "embed_dim", json!(8)), &["mine/fast cannot be used"]),
        (|model| model.write("fast/tilereel.json", r#"{"defaults": {"steps": 0}}"#), &["tilereel.json", "steps is 0"]),
        (
            |model| model.write("fast/mask_plan.json", r#"{"latent_frames": 8}"#),
            &["mine/fast cannot be used", "mask plan is damaged", "layers"],
        ),
        (|model| model.write("vae/preview.json", "{}"), &["mine/fast cannot be used", "preview.json"]),
        (
            |model| fs::remove_dir_all(model.path("vae")).expect("a folder"),
            &["mine/fast is not complete", "folder of the VAE", "Expected layout:"],
        ),
        (|model| model.remove(&format!("vae/{WEIGHTS}")), &["not complete", "the weights of the VAE", "mine/vae"]),
        (|model| model.remove("text_encoder/spiece.model"), &["not complete", "the tokenizer", "spiece.model or tokenizer.json"]),
        (
            |model| model.cut("text_encoder/spiece.model", 1000),
            &["SentencePiece model cannot be read", "download spiece.model again"],
        ),
        (|model| model.write("text_encoder/spiece.model", ""), &["SentencePiece model cannot be read"]),
    ];
    for (spoil, words) in rows {
        let model = Model::new();
        spoil(&model);
        model.refused(words);
    }
}

#[test]
fn damaged_weights_are_explained() {
    let transformer = format!("fast/{WEIGHTS}");
    let vae = format!("vae/{WEIGHTS}");
    let model = Model::new();
    let (whole, whole_vae) = (model.read(&transformer), model.read(&vae));

    model.cut(&transformer, whole.len() / 2);
    model.refused(&[&transformer, "not a sound safetensors file", "incomplete", "again"]);
    model.write(&transformer, "");
    model.refused(&[&transformer, "0 bytes"]);
    model.write(&transformer, [&(1_u64 << 62).to_le_bytes()[..], b"{}"].concat());
    model.refused(&[&transformer, "header claims 4611686018427387904 bytes"]);
    model.write(&transformer, &whole);
    model.rewrite(&transformer, |header, _| {
        let tensor = header.values_mut().find(|entry| entry.get("shape").is_some()).expect("a tensor");
        tensor["shape"] = json!([u64::MAX, u64::MAX]);
    });
    model.refused(&[&transformer, "larger than any memory"]);

    model.write(&transformer, &whole);
    model.rewrite(&transformer, |header, _| {
        let tensor = header.remove("proj_out.bias").expect("a tensor of the network");
        header.insert("stranger.bias".into(), tensor);
    });
    model.refused(&[&transformer, "missing (1)", "proj_out.bias", "unexpected (1)", "stranger.bias", "Why:", "What to do:"]);

    model.write(&transformer, &whole);
    model.rewrite(&transformer, |header, data| {
        let entry = &header["proj_out.weight"];
        assert_eq!(entry["dtype"], "F16");
        let start = entry["data_offsets"][0].as_u64().expect("a number") as usize;
        data[start..start + 2].copy_from_slice(&[0x00, 0x7e]);
    });
    model.refused(&[&transformer, "not finite (1)", "proj_out.weight: 1 of", "NaN", "What to do:"]);

    model.write(&transformer, &whole);
    model.cut(&vae, 1000);
    model.refused(&[&vae, "ends inside its header", "incomplete"]);
    model.write(&vae, &whole_vae);
    model.cut("text_encoder/model.safetensors", 100_000);
    model.refused(&["text_encoder/model.safetensors", "incomplete"]);
}

#[test]
fn a_pickle_that_would_run_code_does_not() {
    let model = Model::new();
    model.remove(&format!("vae/{WEIGHTS}"));
    let marker = model.place.path("executed");
    let command = format!("touch '{}'", marker.display());
    // What `pickle.dumps` makes of an object whose `__reduce__` returns (os.system, (command,)).
    let mut pickle = b"\x80\x02cposix\nsystem\nX".to_vec();
    pickle.extend((command.len() as u32).to_le_bytes());
    pickle.extend(command.as_bytes());
    pickle.extend(b"\x85R.");
    for (what, content) in [("plain", pickle.clone()), ("zip", zip_of_one("archive/data.pkl", &pickle))] {
        model.write("vae/model.ckpt", content);
        model.refused(&["vae/model.ckpt could not be read as a PyTorch checkpoint", "safetensors"]);
        assert!(!marker.exists(), "the {what} pickle was executed");
    }
}

/// A zip archive with one stored file, as `torch.save` writes them.
fn zip_of_one(name: &str, content: &[u8]) -> Vec<u8> {
    let checksum = content.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    });
    let size = (content.len() as u32).to_le_bytes();
    // Versions, flags, method 0 (stored), time, date.
    let common = [
        &[20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0][..],
        &(!checksum).to_le_bytes(),
        &size,
        &size,
        &(name.len() as u16).to_le_bytes(),
        &[0, 0],
    ]
    .concat();
    let mut file = Vec::new();
    let mut put = |parts: &[&[u8]]| {
        parts.iter().for_each(|part| file.write_all(part).expect("a vector takes all"));
        file.len() as u32
    };
    let directory = put(&[b"PK\x03\x04", &common, name.as_bytes(), content]);
    let end = put(&[b"PK\x01\x02\x14\x00", &common, &[0; 14], name.as_bytes()]);
    put(&[b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &(end - directory).to_le_bytes(), &directory.to_le_bytes(), &[0, 0]]);
    file
}
