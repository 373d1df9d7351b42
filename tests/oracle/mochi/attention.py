# SPDX-License-Identifier: Apache-2.0
"""The attention of Mochi's blocks, written again with what a slip would change in it as settings."""

import torch
from torch.nn.functional import pad, scaled_dot_product_attention


class Attention:
    """A processor. Right as it stands; wrong with any setting:
    turn_text      the text's rows are turned as well, as the video's first rows are
    halves         a head's channels are turned as two halves, not as pairs
    turned         which of "qk" is turned
    backwards      they are turned the other way
    one_head       all heads turn as the first
    next_head      every head turns as the one before it
    scale          of the products, times its own
    all_heads      the norms run over all heads at once
    unnormed       there are none
    """

    def __init__(self, **settings):
        self.at = dict(turn_text=False, halves=False, turned="qk", backwards=False, one_head=False, next_head=False,
                       scale=1.0, all_heads=False, unnormed=False) | settings

    def norm(self, module, x):
        if self.at["unnormed"]:
            return x
        if self.at["all_heads"]:
            return x * torch.rsqrt(x.pow(2).mean((-1, -2), keepdim=True) + module.eps) * module.weight
        return module(x)

    def rotate(self, x, tables):
        cos, sin = tables
        if self.at["one_head"]:
            cos, sin = cos[:, :1], sin[:, :1]
        if self.at["next_head"]:
            cos, sin = cos.roll(1, 1), sin.roll(1, 1)
        if self.at["backwards"]:
            sin = -sin
        a, b = x.chunk(2, -1) if self.at["halves"] else (x[..., 0::2], x[..., 1::2])
        parts = a * cos - b * sin, a * sin + b * cos
        return torch.cat(parts, -1) if self.at["halves"] else torch.stack(parts, -1).flatten(-2)

    def __call__(self, attn, hidden_states, encoder_hidden_states, attention_mask, image_rotary_emb):
        rows, text = hidden_states.shape[1], encoder_hidden_states.shape[1]
        norms = ((attn.norm_q, attn.norm_added_q), (attn.norm_k, attn.norm_added_k))
        video, words = [], []
        for i, letter in enumerate("qkv"):
            x = getattr(attn, f"to_{letter}")(hidden_states).unflatten(2, (attn.heads, -1))
            y = getattr(attn, f"add_{letter}_proj")(encoder_hidden_states).unflatten(2, (attn.heads, -1))
            if letter != "v":
                x, y = self.norm(norms[i][0], x), self.norm(norms[i][1], y)
            if letter in self.at["turned"]:
                x = self.rotate(x, image_rotary_emb)
                if self.at["turn_text"]:
                    y = self.rotate(y, tuple(t[:text] for t in image_rotary_emb))
            video.append(x.transpose(1, 2))
            words.append(y.transpose(1, 2))
        outs = []
        for i, mask in enumerate(attention_mask):
            q, k, v = (torch.cat([x[i:i + 1], y[i:i + 1, :, mask]], 2) for x, y in zip(video, words))
            out = scaled_dot_product_attention(q, k, v, scale=self.at["scale"] * q.shape[-1] ** -0.5)
            outs.append(pad(out, (0, 0, 0, rows + text - out.shape[2])))
        x, y = torch.cat(outs).transpose(1, 2).flatten(2).split([rows, text], 1)
        return attn.to_out[0](x), attn.to_add_out(y) if hasattr(attn, "to_add_out") else y
