# SPDX-License-Identifier: Apache-2.0
"""Wrong attention and positions."""

import functools
import math

import torch
from diffusers.models.transformers import transformer_flux as flux

from wrong import SEVERAL_HEADS, family, mutant, singles


def attention(change):
    kept = flux.dispatch_attention_fn

    def wrong(q, k, v, **rest):
        return change(functools.partial(kept, **rest), q, k, v)
    return [(flux, "dispatch_attention_fn", wrong)]


@family("output", SEVERAL_HEADS, scale_of_width=lambda m: m.inner_dim,
        scale_of_twice=lambda m: 2 * m.config.attention_head_dim)
def attention_scale(model, argument):
    factor = math.sqrt(model.config.attention_head_dim / argument(model))
    return attention(lambda run, q, k, v: run(q * factor, k, v))


@mutant("output", ("schnell", "dev", "default_axes"))
def padded_text_not_attended(model):
    """As if the last two rows of the text were padding."""
    text = {16: 7, 24: 9, 128: 21}[model.config.attention_head_dim]

    def keys(x):
        return torch.cat([x[:, :text - 2], x[:, text:]], 1)
    return attention(lambda run, q, k, v: run(q, keys(k), keys(v)))


@mutant("output")
def image_does_not_see_the_text(model):
    text = {16: 7, 24: 9, 8: 1, 128: 21}[model.config.attention_head_dim]
    return attention(lambda run, q, k, v: torch.cat([run(q[:, :text], k, v), run(q[:, text:], k[:, text:], v[:, text:])], 1))


def rotation(change):
    kept = flux.apply_rotary_emb

    def wrong(x, tables, sequence_dim):
        return change(kept, x, tables)
    return [(flux, "apply_rotary_emb", wrong)]


def rotated(kept, x, tables, **options):
    return kept(x, tables, sequence_dim=1, **options)


@mutant("output")
def rope_of_halves(model):
    def halves(kept, x, tables):
        cos, sin = (torch.cat([t[:, ::2]] * 2, -1) for t in tables)
        return rotated(kept, x, (cos, sin), use_real_unbind_dim=-2)
    return rotation(halves)


@mutant("output")
def rope_backwards(model):
    """On queries and keys that would change nothing: on queries alone."""
    calls = []

    def one(kept, x, tables):
        calls.append(x)
        return rotated(kept, x, (tables[0], -tables[1] if len(calls) % 2 else tables[1]))
    return rotation(one)


@mutant("output")
def rope_skipped(model):
    return rotation(lambda kept, x, tables: x)


@mutant("output")
def rope_of_keys_skipped(model):
    calls = []

    def one(kept, x, tables):
        calls.append(x)
        return rotated(kept, x, tables) if len(calls) % 2 else x
    return rotation(one)


@mutant("output")
def rope_skipped_in_singles(model):
    def forward(kept, hidden_states, image_rotary_emb):
        return kept(hidden_states)
    return [(attn, "forward", functools.partial(forward, attn.forward)) for attn in singles(model, "attn")]


@mutant("output")
def rope_image_first(model):
    return lambda inputs: dict(inputs, txt_ids=inputs["img_ids"], img_ids=inputs["txt_ids"])


@family("output", rope_columns_first=(0, 2, 1), rope_axes_shifted=(1, 2, 0))
def rope_axes(model, argument):
    return lambda inputs: dict(inputs, img_ids=inputs["img_ids"][:, argument])


@mutant("output")
def rope_counts_from_one(model):
    return lambda inputs: dict(inputs, img_ids=inputs["img_ids"] + torch.tensor([0.0, 1, 1]))


@mutant("output")
def rope_centred(model):
    return lambda inputs: dict(inputs, img_ids=inputs["img_ids"] - inputs["img_ids"].amax(0).add(1).div(2).floor())


@mutant("output")
def rope_text_counts(model):
    def change(inputs):
        ids = inputs["txt_ids"].clone()
        ids[:, 0] = torch.arange(len(ids)) + 1
        return dict(inputs, txt_ids=ids)
    return change


@family("output", rope_theta_1000=1000.0, rope_theta_20000=20000.0)
def rope_theta(model, argument):
    return [(model.pos_embed, "theta", argument)]


@mutant("output", ("schnell", "odd_config", "dev"))
def rope_dims_ignored(model):
    """A head in three equal parts, or as equal as pairs are."""
    d = model.config.attention_head_dim
    part = d // 6 * 2
    return [(model.pos_embed, "axes_dim", (part, part, d - 2 * part))]


@mutant("far.cos")
def rope_in_fp32(model):
    kept = flux.get_1d_rotary_pos_embed

    def wrong(*args, **options):
        return kept(*args, **dict(options, freqs_dtype=torch.float32))
    return [(flux, "get_1d_rotary_pos_embed", wrong)]
