# SPDX-License-Identifier: Apache-2.0
"""Wrong T5 encoders."""

import functools

import torch
from torch import nn
from torch.nn import functional as F

from wrong import family, mutant, rows

T5 = "prompt_embeds"


def t5_norms(pipe, which):
    return [m for n, m in pipe.text_encoder.named_modules() if n.endswith(which)]


@family(T5, "2b", "odd_config", t5_attention_norm_eps="layer.0.layer_norm", t5_ff_norm_eps="layer.1.layer_norm",
        t5_final_norm_eps="final_layer_norm")
def t5_eps(pipe, spec, argument):
    return [(m, "variance_epsilon", 10 * m.variance_epsilon) for m in t5_norms(pipe, argument)]


@mutant(T5, "odd_config")
def t5_eps_of_config_ignored(pipe, spec):
    return [(m, "variance_epsilon", 1e-6) for m in t5_norms(pipe, "layer_norm")]


def t5_attention(pipe):
    return [b.layer[0].SelfAttention for b in pipe.text_encoder.encoder.block]


@mutant(T5, "2b", "odd_config")
def t5_scores_scaled(pipe, spec):
    return [(a, "scaling", a.key_value_proj_dim ** -0.5) for a in t5_attention(pipe)]


def with_ids(pipe, change):
    """The encoder called with other arguments: change(ids) -> (ids, mask)."""
    forward = pipe.text_encoder.forward

    def wrong(ids, **_):
        ids, mask = change(ids)
        return forward(ids, attention_mask=mask)
    return [(pipe.text_encoder, "forward", wrong)]


@mutant(T5, "2b", "5b", "1.5")
def t5_pads_masked(pipe, spec):
    return with_ids(pipe, lambda ids: (ids, (ids != 0).long()))


@mutant(T5, "2b")
def t5_no_end_token(pipe, spec):
    return with_ids(pipe, lambda ids: (torch.where(ids == 1, 0, ids), None))


@mutant(T5, "2b")
def t5_pads_are_end_tokens(pipe, spec):
    return with_ids(pipe, lambda ids: (torch.where(ids == 0, 1, ids), None))


def bucket(change):
    from transformers.models.t5.modeling_t5 import T5Attention

    true = T5Attention._relative_position_bucket
    return [(T5Attention, "_relative_position_bucket", staticmethod(functools.partial(change, true)))]


@mutant(T5, "2b")
def t5_relative_position_flipped(pipe, spec):
    return bucket(lambda true, position, **k: true(-position, **k))


@mutant(T5, "2b")
def t5_buckets_of_a_decoder(pipe, spec):
    return bucket(lambda true, position, **k: true(position, **{**k, "bidirectional": False}))


@family(T5, "odd_config", t5_max_distance_128=("relative_attention_max_distance", 128))
def t5_distance(pipe, spec, argument):
    return [(t5_attention(pipe)[0], *argument)]


@mutant(T5, "2b")
def t5_max_distance_64(pipe, spec):
    return [(t5_attention(pipe)[0], "relative_attention_max_distance", 64)]


@mutant(T5, "2b", "odd_config")
def t5_bias_in_block_0_alone(pipe, spec):
    def forget(forward):
        return lambda x, mask, bias, *rest, **k: forward(x, mask, None, *rest, **k)
    return [(b, "forward", forget(b.forward)) for b in pipe.text_encoder.encoder.block[1:]]


@family(T5, "2b", t5_exact_gelu=nn.GELU(), t5_relu=nn.ReLU())
def t5_activation(pipe, spec, argument):
    return [(b.layer[1].DenseReluDense, "act", argument) for b in pipe.text_encoder.encoder.block]


@mutant(T5, "odd_config")
def t5_gelu_for_relu(pipe, spec):
    return t5_activation(pipe, spec, nn.GELU(approximate="tanh"))


@mutant(T5, "2b")
def t5_gates_swapped(pipe, spec):
    dense = [b.layer[1].DenseReluDense for b in pipe.text_encoder.encoder.block]
    pairs = [(d.wi_0.weight, d.wi_1.weight) for d in dense]
    return [rows(x, y.data) for a, b in pairs for x, y in ((a, b), (b, a))]


@mutant(T5, "2b")
def t5_final_norm_skipped(pipe, spec):
    return [(pipe.text_encoder.encoder.final_layer_norm, "forward", lambda x: x)]


@mutant(T5, "2b", "odd_config")
def t5_norm_subtracts_the_mean(pipe, spec):
    def centred(m):
        return lambda x: F.layer_norm(x, x.shape[-1:], m.weight, None, m.variance_epsilon)
    return [(m, "forward", centred(m)) for m in t5_norms(pipe, "layer_norm")]
