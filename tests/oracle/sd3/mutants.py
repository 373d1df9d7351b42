# SPDX-License-Identifier: Apache-2.0
"""What diffusers would give with one thing wrong: the parity tests must tell every such mutant from the truth.

A mutant changes a copy of the model, or the inputs, before the forward.
"""

import copy

import mutations
import torch

VISIBLE = 6e-6  # three times the tightest bound of the parity tests


def chunk_swaps(model):
    for i, block in enumerate(model.transformer_blocks):
        for name, norm in (("norm1", block.norm1), ("norm1_context", block.norm1_context)):
            path = f"transformer_blocks.{i}.{name}"
            yield from mutations.exchanges(path, f"{path}.linear", norm.linear.out_features // norm.linear.in_features)
    yield from mutations.exchanges("norm_out", "norm_out.linear", 2)


def is_key(name):
    return name.endswith(("to_k", "add_k_proj"))  # a softmax hardly feels what all keys share


def unread(model):
    last = f"transformer_blocks.{len(model.transformer_blocks) - 1}.attn"
    return f"{last}.add_q_proj", f"{last}.norm_added_q"


def gelu_kinds(model):
    for i, block in enumerate(model.transformer_blocks):
        yield f"{i}.ff.gelu", lambda m, i=i: setattr(m.transformer_blocks[i].ff.net[0], "approximate", "none")
        if not block.context_pre_only:
            yield f"{i}.ff_context.gelu", lambda m, i=i: setattr(
                m.transformer_blocks[i].ff_context.net[0], "approximate", "none")


def crop(model, change):
    embed = model.pos_embed

    def cropped(height, width):
        h, w, most = height // embed.patch_size, width // embed.patch_size, embed.pos_embed_max_size
        table = embed.pos_embed.reshape(1, most, most, -1)
        top, left = change(most, h, w)
        return table[:, top:top + h, left:left + w].reshape(1, h * w, -1)

    embed.cropped_pos_embed = cropped


def transposed_positions(model):
    embed, most = model.pos_embed, model.pos_embed.pos_embed_max_size
    embed.pos_embed = embed.pos_embed.reshape(1, most, most, -1).transpose(1, 2).reshape(1, most * most, -1)


def sin_first(model):
    model.time_text_embed.time_proj.flip_sin_to_cos = False


def channels_first(model):
    """A token of the output read as (C, dy, dx)."""
    p = model.config.patch_size
    for tensor in (model.proj_out.weight, model.proj_out.bias):
        tensor.data = tensor.data.unflatten(0, (model.out_channels, p * p)).transpose(0, 1).flatten(0, 1).contiguous()


def unnormed(model):
    """Queries and keys as they are."""
    for block in model.transformer_blocks:
        for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k"):
            setattr(block.attn, name, None)


def general():
    yield "output_channels_first", channels_first
    yield "no_qk_norm", unnormed
    yield "crop_corner", lambda m: crop(m, lambda most, h, w: (0, 0))
    yield "crop_rounded_up", lambda m: crop(m, lambda most, h, w: (-(-(most - h) // 2), -(-(most - w) // 2)))
    yield "crop_swapped", lambda m: crop(m, lambda most, h, w: ((most - w) // 2, (most - h) // 2))
    yield "positions_transposed", transposed_positions
    yield "time_sin_first", sin_first
    yield "time_shifted", lambda m: setattr(m.time_text_embed.time_proj, "downscale_freq_shift", 1)
    yield "no_pooled", mutations.zeroed("time_text_embed.text_embedder")


def of(model):
    yield from mutations.nudges(model, is_key, unread(model))
    yield from mutations.eps_tenfold(model, unread(model))
    yield from chunk_swaps(model)
    yield from gelu_kinds(model)
    yield from general()


def outputs(model, inputs):
    """(label, output) of each mutant that is one here: a crop may round to the same rows, norms be absent."""
    truth = model(**inputs, return_dict=False)[0]
    for label, change in of(model):
        mutant = copy.deepcopy(model)
        change(mutant)
        out = mutant(**inputs, return_dict=False)[0]
        if label.startswith(("crop_", "no_qk_norm")) and torch.equal(out, truth):
            continue
        yield label, out
    for label, key, change in (("time_thousandth", "timestep", lambda t: t / 1000),
                               ("time_rounded", "timestep", lambda t: t.round()),
                               ("text_longer", "encoder_hidden_states", lambda x: torch.cat([x, x[:, :1] * 0], 1))):
        yield label, model(**(inputs | {key: change(inputs[key])}), return_dict=False)[0]
