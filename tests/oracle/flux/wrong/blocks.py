# SPDX-License-Identifier: Apache-2.0
"""Wrong norms, modulation, projections and feed-forwards."""

import functools

import torch
from torch import nn

from wrong import SEVERAL_HEADS, SMALL, data, doubles, family, mutant, singles


# Norms

LAYER_NORMS = {
    "norm1": lambda m: doubles(m, "norm1.norm"), "norm1_context": lambda m: doubles(m, "norm1_context.norm"),
    "norm2": lambda m: doubles(m, "norm2"), "norm2_context": lambda m: doubles(m, "norm2_context"),
    "single_norm": lambda m: singles(m, "norm.norm"), "norm_out": lambda m: [m.norm_out.norm],
}
QK_NORMS = {name: functools.partial(doubles, path=f"attn.{name}")
            for name in ("norm_q", "norm_k", "norm_added_q", "norm_added_k")}
QK_NORMS |= {f"single_{name}": functools.partial(singles, path=f"attn.{name}") for name in ("norm_q", "norm_k")}


@family("output", SMALL, **{f"{name}_eps": of_model for name, of_model in (LAYER_NORMS | QK_NORMS).items()})
def norm_eps(model, argument):
    return [(norm, "eps", 10 * norm.eps) for norm in argument(model)]


@family("output", **{f"{name}_weight_ignored": of_model for name, of_model in QK_NORMS.items()})
def norm_weight_ignored(model, argument):
    return [data(norm.weight, torch.ones_like(norm.weight)) for norm in argument(model)]


@family("output", **{f"{name}_skipped": of_model for name, of_model in QK_NORMS.items()})
def norm_skipped(model, argument):
    return [(norm, "forward", lambda x: x) for norm in argument(model)]


@family("output", SEVERAL_HEADS, q_norm_of_all_heads="norm_q", added_k_norm_of_all_heads="norm_added_k")
def norm_of_all_heads(model, argument):
    def forward(norm, x):
        return x * torch.rsqrt(x.pow(2).mean((-1, -2), keepdim=True) + norm.eps) * norm.weight
    return [(norm, "forward", functools.partial(forward, norm)) for norm in doubles(model, f"attn.{argument}")]


@family("output", text_takes_image_norm_q=("norm_added_q", "norm_q"), text_takes_image_norm_k=("norm_added_k", "norm_k"),
        image_takes_text_norm_q=("norm_q", "norm_added_q"), k_takes_norm_q=("norm_k", "norm_q"),
        q_takes_norm_k=("norm_q", "norm_k"))
def other_norm(model, argument):
    to, source = (doubles(model, f"attn.{name}") for name in argument)
    return [data(a.weight, b.weight.data) for a, b in zip(to, source)]


# Modulation

def reordered(linear, order):
    """The linear's chunks in another order."""
    chunks = [p.data.chunk(len(order)) for p in (linear.weight, linear.bias)]
    return [data(p, torch.cat([c[i] for i in order])) for p, c in zip((linear.weight, linear.bias), chunks)]


MODULATIONS = dict(norm1=lambda m: doubles(m, "norm1.linear"), norm1_context=lambda m: doubles(m, "norm1_context.linear"))


ORDERS = dict(scale_first=(1, 0, 2, 4, 3, 5), gate_first=(2, 0, 1, 5, 3, 4), gates_swapped=(0, 1, 5, 3, 4, 2),
              ff_first=(3, 4, 5, 0, 1, 2), ff_takes_attention_chunks=(0, 1, 2, 0, 1, 2))


@family("output", **{f"{name}_{kind}": (of_model, order) for name, of_model in MODULATIONS.items()
                     for kind, order in ORDERS.items()})
def double_chunks(model, argument):
    of_model, order = argument
    return [patch for linear in of_model(model) for patch in reordered(linear, order)]


@family("output", single_scale_first=(1, 0, 2), single_gate_first=(1, 2, 0), single_gate_second=(0, 2, 1))
def single_chunks(model, argument):
    return [patch for linear in singles(model, "norm.linear") for patch in reordered(linear, argument)]


@mutant("output")
def norm_out_shift_first(model):
    return reordered(model.norm_out.linear, (1, 0))


@family("output", norm1_without_one=("norm1.linear", 6, (1, 4)),
        norm1_context_without_one=("norm1_context.linear", 6, (1, 4)))
def double_scale_without_one(model, argument):
    path, count, chunks = argument
    return [minus_one(linear, count, chunks) for linear in doubles(model, path)]


def minus_one(linear, count, chunks):
    bias = linear.bias.data.clone()
    for i in chunks:
        bias.chunk(count)[i].sub_(1)
    return data(linear.bias, bias)


@mutant("output")
def single_scale_without_one(model):
    return [minus_one(linear, 3, (1,)) for linear in singles(model, "norm.linear")]


@mutant("output")
def norm_out_scale_without_one(model):
    return [minus_one(model.norm_out.linear, 2, (0,))]


@family("output", norm1_without_silu=lambda m: doubles(m, "norm1"),
        norm1_context_without_silu=lambda m: doubles(m, "norm1_context"),
        single_without_silu=lambda m: singles(m, "norm"), norm_out_without_silu=lambda m: [m.norm_out])
def without_silu(model, argument):
    return [(norm, "silu", nn.Identity()) for norm in argument(model)]


@mutant("output")
def text_takes_image_modulation(model):
    return [data(getattr(a, p), getattr(b, p).data) for p in ("weight", "bias")
            for a, b in zip(doubles(model, "norm1_context.linear"), doubles(model, "norm1.linear"))]


# Projections and feed-forwards

@family("output", SMALL, ff_gelu_exact=lambda m: doubles(m, "ff.net.0"),
        ff_context_gelu_exact=lambda m: doubles(m, "ff_context.net.0"), single_gelu_exact=lambda m: singles(m, "act_mlp"))
def gelu_exact(model, argument):
    return [(act, "approximate", "none") for act in argument(model)]


@mutant("output")
def single_silu(model):
    return [(block, "act_mlp", nn.SiLU()) for block in model.single_transformer_blocks]


@mutant("output")
def single_out_reads_mlp_first(model):
    d = model.inner_dim
    return [data(p.weight, torch.cat([p.weight.data[:, -d:], p.weight.data[:, :-d]], 1)) for p in singles(model, "proj_out")]


@mutant("output")
def single_mlp_of_unmodulated_rows(model):
    def forward(block, hidden_states, encoder_hidden_states, temb, image_rotary_emb=None, joint_attention_kwargs=None):
        h, text = torch.cat([encoder_hidden_states, hidden_states], 1), encoder_hidden_states.shape[1]
        normed, gate = block.norm(h, emb=temb)
        mlp = block.act_mlp(block.proj_mlp(block.norm.norm(h)))
        both = torch.cat([block.attn(normed, image_rotary_emb=image_rotary_emb), mlp], 2)
        h = h + gate[:, None] * block.proj_out(both)
        return h[:, :text], h[:, text:]
    return [(block, "forward", functools.partial(forward, block)) for block in model.single_transformer_blocks]


@family("output", to_out_and_to_add_out_swapped=("attn.to_add_out", "attn.to_out.0"),
        ffs_swapped=("ff_context.net.2", "ff.net.2"),
        text_takes_image_q=("attn.add_q_proj", "attn.to_q"), text_takes_image_v=("attn.add_v_proj", "attn.to_v"),
        q_and_k_swapped=("attn.to_q", "attn.to_k"), k_and_v_swapped=("attn.add_k_proj", "attn.add_v_proj"))
def swapped(model, argument):
    one, other = (doubles(model, path) for path in argument)
    return [data(getattr(x, p), getattr(y, p).data.clone()) for a, b in zip(one, other) for p in ("weight", "bias")
            for x, y in ((a, b), (b, a))]


DOUBLE_BIASES = ("attn.to_q", "attn.to_k", "attn.to_v", "attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj",
                 "attn.to_out.0", "attn.to_add_out", "ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")


@family("output", **{f"{path}_bias_ignored": functools.partial(doubles, path=path) for path in DOUBLE_BIASES},
        **{f"single_{path}_bias_ignored": functools.partial(singles, path=path)
           for path in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp", "proj_out")},
        **{f"{name}_bias_ignored": lambda m, name=name: [getattr(m, name)]
           for name in ("x_embedder", "context_embedder", "proj_out")})
def bias_ignored(model, argument):
    return [data(linear.bias, 0 * linear.bias.data) for linear in argument(model)]


@family("output", last_double_skipped="transformer_blocks", last_single_skipped="single_transformer_blocks")
def block_skipped(model, argument):
    return [(getattr(model, argument)[-1], "forward",
             lambda hidden_states, encoder_hidden_states, **_: (encoder_hidden_states, hidden_states))]


@mutant("output")
def text_updated_by_attention_alone(model):
    return [(ff, "forward", lambda x: 0 * x) for ff in doubles(model, "ff_context")]


@mutant("output")
def streams_swapped_in_singles(model):
    """Image first: rotations meet other rows."""
    def forward(block, kept, hidden_states, encoder_hidden_states, **rest):
        x, text = kept(encoder_hidden_states, hidden_states, **rest)
        return text, x
    return [(b, "forward", functools.partial(forward, b, b.forward)) for b in model.single_transformer_blocks]
