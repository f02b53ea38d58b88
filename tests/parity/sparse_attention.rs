//! Attention over a frame mask: large and odd shapes, all families of masks, values from the reference's generator.
//!
//! A JSON file lists the cases; a tensor file of the same folder holds `<case>.rows` (sampled queries), `<case>.out_rows`,
//! `<case>.out_proj` (every row of the output times one vector; absent for very large cases) and `<case>.frame_mask`.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use burn::tensor::{Tensor, TensorData};
use serde::Deserialize;
use tilereel::gpu::kernels::tile_attention::{Tiles, tile_attention, tile_attention_work};
use tilereel::mask::{FrameMask, MaskFamily, Mode, Placement};

use crate::device::{TestDevice, Tolerances, cases, set_name};
use crate::report::{Report, Tolerance};
use crate::tensors::FixtureFile;

const TOLERANCES: Tolerances = Tolerances { cpu: Tolerance::relative(2e-6), gpu: 1e-5, half: 2e-2 };

/// Multiplications up to which a whole case runs on a software adapter; of larger ones only the sampled queries do.
const SOFTWARE_WORK: usize = 1 << 32;

#[derive(Deserialize)]
struct CaseList {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(rename = "F")]
    frames: usize,
    #[serde(rename = "S")]
    frame_tokens: usize,
    #[serde(rename = "B")]
    batch: usize,
    #[serde(rename = "H")]
    heads: usize,
    #[serde(rename = "D")]
    head: usize,
    seed: u64,
    q_scale: f32,
    refs: Vec<usize>,
    mode: Mode,
}

pub fn recognises(folder: &Path) -> bool {
    case_list(folder).is_ok()
}

fn case_list(folder: &Path) -> Result<CaseList> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "json")
            && let Ok(list) = serde_json::from_slice::<CaseList>(&std::fs::read(&path)?)
        {
            return Ok(list);
        }
    }
    anyhow::bail!("no file lists cases")
}

pub fn check(folder: &Path, device: &TestDevice, report: &mut Report) -> Result<()> {
    let files = cases(folder, Path::new(""))?.iter().map(|path| FixtureFile::read(path)).collect::<Result<Vec<_>>>()?;
    let mut listed = Vec::new();
    for case in case_list(folder)?.cases {
        let rows = format!("{}.rows", case.name);
        let file = files.iter().find(|file| file.tensors.contains_key(&rows)).with_context(|| format!("no file has {rows}"))?;
        check_case(&set_name(folder), &case, file, device, report).with_context(|| case.name.clone())?;
        listed.push(case.name);
    }
    for name in files.iter().flat_map(|file| file.tensors.keys()) {
        let case = name.rsplit_once('.').map_or(name.as_str(), |(case, _)| case);
        if !listed.iter().any(|listed| listed == case) {
            report.exact(&set_name(folder), case, name, false, "no case of this name is listed");
        }
    }
    Ok(())
}

fn check_case(set: &str, case: &Case, file: &FixtureFile, device: &TestDevice, report: &mut Report) -> Result<()> {
    let part = |part: &str| file.tensors.get(&format!("{}.{part}", case.name));
    let family = MaskFamily { placement: Placement::Listed(case.refs.clone()), mode: case.mode };
    let mask = family.frame_mask(case.frames)?;
    if let Some(listed) = part("frame_mask") {
        let listed = FrameMask::new(case.frames, listed.values.iter().map(|&kept| kept != 0.0).collect())?;
        report.exact(
            set,
            &case.name,
            "frame_mask",
            listed == mask,
            format!("{} of {} tiles", mask.kept_tiles(), case.frames.pow(2)),
        );
    }
    let rows: Vec<usize> = part("rows").context("rows")?.values.iter().map(|&row| row as usize).collect();
    let tokens = case.frames * case.frame_tokens;
    let work = case.batch * case.heads * mask.kept_tiles() as usize * case.frame_tokens.pow(2) * case.head * 2;
    let software = device.compute.adapter.as_ref().is_some_and(|adapter| adapter.software);
    let out_proj = part("out_proj");
    let sampled_only = software && work > SOFTWARE_WORK && out_proj.is_none();

    // The queries that run: all, or those of each frame's sampled rows with the last one repeated.
    let chosen: Vec<usize> = if sampled_only { by_frame(&rows, case) } else { (0..tokens).collect() };
    let operand = |tensor: u64, scale: f32, rows: &[usize]| -> Tensor<4> {
        let mut values = Vec::with_capacity(case.batch * case.heads * rows.len() * case.head);
        for batch_head in 0..case.batch * case.heads {
            for &row in rows {
                let start = (batch_head * tokens + row) * case.head;
                values.extend((start..start + case.head).map(|index| scale * generated(case.seed, tensor, index as u64)));
            }
        }
        let data = TensorData::new(values, [case.batch, case.heads, rows.len(), case.head]);
        Tensor::<4>::from_data(data, &device.compute.device).cast(device.compute.precision.dtype())
    };
    let all: Vec<usize> = (0..tokens).collect();
    let (query, key, value) = (operand(1, case.q_scale, &chosen), operand(2, 1.0, &all), operand(3, 1.0, &all));
    let tiles = Tiles {
        key_frames: Arc::new(mask.key_frames()),
        query_tokens: chosen.len() / case.frames,
        key_tokens: case.frame_tokens,
    };
    let output = tile_attention(query.clone(), key.clone(), value.clone(), None, tiles.clone());
    let output: Vec<f32> = output.cast(burn::tensor::FloatDType::F32).try_into_vec_as()?;

    let tolerance = device.tolerance(&TOLERANCES);
    let mut got_rows = Vec::new();
    for batch_head in output.chunks_exact(chosen.len() * case.head) {
        for row in &rows {
            let at = chosen.iter().position(|chosen| chosen == row).context("a sampled row was left out")?;
            got_rows.extend_from_slice(&batch_head[at * case.head..(at + 1) * case.head]);
        }
    }
    let want = part("out_rows").context("out_rows")?;
    report.close(set, &case.name, "out_rows", &got_rows, &want.values, tolerance);
    if let Some(want) = out_proj {
        let direction: Vec<f64> = (0..case.head).map(|index| f64::from(generated(case.seed, 9, index as u64))).collect();
        let dot = |row: &[f32]| row.iter().zip(&direction).map(|(&x, w)| f64::from(x) * w).sum::<f64>() as f32;
        let got: Vec<f32> = output.chunks_exact(case.head).map(dot).collect();
        report.close(set, &case.name, "out_proj", &got, &want.values, tolerance);
    }
    if work <= SOFTWARE_WORK {
        check_work(set, case, (query, key, value), tiles, mask.kept_tiles(), device, report)?;
    }
    Ok(())
}

/// The tiles that the kernel says it walked through are the kept ones.
fn check_work(
    set: &str,
    case: &Case,
    (query, key, value): (Tensor<4>, Tensor<4>, Tensor<4>),
    tiles: Tiles,
    kept_tiles: u64,
    device: &TestDevice,
    report: &mut Report,
) -> Result<()> {
    let counts: Vec<f32> = tile_attention_work(query, key, value, None, tiles).try_into_vec_as()?;
    let walked: f64 = counts.iter().map(|&count| f64::from(count)).sum();
    let calls = (case.batch * case.heads) as f64;
    // A shader counts once for each of its blocks of queries, and every frame has equally many.
    let blocks = if device.compute.is_cpu() { 1.0 } else { counts.len() as f64 / (calls * case.frames as f64) };
    let kept = kept_tiles as f64 * calls * blocks;
    // A kernel that walks runs of keys counts them in shares of a tile.
    report.exact(set, &case.name, "work", (walked - kept).abs() < 1e-3, format!("{walked} tiles walked, {kept} kept"));
    Ok(())
}

/// For every frame equally many of its sampled rows.
fn by_frame(rows: &[usize], case: &Case) -> Vec<usize> {
    let of = |frame: usize| rows.iter().copied().filter(move |row| row / case.frame_tokens == frame).collect::<Vec<_>>();
    let most = (0..case.frames).map(|frame| of(frame).len()).max().unwrap_or(1).max(1);
    let filled = |frame: usize| {
        let rows = of(frame);
        let last = rows.last().copied().unwrap_or(frame * case.frame_tokens);
        rows.into_iter().chain(std::iter::repeat(last)).take(most).collect::<Vec<_>>()
    };
    (0..case.frames).flat_map(filled).collect()
}

/// The fixtures' generator: uniform in [-1, 1).
fn generated(seed: u64, tensor: u64, index: u64) -> f32 {
    let mut z = (seed ^ tensor.wrapping_mul(0xD1B5_4A32_D192_ED03)).wrapping_add((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as f32 * 2f32.powi(-23) - 1.0
}
