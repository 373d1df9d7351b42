# SPDX-License-Identifier: Apache-2.0
"""The attention of the main blocks, written again with what a slip would change in it as settings."""

import torch
from torch.nn.functional import scaled_dot_product_attention

from diffusers.models import embeddings


class Attention:
    """A processor. Right as it stands; wrong with any setting:
    text_first     the text's rows come before the video's, and the rotation, meant for the first rows, meets others
    turn_text      the text's rows are turned as well, as if they went on along the last axis: a function of a model
    halves         a head's channels are turned as two halves, not as pairs
    turned         which of "qk" is turned
    scale          of the products, times its own
    all_heads      the norms run over all heads at once
    unnormed       there are none
    """

    def __init__(self, **settings):
        self.at = dict(text_first=False, turn_text=None, halves=False, turned="qk", scale=1.0, all_heads=False,
                       unnormed=False) | settings

    def norm(self, module, x):
        if self.at["unnormed"]:
            return x
        if self.at["all_heads"]:
            return x * torch.rsqrt(x.pow(2).mean((-1, -2), keepdim=True) + module.eps) * module.weight
        return module(x)

    def rotate(self, x, tables):
        if not self.at["halves"]:
            return embeddings.apply_rotary_emb(x, tables, sequence_dim=1)
        tables = tuple(torch.cat([t[:, ::2]] * 2, -1) for t in tables)
        return embeddings.apply_rotary_emb(x, tables, sequence_dim=1, use_real_unbind_dim=-2)

    def __call__(self, attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb):
        double, video, text = attn.add_q_proj is not None, hidden_states.shape[1], encoder_hidden_states.shape[1]
        names = ("add_q_proj", "add_k_proj", "add_v_proj") if double else ("to_q", "to_k", "to_v")
        norms = (attn.norm_added_q, attn.norm_added_k) if double else (attn.norm_q, attn.norm_k)
        parts, mask = [], attention_mask.expand(-1, -1, 1, -1)
        for i, letter in enumerate("qkv"):
            x = getattr(attn, f"to_{letter}")(hidden_states).unflatten(2, (attn.heads, -1))
            y = getattr(attn, names[i])(encoder_hidden_states).unflatten(2, (attn.heads, -1))
            if letter != "v":
                x, y = self.norm((attn.norm_q, attn.norm_k)[i], x), self.norm(norms[i], y)
            parts.append(torch.cat([y, x] if self.at["text_first"] else [x, y], 1))
            if letter in self.at["turned"]:
                tables = self.at["turn_text"](image_rotary_emb, text) if self.at["turn_text"] else image_rotary_emb
                rows = len(tables[0])
                parts[i] = torch.cat([self.rotate(parts[i][:, :rows], tables), parts[i][:, rows:]], 1)
        if self.at["text_first"]:
            mask = torch.cat([mask[..., video:], mask[..., :video]], -1)
        q, k, v = (x.transpose(1, 2) for x in parts)
        out = scaled_dot_product_attention(q, k, v, mask, scale=self.at["scale"] * q.shape[-1] ** -0.5)
        out = out.transpose(1, 2).flatten(2)
        first, second = out.split([text, video] if self.at["text_first"] else [video, text], 1)
        x, y = (second, first) if self.at["text_first"] else (first, second)
        return (attn.to_out[0](x), attn.to_add_out(y)) if double else (x, y)
