//! Every variant of every shader that a launcher can ask for.
//!
//! `shaders/variants.txt` names them, one a line. Tests hold that file against this list, and every variant against what the
//! platforms' shader languages accept. Heads come in any size up to the largest, and the matrix tier has the sizes of a layer
//! as constants; a few stand for all.

use super::Shader;
use super::block_product::Block;
use super::conv3d::Geometry;
use super::doubling::Doubling;
use super::group_norm::GROUPS;
use super::group_norm::shaders::Way;
use super::linear::Activation;
use super::product::{LARGE, SMALL, SQUARE};
use super::rows::{RowCut, column_sums_shader};
use super::tile_attention::backward::{self, Of};
use super::tile_attention::{Gives, LARGEST_HEAD, backward_matrix, backward_subgroup};
use super::{
    Vectors, conv3d, doubling, gate_residual, gelu, gradient, group_norm, heads, join, linear, newton_schulz, norm_modulate,
    rms_norm, tile_attention, tile_mass,
};

/// Storage types of tensors.
const ELEMENTS: [&str; 2] = ["f32", "f16"];
/// The published models' 24, 48, 72 and 96; multiples of the lanes and others; the largest.
const HEADS: [usize; 9] = [8, 20, 24, 48, 64, 72, 96, 97, LARGEST_HEAD];
const SWITCH: [bool; 2] = [false, true];

/// The variants with their names, as in `tile_attention f16 head=96 key_bias`.
pub fn all() -> Vec<(String, Shader)> {
    let mut variants = Vec::new();
    for element in ELEMENTS {
        for (head, key_bias, gives) in heads_with_switches() {
            let name = format!("tile_attention {element} head={head}{}{}", word("key_bias", key_bias), given(gives));
            variants.push((name, tile_attention::shader(element, head, key_bias, gives)));
        }
        variants.push((format!("conv3d {element} gradient"), conv3d::gradient_shader(element)));
        variants.push((format!("weight_gradient {element}"), gradient::weight::shader(element)));
        variants.push((format!("turned_weight {element}"), gradient::input::turned_weight_shader(element)));
        for pieces in [2, join::MOST_PIECES] {
            variants.push((format!("join {element} pieces={pieces}"), join::shader(element, pieces)));
        }
        for by_four in SWITCH {
            let name = format!("column_sums {element}{}", word("by_four", by_four));
            variants.push((name, gradient::sums::column_sums_shader(element, by_four)));
        }
        for head in HEADS {
            variants.push((format!("row_deltas {element} head={head}"), backward::row_deltas_shader(element, head)));
            for (key_bias, of, count_work) in backward_switches() {
                let switches = gradient_words(key_bias, of, count_work);
                let name = format!("tile_attention_backward {element} head={head}{switches}");
                variants.push((name, backward::shader(element, head, key_bias, of, count_work)));
            }
        }
        for affine in SWITCH {
            for residual in SWITCH {
                let name = format!("conv3d {element}{}{}", word("affine", affine), word("residual", residual));
                variants.push((name, conv3d::shader(element, affine, residual)));
            }
        }
    }
    variants.extend(between_products());
    variants.push(("tile_mass_rows".to_owned(), tile_mass::rows_shader()));
    variants.push(("tile_mass".to_owned(), tile_mass::shader()));
    variants.extend(norms_and_doublings());
    variants.push(("sum_of_parts".into(), gradient::sums::sum_of_parts_shader()));
    variants.extend(on_subgroups());
    variants.extend(on_matrices());
    variants
}

fn on_subgroups() -> Vec<(String, Shader)> {
    let mut variants = Vec::new();
    for element in ELEMENTS {
        for (head, key_bias, gives) in heads_with_switches() {
            if let Some(cut) = tile_attention::subgroup::Cut::of(element, head) {
                let switches = [&word("key_bias", key_bias), given(gives)].concat();
                let name = format!("tile_attention subgroup {element} head={head}{switches}");
                variants.push((name, tile_attention::subgroup::shader(element, cut, key_bias, gives)));
            }
        }
        for head in HEADS {
            for (key_bias, of, count_work) in backward_switches() {
                if let Some(cut) = backward_subgroup::Cut::of(head, of) {
                    let switches = gradient_words(key_bias, of, count_work);
                    let name = format!("tile_attention_backward subgroup {element} head={head}{switches}");
                    variants.push((name, backward_subgroup::shader(element, cut, key_bias, of, count_work)));
                }
            }
        }
        for block in Block::ALL {
            for (bias, gelu) in [(false, false), (true, false), (false, true), (true, true)] {
                let activation = if gelu { Activation::GeluTanh } else { Activation::None };
                let switches = [word("bias", bias), word("gelu_tanh", gelu)].concat();
                let name = format!("linear subgroup {element} rows={}{switches}", block.rows());
                variants.push((name, linear::block_shader(element, block, bias, activation)));
            }
            for residual in SWITCH {
                let name = format!("conv3d subgroup {element} rows={}{}", block.rows(), word("residual", residual));
                variants.push((name, conv3d::block_shader(element, block, residual)));
            }
            for strided in SWITCH {
                let name = format!("conv3d gradient subgroup {element} rows={}{}", block.rows(), word("strided", strided));
                variants.push((name, gradient::input::block_shader(element, block, strided)));
            }
            let name = format!("weight_gradient subgroup {element} rows={}", block.rows());
            variants.push((name, gradient::blocks::shader(element, block)));
        }
    }
    variants
}

/// Channels of a norm: the mini model's, and the published model's largest.
const NORMS: [usize; 2] = [64, 512];

fn norms_and_doublings() -> Vec<(String, Shader)> {
    let mut variants = Vec::new();
    for element in ELEMENTS {
        for (way, gradient) in [("", false), (" gradient", true)] {
            for (kind, doubling) in [("nearest", Doubling::Nearest), ("linear", Doubling::LinearAfterFirstFrame)] {
                let shader = doubling::shader(element, NORMS[0], doubling, gradient);
                variants.push((format!("doubling {element} {kind}{way} channels={}", NORMS[0]), shader));
            }
        }
        for channels in NORMS {
            variants.push((
                format!("group_sums {element} channels={channels}"),
                group_norm::shaders::sums_shader(element, channels, Way::Forward, false),
            ));
            variants.push((
                format!("group_finish {element} channels={channels}"),
                group_norm::shaders::finish_shader(element, channels, GROUPS, Way::Forward),
            ));
            variants.push((
                format!("group_finish {element} channels={channels} each"),
                group_norm::shaders::finish_shader(element, channels, channels, Way::Forward),
            ));
            for silu in SWITCH {
                let sizes = format!("channels={channels}{}", word("silu", silu));
                let sums = group_norm::shaders::sums_shader(element, channels, Way::Gradient, silu);
                variants.push((format!("group_sums {element} gradient {sizes}"), sums));
                let forward = group_norm::shaders::normalise_shader(element, channels, Way::Forward, silu);
                variants.push((format!("normalise {element} {sizes}"), forward));
                let gradient = group_norm::shaders::normalise_shader(element, channels, Way::Gradient, silu);
                variants.push((format!("normalise {element} gradient {sizes}"), gradient));
            }
        }
    }
    for channels in NORMS {
        for (each, groups) in [("", GROUPS), (" each", channels)] {
            let finish = group_norm::shaders::finish_shader("f32", channels, groups, Way::Gradient);
            variants.push((format!("group_finish gradient channels={channels}{each}"), finish));
        }
    }
    variants
}

/// Geometries of the VAE: causal, frame by frame, pixel by pixel, halving.
const GEOMETRIES: [(&str, Geometry); 4] = [
    ("3x3x3", Geometry { kernel: [3, 3, 3], stride: [1, 1, 1], causal_frames: 2, top: 1, bottom: 1, left: 1, right: 1 }),
    ("1x3x3", Geometry { kernel: [1, 3, 3], stride: [1, 1, 1], causal_frames: 0, top: 1, bottom: 1, left: 1, right: 1 }),
    ("1x1x1", Geometry { kernel: [1, 1, 1], stride: [1, 1, 1], causal_frames: 0, top: 0, bottom: 0, left: 0, right: 0 }),
    ("3x3x3 halving", Geometry { kernel: [3, 3, 3], stride: [2, 2, 2], causal_frames: 2, top: 0, bottom: 1, left: 0, right: 1 }),
];
/// Channels of the VAE that stand for all: each tile once, with whole slices and others.
const CHANNELS: [(usize, usize); 9] =
    [(4, 512), (512, 512), (256, 128), (128, 4), (4, 64), (64, 64), (40, 72), (24, 32), (264, 256)];
/// Inner size and columns of layers that stand for all.
const LAYERS: [(usize, usize); 3] = [(2304, 9216), (192, 768), (40, 136)];

/// The padding of the way back through a convolution.
fn turned(geometry: Geometry) -> Geometry {
    let call = gradient::input::InputGradient { gradient: [1; 5], channels_in: 1, size: [1; 3], geometry };
    call.turned()
}

fn on_matrices() -> Vec<(String, Shader)> {
    let mut variants = Vec::new();
    for cut in tile_attention::matrix::CUTS {
        for gives in Gives::ALL {
            for (key_bias, ragged) in [(false, false), (true, false), (false, true), (true, true)] {
                let switches = [&word("key_bias", key_bias), &word("ragged", ragged), given(gives)].concat();
                let name = format!("tile_attention matrix head={} subgroups={}{switches}", cut.head, cut.subgroups);
                variants.push((name, tile_attention::matrix::shader(cut, key_bias, ragged, gives)));
            }
        }
    }
    for cut in backward_matrix::CUTS {
        for (key_bias, of, count_work) in backward_switches() {
            for ragged in SWITCH {
                let switches = [gradient_words(key_bias, of, count_work), word("ragged", ragged)].concat();
                let name = format!("tile_attention_backward matrix head={} rows={}{switches}", cut.head, 16 * cut.subgroups);
                variants.push((name, backward_matrix::shader(cut, key_bias, ragged, of, count_work)));
            }
        }
    }
    for tile in [&LARGE, &SQUARE, &SMALL] {
        for (inner, columns) in LAYERS {
            for (bias, gelu) in [(false, false), (true, false), (false, true), (true, true)] {
                let activation = if gelu { Activation::GeluTanh } else { Activation::None };
                let switches = [word("bias", bias), word("gelu_tanh", gelu)].concat();
                let name = format!("linear matrix {} inner={inner} columns={columns}{switches}", tile.name());
                variants.push((name, linear::shader(tile, inner, columns, bias, activation)));
            }
        }
    }
    for (inner, columns) in LAYERS {
        for with_added in SWITCH {
            let name = format!("newton_schulz matrix inner={inner} columns={columns}{}", word("added", with_added));
            variants.push((name, newton_schulz::shader(inner, columns, with_added)));
        }
    }
    for (channels_in, channels_out) in CHANNELS {
        let tile = conv3d::matrix::tile_for(channels_in, channels_out);
        for (kernel, geometry) in GEOMETRIES {
            for residual in SWITCH {
                let sizes = format!("{} {kernel} in={channels_in} out={channels_out}", tile.name());
                let shader = conv3d::matrix::shader(tile, channels_in, channels_out, residual, &geometry);
                variants.push((format!("conv3d matrix {sizes}{}", word("residual", residual)), shader));
            }
        }
    }
    for (channels_in, channels_out) in CHANNELS {
        for (kernel, geometry) in GEOMETRIES {
            if let Some(tile) = gradient::matrix::tile_for(channels_in, channels_out, &geometry) {
                let name = format!("weight_gradient matrix {} {kernel} in={channels_in} out={channels_out}", tile.name());
                variants.push((name, gradient::matrix::shader(&tile, channels_in, channels_out, &geometry)));
            }
            let tile = conv3d::matrix::tile_for(channels_out, channels_in);
            let name = format!("conv3d gradient matrix {} {kernel} in={channels_in} out={channels_out}", tile.name());
            variants.push((name, gradient::input::matrix_shader(tile, channels_in, channels_out, &turned(geometry))));
        }
    }
    for (inner, columns) in LAYERS {
        if let Some(tile) = gradient::matrix::tile_for(inner, columns, &gradient::POINT) {
            let name = format!("weight_gradient matrix {} inner={inner} columns={columns}", tile.name());
            variants.push((name, gradient::matrix::shader(&tile, inner, columns, &gradient::POINT)));
        }
    }
    variants
}

/// Widths of a transformer: of mini, the published one; others, in fours and not, that take one to many pieces of a row.
const WIDTHS: [usize; 6] = [192, 2304, 24, 5000, 30, 1001];
/// Heads and their size: of mini, the published one; others, in fours and not.
const HEADS_AND_HEAD: [(usize, usize); 4] = [(4, 48), (24, 96), (2, 36), (3, 6)];

fn between_products() -> Vec<(String, Shader)> {
    let mut variants = vec![("column_sums".to_owned(), column_sums_shader())];
    for vectors in all_vectors() {
        for gradient in SWITCH {
            variants.push((format!("gelu {vectors}{}", word("gradient", gradient)), gelu::shader(vectors, gradient)));
        }
        variants.push((format!("gate_residual {vectors}"), gate_residual::shader(vectors, 1, false)));
        for width in WIDTHS.into_iter().filter(|&width| vectors.fit(width)) {
            let (cut, of_width) = (RowCut::new(vectors, width), format!("{vectors} width={width}"));
            variants.push((format!("norm_modulate {of_width}"), norm_modulate::shader(cut)));
            for of_stream in SWITCH {
                let name = format!("norm_modulate_gradient {of_width}{}", word("of_stream", of_stream));
                variants.push((name, norm_modulate::gradient_shader(cut, of_stream)));
            }
            variants.push((format!("rms_norm {of_width}"), rms_norm::shader(cut)));
            variants.push((format!("rms_norm_gradient {of_width}"), rms_norm::gradient_shader(cut)));
            variants.push((format!("gate_residual {of_width} gated"), gate_residual::shader(vectors, width, true)));
            variants.push((format!("gate_gradient {of_width}"), gate_residual::gradient_shader(cut)));
        }
        for (count, head) in HEADS_AND_HEAD {
            for (merge, rotate) in [(false, false), (true, false), (false, true), (true, true)] {
                if vectors.fit(heads::neighbours(head, rotate)) {
                    let switches = [word("merge", merge), word("rotate", rotate)].concat();
                    let name = format!("heads {vectors} heads={count} head={head}{switches}");
                    variants.push((name, heads::shader(vectors, count, head, merge, rotate)));
                }
            }
        }
    }
    variants
}

fn all_vectors() -> impl Iterator<Item = Vectors> {
    ELEMENTS.into_iter().flat_map(|element| [true, false].map(|in_fours| Vectors::new(element, in_fours)))
}

fn heads_with_switches() -> impl Iterator<Item = (usize, bool, Gives)> {
    HEADS.into_iter().flat_map(|head| SWITCH.into_iter().flat_map(move |bias| Gives::ALL.map(|gives| (head, bias, gives))))
}

fn backward_switches() -> impl Iterator<Item = (bool, Of, bool)> {
    Of::ALL.into_iter().flat_map(|of| SWITCH.into_iter().flat_map(move |bias| SWITCH.map(|count_work| (bias, of, count_work))))
}

fn gradient_words(key_bias: bool, of: Of, count_work: bool) -> String {
    let of = match of {
        Of::Queries => " of_queries",
        Of::Keys => " of_keys",
    };
    [of, &word("key_bias", key_bias), &word("count_work", count_work)].concat()
}

fn given(gives: Gives) -> &'static str {
    match gives {
        Gives::Attention => "",
        Gives::AttentionAndWork => " count_work",
        Gives::AttentionAndLogSums => " log_sums",
        Gives::AttentionAndSample => " log_sums sampled",
        Gives::AttentionAndRowLogSums => " row_log_sums",
        Gives::LogSums => " only_log_sums",
    }
}

fn word(name: &str, on: bool) -> String {
    if on { format!(" {name}") } else { String::new() }
}
