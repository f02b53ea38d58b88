use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::*;

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tokenizer_tiny");

fn model_bytes() -> Vec<u8> {
    std::fs::read(format!("{FIXTURE}/spiece.model")).unwrap()
}

fn tokenizer() -> Tokenizer {
    Tokenizer::from_sentencepiece(&model_bytes(), &SpecialTokens::default()).unwrap()
}

#[derive(serde::Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    tokens: Vec<String>,
    padded24_ids: Vec<u32>,
    padded24_mask: Vec<u8>,
}

fn cases() -> Vec<Case> {
    serde_json::from_slice(&std::fs::read(format!("{FIXTURE}/cases.json")).unwrap()).unwrap()
}

#[test]
fn encodes_as_transformers_does() {
    let from_model = tokenizer();
    let json = from_model.inner.to_string(false).unwrap();
    let from_json = Tokenizer::from_tokenizer_json(json.as_bytes(), &SpecialTokens::default()).unwrap();
    for tokenizer in [from_model, from_json] {
        for case in cases() {
            assert_eq!(tokenizer.encode_unpadded(&case.text).unwrap(), case.ids, "{:?}", case.text);
            let padded = tokenizer.encode(&case.text, 24).unwrap();
            assert_eq!((padded.ids, padded.mask), (case.padded24_ids, case.padded24_mask), "{:?}", case.text);
            let pieces: Vec<_> = case.ids.iter().map(|&id| tokenizer.piece(id).unwrap()).collect();
            assert_eq!(pieces, case.tokens);
        }
        assert_eq!(tokenizer.piece(tokenizer.vocabulary_size() as u32), None);
    }
}

#[test]
fn spans_name_the_words() {
    let tokenizer = tokenizer();
    let text = "  a small,  Ｆｕｌｌ ﬁ boat ";
    let ids = tokenizer.encode(text, 64).unwrap();
    let spans = tokenizer.spans(text, 64).unwrap();
    assert_eq!(spans.len(), ids.mask.iter().filter(|&&mask| mask == 1).count());
    let mut words: BTreeMap<usize, String> = BTreeMap::new();
    for span in &spans[..spans.len() - 1] {
        words.entry(span.word.unwrap()).or_default().push_str(&text[span.bytes.clone()]);
    }
    let words: Vec<_> = words.into_values().collect();
    assert_eq!(words[0], "a");
    assert_eq!(words[1], "small,");
    assert_eq!(words[2], "Ｆｕｌｌ");
    assert_eq!(words.last().unwrap(), "boat");
    assert_eq!(*spans.last().unwrap(), TokenSpan { bytes: text.len()..text.len(), word: None });
}

#[test]
fn there_must_be_room_for_the_end() {
    let tokenizer = tokenizer();
    assert!(matches!(tokenizer.encode("a", 0), Err(TextError::NoRoom)));
    assert_eq!(tokenizer.encode("a boat", 1).unwrap(), TokenIds { ids: vec![tokenizer.end_id()], mask: vec![1] });
}

#[test]
fn a_megabyte_is_tokenized_quickly_and_exactly() {
    let tokenizer = tokenizer();
    let prose = "a small red boat drifts slowly across a frozen lake. ".repeat(20_000);
    let one_word = "abcdefghijklmnopqrstuvwxyz".repeat(40_000);
    let blank = " \u{200b}".repeat(250_000) + "boat";
    let unknown = "☃".repeat(350_000);
    for (text, is_long) in [(prose, true), (one_word, true), (blank, false), (unknown, false)] {
        let started = Instant::now();
        let padded = tokenizer.encode(&text, 512).unwrap();
        let elapsed = started.elapsed();
        assert!(elapsed < Duration::from_secs(10), "took {elapsed:?}");
        eprintln!("{} bytes took {elapsed:?}", text.len());
        let mut whole = tokenizer.encode_unpadded(&text).unwrap();
        assert_eq!(whole.len() > 512, is_long);
        if is_long {
            whole.truncate(511);
            whole.push(tokenizer.end_id());
        }
        assert_eq!(padded.ids[..whole.len()], whole);
    }
}

/// Small reproducible random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }
}

#[test]
fn damaged_models_are_refused_or_work() {
    let model = model_bytes();
    let json = tokenizer().inner.to_string(false).unwrap().into_bytes();
    type Load = fn(&[u8], &SpecialTokens) -> Result<Tokenizer, TextError>;
    let kinds: [(Vec<u8>, Load); 2] = [(model, Tokenizer::from_sentencepiece), (json, Tokenizer::from_tokenizer_json)];
    let texts: Vec<String> =
        cases().into_iter().map(|case| case.text).chain(["\u{1}x\u{ad}™\u{fdfa} ½ ㌔ e\u{301}".to_owned()]).collect();
    for (bytes, load) in kinds {
        for part in 0..50 {
            assert!(
                load(&bytes[..bytes.len() * part / 50], &SpecialTokens::default()).is_err(),
                "a part of {part}/50 was taken for whole"
            );
        }
        let mut random = Random(bytes.len() as u64);
        for round in 0..60 {
            let mut damaged = bytes.clone();
            for _ in 0..=round {
                let place = random.below(damaged.len());
                damaged[place] = random.below(256) as u8;
            }
            if let Ok(tokenizer) = load(&damaged, &SpecialTokens::default()) {
                for text in &texts {
                    let ids = tokenizer.encode(text, 24).unwrap().ids;
                    assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocabulary_size()));
                    tokenizer.spans(text, 24).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_vocabulary_without_the_end_token_is_refused() {
    let special_tokens = SpecialTokens { end: "<end>".to_owned(), ..SpecialTokens::default() };
    let error = Tokenizer::from_sentencepiece(&model_bytes(), &special_tokens).unwrap_err();
    assert!(error.to_string().contains("no end-of-text token \"<end>\""), "{error}");
}
