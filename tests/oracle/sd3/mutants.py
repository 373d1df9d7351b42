# SPDX-License-Identifier: Apache-2.0
"""What diffusers would give with one thing wrong: the parity tests must tell every such mutant from the truth.

A mutant changes a copy of the model, or the inputs, before the forward.
"""

import copy

import torch

VISIBLE = 6e-6  # three times the tightest bound of the parity tests


def swapped(linear, parts, i, j):
    """Two of the chunks that a linear's rows are made of, in each other's place."""
    for p in (linear.weight, linear.bias):
        chunks = list(p.data.chunk(parts))
        chunks[i], chunks[j] = chunks[j], chunks[i]
        p.data = torch.cat(chunks)


def chunk_swaps(model):
    for i, block in enumerate(model.transformer_blocks):
        for name, norm in (("norm1", block.norm1), ("norm1_context", block.norm1_context)):
            parts = norm.linear.out_features // norm.linear.in_features
            for a in range(parts - 1):
                yield f"{i}.{name}.chunks_{a}_{a + 1}", lambda m, i=i, name=name, parts=parts, a=a: swapped(
                    getattr(m.transformer_blocks[i], name).linear, parts, a, a + 1)
    yield "norm_out.chunks", lambda m: swapped(m.norm_out.linear, 2, 0, 1)


def zeroed(module):
    for p in module.parameters():
        p.data.zero_()


def nudges(model):
    """Every weight, one at a time, off by a hundredth, and every bias by half."""
    unread = f"transformer_blocks.{len(model.transformer_blocks) - 1}.attn."
    unread = {unread + name for name in ("add_q_proj", "norm_added_q")}
    for name, module in model.named_modules():
        if name in unread or not hasattr(module, "weight") or module.weight is None:
            continue
        yield f"{name}.nudged", lambda m, name=name: m.get_submodule(name).weight.data.mul_(1.01)
        if getattr(module, "bias", None) is not None and not is_key(name):
            yield f"{name}.bias", lambda m, name=name: m.get_submodule(name).bias.data.mul_(1.5)


def is_key(name):
    return name.endswith(("to_k", "add_k_proj"))  # a softmax hardly feels what all keys share


def eps_tenfold(model):
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.LayerNorm) or type(module).__name__ == "RMSNorm":
            last = f"transformer_blocks.{len(model.transformer_blocks) - 1}.attn.norm_added_q"
            if name != last:
                yield f"{name}.eps", lambda m, name=name: setattr(m.get_submodule(name), "eps", 1e-5)


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
    yield "no_pooled", lambda m: zeroed(m.time_text_embed.text_embedder)


def of(model):
    for group in (chunk_swaps, nudges, eps_tenfold, gelu_kinds):
        yield from group(model)
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
