//! Token ids of the reference's tokenizer against ours.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};
use tilereel::model::text::{SpecialTokens, Tokenizer};

use crate::report::Report;

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    tokens: Vec<String>,
    /// `padded<LENGTH>_ids` and `padded<LENGTH>_mask` for any lengths.
    #[serde(flatten)]
    padded: Map<String, Value>,
}

/// The tokenizer model of the folder: its contents and whether it is a `tokenizer.json`. A SentencePiece model goes first.
fn model(folder: &Path) -> Option<(Vec<u8>, bool)> {
    let mut paths: Vec<_> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let (jsons, others): (Vec<_>, Vec<_>) =
        paths.iter().partition(|path| path.extension().is_some_and(|extension| extension == "json"));
    // The first thing in a SentencePiece model is its first piece: field 1, a message.
    let is_sentencepiece = |bytes: &Vec<u8>| bytes.first() == Some(&0x0a);
    let is_tokenizer_json =
        |bytes: &Vec<u8>| serde_json::from_slice::<Value>(bytes).is_ok_and(|json| json["model"]["vocab"].is_array());
    let read = |path: &&PathBuf| fs::read(path).ok();
    others
        .iter()
        .filter_map(read)
        .find(is_sentencepiece)
        .map(|bytes| (bytes, false))
        .or_else(|| jsons.iter().filter_map(read).find(is_tokenizer_json).map(|bytes| (bytes, true)))
}

/// The JSON files of the folder that are lists of such cases, with their names.
fn case_files(folder: &Path) -> Vec<(String, Vec<Case>)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries
        .flatten()
        .filter_map(|entry| {
            let cases: Vec<Case> = serde_json::from_slice(&fs::read(entry.path()).ok()?).ok()?;
            let stem = entry.path().file_stem()?.to_string_lossy().into_owned();
            (!cases.is_empty()).then_some((stem, cases))
        })
        .collect();
    files.sort_by(|(one, _), (other, _)| one.cmp(other));
    files
}

pub fn recognises(folder: &Path) -> bool {
    model(folder).is_some() && !case_files(folder).is_empty()
}

pub fn load(folder: &Path) -> anyhow::Result<Tokenizer> {
    let (bytes, is_json) = model(folder).context("the set has no tokenizer model")?;
    let config = fs::read(folder.join("tokenizer_config.json")).ok();
    let map = fs::read(folder.join("special_tokens_map.json")).ok();
    let special_tokens = SpecialTokens::from_json(config.as_deref(), map.as_deref())?;
    Ok(if is_json {
        Tokenizer::from_tokenizer_json(&bytes, &special_tokens)?
    } else {
        Tokenizer::from_sentencepiece(&bytes, &special_tokens)?
    })
}

pub fn check(folder: &Path, report: &mut Report) -> anyhow::Result<()> {
    let set = folder.file_name().context("the set has no name")?.to_string_lossy();
    let tokenizer = load(folder)?;
    for (stem, cases) in case_files(folder) {
        for (index, case) in cases.iter().enumerate() {
            check_case(&set, &format!("{stem}[{index}]"), case, &tokenizer, report)?;
        }
    }
    Ok(())
}

fn check_case(set: &str, name: &str, case: &Case, tokenizer: &Tokenizer, report: &mut Report) -> anyhow::Result<()> {
    let ids = tokenizer.encode_unpadded(&case.text)?;
    report.exact(set, name, "ids", ids == case.ids, format_args!("got {ids:?}, want {:?}", case.ids));
    let pieces: Vec<_> = case.ids.iter().map(|&id| tokenizer.piece(id).unwrap_or_default()).collect();
    report.exact(set, name, "tokens", pieces == case.tokens, format_args!("got {pieces:?}, want {:?}", case.tokens));
    let mut compared = 0;
    for (key, value) in &case.padded {
        let Some((length, part)) = key.strip_prefix("padded").and_then(|rest| rest.split_once('_')) else { continue };
        let length: usize = length.parse().with_context(|| format!("{key} has no length"))?;
        let padded = tokenizer.encode(&case.text, length)?;
        let got: Vec<u64> = match part {
            "ids" => padded.ids.iter().map(|&id| id.into()).collect(),
            "mask" => padded.mask.iter().map(|&mask| mask.into()).collect(),
            _ => continue,
        };
        let want: Vec<u64> = serde_json::from_value(value.clone()).with_context(|| format!("{key} is no list of numbers"))?;
        report.exact(set, name, key, got == want, format_args!("got {got:?}, want {want:?}"));
        compared += 1;
    }
    ensure!(
        compared > 0 || case.padded.keys().all(|key| !key.starts_with("padded")),
        "{name} has padded values that were not compared"
    );
    Ok(())
}
