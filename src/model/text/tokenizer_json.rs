//! Reads `tokenizer.json`, the format of the `tokenizers` crate, and refuses what would make that crate fail later.

use serde_json::Value;

use super::charsmap;
use super::sentencepiece::check_pieces;

/// The file of mT5 has 16 MB.
const LARGEST_FILE_BYTES: usize = 128 << 20;

/// The tokenizer and the text of each id, or what is wrong with the file.
pub(super) fn parse(bytes: &[u8]) -> Result<(tokenizers::Tokenizer, Vec<String>), String> {
    if bytes.len() > LARGEST_FILE_BYTES {
        return Err(format!("it has {} bytes, more than any such file", bytes.len()));
    }
    let json: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let mut pieces = check_model(&json["model"])?;
    check_tables(&json)?;
    let mut tokenizer: tokenizers::Tokenizer = serde_json::from_value(json).map_err(|error| error.to_string())?;
    // Length is up to the caller here.
    tokenizer.with_truncation(None).map_err(|error| error.to_string())?;
    tokenizer.with_padding(None);
    let size = tokenizer.get_vocab_size(true);
    for id in pieces.len()..size {
        let id = u32::try_from(id).map_err(|_| "it has too many tokens".to_owned())?;
        pieces.push(tokenizer.id_to_token(id).ok_or_else(|| format!("its added tokens leave the id {id} unused"))?);
    }
    Ok((tokenizer, pieces))
}

fn check_model(model: &Value) -> Result<Vec<String>, String> {
    if model["type"] != "Unigram" {
        return Err("its model is not of the type Unigram, which mT5's is".to_owned());
    }
    let vocabulary = model["vocab"].as_array().ok_or("its model has no vocabulary")?;
    let pieces = vocabulary
        .iter()
        .enumerate()
        .map(|(id, entry)| {
            let piece = entry[0].as_str().zip(entry[1].as_f64());
            piece
                .map(|(piece, score)| (piece.to_owned(), score))
                .ok_or_else(|| format!("entry {id} of its vocabulary is malformed"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let unknown_id = model["unk_id"].as_u64().and_then(|id| usize::try_from(id).ok()).ok_or("its model has no unk_id")?;
    check_pieces(&pieces, unknown_id)?;
    Ok(pieces.into_iter().map(|(piece, _)| piece).collect())
}

/// Checks the normalization tables, wherever they are. `serde_json` limits the depth.
fn check_tables(value: &Value) -> Result<(), String> {
    match value {
        Value::Array(values) => values.iter().try_for_each(check_tables),
        Value::Object(fields) => {
            if let Some(table) = fields.get("precompiled_charsmap") {
                let table = table.as_str().and_then(decode_base64).ok_or("its normalization table is not Base64")?;
                charsmap::check(&table)?;
            }
            fields.values().try_for_each(check_tables)
        }
        _ => Ok(()),
    }
}

/// Base64 with padding, as the `tokenizers` crate reads it.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let mut bits = 0_u32;
    let mut bit_count = 0;
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xffff;
        bit_count += 6;
        if bit_count >= 8 {
            bit_count -= 8;
            bytes.push((bits >> bit_count) as u8);
        }
    }
    Some(bytes)
}
