//! The networks under their published names, and what they need: weights, samplers, text.

pub mod attention_time;
pub mod dit;
pub mod folder;
pub mod judge;
pub mod latent;
pub mod layers;
pub mod noise;
pub mod sampler;
pub mod sampling;
pub mod text;
pub mod vae;
pub mod weights;

/// Largest size that a configuration may ask for; beyond it a file is damaged or hostile.
const LARGEST_SIZE: usize = 1 << 20;

/// What is wrong with the first of these named sizes of a `config.json` that no network can have.
fn impossible_size(sizes: &[(&str, usize)]) -> Option<String> {
    let (name, size) = sizes.iter().find(|(_, size)| !(1..=LARGEST_SIZE).contains(size))?;
    Some(if *size == 0 { format!("its {name} is zero") } else { format!("its {name} is {size}, which is absurdly large") })
}
