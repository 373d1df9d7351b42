# SPDX-License-Identifier: Apache-2.0
"""What the makers of tiny autoencoders share: perturbed decoders, mutants, wrong ways to blend tiles."""

import contextlib
import copy
import math
import os

import torch
from tiny import far

VISIBLE = 4e-5  # three times the bound of the parity tests, and some
SMALL = 0.003  # residual streams whose variance is near the norms' eps


def perturb(model, generator, quiet):
    """Matrices N(0, 2 / fan_in), norm weights about 1.3, biases about 0.2; the decoder's modules whose names end as
    quiet does are so small that an eps shows."""
    for name, p in model.named_parameters():
        if p.ndim > 1:
            p.data = torch.randn(p.shape, generator=generator) * math.sqrt(2 / p[0].numel())
        elif name.endswith("weight"):
            p.data = 1.3 + 0.3 * torch.randn(p.shape, generator=generator)
        else:
            p.data = 0.2 * torch.randn(p.shape, generator=generator)
    for name, module in model.decoder.named_modules():
        if name.endswith(quiet):
            module.weight.data *= SMALL
            module.bias.data *= SMALL


@contextlib.contextmanager
def convolutions_of_a_gpu():
    """In half precision they add up in fp32 and round once, as a GPU's do. In fp16 a CPU without such arithmetic takes a
    minute for what is a second so."""
    kept = torch.nn.functional.conv3d

    def conv3d(x, weight, bias=None, *args, **kwargs):
        if x.dtype != torch.half:
            return kept(x, weight, bias, *args, **kwargs)
        return kept(x.float(), weight.float(), bias if bias is None else bias.float(), *args, **kwargs).half()

    torch.nn.functional.conv3d = conv3d
    try:
        yield
    finally:
        torch.nn.functional.conv3d = kept


def remember(decoder, known):
    """Each tile is decoded once, for all who only blend tiles otherwise. known: {tile: what the decoder gives}."""
    decode = decoder.forward

    def forward(z, *args, **kwargs):
        tile = z.shape, z.numpy().tobytes()
        if tile not in known:
            known[tile] = decode(z, *args, **kwargs)
        return copy.deepcopy(known[tile])  # blending writes into it

    decoder.forward = forward


def told_apart(model, name, mutants, tensors, result):
    """{"<mutant>|<key>": result(spoilt model, tensors, key)} of all (mutant, key, change); each is far from tensors."""
    out, known, blended = {}, {}, {label for label, _ in blends()}
    for mutant, key, change in mutants:
        broken = copy.deepcopy(model)
        if mutant in blended:
            remember(broken.decoder, known)
        change(broken)
        value, label = result(broken, tensors, key), f"{mutant}|{key}"
        assert label not in out and value.isfinite().all(), label
        away = far(value, tensors[key]) if value.shape == tensors[key].shape else math.inf
        if os.environ.get("VERBOSE"):
            print(f"  {name:11} {label:45} {away:.1e}", flush=True)
        assert away > VISIBLE, f"{name}: {label} is {away:.1e} from the truth: nobody could tell"
        out[label] = value
    return out


BLENDS = dict(off_by_one=dict(weight=lambda k, n: (k + 1) / n), half_steps=dict(weight=lambda k, n: (k + 0.5) / n),
              to_both_ends=dict(weight=lambda k, n: k / max(n - 1, 1)), shorter=dict(extent=lambda n: n - 1),
              reversed=dict(weight=lambda k, n: 1 - k / n), none=dict(extent=lambda n: 0),
              smooth=dict(weight=lambda k, n: (k / n) ** 2 * (3 - 2 * k / n)))


def blend(model, dim, weight=lambda k, n: k / n, extent=lambda n: n):
    """In place of blend_v (dim -2) or blend_h (dim -1)."""
    def run(a, b, n):
        n = min(a.shape[dim], b.shape[dim], extent(n))
        for k in range(n):
            edge, head = a.select(dim, a.shape[dim] - n + k), b.select(dim, k)
            head.copy_(edge * (1 - weight(k, n)) + head * weight(k, n))
        return b
    setattr(model, "blend_v" if dim == -2 else "blend_h", run)


def blended_with_unblended(model):
    kept_v, kept_h = model.blend_v, model.blend_h
    model.blend_v = lambda a, b, n: kept_v(a, b.clone(), n)
    model.blend_h = lambda a, b, n: kept_h(a, b.clone(), n)


def blends():
    """(label, change)"""
    for name, change in BLENDS.items():
        for dim, axis in ((-2, "rows"), (-1, "columns")):
            yield f"blend_of_{axis}_{name}", lambda model, dim=dim, change=change: blend(model, dim, **change)
    yield "blended_with_unblended", blended_with_unblended
