# SPDX-License-Identifier: Apache-2.0
"""The text encoder: a small T5, trained together with the transformer, and its forward pass made for training."""

import math

import torch
import torch.nn.functional as F

from demo import tokenizer

CONFIG = dict(d_model=192, d_ff=384, d_kv=48, num_heads=4, num_layers=2, feed_forward_proj="gated-gelu", dropout_rate=0.0,
              relative_attention_num_buckets=32, relative_attention_max_distance=64)


def build(pieces, device):
    """A new T5EncoderModel for a vocabulary of `pieces`; the sentinels' ids are counted in."""
    from transformers import T5Config, T5EncoderModel

    rows = -(-(pieces + tokenizer.EXTRA_IDS) // 32) * 32
    model = T5EncoderModel(T5Config(vocab_size=rows, **CONFIG))
    with torch.no_grad():
        model.shared.weight.normal_(0, 1)
        for name, p in model.named_parameters():
            if p.ndim == 2 and "shared" not in name and "bias" not in name:
                scale = 1 / math.sqrt(p.shape[1])
                if name.endswith("q.weight"):
                    scale /= math.sqrt(CONFIG["d_kv"])  # T5 does not scale its scores
                p.normal_(0, scale)
    return model.to(device)


def norm(layer, x):
    return F.rms_norm(x.float(), x.shape[-1:], layer.weight, layer.variance_epsilon)


def attention(layer, x, bias):
    heads = lambda y: y.unflatten(-1, (CONFIG["num_heads"], CONFIG["d_kv"])).transpose(1, 2)
    q, k, v = (heads(linear(x)) for linear in (layer.q, layer.k, layer.v))
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=1.0)
    return layer.o(y.transpose(1, 2).flatten(2))


def encode(model, ids):
    """As T5EncoderModel without a mask: [B, L] -> [B, L, d_model]."""
    stack = model.encoder
    x = F.embedding(ids, model.shared.weight)
    first = stack.block[0].layer[0].SelfAttention
    at = torch.arange(ids.shape[1], device=ids.device)
    bucket = first._relative_position_bucket(at[None] - at[:, None], bidirectional=True,
                                             num_buckets=CONFIG["relative_attention_num_buckets"],
                                             max_distance=CONFIG["relative_attention_max_distance"])
    bias = F.embedding(bucket, first.relative_attention_bias.weight).permute(2, 0, 1)[None]
    for block in stack.block:
        x = x + attention(block.layer[0].SelfAttention, norm(block.layer[0].layer_norm, x), bias)
        y = norm(block.layer[1].layer_norm, x)
        net = block.layer[1].DenseReluDense
        x = x + net.wo(F.gelu(net.wi_0(y), approximate="tanh") * net.wi_1(y))
    return norm(stack.final_layer_norm, x)


@torch.no_grad()
def agrees(model, ids):
    """Largest difference of encode from transformers' own."""
    return (encode(model, ids) - model(ids)[0]).abs().max().item()
