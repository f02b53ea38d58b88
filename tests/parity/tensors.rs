//! Reading of the fixtures, independent of the program's own reader.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result, bail};
use safetensors::{Dtype, SafeTensors};

/// One tensor as f32.
#[derive(Clone, Debug)]
pub struct Fixture {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// All tensors and the metadata of one file.
pub struct FixtureFile {
    pub tensors: BTreeMap<String, Fixture>,
    pub metadata: HashMap<String, String>,
}

impl FixtureFile {
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
        let (_, header) = SafeTensors::read_metadata(&bytes)?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let mut tensors = BTreeMap::new();
        for (name, view) in SafeTensors::deserialize(&bytes)?.tensors() {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
                Dtype::I64 => data.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().expect("8 bytes")) as f32).collect(),
                Dtype::I32 => data.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]) as f32).collect(),
                Dtype::U8 | Dtype::BOOL => data.iter().map(|&b| f32::from(b)).collect(),
                Dtype::F64 => data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("8 bytes")) as f32).collect(),
                other => bail!("{}: {name} has the type {other:?}", path.display()),
            };
            tensors.insert(name, Fixture { shape: view.shape().to_vec(), values });
        }
        Ok(Self { tensors, metadata })
    }

    pub fn get(&self, name: &str) -> Result<&Fixture> {
        self.tensors.get(name).with_context(|| format!("the case has no {name}"))
    }
}
