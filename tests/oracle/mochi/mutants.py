# SPDX-License-Identifier: Apache-2.0
"""What diffusers would give with one thing wrong: the parity tests must tell every such mutant from the truth.

A mutant changes a copy of the model, or the inputs, before the forward.
"""

import copy

import torch
from torch import nn
from torch.nn import functional

from diffusers.models.transformers.transformer_mochi import MochiModulatedRMSNorm

import mutations
from attention import Attention
from mutations import replaced, zeroed

VISIBLE = 6e-6  # three times the tightest bound of the parity tests


def blocks(m):
    return [f"transformer_blocks.{i}" for i in range(len(m.transformer_blocks))]


def unread(m):
    """The last block has them, and uses none; the outer norms leave eps to the inner ones; others a norm makes no larger."""
    last = blocks(m)[-1]
    names = {f"{last}.attn1.add_q_proj", f"{last}.attn1.norm_added_q", f"{last}.norm4_context.norm"}
    names |= {f"{path}.{ff}.net.2" for path in blocks(m) for ff in ("ff", "ff_context")}
    return names | {name for name, module in m.named_modules() if isinstance(module, MochiModulatedRMSNorm)}


def norms_of(m):
    """Of each block: (path, the adaptive norms that have four chunks, the others of its streams)."""
    for path in blocks(m):
        last = path == blocks(m)[-1]
        yield path, ["norm1"] if last else ["norm1", "norm1_context"], ["", *([] if last else ["_context"])]


def chunks(m):
    for path, adaptive, _ in norms_of(m):
        for norm in adaptive:
            yield from mutations.exchanges(f"{path}.{norm}", f"{path}.{norm}.linear", 4)
    yield from mutations.exchanges("norm_out", "norm_out.linear", 2)


class Centred(nn.Module):
    def forward(self, x):
        return functional.layer_norm(x, x.shape[-1:], eps=1e-6)


def scaled_by(path, change):
    """A norm that is given another scale."""
    def wrong(m):
        norm = m.get_submodule(path)
        kept = norm.forward
        norm.forward = lambda x, scale: kept(x, change(scale))
    return wrong


def without_one(path):
    """An adaptive norm that multiplies by its scale alone."""
    def wrong(m):
        norm = m.get_submodule(path)
        linear = norm.linear if hasattr(norm, "linear") else norm.linear_1
        linear.bias.data[:linear.bias.numel() // (4 if hasattr(norm, "linear") else 1)] -= 1
    return wrong


def modulations(m):
    for path, adaptive, streams in norms_of(m):
        for norm in ("norm1", "norm1_context"):
            yield f"{path}.{norm}.without_silu", replaced(f"{path}.{norm}.silu", nn.Identity)
            yield f"{path}.{norm}.without_one", without_one(f"{path}.{norm}")
            inner = f"{path}.{norm}.norm" if norm in adaptive else f"{path}.{norm}.norm.norm"
            yield f"{path}.{norm}.centred", replaced(inner, Centred)
        for s in streams:
            for norm in ("norm2", "norm4"):
                yield f"{path}.{norm}{s}.without_tanh", scaled_by(f"{path}.{norm}{s}", torch.atanh)
                yield f"{path}.{norm}{s}.plus_one", scaled_by(f"{path}.{norm}{s}", lambda scale: 1 + scale)
            yield f"{path}.norm3{s}.without_one", scaled_by(f"{path}.norm3{s}", lambda scale: scale - 1)
            for norm in ("norm2", "norm3", "norm4"):
                yield f"{path}.{norm}{s}.centred", replaced(f"{path}.{norm}{s}.norm", Centred)
                yield f"{path}.{norm}{s}.missing", replaced(f"{path}.{norm}{s}.norm", nn.Identity)
    yield "norm_out.without_silu", replaced("norm_out.silu", nn.Identity)
    yield "norm_out.rms", replaced("norm_out.norm", lambda: nn.RMSNorm(m.proj_out.in_features, 1e-6, False))


def feed_forwards(m):
    for path, _, streams in norms_of(m):
        for s in streams:
            net = f"{path}.ff{s}.net.0"
            yield f"{net}.gate_first", lambda m, net=net: gate_first(m.get_submodule(f"{net}.proj"))
            yield f"{path}.ff{s}.net.2", lambda m, out=f"{path}.ff{s}.net.2": louder_row(m.get_submodule(out))
            for name, make in (("gelu", nn.GELU), ("sigmoid", nn.Sigmoid), ("nothing", nn.Identity)):
                yield f"{net}.by_{name}", replaced(f"{net}.activation", make)


def louder_row(linear):
    linear.weight.data[0] *= 1.1


def gate_first(linear):
    linear.weight.data = torch.cat(linear.weight.data.chunk(2)[::-1])


def attending(**settings):
    def change(m):
        for block in m.transformer_blocks:
            block.attn1.processor = Attention(**settings)
    return change


def attentions(m):
    yield "rope_on_text", attending(turn_text=True)
    for letters in ("", "q", "k"):
        yield f"rope_on_{letters or 'nothing'}", attending(turned=letters)
    yield "rope_of_halves", attending(halves=True)
    yield "rope_backwards", attending(backwards=True)
    yield "attention_scale", attending(scale=0.9)
    yield "qk_unnormed", attending(unnormed=True)
    if m.config.num_attention_heads > 1:
        yield "rope_of_one_head", attending(one_head=True)
        yield "rope_of_the_next_head", attending(next_head=True)
        yield "qk_norm_of_all_heads", attending(all_heads=True)


def swapped_weights(m, paths):
    one, other = (m.get_submodule(path) for path in paths)
    one.load_state_dict(copy.deepcopy(other.state_dict()))


def projections(m):
    for path in blocks(m):
        pairs = [("norm_added_k", "norm_k"), ("norm_k", "norm_q"), ("to_k", "to_q"), ("to_v", "to_k"),
                 ("add_v_proj", "add_k_proj")]
        if path != blocks(m)[-1]:
            pairs += [("norm_added_q", "norm_q"), ("add_k_proj", "add_q_proj")]
        for one, other in pairs:
            yield f"{path}.{one}_of_{other}", lambda m, pair=(f"{path}.attn1.{one}", f"{path}.attn1.{other}"): \
                swapped_weights(m, pair)
    yield "last_block_skipped", lambda m: skip(m.transformer_blocks[-1])


def skip(block):
    block.forward = lambda hidden_states, encoder_hidden_states, **_: (hidden_states, encoder_hidden_states)


def permuted_patches(m, order):
    """A patch's channels in another order than (C, y, x), going in."""
    weight = m.patch_embed.proj.weight.data
    m.patch_embed.proj.weight.data = weight.permute(0, *(1 + i for i in order)).reshape(weight.shape).contiguous()


def permuted_output(m, order):
    """In another order than (y, x, C), coming out."""
    p = m.config.patch_size
    for parameter in (m.proj_out.weight, m.proj_out.bias):
        split = parameter.data.unflatten(0, (p, p, -1))
        parameter.data = split.permute(*order, *range(3, split.ndim)).reshape(parameter.shape).contiguous()


def patches(m):
    for label, order in (("columns_first", (0, 2, 1)), ("channels_last", (1, 2, 0))):
        yield f"patches_{label}", lambda m, order=order: permuted_patches(m, order)
    for label, order in (("columns_first", (1, 0, 2)), ("channels_first", (2, 0, 1))):
        yield f"output_{label}", lambda m, order=order: permuted_output(m, order)


def placed(change):
    """Other positions [N, 3] than the model's; grid: frames, rows and columns."""
    def wrong(m):
        kept = m.rope._get_positions

        def positions(frames, rows, columns, device=None, dtype=None):
            return change(kept, (frames, rows, columns), dict(device=device, dtype=dtype))
        m.rope._get_positions = positions
    return wrong


def from_the_corner(kept, grid, kw):
    at = kept(*grid, **kw)
    return torch.cat([at[:, :1], at[:, 1:] - at[:1, 1:]], 1)


def unscaled(kept, grid, kw):
    at = kept(*grid, **kw)
    return torch.cat([at[:, :1], at[:, 1:] / (192 * 192 / (grid[1] * grid[2])) ** 0.5], 1)


def of_edges(kept, grid, kw):
    at, unit = kept(*grid, **kw), (192 * 192 / (grid[1] * grid[2])) ** 0.5
    return torch.cat([at[:, :1], at[:, 1:] - unit / 2], 1)


def columns_fastest_not(kept, grid, kw):
    return kept(*grid, **kw).view(*grid, 3).transpose(1, 2).flatten(0, 2)


def positions(m):
    for area in (128, 193):
        yield f"area_of_{area}", lambda m, area=area: setattr(m.rope, "target_area", area * area)
    for change in (from_the_corner, unscaled, of_edges, columns_fastest_not):
        yield f"positions_{change.__name__}", placed(change)
    for i, j in ((1, 2), (0, 1)):
        order = mutations.exchanged(3, i, j)
        yield f"axes_{i}_{j}", lambda m, order=order: setattr(m.pos_frequencies, "data", m.pos_frequencies.data[order])
    yield "frequencies", lambda m: m.pos_frequencies.data.mul_(1.01)


def pooled_by(change):
    def wrong(m):
        pool = m.time_embed.pooler
        kept = pool.forward
        pool.forward = lambda x, mask: change(pool, kept, x, mask)
    return wrong


def mean_with_padding(pool, kept, x, mask):
    return with_mean(pool, lambda *_, **__: x.mean(1, keepdim=True), kept, x, mask)


def sum_for_mean(pool, kept, x, mask):
    return with_mean(pool, lambda *_, **__: (x * mask[..., None]).sum(1, keepdim=True), kept, x, mask)


def with_mean(pool, mean, kept, x, mask):
    pool.pool_tokens = mean
    return kept(x, mask)


def values_first(m):
    for p in m.time_embed.pooler.to_kv.parameters():
        p.data = torch.cat(p.data.chunk(2)[::-1])


def conditions(m):
    embed = "time_embed"
    yield "sine_first", lambda m: setattr(m.time_embed.time_proj, "flip_sin_to_cos", False)
    yield "waves_shifted", lambda m: setattr(m.time_embed.time_proj, "downscale_freq_shift", 1)
    yield "without_time", zeroed(f"{embed}.timestep_embedder")
    yield "without_pool", zeroed(f"{embed}.pooler.to_out")
    yield "time.without_silu", replaced(f"{embed}.timestep_embedder.act", nn.Identity)
    yield "time.by_gelu", replaced(f"{embed}.timestep_embedder.act", nn.GELU)
    yield "pool.values_first", values_first
    for heads in (4, 1):
        yield f"pool.of_{heads}_heads", lambda m, heads=heads: setattr(m.time_embed.pooler, "num_attention_heads", heads)
    yield "pool.mean_with_padding", pooled_by(mean_with_padding)
    yield "pool.sum_for_mean", pooled_by(sum_for_mean)
    yield "pool.is_the_mean", pooled_by(lambda pool, _, x, mask: pool.to_out(pool.pool_tokens(x, mask)))
    yield "pool.sees_padding", pooled_by(sees_padding)


def sees_padding(pool, kept, x, mask):
    mean = type(pool).pool_tokens(x, mask, keepdim=True)
    return with_mean(pool, lambda *_, **__: mean, kept, x, torch.ones_like(mask))


def of(model):
    yield from mutations.nudges(model, lambda _: False, unread(model))
    yield from mutations.eps_tenfold(model, unread(model))
    for group in (chunks, modulations, feed_forwards, attentions, projections, patches, positions, conditions):
        yield from group(model)


def inputs_of(inputs):
    mask = inputs["encoder_attention_mask"]
    yield "time_thousandth", dict(timestep=inputs["timestep"] / 1000)
    yield "time_backwards", dict(timestep=1000 - inputs["timestep"])
    yield "padding_attended", dict(encoder_attention_mask=torch.ones_like(mask))
    fewer = torch.arange(mask.shape[1])[None] < (mask.sum(1) - 1)[:, None]
    yield "a_row_fewer", dict(encoder_attention_mask=fewer)
    if len(mask) > 1:
        yield "masks_exchanged", dict(encoder_attention_mask=mask.roll(1, 0))


def results(model, inputs, oracle):
    """(label, value) of each. An attention that is right as it stands is held to diffusers' own first."""
    truth, right = oracle.forward(model, inputs), copy.deepcopy(model)
    attending()(right)
    assert oracle.far(oracle.forward(right, inputs), truth) < VISIBLE / 6
    for label, change in of(model):
        mutant = copy.deepcopy(model)
        change(mutant)
        yield label, oracle.forward(mutant, inputs)
    for label, changed in inputs_of(inputs):
        yield label, oracle.forward(model, inputs | changed)
