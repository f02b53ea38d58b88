//! The shader `matrix_product`, which `linear` and `conv3d` share on the matrix tier: how it is cut into workgroups, and its
//! variants.

use super::Shader;
use super::conv3d::Geometry;
use crate::gpu::shader::Variant;

/// The most workgroups in the first dimension before they go on in the second.
const FOLD: usize = 65_535;

/// How the product is cut: what one workgroup and one of its subgroups own, and how the slices travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Rows and columns of a workgroup.
    pub rows: usize,
    pub columns: usize,
    /// Of a slice of the inner axis.
    pub depth: usize,
    /// Rows and columns of a subgroup.
    pub subgroup: [usize; 2],
    /// Neighbouring groups of four values that a thread loads at once.
    pub wide: usize,
    /// Row of the scratch in groups of four: 5 spreads over the banks, 4 is smaller.
    pub scratch: usize,
}

/// For products with many rows and columns (`d3_b` and `b3` in shaders/NOTES.md).
pub const LARGE: Tile = Tile { rows: 128, columns: 256, depth: 32, subgroup: [64, 64], wide: 2, scratch: 5 };
/// For columns that are multiples of 192 but not of 256 (`b2_192k32`).
pub const SQUARE: Tile = Tile { rows: 192, columns: 192, depth: 32, subgroup: [48, 64], wide: 2, scratch: 5 };
/// For products too small to fill a card with large tiles.
pub const SMALL: Tile = Tile { rows: 64, columns: 64, depth: 32, subgroup: [32, 32], wide: 2, scratch: 5 };
/// For up to 128 columns, or rows of storage that are whole in fours only (`b1_256x128`).
pub const TALL: Tile = Tile { rows: 256, columns: 128, depth: 32, subgroup: [64, 32], wide: 1, scratch: 4 };
/// For up to 64, 32 and 16 columns.
pub const COLUMNS_64: Tile = Tile { rows: 128, columns: 64, depth: 32, subgroup: [64, 32], wide: 2, scratch: 5 };
/// For up to 16 values of the inner axis, a picture's channels, and up to 64 columns.
pub const SHALLOW: Tile = Tile { rows: 128, columns: 64, depth: 16, subgroup: [64, 32], wide: 1, scratch: 5 };
pub const COLUMNS_32: Tile = Tile { rows: 128, columns: 32, depth: 32, subgroup: [32, 32], wide: 2, scratch: 5 };
pub const COLUMNS_16: Tile = Tile { rows: 128, columns: 16, depth: 32, subgroup: [32, 16], wide: 1, scratch: 5 };

impl Tile {
    pub fn threads(&self) -> usize {
        let [rows, columns] = self.subgroup;
        self.rows / rows * (self.columns / columns) * 32
    }

    /// Whether rows of storage with so many values can be loaded.
    pub fn loads(&self, inner: usize, columns: usize) -> bool {
        inner.is_multiple_of(4 * self.wide) && columns.is_multiple_of(4 * self.wide)
    }

    /// Workgroups for so many rows and columns, folded over two dimensions; the shader leaves what is too much.
    pub fn workgroups(&self, rows: usize, columns: usize) -> [u32; 2] {
        let count = rows.div_ceil(self.rows) * columns.div_ceil(self.columns);
        let down = count.div_ceil(FOLD).max(1);
        [count.div_ceil(down) as u32, down as u32]
    }

    pub fn name(&self) -> String {
        format!("{}x{}", self.rows, self.columns)
    }
}

/// What a product does besides multiplying.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    pub bias: bool,
    pub gelu_tanh: bool,
    pub residual: bool,
    /// Gathers the left side as a convolution of this geometry does.
    pub convolution: Option<&'a Geometry>,
    /// The convolution is the way back: places count steps of the stride.
    pub gradient: bool,
    /// Both sides are stacks; sums are scaled, and so is the residual if there is one.
    pub stacked: bool,
    /// The right side is stored as `[columns, inner]`.
    pub turned: bool,
}

/// The shader for `inner` values (of one tap) and `columns`; both are constants of its text.
pub fn shader(name: &'static str, tile: &Tile, inner: usize, columns: usize, options: Options<'_>) -> Shader {
    let mut variant = Variant::default()
        .switch("pass_0_is_first", true)
        .switch("masked", !inner.is_multiple_of(tile.depth))
        .switch("bias", options.bias)
        .switch("gelu_tanh", options.gelu_tanh)
        .switch("residual", options.residual)
        .switch("convolution", options.convolution.is_some())
        .switch("gradient", options.gradient)
        .switch("stacked", options.stacked)
        .switch("scaled", options.stacked && options.residual)
        .switch("turned", options.turned)
        .value("bm", tile.rows)
        .value("bn", tile.columns)
        .value("bk", tile.depth)
        .value("wm", tile.subgroup[0])
        .value("wn", tile.subgroup[1])
        .value("threads", tile.threads())
        .value("wide", tile.wide)
        .value("scratch", tile.scratch)
        .value("inner", inner)
        .value("columns", columns)
        .value("output_binding", 2 + usize::from(options.bias));
    if let Some(geometry) = options.convolution {
        let ([kernel_t, kernel_h, kernel_w], [stride_t, stride_h, stride_w]) = (geometry.kernel, geometry.stride);
        variant = variant
            .value("kernel_t", kernel_t)
            .value("kernel_h", kernel_h)
            .value("kernel_w", kernel_w)
            .value("stride_t", stride_t)
            .value("stride_h", stride_h)
            .value("stride_w", stride_w)
            .value("causal", geometry.causal_frames)
            .value("top", geometry.top)
            .value("left", geometry.left);
    }
    Shader {
        name,
        template: include_str!("../../../shaders/product/matrix_product.wgsl"),
        variant,
        workgroup_size: tile.threads() as u32,
        constants: &[],
    }
}
