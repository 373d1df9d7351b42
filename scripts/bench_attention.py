# SPDX-License-Identifier: Apache-2.0
"""Times sage2 beside cuDNN, FlashAttention-3 and the official SageAttention, in one process on the same tensors.

bench_attention.py --fa3 flash_attn_3.so --sage FOLDER [--seq N ...] [--head-dim D ...] [--causal] [--batch B] [--heads H]
--fa3 is a library that registers torch.ops.flash_attn_3.fwd, --sage the folder that holds the package sageattention;
either may be left out. q, k and v are N(0, 1) in bf16. Rounds take the candidates in turns, each after .2 s of calls of its
own, since a GPU at its power limit keeps for a while the clock that the one before left it; printed are the median's TOPS
(4 B H N^2 D, half of it where causal), its ratio to cuDNN's, and the relative L1 distance of 64 rows to fp64.
"end to end" starts from bf16; "kernel" has its quantized tensors made beforehand (sage2's own: `sagelab bench attention`).
"""

import argparse
import math
import pathlib
import statistics
import sys

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

LIBRARY = pathlib.Path(__file__).resolve().parent.parent / "build/release/lib/libsagelab_attention.so"


def cudnn(q, k, v, causal):
    heads_first = [x.transpose(1, 2) for x in (q, k, v)]

    def call():
        with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
            return torch.nn.functional.scaled_dot_product_attention(*heads_first, is_causal=causal).transpose(1, 2)
    return call


def fa3(q, k, v, causal, dtype):
    quantized = [x.to(dtype) for x in (q, k, v)]
    ones = torch.ones(q.size(0), q.size(2), device="cuda") if dtype == torch.float8_e4m3fn else None
    return lambda: torch.ops.flash_attn_3.fwd(*quantized, q_descale=ones, k_descale=ones, v_descale=ones,
                                              softmax_scale=q.size(3) ** -0.5, is_causal=causal)[0]


def sage_end_to_end(q, k, v, causal):
    from sageattention import sageattn_qk_int8_pv_fp8_cuda_sm90
    heads_first = [x.transpose(1, 2).contiguous() for x in (q, k, v)]  # the layout of its own benchmark
    return lambda: sageattn_qk_int8_pv_fp8_cuda_sm90(*heads_first, is_causal=causal).transpose(1, 2)


def sage_kernel(q, k, v, causal):
    """Its kernel with the arguments of its own last call, repeated."""
    from sageattention import sm90_compile
    name = "qk_int8_sv_f8_accum_f32_fuse_v_scale_attn_inst_buf"
    kernel, calls = getattr(sm90_compile, name), []
    setattr(sm90_compile, name, lambda *a: (calls.append(a), kernel(*a))[1])
    sage_end_to_end(q, k, v, causal)()
    setattr(sm90_compile, name, kernel)

    def call():
        kernel(*calls[0])
        return calls[0][3].transpose(1, 2)
    return call


def candidates(args, q, k, v):
    made = {"cuDNN bf16": cudnn(q, k, v, args.causal)}
    made["sage2, end to end"] = lambda: torch.ops.sagelab.attention(q, k, v, causal=args.causal, spec="sage2")
    if args.fa3:
        made["FA3 bf16"] = fa3(q, k, v, args.causal, torch.bfloat16)
        made["FA3 fp8, kernel"] = fa3(q, k, v, args.causal, torch.float8_e4m3fn)
    if args.sage:
        made["SageAttention, kernel"] = sage_kernel(q, k, v, args.causal)
        made["SageAttention, end to end"] = sage_end_to_end(q, k, v, args.causal)
    return made


def milliseconds(call, calls, before):
    for _ in range(before):
        call()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / calls


def error(out, q, k, v, causal):
    """Of the last 64 rows of one head."""
    scores = q[0, -64:, 0].double() @ k[0, :, 0].double().T * q.size(3) ** -0.5
    if causal:
        n = k.size(1)
        scores.masked_fill_(torch.ones(64, n, dtype=bool, device="cuda").triu(n - 63), -torch.inf)
    truth = scores.softmax(-1) @ v[0, :, 0].double()
    return ((out[0, -64:, 0].double() - truth).abs().sum() / truth.abs().sum()).item()


def measure(args, tokens, dim):
    generator = torch.Generator("cuda").manual_seed(0)
    q, k, v = (torch.randn(args.batch, tokens, args.heads, dim, generator=generator, device="cuda", dtype=torch.bfloat16)
               for _ in range(3))
    work = 4 * args.batch * args.heads * tokens**2 * dim / (2 if args.causal else 1)
    once = work / 6e14  # seconds, about
    calls, before = max(1, round(.02 / once)), math.ceil(.2 / once)
    made = candidates(args, q, k, v)
    errors = {name: error(call(), q, k, v, args.causal) for name, call in made.items()}
    times = {name: [] for name in made}
    for _ in range(args.rounds):
        for name, call in made.items():
            times[name].append(milliseconds(call, calls, before))
    medians = {name: statistics.median(turns) for name, turns in times.items()}
    print(f"head dimension {dim}, {tokens} tokens{', causal' if args.causal else ''}, {calls} calls a turn")
    for name, ms in medians.items():
        print(f"  {name:26} {ms:9.3f} ms {work / ms / 1e9:7.0f} TOPS {medians['cuDNN bf16'] / ms:6.2f} x"
              f"   relative L1 {errors[name]:.4f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seq", type=int, nargs="+", default=[4096, 8192, 32768])
    parser.add_argument("--head-dim", type=int, nargs="+", default=[128, 64])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--fa3")
    parser.add_argument("--sage")
    args = parser.parse_args()
    torch.ops.load_library(LIBRARY)
    if args.fa3:
        torch.ops.load_library(args.fa3)
    if args.sage:
        sys.path.insert(0, args.sage)
    print(torch.cuda.get_device_name())
    for dim in args.head_dim:
        for tokens in args.seq:
            measure(args, tokens, dim)


if __name__ == "__main__":
    main()
