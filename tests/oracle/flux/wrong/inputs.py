# SPDX-License-Identifier: Apache-2.0
"""Wrong time, guidance and pooled text; wrong packing."""

import functools

from diffusers import FluxPipeline
from diffusers.models import embeddings
from torch import nn

from wrong import GUIDED, family, mutant


@family("temb", time_not_scaled=1 / 1000, time_scaled_twice=1000.0, time_scale_of_999=0.999)
def time_scale(model, argument):
    return lambda inputs: dict(inputs, timestep=inputs["timestep"] * argument)


@family("temb", GUIDED, guidance_not_scaled=1 / 1000, guidance_ignored=0.0, guidance_less_one=None)
def guidance(model, argument):
    def change(inputs):
        scale = inputs["guidance"]
        return dict(inputs, guidance=scale - 1 if argument is None else scale * argument)
    return change


def embedder(model, name):
    return getattr(model.time_text_embed, name)


@mutant("temb", GUIDED)
def guidance_left_out(model):
    return [(embedder(model, "guidance_embedder"), "forward", lambda x, *_: 0 * model.time_text_embed.timestep_embedder(x))]


@mutant("temb", GUIDED)
def time_and_guidance_swapped(model):
    return lambda inputs: dict(inputs, timestep=inputs["guidance"], guidance=inputs["timestep"])


@mutant("temb")
def pooled_left_out(model):
    return lambda inputs: dict(inputs, pooled_projections=0 * inputs["pooled_projections"])


@mutant("temb", ("dev", "odd_config"))
def pooled_of_the_first_prompt(model):
    def change(inputs):
        pooled = inputs["pooled_projections"]
        return dict(inputs, pooled_projections=pooled[:1].expand_as(pooled))
    return change


@family("temb", time_without_silu="timestep_embedder", pooled_without_silu="text_embedder")
def embedder_without_silu(model, argument):
    module = embedder(model, argument)
    return [(module, "act" if hasattr(module, "act") else "act_1", nn.Identity())]


@family("temb", time_by_gelu="timestep_embedder", pooled_by_gelu="text_embedder")
def embedder_by_gelu(model, argument):
    module = embedder(model, argument)
    return [(module, "act" if hasattr(module, "act") else "act_1", nn.GELU())]


@family("temb", sine_first=dict(flip_sin_to_cos=False), freq_shift_of_one=dict(downscale_freq_shift=1))
def waves(model, argument):
    return [(model.time_text_embed.time_proj, name, value) for name, value in argument.items()]


@mutant("temb")
def waves_of_period_1000(model):
    kept = embeddings.get_timestep_embedding
    return [(embeddings, "get_timestep_embedding", functools.partial(kept, max_period=1000))]


# Packing

@mutant("tokens")
def packed_channels_last(model):
    def pack(latents, b, c, h, w):
        return latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(b, -1, 4 * c)
    return [(FluxPipeline, "_pack_latents", staticmethod(pack))]


@mutant("tokens")
def packed_columns_before_rows(model):
    def pack(latents, b, c, h, w):
        return latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 5, 3).reshape(b, -1, 4 * c)
    return [(FluxPipeline, "_pack_latents", staticmethod(pack))]


@mutant("tokens")
def packed_column_by_column(model):
    def pack(latents, b, c, h, w):
        return latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 4, 2, 1, 3, 5).reshape(b, -1, 4 * c)
    return [(FluxPipeline, "_pack_latents", staticmethod(pack))]


@mutant("unpacked")
def unpacked_channels_last(model):
    def unpack(tokens, height, width, _):
        b, h, w, c = len(tokens), height // 16, width // 16, tokens.shape[2] // 4
        return tokens.view(b, h, w, 2, 2, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, 2 * h, 2 * w)
    return [(FluxPipeline, "_unpack_latents", staticmethod(unpack))]
