//! One number for every tile.

/// F x F numbers, row-major: row = query frame, column = key frame.
#[derive(Clone, Debug, PartialEq)]
pub struct TileMap {
    frames: usize,
    values: Vec<f32>,
}

impl TileMap {
    /// # Panics
    /// The values are not `frames` x `frames`.
    pub fn new(frames: usize, values: Vec<f32>) -> Self {
        assert!(frames > 0 && values.len() == frames * frames, "one value a tile");
        Self { frames, values }
    }

    pub fn frames(&self) -> usize {
        self.frames
    }

    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// # Panics
    /// There is no such tile.
    pub fn at(&self, query_frame: usize, key_frame: usize) -> f32 {
        assert!(key_frame < self.frames, "frame {key_frame} of {}", self.frames);
        self.values[query_frame * self.frames + key_frame]
    }

    /// The values of each query frame in turn.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.values.chunks(self.frames)
    }

    pub fn largest(&self) -> f32 {
        self.values.iter().copied().fold(0.0, f32::max)
    }
}
