//! The parts of SentencePiece's `ModelProto` that T5 tokenizers are made of, and the checks that such a file has to pass.

use std::collections::HashSet;

use prost::Message;

use super::TextError;
use super::charsmap;

/// The file of mT5, the largest vocabulary in use, has 4.3 MB.
const LARGEST_FILE_BYTES: usize = 32 << 20;
/// SentencePiece's own limit is 16 characters unless told otherwise.
const LONGEST_PIECE_BYTES: usize = 1024;
/// `TrainerSpec.ModelType.UNIGRAM`.
const UNIGRAM: i32 = 1;

/// A SentencePiece model that is safe to build a tokenizer from.
pub(super) struct SentencePieceModel {
    /// Pieces with their log probabilities; the place of a piece is its id.
    pub pieces: Vec<(String, f64)>,
    pub unknown_id: usize,
    /// The compiled normalization rules; empty if there are none.
    pub charsmap: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<SentencePiece>,
    #[prost(message, optional, tag = "2")]
    trainer_spec: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    normalizer_spec: Option<NormalizerSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct SentencePiece {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
}

#[derive(Clone, PartialEq, Message)]
struct TrainerSpec {
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
    #[prost(int32, optional, tag = "40")]
    unk_id: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct NormalizerSpec {
    #[prost(bytes = "vec", optional, tag = "2")]
    precompiled_charsmap: Option<Vec<u8>>,
}

impl SentencePieceModel {
    /// Reads and checks the contents of `spiece.model`.
    ///
    /// # Errors
    /// [`TextError::SentencePiece`] if the file is damaged, cut short or no unigram model.
    pub fn parse(bytes: &[u8]) -> Result<Self, TextError> {
        let damaged = |reason: String| TextError::SentencePiece { reason };
        if bytes.len() > LARGEST_FILE_BYTES {
            return Err(damaged(format!("it has {} bytes, more than any such model", bytes.len())));
        }
        let proto = ModelProto::decode(bytes).map_err(|error| damaged(error.to_string()))?;
        // These come after the pieces and are always written.
        let (Some(trainer), Some(normalizer)) = (proto.trainer_spec, proto.normalizer_spec) else {
            return Err(damaged("its settings are missing after the pieces".to_owned()));
        };
        if trainer.model_type.unwrap_or(UNIGRAM) != UNIGRAM {
            return Err(damaged("it is not a unigram model, which mT5's is".to_owned()));
        }
        let pieces: Vec<(String, f64)> = proto
            .pieces
            .into_iter()
            .map(|piece| (piece.piece.unwrap_or_default(), f64::from(piece.score.unwrap_or_default())))
            .collect();
        let unknown_id = usize::try_from(trainer.unk_id.unwrap_or(0)).unwrap_or(usize::MAX);
        check_pieces(&pieces, unknown_id).map_err(damaged)?;
        let charsmap = normalizer.precompiled_charsmap.unwrap_or_default();
        if !charsmap.is_empty() {
            charsmap::check(&charsmap).map_err(|reason| damaged(reason.to_owned()))?;
        }
        Ok(Self { pieces, unknown_id, charsmap })
    }
}

/// Whether a unigram vocabulary is usable; otherwise what is wrong with it.
pub(super) fn check_pieces(pieces: &[(String, f64)], unknown_id: usize) -> Result<(), String> {
    if pieces.is_empty() {
        return Err("it has no pieces".to_owned());
    }
    if unknown_id >= pieces.len() {
        return Err(format!("its piece for unknown characters is missing among the {} pieces", pieces.len()));
    }
    let mut seen = HashSet::with_capacity(pieces.len());
    for (id, (piece, score)) in pieces.iter().enumerate() {
        if piece.is_empty() || piece.len() > LONGEST_PIECE_BYTES {
            return Err(format!("piece {id} has {} bytes, between 1 and {LONGEST_PIECE_BYTES} are possible", piece.len()));
        }
        if !score.is_finite() {
            return Err(format!("piece {id} has the score {score}"));
        }
        if !seen.insert(piece.as_str()) {
            return Err(format!("piece {id} ({piece:?}) is there twice"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(pieces: &[(&str, f32)], unk_id: i32) -> Vec<u8> {
        ModelProto {
            pieces: pieces
                .iter()
                .map(|(piece, score)| SentencePiece { piece: Some((*piece).to_owned()), score: Some(*score) })
                .collect(),
            trainer_spec: Some(TrainerSpec { model_type: None, unk_id: Some(unk_id) }),
            normalizer_spec: Some(NormalizerSpec::default()),
        }
        .encode_to_vec()
    }

    fn reason(bytes: &[u8]) -> String {
        SentencePieceModel::parse(bytes).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn unusable_vocabularies_are_refused() {
        assert!(SentencePieceModel::parse(&model(&[("<unk>", 0.0), ("a", -1.0)], 0)).is_ok());
        assert!(reason(&model(&[], 0)).contains("no pieces"));
        assert!(reason(&model(&[("a", 0.0), ("a", 1.0)], 0)).contains("twice"));
        assert!(reason(&model(&[("a", f32::NAN)], 0)).contains("NaN"));
        assert!(reason(&model(&[("a", f32::NEG_INFINITY)], 0)).contains("inf"));
        assert!(reason(&model(&[("a", 0.0), ("", 0.0)], 0)).contains("0 bytes"));
        for unk_id in [-1, 1, i32::MAX] {
            assert!(reason(&model(&[("a", 0.0)], unk_id)).contains("unknown characters"));
        }
        assert!(reason(b"").contains("settings are missing"));
        assert!(reason(b"{\"not\": \"a model\"}").contains("cannot be read"));
    }
}
