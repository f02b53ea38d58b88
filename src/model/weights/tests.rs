//! Weight files against an independent writer (the safetensors crate), the published-layout fixtures, and damage.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use ::safetensors::tensor::{Dtype, TensorView};

use super::*;

fn fixture(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(relative)
}

fn mini(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/models/mini").join(relative)
}

/// Writes F32 tensors with the published crate.
fn write_f32(path: &Path, tensors: &[(&str, &[usize], &[f32])]) {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views: BTreeMap<&str, TensorView> = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()))
        .collect();
    fs::write(path, ::safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A source with the given F32 tensors, in a folder that lives as long as the returned guard.
fn source_of(tensors: &[(&str, &[usize], &[f32])]) -> (tempfile::TempDir, WeightSource) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    write_f32(&path, tensors);
    let source = WeightSource::open(&path).unwrap();
    (folder, source)
}

#[test]
fn values_equal_those_of_the_published_crate() {
    for relative in [
        "dit_tiny_a/diffusion_pytorch_model.safetensors",
        "dit_tiny_c/diffusion_pytorch_model.safetensors",
        "vae_tiny_a/diffusion_pytorch_model.safetensors",
    ] {
        let path = fixture(relative);
        let bytes = fs::read(&path).unwrap();
        let published = ::safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let source = WeightSource::open(&path).unwrap();
        let embedded = WeightSource::embedded("built in", Box::leak(bytes.clone().into_boxed_slice())).unwrap();
        assert_eq!(source.tensors().len(), published.len());
        for (name, view) in published.tensors() {
            let info = source.info(&name).unwrap();
            assert_eq!(info.shape, view.shape());
            let want: Vec<f32> = match view.dtype() {
                Dtype::F32 => view.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
                Dtype::F16 => view.data().chunks(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
                Dtype::BF16 => view.data().chunks(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
                other => panic!("{relative} has {other:?}"),
            };
            assert_eq!(source.read_f32(&name).unwrap(), want, "{relative} {name}");
            assert_eq!(embedded.read_f32(&name).unwrap(), want, "{relative} {name}, embedded");
        }
    }
}

#[test]
fn mini_is_listed_with_its_published_shapes() {
    let dit = WeightSource::open(&mini("base/diffusion_pytorch_model.safetensors")).unwrap();
    assert_eq!(dit.info("pos_embed.proj.weight").unwrap().shape, [192, 4, 2, 2]);
    assert_eq!(dit.info("transformer_blocks.11.ff.net.0.proj.weight").unwrap().shape, [768, 192]);
    assert_eq!(dit.info("adaln_single.linear.weight").unwrap().shape, [1152, 192]);
    assert!(dit.info("transformer_blocks.12.scale_shift_table").is_none());
    assert!(dit.tensors().all(|(_, info)| info.stored == StoredType::F16));
    // The parameter counts that the recipe gives.
    let count = |source: &WeightSource| source.tensors().map(|(_, info)| info.element_count()).sum::<usize>();
    assert_eq!(count(&dit), 7_511_248);
    assert_eq!(count(&WeightSource::open(&mini("vae/diffusion_pytorch_model.safetensors")).unwrap()), 2_350_695);
    assert_eq!(count(&WeightSource::open(&mini("text_encoder/model.safetensors")).unwrap()), 1_886_720);
}

#[test]
fn tensors_larger_than_a_chunk_are_read_whole() {
    let long: Vec<f32> = (0..700_001u32).map(|i| i as f32).collect();
    let (_folder, source) = source_of(&[("long", &[700_001], &long), ("short", &[1], &[7.0])]);
    assert_eq!(source.read_f32("long").unwrap(), long);
    assert_eq!(source.read_f32("short").unwrap(), [7.0]);
}

#[test]
fn a_sharded_checkpoint_reads_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_f32(&path("model-00001-of-00002.safetensors"), &[("a", &[2], &[1.0, 2.0]), ("b", &[1], &[3.0])]);
    write_f32(&path("model-00002-of-00002.safetensors"), &[("c", &[1, 1], &[4.0])]);
    let index = path("model.safetensors.index.json");
    let write_index = |map: &str| fs::write(&index, format!(r#"{{"metadata":{{"total_size":16}},"weight_map":{map}}}"#));
    let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");

    write_index(&format!(r#"{{"a":"{one}","b":"{one}","c":"{two}"}}"#)).unwrap();
    let source = WeightSource::open(&index).unwrap();
    assert_eq!(source.tensors().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(source.read_f32("a").unwrap(), [1.0, 2.0]);
    assert_eq!(source.read_f32("c").unwrap(), [4.0]);
    assert_eq!(source.files().len(), 3);

    for (map, reason) in [
        (format!(r#"{{"a":"{two}"}}"#), "said to be in"),
        (r#"{"a":"../outside.safetensors"}"#.to_owned(), "not the name of a weight file beside it"),
        (r#"{"a":"model.safetensors.index.json"}"#.to_owned(), "not the name of a weight file beside it"),
        (r#"{"a":3}"#.to_owned(), "invalid type"),
        (r#"{"a":"absent.safetensors"}"#.to_owned(), "absent.safetensors"),
        ("{}".to_owned(), "holds no tensors"),
    ] {
        write_index(&map).unwrap();
        let text = WeightSource::open(&index).unwrap_err().to_string();
        assert!(text.contains(reason), "{map}: {text}");
    }
}

#[test]
fn every_truncation_of_a_safetensors_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.safetensors");
    write_f32(&path, &[("a", &[3], &[1.0, 2.0, 3.0]), ("b", &[1], &[4.0])]);
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let error = WeightSource::open(&path).unwrap_err();
        assert!(matches!(error, WeightError::Header { .. }), "{length}: {error}");
    }
    let endless = [u64::MAX.to_le_bytes().as_slice(), &whole[8..]].concat();
    fs::write(&path, endless).unwrap();
    assert!(matches!(WeightSource::open(&path), Err(WeightError::Header { fault: HeaderFault::HeaderTooLarge { .. }, .. })));
}

#[test]
fn files_that_are_no_weights_are_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    assert!(matches!(WeightSource::open(&path("absent.ckpt")), Err(WeightError::Unreadable { .. })));
    assert!(matches!(WeightSource::open(folder.path()), Err(WeightError::Unreadable { .. })));
    fs::write(path("notes.txt"), "hello").unwrap();
    assert!(matches!(WeightSource::open(&path("notes.txt")), Err(WeightError::UnknownKind { .. })));
    for content in ["", "hello", "PK\x03\x04", "<html>not found</html>"] {
        fs::write(path("page.ckpt"), content).unwrap();
        assert!(matches!(WeightSource::open(&path("page.ckpt")), Err(WeightError::Pickle { .. })), "{content}");
    }
    fs::write(path("none.safetensors"), [2u64.to_le_bytes().as_slice(), b"{}"].concat()).unwrap();
    assert!(matches!(WeightSource::open(&path("none.safetensors")), Err(WeightError::Empty { .. })));

    let indices = [7i64.to_le_bytes(), 8i64.to_le_bytes()].concat();
    let view = TensorView::new(Dtype::I64, vec![2], &indices).unwrap();
    fs::write(path("integers.safetensors"), ::safetensors::serialize([("ids", view)], None).unwrap()).unwrap();
    let source = WeightSource::open(&path("integers.safetensors")).unwrap();
    assert!(matches!(source.read_f32("ids"), Err(WeightError::NotFloat { stored: StoredType::I64, .. })));
    assert!(matches!(source.read_f32("other"), Err(WeightError::UnknownTensor { .. })));
}

/// All three pickles, cut at many lengths and with single bytes flipped: errors and other values are fine, panics are not.
#[test]
fn damaged_pickles_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = 0;
    let mut refused = 0;
    let mut attempt = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        match WeightSource::open(&path) {
            Ok(source) => {
                opened += 1;
                for (name, _) in source.tensors() {
                    let _ = source.read_f32(name);
                }
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().contains("confuses the reader"), "the reader panicked: {error}");
            }
        }
    };
    for name in ["checkpoint.ckpt", "checkpoint_noema.ckpt", "pytorch_model.bin"] {
        let whole = fs::read(fixture("pickle_tiny").join(name)).unwrap();
        for length in (0..whole.len()).step_by(127) {
            attempt(name, &whole[..length]);
        }
        for place in (0..whole.len()).step_by(61) {
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[place] ^= flip;
                attempt(name, &damaged);
            }
        }
    }
    assert!(opened > 50 && refused > 50, "{opened} opened, {refused} refused: the damage tests too little");
}

#[test]
fn a_matching_file_closes_without_a_word() {
    let (_folder, source) = source_of(&[("a", &[2], &[1.0, 2.0]), ("loss.logvar", &[1], &[0.0])]);
    let mut ledger = WeightLedger::new(&source);
    assert_eq!(ledger.take("a", &[2]), [1.0, 2.0]);
    ledger.finish(is_ignorable_vae_key).unwrap();
}

#[test]
fn either_name_of_the_token_embedding_will_do() {
    for names in [&["shared.weight"][..], &["encoder.embed_tokens.weight"], &TOKEN_EMBEDDING_KEYS] {
        let tensors: Vec<(&str, &[usize], &[f32])> = names.iter().map(|n| (*n, &[1, 2][..], &[1.0, 2.0][..])).collect();
        let (_folder, source) = source_of(&tensors);
        let mut ledger = WeightLedger::new(&source);
        assert_eq!(ledger.take_any(&TOKEN_EMBEDDING_KEYS, &[1, 2]), [1.0, 2.0]);
        ledger.finish(is_ignorable_text_encoder_key).unwrap();
    }
}

#[test]
fn one_message_tells_everything_that_is_wrong() {
    let (_folder, source) = source_of(&[
        ("good", &[1], &[1.0]),
        ("turned", &[2, 3], &[0.0; 6]),
        ("broken", &[4], &[0.0, f32::NAN, f32::INFINITY, 1.0]),
        ("left.over", &[1], &[0.0]),
    ]);
    let mut ledger = WeightLedger::new(&source);
    assert_eq!(ledger.take("good", &[1]), [1.0]);
    assert!(ledger.take("turned", &[3, 2]).is_empty());
    assert!(ledger.take("broken", &[4]).is_empty());
    for layer in 0..14 {
        assert!(ledger.take(&format!("blocks.{layer}.weight"), &[1 << 20, 1 << 20]).is_empty());
    }
    let text = ledger.finish(|_| false).unwrap_err().to_string();
    let text = text.split_once("weights.safetensors ").unwrap().1;
    let listed: String = (0..12).map(|layer| format!("  blocks.{layer}.weight\n")).collect();
    assert_eq!(
        text,
        format!(
            "do not fit the network (17 tensors are needed, the file has 4).\n\
             missing (14):\n{listed}  and 2 more\n\
             unexpected (1):\n  left.over\n\
             wrong shape (1):\n  turned: expected [3, 2], found [2, 3]\n\
             not finite (1):\n  broken: 2 of 4 values are NaN or infinite\n\
             Why: The config.json beside the file describes a network of another size than these weights are from.\n\
             What to do: take config.json and the weights from the same published folder, and fetch them again if in \
             doubt."
        )
    );
}

#[test]
fn the_cause_fits_the_pattern_of_the_faults() {
    let cause_with = |tensors: &[(&str, &[usize], &[f32])], wanted: &[&str]| {
        let (_folder, source) = source_of(tensors);
        let mut ledger = WeightLedger::new(&source);
        for name in wanted {
            ledger.take(name, &[1]);
        }
        ledger.finish(|_| false).unwrap_err().to_string()
    };
    let one: &[f32] = &[0.0];
    for (in_file, wanted, cause) in [
        (&["x"][..], &["a", "b"][..], "another kind of network"),
        (&["a"], &["a", "b"], "incomplete"),
        (&["a", "b"], &["a"], "larger network"),
        (&["a", "x"], &["a", "b"], "another version"),
        (&["model.a", "model.b"], &["a", "b"], "begin with \"model.\""),
        (&["a.w"], &["encoder.a.w"], "lack the \"encoder.\""),
    ] {
        let tensors: Vec<(&str, &[usize], &[f32])> = in_file.iter().map(|name| (*name, &[1][..], one)).collect();
        let text = cause_with(&tensors, wanted);
        assert!(text.contains(cause), "{in_file:?} for {wanted:?}: {text}");
    }
    let text = cause_with(&[("a", &[1], &[f32::NAN])], &["a"]);
    assert!(text.contains("diverged") && text.contains("earlier checkpoint"), "{text}");
}

#[test]
fn names_from_a_file_cannot_flood_or_steer_a_message() {
    let long = "x".repeat(10_000) + "\u{1b}[31m";
    let (_folder, source) = source_of(&[(&long, &[1], &[0.0]), ("\u{1b}[31mred", &[1], &[0.0])]);
    let text = WeightLedger::new(&source).finish(|_| false).unwrap_err().to_string();
    assert!(text.len() < 1_000 && !text.contains('\u{1b}'), "{text}");
}
