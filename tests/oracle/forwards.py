# SPDX-License-Identifier: Apache-2.0
"""Forwards of diffusers' transformers: looked at from within, and in fp64 throughout."""

import contextlib

import torch


@contextlib.contextmanager
def hooked(hooks):
    """hooks: (module, what is called with its result)."""
    handles = [module.register_forward_hook(lambda _m, _in, result, keep=keep: keep(result)) for module, keep in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def double_rotation(module):
    """apply_rotary_emb, of this module, rounds to fp32 whatever its input is."""
    def rotate(x, tables, **_):
        cos, sin = (f.double()[None, :, None] for f in tables)
        real, imag = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
        return x * cos + torch.stack([-imag, real], dim=-1).flatten(3) * sin

    kept = module.apply_rotary_emb
    module.apply_rotary_emb = rotate
    try:
        yield
    finally:
        module.apply_rotary_emb = kept
