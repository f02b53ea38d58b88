//! Checkpoints that come back, and those that must not.

use super::*;
use crate::model::noise::normal;
use crate::training::loss_scale::LossScale;

fn checkpoint(length: usize, step: u64) -> Checkpoint {
    let vector = |draw: u64, size: f32| (0..length as u64).map(|place| normal(1, draw, place) * size).collect();
    Checkpoint {
        identity: Identity { kind: "base".into(), fingerprint: "f".into(), seed: 7 },
        progress: Progress { step, trained_seconds: 1.5, loss_scale: LossScale::new(true) },
        vectors: Vectors { master: vector(0, 0.1), first: vector(1, 1e-3), second: vector(2, 1e-9), average: vector(3, 0.1) },
    }
}

#[test]
fn an_exact_checkpoint_keeps_every_bit() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("checkpoint.safetensors");
    let checkpoint = checkpoint(5000, 12);
    file::write(&path, &checkpoint).expect("written");
    assert_eq!(file::read(&path).expect("sound"), checkpoint);
}

#[test]
fn damage_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("checkpoint.safetensors");
    assert!(matches!(file::read(&path), Err(TrainError::NoCheckpoint { .. })));
    file::write(&path, &checkpoint(5000, 12)).expect("written");
    let whole = std::fs::read(&path).expect("there");
    let mut bytes = whole.clone();
    let place = bytes.len() - 100;
    bytes[place] ^= 1;
    for bad in [&bytes[..], &whole[..whole.len() / 2], b"nothing", b""] {
        std::fs::write(&path, bad).expect("written");
        let error = file::read(&path).expect_err("damaged").to_string();
        assert!(error.contains("cannot be used") && error.contains("damaged"), "{error}");
    }
}

#[test]
fn a_checkpoint_of_something_else_is_refused() {
    let checkpoint = checkpoint(10, 1);
    let own = checkpoint.identity.clone();
    let path = Path::new("somewhere");
    assert!(checkpoint.check(&own, path).is_ok());
    for (other, reason) in [
        (Identity { kind: "vae".into(), ..own.clone() }, "a training of base, not of vae"),
        (Identity { fingerprint: "g".into(), ..own.clone() }, "another size"),
        (Identity { seed: 8, ..own.clone() }, "seed 7, not 8"),
    ] {
        let error = checkpoint.check(&other, path).expect_err("refused").to_string();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn a_packed_checkpoint_is_small_and_near() {
    let folder = tempfile::tempdir().expect("a folder");
    // More than one part.
    let checkpoint = checkpoint(3 << 20, 12);
    let bytes = packed::write(folder.path(), &checkpoint).expect("written");
    assert!(bytes < (4 * 2 * (3 << 20)) + 10_000);
    let sizes: Vec<u64> = std::fs::read_dir(folder.path())
        .expect("a folder")
        .map(|entry| entry.expect("an entry").metadata().expect("facts").len())
        .collect();
    assert!(sizes.len() == 3 && sizes.iter().all(|&size| size <= 15 << 20), "{sizes:?}");
    let back = packed::read(folder.path()).expect("sound");
    assert_eq!((&back.identity, &back.progress), (&checkpoint.identity, &checkpoint.progress));
    let near = |got: &[f32], want: &[f32], relative: f32| {
        got.iter().zip(want).all(|(got, want)| (got - want).abs() <= relative * want.abs() + 1e-7)
    };
    assert!(near(&back.vectors.master, &checkpoint.vectors.master, 5e-4));
    assert!(near(&back.vectors.average, &checkpoint.vectors.average, 5e-4));
    assert!(back.vectors.first.iter().zip(&checkpoint.vectors.first).all(|(a, b)| (a - b).abs() <= 4e-3 * b.abs()));
    assert!(back.vectors.second.iter().zip(&checkpoint.vectors.second).all(|(a, b)| (a - b).abs() <= 4e-3 * b.abs()));
    // The next one replaces it.
    packed::write(folder.path(), &self::checkpoint(1000, 13)).expect("written");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 2);
    let part = folder.path().join("step-13-part-00.bin");
    let mut bytes = std::fs::read(&part).expect("a part");
    bytes[5] ^= 4;
    std::fs::write(&part, bytes).expect("written");
    assert!(packed::read(folder.path()).expect_err("damaged").to_string().contains("checksum"));
}
