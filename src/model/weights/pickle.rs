//! PyTorch checkpoints: zip pickles of `torch.save`, and the older stream form.
//!
//! The pickle is interpreted as data by `pytorch-reader`; nothing in it is ever executed. Its nested dictionaries come
//! flattened with dots, and this module owns the choice of the weights among them.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

use pytorch_reader::{DType, PytorchReader, Tensor};

use super::error::{WeightError, shown};
use super::source::TensorInfo;
use super::stored_type::StoredType;

/// An open checkpoint: the weights that were chosen, with their values still in the file.
#[derive(Debug)]
pub(super) struct PickleFile {
    tensors: BTreeMap<String, Tensor>,
    file_bytes: u64,
}

impl PickleFile {
    /// Opens a checkpoint. `location` names it in errors.
    pub(super) fn open(path: &Path, location: &str) -> Result<(Self, BTreeMap<String, TensorInfo>), WeightError> {
        let file_bytes =
            std::fs::metadata(path).map_err(|source| WeightError::Unreadable { location: location.to_owned(), source })?.len();
        let flat = contained(|| PytorchReader::new(path).map(PytorchReader::into_tensors))
            .map_err(|reason| WeightError::Pickle { location: location.to_owned(), reason })?;
        let tensors = choose_weights(flat.into_iter().collect());
        let infos = tensors
            .iter()
            .map(|(name, tensor)| {
                (name.clone(), TensorInfo { shape: tensor.shape().to_vec(), stored: stored_type(tensor.dtype()) })
            })
            .collect();
        Ok((Self { tensors, file_bytes }, infos))
    }

    /// Hands `take` all bytes of the tensor `name` at once, row-major whatever the strides of its view in the file.
    pub(super) fn read(&self, name: &str, location: &str, take: &mut dyn FnMut(&[u8])) -> Result<(), WeightError> {
        let tensor = self
            .tensors
            .get(name)
            .ok_or_else(|| WeightError::UnknownTensor { location: location.to_owned(), name: shown(name) })?;
        let damaged = |reason| WeightError::Pickle { location: location.to_owned(), reason };
        // A view with stride 0 costs a few bytes in the file and may claim gigabytes; no weight is stored like that.
        if tensor.byte_len() as u64 > self.file_bytes {
            return Err(damaged(format!(
                "the tensor {} claims {} bytes, more than the whole file has ({})",
                shown(name),
                tensor.byte_len(),
                self.file_bytes
            )));
        }
        take(&contained(|| tensor.read()).map_err(damaged)?);
        Ok(())
    }
}

/// Chooses the weights among the flattened tensors of a checkpoint, as the reference VAE loader does: the averaged
/// weights `ema_state_dict` if there are any, without the `module.` of data-parallel training; else
/// `state_dict.gen_model`; else `state_dict`; else the file is a plain state dict itself.
fn choose_weights<T>(flat: BTreeMap<String, T>) -> BTreeMap<String, T> {
    const AVERAGED: &str = "ema_state_dict.";
    for prefix in [AVERAGED, "state_dict.gen_model.", "state_dict."] {
        if flat.keys().any(|name| name.starts_with(prefix)) {
            return flat
                .into_iter()
                .filter_map(|(name, tensor)| {
                    let name = name.strip_prefix(prefix)?;
                    // Everywhere, not only in front: so does the reference.
                    let name = if prefix == AVERAGED { name.replace("module.", "") } else { name.to_owned() };
                    Some((name, tensor))
                })
                .collect();
        }
    }
    flat
}

fn stored_type(dtype: DType) -> StoredType {
    match dtype {
        DType::F64 => StoredType::F64,
        DType::F32 => StoredType::F32,
        DType::F16 => StoredType::F16,
        DType::BF16 => StoredType::BF16,
        DType::I64 => StoredType::I64,
        DType::I32 => StoredType::I32,
        DType::I16 => StoredType::I16,
        DType::I8 => StoredType::I8,
        DType::U64 => StoredType::U64,
        DType::U32 => StoredType::U32,
        DType::U16 => StoredType::U16,
        DType::U8 => StoredType::U8,
        DType::Bool => StoredType::Bool,
    }
}

/// Runs a call of the pickle reader and turns its errors, and a panic if a hostile file should cause one, into a reason.
fn contained<T, E: ToString>(call: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    match panic::catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(shown(&error.to_string())),
        Err(cause) => Err(format!("its content confuses the reader ({})", shown(panic_text(&*cause)))),
    }
}

fn panic_text(cause: &(dyn Any + Send)) -> &str {
    cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> Vec<String> {
        choose_weights(names.iter().map(|name| ((*name).to_owned(), ())).collect()).into_keys().collect()
    }

    #[test]
    fn weights_are_chosen_as_the_reference_does() {
        let all = ["ema_state_dict.module.e", "optimizer.o", "state_dict.gen_model.g", "state_dict.other.s"];
        assert_eq!(chosen(&all), ["e"]);
        assert_eq!(chosen(&all[1..]), ["g"]);
        assert_eq!(chosen(&["optimizer.o", "state_dict.a.module.b", "state_dict.s"]), ["a.module.b", "s"]);
        assert_eq!(chosen(&["decoder.a", "encoder.b"]), ["decoder.a", "encoder.b"]);
    }

    #[test]
    fn a_panic_of_the_reader_becomes_a_reason() {
        let got = contained(|| -> Result<(), String> { panic!("index out of bounds") });
        assert_eq!(got.unwrap_err(), "its content confuses the reader (index out of bounds)");
    }
}
