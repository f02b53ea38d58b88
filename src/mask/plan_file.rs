//! Plans as JSON.
//!
//! ```json
//! {
//!   "latent_frames": 8,
//!   "layers": [
//!     { "mask": "2:6", "refs": [0, 4], "mode": "symmetric" },
//!     { "mask": "full", "refs": [0, 1, 2, 3, 4, 5, 6, 7], "mode": "symmetric" },
//!     { "mask": "near:1" },
//!     { "mask": "painted", "matrix": ["11000000", "11100000", ..] }
//!   ]
//! }
//! ```
//! A plan with other masks for later steps lists them behind: `"later_steps": [{ "from": 0.5, "layers": [..] }]`, where `from` is the
//! share of the steps that come before.
//!
//! `refs` and `mode` may be left out (evenly spaced, symmetric); neighbours have none. A matrix has one row a query frame and one digit a key
//! frame. Fields that are not listed here (losses of a search, provenance) are kept when a plan is read and written again.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::plan::references_of_name;
use super::{FrameMask, LayerMask, Layout, MOST_RANGES, MaskError, MaskFamily, MaskPlan, Mode, Neighbours, Placement};

/// Plans are small; what is larger is not read into memory.
const MOST_BYTES: u64 = 16 << 20;

#[derive(Serialize, Deserialize)]
struct PlanFile {
    latent_frames: usize,
    layers: Vec<LayerEntry>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    later_steps: Vec<RangeEntry>,
    #[serde(flatten)]
    notes: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeEntry {
    from: f64,
    layers: Vec<LayerEntry>,
}

#[derive(Serialize, Deserialize)]
struct LayerEntry {
    mask: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refs: Option<Vec<usize>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<Mode>,
    /// Only where the reference frames alone would be taken for those of another rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    placement: Option<Rule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    matrix: Option<Vec<String>>,
    #[serde(flatten)]
    notes: Map<String, Value>,
}

/// A [`Placement`] without its numbers.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Rule {
    StrideCeil,
    SpacedFloor,
    First,
    Linspace,
    Listed,
}

impl MaskPlan {
    /// Reads a plan.
    ///
    /// # Errors
    /// If the text is no plan, or says something that cannot be or contradicts itself; the message names the layer.
    pub fn from_json(text: &str) -> Result<MaskPlan, MaskError> {
        let file: PlanFile = serde_json::from_str(text)?;
        let mut ranges = vec![(0.0, masks(file.layers, file.latent_frames)?)];
        if file.later_steps.len() >= MOST_RANGES {
            return Err(MaskError::Ranges(file.later_steps.len() + 1));
        }
        for (place, RangeEntry { from, layers }) in file.later_steps.into_iter().enumerate() {
            let in_range = |error| MaskError::InRange { range: place + 2, source: Box::new(error) };
            ranges.push((from, masks(layers, file.latent_frames).map_err(in_range)?));
        }
        let mut plan = MaskPlan::of_ranges(ranges)?;
        plan.notes = file.notes;
        Ok(plan)
    }

    /// The plan as text that [`Self::from_json`] reads back to an equal plan.
    pub fn to_json(&self) -> Result<String, MaskError> {
        let entries = |layers: &[LayerMask]| layers.iter().map(LayerEntry::of).collect();
        let later = self.ranges().skip(1);
        let file = PlanFile {
            latent_frames: self.frames(),
            layers: entries(self.layers()),
            later_steps: later.map(|(from, layers)| RangeEntry { from, layers: entries(layers) }).collect(),
            notes: self.notes.clone(),
        };
        Ok(serde_json::to_string_pretty(&file)? + "\n")
    }

    /// Reads a plan file.
    ///
    /// # Errors
    /// If it cannot be read or as [`Self::from_json`]; the message names the file.
    pub fn load(path: &Path) -> Result<MaskPlan, MaskError> {
        let failed = |source| MaskError::File { doing: "read", path: path.to_owned(), source };
        let bytes = fs::metadata(path).map_err(failed)?.len();
        if bytes > MOST_BYTES {
            return Err(failed(std::io::Error::other(format!("{bytes} bytes are too many for a plan"))));
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        MaskPlan::from_json(&text).map_err(|error| MaskError::InFile { path: path.to_owned(), source: Box::new(error) })
    }

    /// Writes a plan file: whole or not at all.
    ///
    /// # Errors
    /// If it cannot be written; what was there before is then still there.
    pub fn save(&self, path: &Path) -> Result<(), MaskError> {
        let text = self.to_json()?;
        let failed = |source| MaskError::File { doing: "write", path: path.to_owned(), source };
        let mut partial = path.file_name().unwrap_or_default().to_owned();
        partial.push(format!(".{}.partial", std::process::id()));
        let partial = path.with_file_name(partial);
        fs::write(&partial, text).and_then(|()| fs::rename(&partial, path)).map_err(|source| {
            // What is left of it is of no use to anybody; if it cannot be removed, the first error says more.
            let _ = fs::remove_file(&partial);
            failed(source)
        })
    }
}

impl LayerEntry {
    fn of(layer: &LayerMask) -> LayerEntry {
        let mut entry = LayerEntry {
            mask: layer.name(),
            refs: Some(layer.reference_frames()),
            mode: Some(Mode::Symmetric),
            placement: None,
            matrix: None,
            notes: layer.notes.clone(),
        };
        match layer.layout() {
            Layout::Full => {}
            Layout::Family(family) => {
                entry.mode = Some(family.mode);
                let inferred = Placement::behind(&layer.reference_frames(), layer.mask().frames());
                if inferred != family.placement {
                    entry.placement = Some(Rule::of(&family.placement));
                }
            }
            Layout::Neighbours(_) => (entry.refs, entry.mode) = (None, None),
            Layout::Painted => {
                (entry.refs, entry.mode) = (None, None);
                let digits = |row: &[bool]| row.iter().map(|&kept| if kept { '1' } else { '0' }).collect();
                entry.matrix = Some(layer.mask().rows().map(digits).collect());
            }
        }
        entry
    }

    fn layer_mask(self, frames: usize) -> Result<LayerMask, MaskError> {
        let contradiction = |message: String| Err(MaskError::Contradiction(message));
        if self.mask != "painted" && self.matrix.is_some() {
            return contradiction(format!("only a \"painted\" mask has a matrix, not {:?}", self.mask));
        }
        let has_references = self.refs.is_some() || self.mode.is_some() || self.placement.is_some();
        let mut layer = match self.mask.as_str() {
            "painted" => {
                if has_references {
                    return contradiction("a \"painted\" mask has a matrix and no refs, mode or placement".to_owned());
                }
                match &self.matrix {
                    Some(rows) => LayerMask::painted(painted(rows, frames)?),
                    None => return contradiction("a \"painted\" mask needs its matrix".to_owned()),
                }
            }
            "full" => {
                if self.refs.is_some_and(|refs| listed(refs, frames).map(|refs| refs.len()).unwrap_or(0) != frames) {
                    return contradiction(format!("a full mask has all frames as refs (0 to {}) or none", frames - 1));
                }
                LayerMask::full(frames)?
            }
            name if let Some(neighbours) = Neighbours::of_name(name) => {
                if has_references {
                    return contradiction(format!("{name} has neighbours and no refs, mode or placement"));
                }
                LayerMask::of_neighbours(neighbours, frames)?
            }
            name => {
                let count = references_of_name(name, frames)?;
                let mode = self.mode.unwrap_or_default();
                let references = match self.refs {
                    Some(refs) => listed(refs, frames)?,
                    None => LayerMask::named(name, frames)?.reference_frames(),
                };
                if references.len() != count {
                    let given = references.len();
                    return contradiction(format!("{name} has {count} reference frames, but refs lists {given}"));
                }
                let placement = match self.placement {
                    Some(rule) => rule.placement(&references),
                    None => Placement::behind(&references, frames),
                };
                let family = MaskFamily { placement, mode };
                if family.reference_frames(frames)? != references {
                    return contradiction(format!("refs {references:?} are not those of the placement"));
                }
                LayerMask::of_family(&family, frames)?
            }
        };
        layer.notes = self.notes;
        Ok(layer)
    }
}

/// The plan of one range.
fn masks(entries: Vec<LayerEntry>, frames: usize) -> Result<MaskPlan, MaskError> {
    // Both numbers are checked before anything of their size is made.
    let frames = MaskPlan::dense(entries.len(), frames)?.frames();
    let layers = entries.into_iter().enumerate();
    let layers = layers.map(|(layer, entry)| entry.layer_mask(frames).map_err(|error| error.in_layer(layer)));
    MaskPlan::of_layers(layers.collect::<Result<_, _>>()?)
}

/// A list of reference frames, checked and ascending.
fn listed(refs: Vec<usize>, frames: usize) -> Result<Vec<usize>, MaskError> {
    MaskFamily { placement: Placement::Listed(refs), mode: Mode::Symmetric }.reference_frames(frames)
}

fn painted(rows: &[String], frames: usize) -> Result<FrameMask, MaskError> {
    let mut kept = Vec::with_capacity(frames * frames);
    for (query, row) in rows.iter().enumerate() {
        if rows.len() != frames || row.len() != frames || row.contains(|digit| digit != '0' && digit != '1') {
            return Err(MaskError::Contradiction(format!(
                "the matrix has {} rows, row {query} being {row:?}; for {frames} latent frames it has {frames} rows of \
                 {frames} digits 0 or 1",
                rows.len()
            )));
        }
        kept.extend(row.bytes().map(|digit| digit == b'1'));
    }
    FrameMask::new(frames, kept)
}

impl Rule {
    fn of(placement: &Placement) -> Rule {
        match placement {
            Placement::StrideCeil(_) => Rule::StrideCeil,
            Placement::SpacedFloor(_) => Rule::SpacedFloor,
            Placement::First(_) => Rule::First,
            Placement::Linspace(_) => Rule::Linspace,
            Placement::Listed(_) => Rule::Listed,
        }
    }

    fn placement(self, references: &[usize]) -> Placement {
        let count = references.len();
        match self {
            Rule::StrideCeil => Placement::StrideCeil(count),
            Rule::SpacedFloor => Placement::SpacedFloor(count),
            Rule::First => Placement::First(count),
            Rule::Linspace => Placement::Linspace(count),
            Rule::Listed => Placement::Listed(references.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests;
