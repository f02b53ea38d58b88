//! The names of the tokens with a special meaning, from the JSON files beside a tokenizer.

use serde_json::{Map, Value};

use super::TextError;

/// The special tokens of a text encoder. The default is mT5's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Fills up short texts.
    pub pad: String,
    /// Ends every text.
    pub end: String,
    /// Stands for characters that the vocabulary lacks.
    pub unknown: String,
}

impl Default for SpecialTokens {
    fn default() -> Self {
        Self { pad: "<pad>".to_owned(), end: "</s>".to_owned(), unknown: "<unk>".to_owned() }
    }
}

impl SpecialTokens {
    /// Reads the contents of `tokenizer_config.json` and `special_tokens_map.json`, where there are any. The former wins, as in
    /// transformers; what neither names keeps mT5's default.
    ///
    /// # Errors
    /// [`TextError::SpecialTokens`] if a file is no JSON object or a token in it has no text.
    pub fn from_json(tokenizer_config: Option<&[u8]>, special_tokens_map: Option<&[u8]>) -> Result<Self, TextError> {
        let mut tokens = Self::default();
        for (file, bytes) in [("special_tokens_map.json", special_tokens_map), ("tokenizer_config.json", tokenizer_config)] {
            if let Some(bytes) = bytes {
                tokens.read(bytes).map_err(|reason| TextError::SpecialTokens { file, reason })?;
            }
        }
        Ok(tokens)
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), String> {
        let settings: Map<String, Value> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        for (key, token) in [("pad_token", &mut self.pad), ("eos_token", &mut self.end), ("unk_token", &mut self.unknown)] {
            match settings.get(key) {
                None | Some(Value::Null) => {}
                Some(value) => {
                    // A token is written as its text, or as an object with options.
                    let text = value.as_str().or_else(|| value.get("content")?.as_str());
                    *token = text.filter(|text| !text.is_empty()).ok_or_else(|| format!("{key} has no text"))?.to_owned();
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_writing_a_token_are_read() {
        let config = br#"{"eos_token": {"content": "<end>", "lstrip": false}, "unk_token": null, "extra_ids": 0}"#;
        let map = br#"{"eos_token": "</s>", "pad_token": "<fill>"}"#;
        let tokens = SpecialTokens::from_json(Some(config), Some(map)).unwrap();
        assert_eq!(tokens, SpecialTokens { pad: "<fill>".to_owned(), end: "<end>".to_owned(), unknown: "<unk>".to_owned() });
        assert_eq!(SpecialTokens::from_json(None, None).unwrap(), SpecialTokens::default());
    }

    #[test]
    fn malformed_files_are_named() {
        for bytes in [&b"[]"[..], b"{\"eos_token\": 3}", b"{\"eos_token\": \"", b""] {
            let error = SpecialTokens::from_json(Some(bytes), None).unwrap_err();
            assert!(error.to_string().starts_with("tokenizer_config.json"), "{error}");
        }
    }
}
