# SPDX-License-Identifier: Apache-2.0
"""What diffusers would give with one thing wrong: the parity tests must tell every such mutant from the truth.

A mutant changes a copy of the model, or the inputs, before the forward.
"""

import copy

import torch
from torch import nn

from diffusers.models.embeddings import get_1d_rotary_pos_embed
from diffusers.models.transformers import transformer_hunyuan_video as module

import mutations
from attention import Attention
from mutations import replaced, zeroed

VISIBLE = 6e-6  # three times the tightest bound of the parity tests


def deaf(name):
    """Biases of keys: a softmax does not feel what all keys share, and hardly what they share before their norm."""
    return name.endswith(("to_k", "add_k_proj"))


def indexed(path, modules):
    return [f"{path}.{i}" for i in range(len(modules))]


REFINER = "context_embedder.token_refiner.refiner_blocks"


def refiners(m):
    return indexed(REFINER, m.context_embedder.token_refiner.refiner_blocks)


def doubles(m):
    return indexed("transformer_blocks", m.transformer_blocks)


def singles(m):
    return indexed("single_transformer_blocks", m.single_transformer_blocks)


def chunks(m):
    for path in doubles(m):
        for norm in ("norm1", "norm1_context"):
            yield from mutations.exchanges(f"{path}.{norm}", f"{path}.{norm}.linear", 6)
    for path in singles(m):
        yield from mutations.exchanges(path, f"{path}.norm.linear", 3)
    for path in refiners(m):
        yield from mutations.exchanges(path, f"{path}.norm_out.linear", 2)
    yield from mutations.exchanges("norm_out", "norm_out.linear", 2)


def exact_gelu(ff):
    def change(m):
        for path in doubles(m):
            m.get_submodule(f"{path}.{ff}.net.0").approximate = "none"
    return change


def activations(m):
    for ff in ("ff", "ff_context"):
        yield f"{ff}.gelu_exact", exact_gelu(ff)
    for path in doubles(m):
        for norm in ("norm1", "norm1_context"):
            yield f"{path}.{norm}.without_silu", replaced(f"{path}.{norm}.silu", nn.Identity)
    for path in singles(m):
        yield f"{path}.gelu_exact", replaced(f"{path}.act_mlp", nn.GELU)
        yield f"{path}.mlp_by_silu", replaced(f"{path}.act_mlp", nn.SiLU)
        yield f"{path}.norm.without_silu", replaced(f"{path}.norm.silu", nn.Identity)
    for path in refiners(m):
        for kind, make in (("exact", nn.GELU), ("tanh", lambda: nn.GELU(approximate="tanh"))):
            yield f"{path}.gelu_{kind}", replaced(f"{path}.ff.net.0.activation", make)
        yield f"{path}.gates_without_silu", replaced(f"{path}.norm_out.nonlinearity", nn.Identity)
    yield "norm_out.without_silu", replaced("norm_out.silu", nn.Identity)
    for embedder in ("time_text_embed", "context_embedder.time_text_embed"):
        for name, act in (("timestep_embedder", "act"), ("text_embedder", "act_1")):
            yield f"{embedder}.{name}.without_silu", replaced(f"{embedder}.{name}.{act}", nn.Identity)
            yield f"{embedder}.{name}.by_gelu", replaced(f"{embedder}.{name}.{act}", nn.GELU)


def attending(which, **settings):
    def change(m):
        for block in (*(m.transformer_blocks if "double" in which else ()),
                      *(m.single_transformer_blocks if "single" in which else ())):
            block.attn.set_processor(Attention(**settings))
    return change


def going_on(m):
    """Rotations of text rows that stand behind the video on the last axis."""
    def tables(video, text):
        c, more = m.config, torch.zeros(3, text)
        more[2] = torch.arange(text)
        axes = [get_1d_rotary_pos_embed(d, x, c.rope_theta, use_real=True) for d, x in zip(c.rope_axes_dim, more)]
        return tuple(torch.cat([v, torch.cat(a, 1)]) for v, a in zip(video, zip(*axes)))
    return tables


def attentions(m):
    both = "double single"
    yield "text_first_in_singles", attending("single", text_first=True)
    yield "text_first", attending(both, text_first=True)
    yield "rope_on_text", lambda m: attending(both, turn_text=going_on(m))(m)
    yield "rope_on_text_in_singles", lambda m: attending("single", turn_text=going_on(m))(m)
    for letters in ("", "q", "k"):
        yield f"rope_on_{letters or 'nothing'}", attending(both, turned=letters)
    yield "rope_of_halves", attending(both, halves=True)
    yield "rope_not_in_doubles", attending("double", turned="")
    yield "rope_not_in_singles", attending("single", turned="")
    yield "attention_scale", attending(both, scale=0.9)
    yield "qk_unnormed", attending(both, unnormed=True)
    if m.config.num_attention_heads > 1:
        yield "qk_norm_of_all_heads", attending(both, all_heads=True)


def swapped_weights(m, paths):
    one, other = (m.get_submodule(path) for path in paths)
    one.load_state_dict(copy.deepcopy(other.state_dict()))


def projections(m):
    d = m.config.num_attention_heads * m.config.attention_head_dim
    for path in doubles(m):
        pairs = [("to_add_out", "to_out.0")] + [(f"add_{x}_proj", f"to_{x}") for x in "qkv"]
        pairs += [("norm_added_q", "norm_q"), ("norm_added_k", "norm_k"), ("norm_k", "norm_q")]
        for text, video in pairs:
            yield f"{path}.{text}_of_{video}", lambda m, pair=(f"{path}.attn.{text}", f"{path}.attn.{video}"): \
                swapped_weights(m, pair)
    for path in singles(m):
        yield f"{path}.mlp_first", lambda m, p=path: rolled(m.get_submodule(p).proj_out, d)
    for kind, paths in (("refiner", refiners(m)), ("double", doubles(m)), ("single", singles(m))):
        yield f"last_{kind}_skipped", lambda m, p=paths[-1]: skip(m.get_submodule(p), "refiner" in p)


def rolled(linear, d):
    linear.weight.data = torch.cat([linear.weight.data[:, -d:], linear.weight.data[:, :-d]], 1)


def skip(block, single_stream):
    def forward(hidden_states, encoder_hidden_states, *_, **__):
        return hidden_states if single_stream else (hidden_states, encoder_hidden_states)
    block.forward = forward


def permuted_patches(m, order):
    """A patch's channels in another order than (C, t, y, x), going in."""
    weight = m.x_embedder.proj.weight.data
    m.x_embedder.proj.weight.data = weight.permute(0, *(1 + i for i in order)).reshape(weight.shape).contiguous()


def permuted_output(m, order):
    """The same, coming out."""
    c = m.config
    for p in (m.proj_out.weight, m.proj_out.bias):
        shape = (c.out_channels, c.patch_size_t, c.patch_size, c.patch_size)
        p.data = p.data.unflatten(0, shape).permute(*order, *range(4, p.ndim + 3)).reshape(p.shape).contiguous()


def patches(m):
    for label, order in (("columns_first", (0, 1, 3, 2)), ("channels_last", (1, 2, 3, 0))):
        yield f"patches_{label}", lambda m, order=order: permuted_patches(m, order)
        yield f"output_{label}", lambda m, order=order: permuted_output(m, order)
    if m.config.patch_size_t > 1:
        yield "patches_time_last", lambda m: permuted_patches(m, (0, 2, 3, 1))
        yield "output_time_last", lambda m: permuted_output(m, (0, 2, 3, 1))


def turned_grid(order):
    """Axes exchanged: rows of the table are those of another axis order."""
    def change(m):
        kept = m.rope.forward

        def forward(latents):
            c = m.config
            grid = [size // p for size, p in zip(latents.shape[2:], (c.patch_size_t, c.patch_size, c.patch_size))]
            back = [order.index(i) for i in range(3)]
            other = latents.new_empty(1, 1, *(grid[i] * p for i, p in zip(
                order, (c.patch_size_t, c.patch_size, c.patch_size))))
            return tuple(t.unflatten(0, [grid[i] for i in order]).permute(*back, 3).flatten(0, 2) for t in kept(other))
        m.rope.forward = forward
    return change


def positions(m):
    for theta in (m.config.rope_theta * 2, 10000.0):
        yield f"theta_{theta:g}", lambda m, theta=theta: setattr(m.rope, "theta", theta)
    yield "rows_and_columns_exchanged", turned_grid([0, 2, 1])
    yield "time_and_rows_exchanged", turned_grid([1, 0, 2])
    dims = list(m.config.rope_axes_dim)
    for label, other in (("reversed", dims[::-1]), ("rolled", dims[1:] + dims[:1])):
        if other != dims:
            yield f"axes_{label}", lambda m, other=other: setattr(m.rope, "rope_dim", other)


def conditions(m):
    for embedder in ("time_text_embed", "context_embedder.time_text_embed"):
        yield f"{embedder}.sine_first", lambda m, e=embedder: setattr(
            m.get_submodule(e).time_proj, "flip_sin_to_cos", False)
        yield f"{embedder}.shifted", lambda m, e=embedder: setattr(
            m.get_submodule(e).time_proj, "downscale_freq_shift", 1)
        yield f"{embedder}.without_time", zeroed(f"{embedder}.timestep_embedder")
        yield f"{embedder}.without_text", zeroed(f"{embedder}.text_embedder")
    if m.config.guidance_embeds:
        yield "without_guidance", zeroed("time_text_embed.guidance_embedder")


def mean_with_padding(m):
    refiner = m.context_embedder
    kept = refiner.forward

    def forward(text, t, mask):
        embed = refiner.time_text_embed.forward
        refiner.time_text_embed.forward = lambda t, _: embed(t, text.mean(1))
        return kept(text, t, mask)
    refiner.forward = forward


def sum_for_mean(m):
    embed = m.context_embedder.time_text_embed
    kept = embed.forward
    embed.forward = lambda t, pooled: kept(t, 2 * pooled)


def padding_in_the_refiner(m):
    inner = m.context_embedder.token_refiner
    kept = inner.forward
    inner.forward = lambda x, temb, mask: kept(x, temb, torch.ones_like(mask))


def texts(m):
    yield "mean_with_padding", mean_with_padding
    yield "mean_twice", sum_for_mean
    yield "padding_in_the_refiner", padding_in_the_refiner


def of(model):
    yield from mutations.nudges(model, deaf)
    yield from mutations.eps_tenfold(model)
    for group in (chunks, activations, attentions, projections, patches, positions, conditions, texts):
        yield from group(model)


def inputs_of(inputs):
    mask = inputs["encoder_attention_mask"]
    rows = mask.shape[1]
    yield "time_thousandth", dict(timestep=inputs["timestep"] / 1000)
    yield "padding_attended", dict(encoder_attention_mask=torch.ones_like(mask))
    fewer = torch.arange(rows)[None] < (mask.sum(1) - 1).clamp(min=1)[:, None]
    yield "a_row_fewer", dict(encoder_attention_mask=fewer.long())
    if "guidance" in inputs:
        yield "guidance_not_scaled", dict(guidance=inputs["guidance"] / 1000)
        yield "guidance_scaled_twice", dict(guidance=inputs["guidance"] * 1000)
    if len(mask) > 1:
        first = inputs["pooled_projections"][:1].expand_as(inputs["pooled_projections"])
        yield "pooled_of_the_first", dict(pooled_projections=first)


def rope_in_fp64(model, oracle):
    kept = module.get_1d_rotary_pos_embed

    def wrong(dim, positions, theta, use_real):
        return kept(dim, positions.double(), theta, use_real=use_real, freqs_dtype=torch.float64)
    module.get_1d_rotary_pos_embed = wrong
    try:
        return oracle.tables(model, "far", oracle.FAR)["far.cos"]
    finally:
        module.get_1d_rotary_pos_embed = kept


def results(model, inputs, oracle):
    """(label, key, value) of each. An attention that is right as it stands is held to diffusers' own first."""
    truth, right = oracle.forward(model, inputs), copy.deepcopy(model)
    attending("double single")(right)
    assert oracle.far(oracle.forward(right, inputs), truth) < VISIBLE / 6
    for label, change in of(model):
        mutant = copy.deepcopy(model)
        change(mutant)
        yield label, "output", oracle.forward(mutant, inputs)
    for label, changed in inputs_of(inputs):
        yield label, "output", oracle.forward(model, inputs | changed)
    yield "rope_in_fp64", "far.cos", rope_in_fp64(model, oracle)
