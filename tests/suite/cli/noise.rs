//! Start noise from a file, and the latent as the sampler left it.

use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use tilereel::model::noise::fill_normal;

use super::{SMALL, Workplace};

/// Of 5 frames of 64x48: batch, channels, latent frames, height, width.
const SHAPE: [usize; 5] = [1, 4, 2, 6, 8];

fn noise_of_seed(seed: u64) -> Vec<f32> {
    let mut values = vec![0.0; SHAPE.iter().product()];
    fill_normal(seed, 0, &mut values);
    values
}

fn file_with(name: &str, shape: &[usize], values: &[f32]) -> Vec<u8> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let view = TensorView::new(Dtype::F32, shape.to_vec(), &bytes).expect("a tensor");
    safetensors::serialize([(name, view)], None).expect("a file")
}

#[test]
fn noise_from_a_file_counts_as_that_of_the_seed() {
    let place = Workplace::new();
    place.write("noise.safetensors", file_with("noise", &SHAPE, &noise_of_seed(3)));
    let latent = |seed: &str, more: &[&str]| {
        place
            .generate(
                &[&["a red ball", "--seed", seed, "--out", "clip.apng", "--save-latent", "latent.safetensors"], more].concat(),
            )
            .succeeds();
        place.read("latent.safetensors")
    };
    let of_seed = latent("3", &[]);
    let other_seed = latent("4", &[]);
    let of_file = latent("4", &["--noise", "noise.safetensors"]);
    assert!(of_seed == of_file, "the noise of seed 3, from a file");
    assert!(of_seed != other_seed);

    let file = SafeTensors::deserialize(&of_file).expect("a safetensors file");
    assert_eq!(file.names(), ["latent"]);
    let tensor = file.tensor("latent").expect("the latent");
    assert_eq!((tensor.shape(), tensor.dtype()), (&SHAPE[..], Dtype::F32));
    let values: Vec<f32> = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let mean_square = values.iter().map(|value| value * value).sum::<f32>() / values.len() as f32;
    assert!(
        values.iter().all(|value| value.is_finite()) && mean_square > 0.01 && mean_square < 10.0,
        "mean square {mean_square}"
    );

    // The clip remembers that its noise came from a file.
    place.run(&["verify", "clip.apng", "--device", "cpu"]).complains(2, &["noise in a file", "--noise"]);
    place.run(&["verify", "clip.apng", "--device", "cpu", "--noise", "noise.safetensors"]).succeeds().says(&["identical"]);
    place.write("other.safetensors", file_with("noise", &SHAPE, &noise_of_seed(5)));
    place
        .run(&["verify", "clip.apng", "--device", "cpu", "--noise", "other.safetensors"])
        .complains(2, &["noise in a file", "--noise"]);
}

#[test]
fn noise_that_does_not_fit_is_explained() {
    let place = Workplace::new();
    let values = noise_of_seed(3);
    let mut not_finite = values.clone();
    not_finite[7] = f32::NAN;
    for (content, words) in [
        (
            file_with("noise", &[1, 4, 2, 8, 6], &values),
            vec!["noise.safetensors does not fit", "[1, 4, 2, 8, 6]", "[1, 4, 2, 6, 8]"],
        ),
        (file_with("noise", &SHAPE[1..], &values), vec!["does not fit", "[4, 2, 6, 8]", "[1, 4, 2, 6, 8]"]),
        (file_with("latent", &SHAPE, &values), vec!["does not fit", "no such tensor", "`noise`"]),
        (file_with("noise", &SHAPE, &not_finite), vec!["does not fit", "not finite"]),
        (b"nonsense".to_vec(), vec!["noise.safetensors", "safetensors file"]),
    ] {
        place.write("noise.safetensors", content);
        place.refuses(&[&SMALL[..], &["x", "--noise", "noise.safetensors"]].concat(), 1, &words);
    }
    place.refuses(&[&SMALL[..], &["x", "--noise", "absent.safetensors"]].concat(), 1, &["absent.safetensors", "No such file"]);
}
