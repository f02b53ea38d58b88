//! What was measured, as tables and as JSON.

use serde_json::{Value, json};

use super::measure::{Measured, MeasuredPlan};
use super::torch::{CallSizes, TorchFile, TorchKind};
use super::{Forecast, TransformerBench};
use crate::generate::estimate::Work;
use crate::gpu::device::ComputeDevice;
use crate::gpu::spans::Kind;
use crate::model::dit::TransformerConfig;
use crate::model::latent::ClipSize;
use crate::studio::words;

/// A kind of work in a call.
struct Row {
    kind: Kind,
    millis: f64,
    work: Work,
}

fn rows(plan: &MeasuredPlan) -> Vec<Row> {
    Kind::ALL
        .into_iter()
        .map(|kind| {
            let work = match kind {
                Kind::Attention => plan.work.attention,
                Kind::Linear => plan.work.linear,
                Kind::Normalisation => plan.work.normalisation,
                Kind::Convolution | Kind::Resampling | Kind::Copy => Work::default(),
            };
            Row { kind, millis: plan.kind_millis(kind, true) + plan.kind_millis(kind, false), work }
        })
        .filter(|row| row.millis > 0.0)
        .collect()
}

/// The published model's layers at the speed of the layers that were measured; none if all were.
fn extrapolated(bench: &TransformerBench, plan: &MeasuredPlan) -> Option<f64> {
    let all = TransformerConfig::published().num_layers;
    let outside = plan.outside_millis();
    let a_layer = (plan.median_millis() - outside) / bench.layers as f64;
    (bench.layers < all).then_some(outside + all as f64 * a_layer)
}

fn sizes(bench: &TransformerBench) -> CallSizes {
    let [width, height] = bench.size;
    let size = ClipSize { frames: bench.frames, width, height };
    CallSizes { frames: size.latent_frames(), tokens_per_frame: size.tokens_per_frame(), heads: bench.heads, head: bench.head }
}

/// What torch takes for the same layers, and this program's time for them, both in milliseconds.
struct Beside {
    name: &'static str,
    torch_millis: f64,
    own_millis: f64,
}

impl Beside {
    /// Torch's speed is 1.
    fn speed(&self) -> f64 {
        self.torch_millis / self.own_millis
    }
}

fn beside(bench: &TransformerBench, plan: &MeasuredPlan, torch: &TorchFile) -> Vec<Beside> {
    let sizes = sizes(bench);
    let rows = bench.rows as f64;
    let of = |kind| torch.millis(kind, &plan.plan, sizes).map(|millis| rows * millis);
    let mut found = Vec::new();
    if let (Some(own), Some(text)) = (of(TorchKind::Attention), of(TorchKind::TextAttention)) {
        let own_millis = plan.kind_millis(Kind::Attention, true);
        found.push(Beside { name: "attention kernels", torch_millis: own + text, own_millis });
    }
    let own_millis = plan.median_millis() - plan.outside_millis();
    for (name, kind) in [("blocks", TorchKind::Block), ("blocks, torch.compile", TorchKind::CompiledBlock)] {
        if let Some(torch_millis) = of(kind) {
            found.push(Beside { name, torch_millis, own_millis });
        }
    }
    found
}

pub(super) fn print(bench: &TransformerBench, measured: &Measured, torch: Option<&TorchFile>) {
    let ceiling = &measured.ceiling;
    let tera = |value: f64| value / 1e12;
    say!(
        "{:.2} billion parameters, there in {:.1} s; at best {:.1} TFLOP/s ({}) and {:.0} GB/s here",
        measured.parameters as f64 / 1e9,
        measured.load_seconds,
        tera(ceiling.flops_per_second),
        ceiling.product,
        ceiling.bytes_per_second / 1e9
    );
    if let Some(torch) = torch {
        let best = torch.ceiling().map(|flops| format!(", {:.1} TFLOP/s at best", tera(flops))).unwrap_or_default();
        say!("torch {} on {}{best}", torch.torch, torch.device);
    }
    say!();
    say!(
        "{:<8} {:>7} {:>12} {:>9} {:>9} {:>9} {:>9} {:>10}",
        "plan",
        "kept",
        "a call",
        "spread",
        "TFLOP",
        "TFLOP/s",
        "first is",
        "memory"
    );
    let first = measured.plans.first().map(MeasuredPlan::median_millis).unwrap_or_default();
    for plan in &measured.plans {
        let (median, flops) = (plan.median_millis(), plan.work.flops());
        let reserved = plan.reserved_bytes.map_or_else(|| "-".to_owned(), words::bytes);
        say!(
            "{:<8} {:>5.1} % {:>9.1} ms {:>7.1} % {:>9.1} {:>9.1} {:>7.2} x {reserved:>10}",
            plan.name,
            100.0 * plan.plan.density(),
            median,
            100.0 * (plan.at(0.9) - plan.at(0.1)) / median,
            tera(flops),
            tera(flops) / median * 1000.0,
            first / median
        );
        if let Some(all) = extrapolated(bench, plan) {
            say!(
                "{:<8} extrapolated from {} layers to {}: {all:.0} ms",
                "",
                bench.layers,
                TransformerConfig::published().num_layers
            );
        }
    }
    for plan in &measured.plans {
        say!();
        let parts: f64 = rows(plan).iter().map(|row| row.millis).sum();
        say!(
            "parts of one call with {}, by {}: {parts:.1} ms, and {:.1} ms by the wall clock with the timing",
            plan.name,
            words::clock(Some(measured.clock)),
            plan.parts_call_millis
        );
        for row in rows(plan) {
            let seconds = row.millis / 1000.0;
            let speed = if row.work.flops > 0.0 {
                let speed = row.work.flops / seconds;
                let of_torch =
                    torch.and_then(TorchFile::ceiling).map(|best| format!(", {:.1} % of torch's", 100.0 * speed / best));
                format!(
                    "{:>8.1} TFLOP {:>7.1} TFLOP/s, {:.1} % of the best here{}",
                    tera(row.work.flops),
                    tera(speed),
                    100.0 * speed / ceiling.flops_per_second,
                    of_torch.unwrap_or_default()
                )
            } else if row.work.bytes > 0.0 {
                let speed = row.work.bytes / seconds;
                format!(
                    "{:>8.1} GB at least {:>6.0} GB/s, {:.1} % of the best here",
                    row.work.bytes / 1e9,
                    speed / 1e9,
                    100.0 * speed / ceiling.bytes_per_second
                )
            } else {
                String::new()
            };
            say!("  {:<22} {:>9.1} ms {:>5.1} % {speed}", words::kind(row.kind), row.millis, 100.0 * row.millis / parts);
        }
        for beside in torch.map(|torch| beside(bench, plan, torch)).unwrap_or_default() {
            say!(
                "  {:<22} {:>9.1} ms, torch {:.1} ms: {:.2} of torch's speed",
                beside.name,
                beside.own_millis,
                beside.torch_millis,
                beside.speed()
            );
        }
    }
}

pub(super) fn json(
    bench: &TransformerBench,
    device: &ComputeDevice,
    forecast: Forecast,
    measured: &Measured,
    torch: Option<&TorchFile>,
) -> Value {
    let sizes = sizes(bench);
    let plans: Vec<Value> = measured.plans.iter().map(|plan| plan_json(bench, plan, torch)).collect();
    json!({
        "device": device.name,
        "driver": device.adapter.as_ref().map(|adapter| &adapter.driver),
        "precision": device.precision,
        "kernel_tier": device.kernel_tier(),
        "heads": bench.heads,
        "head": bench.head,
        "layers": bench.layers,
        "latent_frames": sizes.frames,
        "tokens_per_frame": sizes.tokens_per_frame,
        "text_tokens": bench.text_tokens,
        "rows": bench.rows,
        "parameters": measured.parameters,
        "load_seconds": measured.load_seconds,
        "clock_of_calls": "wall, until the device is done",
        "clock_of_parts": measured.clock,
        "predicted_weight_bytes": forecast.weights,
        "predicted_activation_bytes": forecast.activations,
        "best": { "flops_per_second": measured.ceiling.flops_per_second, "product": measured.ceiling.product,
            "bytes_per_second": measured.ceiling.bytes_per_second },
        "torch": torch.map(|torch| json!({ "version": torch.torch, "device": torch.device, "flops_per_second": torch.ceiling() })),
        "plans": plans,
    })
}

fn plan_json(bench: &TransformerBench, plan: &MeasuredPlan, torch: Option<&TorchFile>) -> Value {
    let parts: Vec<Value> = rows(plan)
        .iter()
        .map(|row| json!({ "kind": row.kind, "millis": row.millis, "flops": row.work.flops, "least_bytes": row.work.bytes }))
        .collect();
    let beside: Vec<Value> = torch
        .map(|torch| beside(bench, plan, torch))
        .unwrap_or_default()
        .iter()
        .map(|beside| {
            json!({ "what": beside.name, "own_millis": beside.own_millis, "torch_millis": beside.torch_millis,
                "speed_of_torch": beside.speed() })
        })
        .collect();
    json!({
        "plan": plan.name,
        "density": plan.plan.density(),
        "flops": plan.work.flops(),
        "first_millis": plan.first_millis,
        "median_millis": plan.median_millis(),
        "tenth_millis": plan.at(0.1),
        "ninetieth_millis": plan.at(0.9),
        "calls": plan.millis.len(),
        "extrapolated_millis_of_all_layers": extrapolated(bench, plan),
        "reserved_bytes": plan.reserved_bytes,
        "in_use_bytes": plan.in_use_bytes,
        "parts_call_millis": plan.parts_call_millis,
        "parts": parts,
        "beside_torch": beside,
    })
}
