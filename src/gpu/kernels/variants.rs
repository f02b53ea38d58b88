//! Every variant of every shader that a launcher can ask for.
//!
//! `shaders/variants.txt` names them, one a line. Tests hold that file against this list, and every variant against what the
//! platforms' shader languages accept. Heads come in any size up to the largest; a few stand for all.

use super::Shader;
use super::tile_attention::LARGEST_HEAD;
use super::{conv3d, tile_attention};

/// Storage types of tensors.
const ELEMENTS: [&str; 2] = ["f32", "f16"];
/// The published models' 24, 48, 72 and 96; multiples of the lanes and others; the largest.
const HEADS: [usize; 9] = [8, 20, 24, 48, 64, 72, 96, 97, LARGEST_HEAD];
const SWITCH: [bool; 2] = [false, true];

/// The variants with their names, as in `tile_attention f16 head=96 key_bias`.
pub fn all() -> Vec<(String, Shader)> {
    let mut variants = Vec::new();
    for element in ELEMENTS {
        for (head, key_bias, count_work) in heads_with_switches() {
            let name =
                format!("tile_attention {element} head={head}{}{}", word("key_bias", key_bias), word("count_work", count_work));
            variants.push((name, tile_attention::shader(element, head, key_bias, count_work)));
        }
        for affine in SWITCH {
            for residual in SWITCH {
                let name = format!("conv3d {element}{}{}", word("affine", affine), word("residual", residual));
                variants.push((name, conv3d::shader(element, affine, residual)));
            }
        }
    }
    variants
}

fn heads_with_switches() -> impl Iterator<Item = (usize, bool, bool)> {
    HEADS.into_iter().flat_map(|head| SWITCH.into_iter().flat_map(move |bias| SWITCH.map(|count| (head, bias, count))))
}

fn word(name: &str, on: bool) -> String {
    if on { format!(" {name}") } else { String::new() }
}
