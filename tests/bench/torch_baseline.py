#!/usr/bin/env python3
"""What torch does on this machine at the sizes of Open-Sora-Plan v1.2, for `tilereel bench transformer --torch FILE.json`.

Measured with CUDA events, medians of repeats after a warm-up: matrix products, scaled_dot_product_attention,
FlexAttention with the same frame masks, attention to a text, and one whole transformer block, run eagerly and after
torch.compile. Needs torch with CUDA and nothing else; torch.compile and FlexAttention also need a C compiler, and
what fails is left out and named under "failed".

    python3 tests/bench/torch_baseline.py --frames 29 --out torch.json
    python3 tests/bench/torch_baseline.py --frames 29 --out torch.json --tilereel target/release/tilereel

The second form then runs `tilereel bench transformer` on the same machine, which prints the ratios.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

HEADS, HEAD, CAPTION_TOKENS = 24, 96, 512
WIDTH = HEADS * HEAD
HEIGHT_TOKENS, WIDTH_TOKENS = 45, 80
TOKENS_PER_FRAME = HEIGHT_TOKENS * WIDTH_TOKENS
SCALES = (1.0, 1.5, 2.0)  # of the rotary embedding along t, h, w


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=29, help="frames of the clip, 4k + 1")
    parser.add_argument("--masks", help="full, or numbers of reference frames, with commas; the paper's Table 1 by default")
    parser.add_argument("--dtype", choices=["float16", "bfloat16"], default="float16")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each case, but three samples at least")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile of the block")
    parser.add_argument("--out", default="torch_baseline.json")
    parser.add_argument("--tilereel", help="program that then measures the same, and prints ratios")
    parser.add_argument("--tilereel-arguments", default="", help="more arguments of `tilereel bench transformer`")
    return parser.parse_args()


def measure(call, repeats, seconds):
    """Milliseconds of calls, ascending."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    samples, started = [], time.monotonic()
    while len(samples) < repeats and (len(samples) < 3 or time.monotonic() - started < seconds):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        call()
        end.record()
        end.synchronize()
        samples.append(begin.elapsed_time(end))
    return sorted(samples)


def reference_frames(references, frames):
    """The paper's evenly spaced reference frames."""
    stride = math.ceil(frames / references)
    return list(range(0, frames, stride))


def block_mask_of(references, frames):
    """FlexAttention's mask of the paper's family, and the share of tiles that it keeps."""
    from torch.nn.attention.flex_attention import create_block_mask

    is_reference = torch.zeros(frames, dtype=torch.bool, device="cuda")
    is_reference[reference_frames(references, frames)] = True

    def keeps(batch, head, query, key):
        query_frame, key_frame = query // TOKENS_PER_FRAME, key // TOKENS_PER_FRAME
        return (query_frame == key_frame) | is_reference[key_frame] | is_reference[query_frame]

    tokens = frames * TOKENS_PER_FRAME
    # Compiled, or the mask of 86,400 x 86,400 elements would be made in full.
    mask = torch.compile(create_block_mask)(keeps, None, None, tokens, tokens, device="cuda")
    k = len(reference_frames(references, frames))
    return mask, (frames * (2 * k + 1) - k * (k + 1)) / frames**2


class Rotary:
    """Tables of the 3D rotary embedding: three runs of the head for t, h and w."""

    def __init__(self, frames, dtype):
        run = HEAD // 3
        frequencies = 10_000.0 ** (-torch.arange(0, run, 2, device="cuda") / run)
        places = torch.cartesian_prod(
            *(torch.arange(size, device="cuda") / scale
              for size, scale in zip((frames, HEIGHT_TOKENS, WIDTH_TOKENS), SCALES)))
        angles = places[:, :, None] * frequencies  # [tokens, 3, run / 2]
        angles = torch.cat([angles, angles], dim=-1).flatten(1)  # [tokens, head]
        self.cos, self.sin = angles.cos().to(dtype), angles.sin().to(dtype)

    def __call__(self, x):
        first, second = x.unflatten(-1, (3, 2, HEAD // 6)).unbind(-2)
        turned = torch.stack([-second, first], dim=-2).flatten(-3)
        return x * self.cos + turned * self.sin


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x, context, attend, rotary=None):
        split = lambda y: y.unflatten(-1, (HEADS, HEAD)).transpose(1, 2)
        query, key, value = split(self.to_q(x)), split(self.to_k(context)), split(self.to_v(context))
        if rotary is not None:
            query, key = rotary(query), rotary(key)
        return self.to_out(attend(query, key, value).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """BasicTransformerBlock of OpenSoraT2V with ada_norm_single, in torch's own operations."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(6, WIDTH) / WIDTH**0.5)
        self.attn1, self.attn2 = Attention(), Attention()
        self.proj, self.out = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x, caption, modulations, attend, attend_text, rotary):
        shift, scale, gate, shift_ff, scale_ff, gate_ff = (self.table[None] + modulations).chunk(6, dim=1)
        norm = lambda y, by, to: F.layer_norm(y, (WIDTH,), eps=1e-6) * (1 + by) + to
        y = norm(x, scale, shift)
        x = x + gate * self.attn1(y, y, attend, rotary)
        x = x + self.attn2(x, caption, attend_text)
        y = F.gelu(self.proj(norm(x, scale_ff, shift_ff)), approximate="tanh")
        return x + gate_ff * self.out(y)


def main():
    arguments = parse_arguments()
    if not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device here, so there is nothing to compare with")
    torch.manual_seed(1)
    dtype = getattr(torch, arguments.dtype)
    frames = (arguments.frames - 1) // 4 + 1
    tokens = frames * TOKENS_PER_FRAME
    cases, failed = [], []

    def case(kind, flops, call, **facts):
        try:
            with torch.no_grad():
                millis = measure(call, arguments.repeats, arguments.seconds)
        except Exception as error:  # whatever torch cannot do here: it is reported, and the rest goes on
            failed.append({"kind": kind, **facts, "reason": str(error).splitlines()[0][:300] if str(error) else repr(error)})
            print(f"{kind:<16} {facts} failed: {failed[-1]['reason']}", flush=True)
            torch.cuda.empty_cache()
            return
        median = statistics.median(millis)
        tenth, ninetieth = (millis[round((len(millis) - 1) * share)] for share in (0.1, 0.9))
        speed = flops / median / 1e9
        cases.append({"kind": kind, **facts, "median_millis": median, "tenth_millis": tenth, "ninetieth_millis": ninetieth,
                      "samples": len(millis), "tflop": flops / 1e12, "tflop_per_second": speed})
        print(f"{kind:<16} {str(facts):<110} {median:>9.3f} ms {speed:>7.1f} TFLOP/s", flush=True)

    def random(*shape):
        return torch.randn(*shape, device="cuda", dtype=dtype)

    for rows, inner, columns in [(28_800, WIDTH, 4 * WIDTH), (28_800, 4 * WIDTH, WIDTH), (28_800, WIDTH, WIDTH),
                                 (4096, 4096, 4096), (8192, 8192, 8192)]:
        x, weight = random(rows, inner), random(inner, columns)
        case("matmul", 2.0 * rows * inner * columns, lambda: x @ weight, rows=rows, inner=inner, columns=columns)

    size = {"frames": frames, "tokens_per_frame": TOKENS_PER_FRAME, "heads": HEADS, "head": HEAD}
    query, key, value = (random(1, HEADS, tokens, HEAD) for _ in range(3))
    text_key, text_value = (random(1, HEADS, CAPTION_TOKENS, HEAD) for _ in range(2))
    # A prompt fills a part of its places; the rest is hidden.
    text_bias = torch.zeros(1, 1, 1, CAPTION_TOKENS, device="cuda", dtype=dtype)
    text_bias[..., CAPTION_TOKENS // 4 + 1:] = -10_000.0
    attend_text = lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=text_bias)
    text_flops = 4.0 * tokens * CAPTION_TOKENS * WIDTH
    case("text_attention", text_flops, lambda: attend_text(query, text_key, text_value), **size, mask="text")

    masks = []
    # Those of the paper's Table 1 for 29 and 93 frames.
    measured = {8: "full,1,2,3,4", 24: "full,3,4,6,8,12"}
    for name in (arguments.masks or measured.get(frames, "full,1")).split(","):
        if name == "full":
            masks.append(("full", F.scaled_dot_product_attention, 1.0))
            continue
        try:
            from torch.nn.attention.flex_attention import flex_attention

            block_mask, density = block_mask_of(int(name), frames)
            compiled = torch.compile(flex_attention, dynamic=False)
            attend = lambda q, k, v, mask=block_mask, call=compiled: call(q, k, v, block_mask=mask)
            masks.append((f"{name}:{frames - int(name)}", attend, density))
        except Exception as error:
            failed.append({"kind": "mask", "mask": name, "reason": str(error)[:300]})
            print(f"the mask {name} failed: {error}", flush=True)
    for mask, attend, density in masks:
        case("attention", 4.0 * tokens**2 * WIDTH * density, lambda: attend(query, key, value), **size, mask=mask)
    del query, key, value

    rotary = Rotary(frames, dtype)
    block = Block().to("cuda", dtype)
    x, caption, modulations = random(1, tokens, WIDTH), random(1, CAPTION_TOKENS, WIDTH), random(1, 6, WIDTH)
    products = 2.0 * (14.0 * tokens + 2.0 * CAPTION_TOKENS) * WIDTH**2 + text_flops
    compiled_block = None if arguments.no_compile else torch.compile(block, dynamic=False)
    for mask, attend, density in masks:
        flops = products + 4.0 * tokens**2 * WIDTH * density
        for kind, run in [("block", block), ("compiled_block", compiled_block)]:
            if run is not None:
                call = lambda: run(x, caption, modulations, attend, attend_text, rotary)
                case(kind, flops, call, **size, mask=mask)

    result = {"device": torch.cuda.get_device_name(0), "torch": torch.__version__, "dtype": arguments.dtype,
              "clock": "CUDA events", "cases": cases, "failed": failed}
    with open(arguments.out, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
    print(f"written: {arguments.out}")
    if arguments.tilereel:
        del block, compiled_block, x, caption, modulations, rotary
        torch.cuda.empty_cache()
        plans = ",".join(mask for mask, _, _ in masks)
        command = [arguments.tilereel, "bench", "transformer", "--frames", str(arguments.frames), "--plan", plans,
                   "--torch", arguments.out, *arguments.tilereel_arguments.split()]
        print(" ".join(command), flush=True)
        sys.exit(subprocess.run(command, check=False).returncode)


if __name__ == "__main__":
    main()
