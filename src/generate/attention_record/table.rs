//! A record as rows of a table: for people who compute further with it.

use std::fmt::Write;

use serde::Serialize;

use super::{AttentionRecord, TileState};

/// One tile.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TileRow {
    /// Counted from 1, as people read them; frames are counted from 0.
    pub layer: usize,
    /// Counted from 1; None for the mean of all heads.
    pub head: Option<usize>,
    pub query_frame: usize,
    pub key_frame: usize,
    pub mass: f32,
    pub standard_error: f32,
    pub state: TileState,
}

impl AttentionRecord {
    /// The tiles of a layer, row by row.
    pub fn rows(&self, layer: usize, head: Option<usize>) -> Vec<TileRow> {
        let (mass, error, states) = (self.mass(layer, head), self.standard_error(layer, head), self.states(layer));
        let frames = self.frames();
        let tiles = mass.values().iter().zip(error.values()).zip(states).enumerate();
        let row = |(tile, ((&mass, &standard_error), state))| TileRow {
            layer: layer + 1,
            head: head.map(|head| head + 1),
            query_frame: tile / frames,
            key_frame: tile % frames,
            mass,
            standard_error,
            state,
        };
        tiles.map(row).collect()
    }
}

/// Rows as comma-separated values with a line of names; the mean of all heads is the head `mean`.
pub fn to_csv(rows: &[TileRow]) -> String {
    let mut text = String::from("layer,head,query_frame,key_frame,mass,standard_error,state\n");
    for row in rows {
        let head = row.head.map_or_else(|| "mean".to_owned(), |head| head.to_string());
        let TileRow { layer, query_frame, key_frame, mass, standard_error, .. } = row;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{layer},{head},{query_frame},{key_frame},{mass},{standard_error},{}", row.state.name());
    }
    text
}
