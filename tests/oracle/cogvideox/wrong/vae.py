# SPDX-License-Identifier: Apache-2.0
"""Wrong VAE decoders, and wrong pictures from them."""

import functools

import numpy
import torch
from torch import nn
from torch.nn import functional as F

import dump as dumping
from wrong import family, mutant, rows

SAMPLE, TILED, FRAMES = "vae.sample", "vae.tiled_sample", "frames"


def parts(pipe, suffix):
    return [m for n, m in pipe.vae.decoder.named_modules() if n.endswith(suffix)]


@family(SAMPLE, "5b", "odd_config", vae_norm1_eps=".norm1.norm_layer", vae_norm2_eps=".norm2.norm_layer",
        vae_norm_out_eps="norm_out.norm_layer")
def vae_eps(pipe, spec, argument):
    return [(m, "eps", 10 * m.eps) for m in parts(pipe, argument)]


@mutant(SAMPLE, "odd_config")
def vae_eps_of_config(pipe, spec):
    return [(m, "eps", pipe.vae.config.norm_eps) for m in parts(pipe, "norm_layer")]


@mutant(SAMPLE, "2b")
def vae_groups_32(pipe, spec):
    return [(m, "num_groups", 32) for m in parts(pipe, "norm_layer")]


@mutant(SAMPLE, "2b", "long_even")
def vae_norm_by_frame(pipe, spec):
    def single(m):
        def norm(x):
            frames = [F.group_norm(f, m.num_groups, m.weight, m.bias, m.eps) for f in x.split(1, dim=2)]
            return torch.cat(frames, dim=2)
        return norm
    return [(m, "forward", single(m)) for m in parts(pipe, "norm_layer")]


@mutant(SAMPLE, "2b")
def vae_y_and_b_swapped(pipe, spec):
    norms = [m for m in pipe.vae.decoder.modules() if hasattr(m, "conv_y")]
    return [p for m in norms for p in ((m, "conv_y", m.conv_b), (m, "conv_b", m.conv_y))]


@mutant(SAMPLE, "2b", "odd_config")
def vae_y_plus_one(pipe, spec):
    return [rows(m.conv.bias, m.conv.bias.data + 1) for m in parts(pipe, "conv_y")]


@mutant(SAMPLE, "odd_config")
def vae_silu_for_gelu(pipe, spec):
    return [(m, "nonlinearity", nn.SiLU()) for m in pipe.vae.decoder.modules() if hasattr(m, "nonlinearity")]


@mutant(SAMPLE, "odd_config")
def vae_last_activation_of_config(pipe, spec):
    return [(pipe.vae.decoder, "conv_act", nn.GELU())]


@mutant(SAMPLE, "2b")
def vae_gelu(pipe, spec):
    return [(m, "nonlinearity", nn.GELU()) for m in pipe.vae.decoder.modules() if hasattr(m, "nonlinearity")]


# Causality and chunks

def causal(pipe, change):
    from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXCausalConv3d as Conv

    return [(Conv, "fake_context_parallel_forward", functools.partialmethod(change, Conv.fake_context_parallel_forward))]


def lead(self, true, x, cache):
    """The first chunk begins with frames of zeros."""
    n = self.time_kernel_size - 1
    return torch.cat([cache if cache is not None else 0 * x[:, :, :1].repeat(1, 1, n, 1, 1), x], dim=2) if n else x


def centred(self, true, x, cache):
    n = self.time_kernel_size - 1
    return torch.cat([x[:, :, :1], x, x[:, :, -1:]], dim=2) if n else x


def forgets(self, true, x, cache):
    return true(self, x, None)


def older(self, true, x, cache):
    """Both cached frames are the newest."""
    return true(self, x, None if cache is None else cache[:, :, -1:].expand_as(cache))


@family(SAMPLE, "2b", "long_even", vae_first_frame_zero=lead, vae_not_causal=centred)
def vae_padding(pipe, spec, argument):
    return causal(pipe, argument)


@family(SAMPLE, "long_even", "long_odd", vae_cache_forgotten=forgets, vae_cache_of_one_frame=older)
def vae_cache(pipe, spec, argument):
    return causal(pipe, argument)


@mutant(SAMPLE, "long_even", "long_odd")
def vae_one_chunk(pipe, spec):
    return [(pipe.vae, "num_latent_frames_batch_size", 100)]


@family(SAMPLE, "long_odd", vae_odd_chunk_last=(2, 2, 3), vae_odd_chunk_in_the_middle=(2, 3, 2))
def vae_chunks(pipe, spec, argument):
    from diffusers.models.autoencoders.vae import DecoderOutput

    def wrong(z, **_):
        cache, out = None, []
        for part in z.split(argument, dim=2):
            part, cache = pipe.vae.decoder(part, conv_cache=cache)
            out.append(part)
        video = torch.cat(out, dim=2)
        return DecoderOutput(sample=F.pad(video, (0, 0, 0, 0, 0, true - video.shape[2])))
    true = 4 * (sum(argument) - 1) + 1
    return [(pipe.vae, "_decode", wrong)]


def spatial_norm(m, f, zq, conv_cache=None):
    """zq stretched over all frames at once, the first like the others."""
    zq = F.interpolate(zq, size=f.shape[-3:])
    return m.norm_layer(f) * m.conv_y(zq)[0] + m.conv_b(zq)[0], {}


@mutant(SAMPLE, "2b", "odd_config")
def vae_first_frame_of_zq_stretched(pipe, spec):
    return [(m, "forward", functools.partial(spatial_norm, m)) for m in pipe.vae.decoder.modules() if hasattr(m, "conv_y")]


def upsample(m, x):
    """The last frame, not the first, stays single in an odd chunk."""
    if not m.compress_time or x.shape[2] % 2 == 0 or x.shape[2] == 1:
        return type(m).forward(m, x)
    return type(m).forward(m, x.flip(2)).flip(2)


@mutant(SAMPLE, "2b", "odd_config")
def vae_last_frame_single(pipe, spec):
    from diffusers.models.upsampling import CogVideoXUpsample3D

    found = [m for m in pipe.vae.decoder.modules() if isinstance(m, CogVideoXUpsample3D)]
    return [(m, "forward", functools.partial(upsample, m)) for m in found]


@mutant(SAMPLE, "2b", "long_even")
def vae_linear_upsampling(pipe, spec):
    from diffusers.models import upsampling

    true = F.interpolate

    def wrong(x, size=None, scale_factor=None):
        if size is not None:  # that of zq stays nearest
            return true(x, size=size)
        return true(x, scale_factor=scale_factor, mode="bilinear" if x.ndim == 4 else "trilinear")
    return [(upsampling.F, "interpolate", wrong)]


# Tiles

@mutant(TILED, "5b")
def tiles_ignored(pipe, spec):
    return [(pipe.vae, "enable_tiling", lambda: None)]


@mutant(TILED, "5b")
def tiles_not_blended(pipe, spec):
    return [(pipe.vae, name, lambda a, b, extent: b) for name in ("blend_v", "blend_h")]


@mutant(TILED, "5b", "long_odd")
def tiles_blended_one_late(pipe, spec):
    def wrong(a, b, extent):
        extent = min(a.shape[4], b.shape[4], extent)
        for x in range(extent):
            b[..., x] = a[..., -extent + x] * (1 - (x + 1) / extent) + b[..., x] * ((x + 1) / extent)
        return b
    return [(pipe.vae, "blend_h", wrong)]


@mutant(TILED, "long_odd")
def tiles_blended_before_their_neighbours(pipe, spec):
    """diffusers blends in place, so a tile's left neighbour is already blended with the one above it."""
    def pure(blend):
        return lambda a, b, extent: blend(a, b.clone(), extent)
    return [(pipe.vae, name, pure(getattr(pipe.vae, name))) for name in ("blend_v", "blend_h")]


# The picture

@mutant(FRAMES, "1.5")
def padding_dropped_from_the_end(pipe, spec):
    def wrong(pipe, latents, request):
        return 1 / pipe.vae_scaling_factor_image * latents[:, :3].permute(0, 2, 1, 3, 4)
    return [(dumping, "decode_input", wrong)]


@family(FRAMES, "2b", "5b", "odd_config", latents_not_scaled=lambda s: 1.0, latents_multiplied=lambda s: 1 / s)
def scaling(pipe, spec, argument):
    return [(pipe, "vae_scaling_factor_image", argument(pipe.vae_scaling_factor_image))]


@mutant(FRAMES, "2b")
def scaling_factor_of_5b(pipe, spec):
    return [(pipe, "vae_scaling_factor_image", 0.7)]


def pictures(to_bytes):
    from diffusers.image_processor import VaeImageProcessor
    from PIL import Image

    def wrong(images):
        return [Image.fromarray(image) for image in to_bytes(images)]
    return [(VaeImageProcessor, "numpy_to_pil", staticmethod(wrong))]


@family(FRAMES, "2b", "5b", values_truncated=lambda x: (x * 255).astype("uint8"),
        times_256=lambda x: numpy.minimum(x * 256, 255).astype("uint8"),
        values_ceiled=lambda x: numpy.ceil(x * 255).astype("uint8"),
        blue_first=lambda x: numpy.ascontiguousarray((x * 255).round().astype("uint8")[..., ::-1]))
def bytes_of(pipe, spec, argument):
    return pictures(argument)


@mutant(FRAMES, "2b")
def values_wrap(pipe, spec):
    from diffusers.image_processor import VaeImageProcessor

    return [(VaeImageProcessor, "denormalize", staticmethod(lambda x: x * 0.5 + 0.5))] + pictures(
        lambda x: (x * 255).round().astype("int64").astype("uint8"))
