# SPDX-License-Identifier: Apache-2.0
"""Wrong transformers."""

import functools
import math

import torch
from torch import nn
from torch.nn import functional as F

from wrong import family, mutant, rows

FORWARD = "forward.output"


# Norms, modulation, activations

def blocks(pipe):
    return pipe.transformer.transformer_blocks


NORMS = {
    "q_norm": lambda t: [b.attn1.norm_q for b in t.transformer_blocks],
    "k_norm": lambda t: [b.attn1.norm_k for b in t.transformer_blocks],
    "norm1": lambda t: [b.norm1.norm for b in t.transformer_blocks],
    "norm2": lambda t: [b.norm2.norm for b in t.transformer_blocks],
    "norm_final": lambda t: [t.norm_final],
    "norm_out": lambda t: [t.norm_out.norm],
}


@family(FORWARD, "5b", "1.5", "odd_config", **{f"{name}_eps": name for name in NORMS})
@family(FORWARD, "2b", **{f"{name}_eps": name for name in ("q_norm", "k_norm", "norm1", "norm2", "norm_out")})
def norm_eps(pipe, spec, argument):
    return [(m, "eps", 10 * m.eps) for m in NORMS[argument](pipe.transformer)]


@family(FORWARD, "odd_config", norm1_eps_of_config_ignored="norm1", norm2_eps_of_config_ignored="norm2",
        norm_final_eps_of_config_ignored="norm_final", norm_out_eps_of_config_ignored="norm_out")
def config_eps_ignored(pipe, spec, argument):
    return [(m, "eps", 1e-5) for m in NORMS[argument](pipe.transformer)]


@family(FORWARD, "odd_config", q_norm_takes_config_eps="q_norm", k_norm_takes_config_eps="k_norm")
def config_eps_for_qk(pipe, spec, argument):
    return [(m, "eps", 1e-3) for m in NORMS[argument](pipe.transformer)]


@family(FORWARD, "5b", **{f"{name}_bias_ignored": name for name in NORMS})
def norm_bias_ignored(pipe, spec, argument):
    return [rows(m.bias, 0 * m.bias.data) for m in NORMS[argument](pipe.transformer)]


def modulated(m, hidden, text, temb, order=(0, 1, 2, 3, 4, 5), one=1.0, act=F.silu):
    chunks = m.linear(act(temb)).chunk(6, dim=1)
    shift, scale, gate, text_shift, text_scale, text_gate = (chunks[i][:, None] for i in order)
    return (m.norm(hidden) * (one + scale) + shift, m.norm(text) * (one + text_scale) + text_shift, gate, text_gate)


@family(FORWARD, "2b", text_chunks_first=dict(order=(3, 4, 5, 0, 1, 2)), gates_swapped=dict(order=(0, 1, 5, 3, 4, 2)),
        shift_and_scale_swapped=dict(order=(1, 0, 2, 4, 3, 5)), gate_before_scale=dict(order=(0, 2, 1, 3, 5, 4)),
        text_takes_video_chunks=dict(order=(0, 1, 2, 0, 1, 2)), scale_without_one=dict(one=0.0),
        modulation_without_silu=dict(act=lambda x: x), modulation_by_gelu=dict(act=F.gelu))
def modulation(pipe, spec, argument):
    norms = [m for b in blocks(pipe) for m in (b.norm1, b.norm2)]
    return [(m, "forward", functools.partial(modulated, m, **argument)) for m in norms]


@mutant(FORWARD, "2b", "5b", "1.5", "odd_config")
def norm_out_scale_first(pipe, spec):
    linear = pipe.transformer.norm_out.linear
    return [rows(p, torch.cat(p.data.chunk(2)[::-1])) for p in (linear.weight, linear.bias)]


@mutant(FORWARD, "2b")
def norm_final_skipped(pipe, spec):
    return [(pipe.transformer.norm_final, "forward", lambda x: x)]


@mutant(FORWARD, "2b", "5b", "1.5")
def exact_gelu(pipe, spec):
    return [(b.ff.net[0], "approximate", "none") for b in blocks(pipe)]


@mutant(FORWARD, "odd_config")
def tanh_gelu(pipe, spec):
    return [(b.ff.net[0], "approximate", "tanh") for b in blocks(pipe)]


@mutant(FORWARD, "2b")
def time_embedding_gelu(pipe, spec):
    return [(pipe.transformer.time_embedding, "act", nn.GELU())]


@mutant(FORWARD, "odd_config")
def time_embedding_silu(pipe, spec):
    return [(pipe.transformer.time_embedding, "act", nn.SiLU())]


@mutant(FORWARD, "2b", "odd_config")
def sinusoid_flipped(pipe, spec):
    return [(pipe.transformer.time_proj, "flip_sin_to_cos", not pipe.transformer.time_proj.flip_sin_to_cos)]


@mutant(FORWARD, "2b", "odd_config")
def sinusoid_freq_shift(pipe, spec):
    return [(pipe.transformer.time_proj, "downscale_freq_shift", 1 - pipe.transformer.time_proj.downscale_freq_shift)]


@mutant(FORWARD, "2b")
def timestep_of_row_0_for_all(pipe, spec):
    sinusoid = pipe.transformer.time_proj.forward
    return [(pipe.transformer.time_proj, "forward", lambda t: sinusoid(t[:1].expand_as(t)))]


# Patches and positions

@mutant(FORWARD, "2b", "5b", "1.5")
def video_before_text(pipe, spec):
    def wrong(forward):
        def call(text, video):
            joint = forward(text, video)
            return torch.cat([joint[:, text.shape[1]:], joint[:, :text.shape[1]]], dim=1)
        return call
    embed = pipe.transformer.patch_embed
    return [(embed, "forward", wrong(embed.forward))]


@mutant(FORWARD, "2b", "5b", "odd_config")
def patch_channels_last(pipe, spec):
    w = pipe.transformer.patch_embed.proj.weight
    return [rows(w, w.data.permute(0, 2, 3, 1).reshape(w.shape))]


@family(FORWARD, "1.5", patch_time_first=(0, 2, 1, 3, 4), patch_channels_last=(0, 2, 3, 4, 1),
        patch_time_last=(0, 1, 3, 4, 2))
def patch_order(pipe, spec, argument):
    w = pipe.transformer.patch_embed.proj.weight
    return [rows(w, w.data.view(w.shape[0], -1, 2, 2, 2).permute(argument).reshape(w.shape))]


@mutant(FORWARD, "1.5")
def patch_bias_obeys_config(pipe, spec):
    bias = pipe.transformer.patch_embed.proj.bias
    return [rows(bias, 0 * bias.data)]


def proj_out_rows(pipe, sizes, order):
    """proj_out's rows taken for features in another order."""
    features = torch.arange(pipe.transformer.proj_out.out_features).view(sizes).permute(order).flatten()
    return [rows(p, p.data[features]) for p in (pipe.transformer.proj_out.weight, pipe.transformer.proj_out.bias)]


@family(FORWARD, "2b", "odd_config", unpatchify_channels_last=(1, 2, 0), unpatchify_transposed=(0, 2, 1))
def unpatchify(pipe, spec, argument):
    p = pipe.transformer.config.patch_size
    return proj_out_rows(pipe, (-1, p, p), argument)


@family(FORWARD, "1.5", unpatchify_channels_last=(1, 2, 3, 0), unpatchify_time_last=(0, 2, 3, 1),
        unpatchify_time_first=(1, 0, 2, 3))
def unpatchify_15(pipe, spec, argument):
    return proj_out_rows(pipe, (-1, 2, 2, 2), argument)


def table(change):
    import diffusers.models.embeddings as embeddings

    true = embeddings.get_3d_sincos_pos_embed
    return [(embeddings, "get_3d_sincos_pos_embed", functools.partial(change, true))]


@mutant(FORWARD, "2b", "long_even")
def positions_dropped(pipe, spec):
    return [(pipe.transformer.patch_embed, "use_positional_embeddings", False)]


@family(FORWARD, "long_even", sincos_spatial_scale=("spatial_interpolation_scale", 1.875),
        sincos_temporal_scale=("temporal_interpolation_scale", 1.0))
def sincos_scale(pipe, spec, argument):
    return [(pipe.transformer.patch_embed, *argument)]


def wrong_sincos(kind, true, dim, size, frames, *rest, **k):
    t = true(dim, size, frames, *rest, **k)
    time, space = t[..., :dim // 4], t[..., dim // 4:]
    if kind == "height_first":
        return torch.cat([time, *space.chunk(2, dim=-1)[::-1]], dim=-1)
    if kind == "time_last":
        return torch.cat([space, time], dim=-1)
    if kind == "cos_first":
        parts = (time, *space.chunk(2, dim=-1))
        return torch.cat([half for part in parts for half in part.chunk(2, dim=-1)[::-1]], dim=-1)
    if kind == "x_slowest":
        return t.unflatten(1, (size[1], size[0])).transpose(1, 2).flatten(1, 2)
    return true(dim, size[::-1], frames, *rest, **k)


SINCOS = ("height_first", "time_last", "cos_first", "x_slowest", "sizes_swapped")


@family(FORWARD, "long_even", **{f"sincos_{kind}": kind for kind in SINCOS})
def sincos(pipe, spec, argument):
    return table(functools.partial(wrong_sincos, argument))


def rope_table(change):
    from diffusers.pipelines.cogvideo import pipeline_cogvideox as module

    return [(module, "get_3d_rotary_pos_embed", functools.partial(change, module.get_3d_rotary_pos_embed))]


def by_columns(order):
    """Axes in another order, each with its own width: 0 time, 1 height, 2 width."""
    def change(true, embed_dim, **k):
        widths = embed_dim // 4, embed_dim // 8 * 3, embed_dim // 8 * 3
        return tuple(torch.cat([t.split(widths, dim=1)[i] for i in order], dim=1) for t in true(embed_dim, **k))
    return change


def stop_inclusive(true, crops_coords, grid_size, **k):
    if crops_coords is None:
        return true(crops_coords=None, grid_size=grid_size, **k)
    stop = tuple(s * g / (g - 1) for s, g in zip(crops_coords[1], grid_size))
    return true(crops_coords=(crops_coords[0], stop), grid_size=grid_size, **k)


def theta(value):
    return lambda true, **k: true(theta=value, **k)


@family(FORWARD, "5b", rope_theta_9999=theta(9999))
def rope_theta(pipe, spec, argument):
    return rope_table(argument)


@family(FORWARD, "5b", "1.5", "odd_config", "long_odd", rope_theta_9900=theta(9900),
        rope_time_last=by_columns((1, 2, 0)), rope_width_before_height=by_columns((0, 2, 1)),
        rope_reversed=lambda true, **k: (lambda cos, sin: (cos, -sin))(*true(**k)))
def rope(pipe, spec, argument):
    return rope_table(argument)


@mutant(FORWARD, "5b", "long_odd")
def rope_stop_inclusive(pipe, spec):
    return rope_table(stop_inclusive)


@mutant(FORWARD, "1.5")
def rope_fitted_to_base(pipe, spec):
    from diffusers.pipelines.cogvideo import pipeline_cogvideox as module

    def wrong(true, grid_size, max_size, grid_type, **k):
        crop = module.get_resize_crop_region_for_grid(grid_size, max_size[1], max_size[0])
        return true(grid_size=grid_size, **{**k, "crops_coords": crop})
    return rope_table(wrong)


@mutant(FORWARD, "5b", "long_odd")
def rope_sliced(pipe, spec):
    sliced = dict(crops_coords=None, grid_type="slice", max_size=(150, 150))
    return rope_table(lambda true, crops_coords, **k: true(**sliced, **k))


def crop_with(round_to_int):
    from diffusers.pipelines.cogvideo import pipeline_cogvideox as module

    return [(module, "round", round_to_int)]


@mutant(FORWARD, "long_odd", "odd_config")
def crop_half_away(pipe, spec):
    return crop_with(lambda x: math.floor(x + 0.5))


@mutant(FORWARD, "5b")
def crop_truncated(pipe, spec):
    return crop_with(int)


@mutant(FORWARD, "5b", "1.5", "odd_config")
def rope_half_split(pipe, spec):
    import diffusers.models.embeddings as embeddings

    def wrong(x, freqs, **_):
        cos, sin = (torch.cat([f[:, ::2]] * 2, dim=1) for f in freqs)
        a, b = x.chunk(2, dim=-1)
        return x * cos + torch.cat([-b, a], dim=-1) * sin
    return [(embeddings, "apply_rotary_emb", wrong)]


# Attention

class Attend:
    """CogVideoXAttnProcessor2_0 with switches; with none of them it computes the same."""

    def __init__(self, scale=None, keys=None, rope_text=False, rope_first=False, rms=False, rope_on_q_alone=False):
        self.scale, self.keys, self.rope_text, self.rope_first = scale, keys, rope_text, rope_first
        self.rms, self.rope_on_q_alone = rms, rope_on_q_alone

    def rotate(self, x, rope, text):
        from diffusers.models.embeddings import apply_rotary_emb

        if rope is None:
            return x
        if self.rope_text:
            rope = tuple(torch.cat([f[torch.arange(text) % len(f)], f]) for f in rope)
            return apply_rotary_emb(x, rope)
        return torch.cat([x[:, :, :text], apply_rotary_emb(x[:, :, text:], rope)], dim=2)

    def norm(self, m, x):
        return F.rms_norm(x, x.shape[-1:], m.weight, m.eps) + m.bias if self.rms else m(x)

    def __call__(self, attn, hidden_states, encoder_hidden_states, image_rotary_emb=None, **_):
        text = encoder_hidden_states.shape[1]
        x = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        q, k, v = (m(x).unflatten(2, (attn.heads, -1)).transpose(1, 2) for m in (attn.to_q, attn.to_k, attn.to_v))
        rope = image_rotary_emb
        if self.rope_first:
            q, k, rope = self.rotate(q, rope, text), self.rotate(k, rope, text), None
        q, k = self.norm(attn.norm_q, q), self.norm(attn.norm_k, k)
        q, k = self.rotate(q, rope, text), k if self.rope_on_q_alone else self.rotate(k, rope, text)
        mask = None
        if self.keys is not None:
            mask = torch.ones((1, x.shape[1]), dtype=torch.bool)
            mask[:, self.keys:text] = False
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)
        y = attn.to_out[0](y.transpose(1, 2).flatten(2))
        return y[:, text:], y[:, :text]


def attend(pipe, **switches):
    return [(b.attn1, "processor", Attend(**switches)) for b in blocks(pipe)]


@mutant(FORWARD, "5b", "odd_config")
def attention_scale_of_64(pipe, spec):
    return attend(pipe, scale=1 / 8)


@mutant(FORWARD, "2b", "1.5")
def attention_unscaled(pipe, spec):
    return attend(pipe, scale=1.0)


@mutant(FORWARD, "2b", "5b", "1.5")
def text_pads_masked(pipe, spec):
    return attend(pipe, keys=len(pipe.tokenizer(spec["request"]["prompt"]).input_ids))


@family(FORWARD, "5b", "1.5", rope_on_text=dict(rope_text=True), rope_before_norm=dict(rope_first=True),
        rope_on_queries_alone=dict(rope_on_q_alone=True))
def attention_rope(pipe, spec, argument):
    return attend(pipe, **argument)


@mutant(FORWARD, "2b")
def qk_norm_is_rms(pipe, spec):
    return attend(pipe, rms=True)


@family(FORWARD, "2b", k_and_v_swapped=("to_k", "to_v"), q_and_k_swapped=("to_q", "to_k"))
def projections_swapped(pipe, spec, argument):
    a, b = argument
    return [(block.attn1, x, getattr(block.attn1, y)) for block in blocks(pipe) for x, y in ((a, b), (b, a))]


@mutant(FORWARD, "2b")
def qkv_bias_ignored(pipe, spec):
    return [rows(m.bias, 0 * m.bias.data) for b in blocks(pipe) for m in (b.attn1.to_q, b.attn1.to_k, b.attn1.to_v)]


@mutant(FORWARD, "2b", "odd_config")
def to_out_bias_ignored(pipe, spec):
    return [rows(b.attn1.to_out[0].bias, 0 * b.attn1.to_out[0].bias.data) for b in blocks(pipe)]
