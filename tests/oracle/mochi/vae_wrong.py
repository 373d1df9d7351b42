# SPDX-License-Identifier: Apache-2.0
"""The list of mutants of Mochi's decoder: a change to a copy of the model, as a plausible slip would make it."""

import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXCausalConv3d
from diffusers.models.autoencoders.autoencoder_kl_mochi import MochiChunkedGroupNorm3D, MochiResnetBlock3D
from torch import nn
from torch.nn import functional as F

import autoencoders

ALL = ("released", "odd", "defaults")
TIMED = ("released", "odd")  # with more than one frame
SCALED = ("released", "odd")  # with a mean and a deviation
WHOLE, TILED = "z.sample", "both.tiled"
MUTANTS = []  # (name, key, fixtures, change)


def of(fixture):
    return [(name, key, change) for name, key, fixtures, change in MUTANTS if fixture in fixtures]


def mutant(*keys, fixtures=ALL):
    def add(function):
        for key in keys:
            MUTANTS.append((function.__name__, key, fixtures, function))
        return function
    return add


def parts(model, suffix="", kind=nn.Module):
    found = [m for n, m in model.decoder.named_modules() if n.endswith(suffix) and isinstance(m, kind)]
    assert found, suffix
    return found


def each_layer():
    for which in ("norm1", "norm2"):
        suffix = f".{which}.norm_layer"

        def eps(model, suffix=suffix):
            for m in parts(model, suffix):
                m.eps *= 10

        def cogvideox_eps(model, suffix=suffix):
            for m in parts(model, suffix):
                m.eps = 1e-6

        def groups(model, suffix=suffix):
            for m in parts(model, suffix):
                m.num_groups = 16
        for name, change in (("eps", eps), ("cogvideox_eps", cogvideox_eps), ("half_the_groups", groups)):
            MUTANTS.append((f"{which}_{name}", WHOLE, ALL, change))
    for suffix in (".norm1.norm_layer", ".norm2.norm_layer", ".conv1.conv", ".conv2.conv", "conv_in", "0.proj",
                   "proj_out"):
        def change(model, suffix=suffix):
            for m in parts(model, suffix):
                m.bias.data.zero_()
        # Where a group is one channel the second norm takes the first convolution's bias away again.
        fixtures = TIMED if "conv1" in suffix else ALL
        MUTANTS.append((f"no_bias_of_{suffix.strip('.')}", WHOLE, fixtures, change))


each_layer()
for label, spoil in autoencoders.blends():
    MUTANTS.append((label, TILED, ALL, spoil))


@mutant(WHOLE, fixtures=TIMED)
def norms_over_all_frames(model):
    for m in parts(model, kind=MochiChunkedGroupNorm3D):
        m.forward = lambda x, m=m: m.norm_layer(x)


@mutant(WHOLE)
def other_activation_in_the_resnets(model):
    for m in parts(model, kind=MochiResnetBlock3D):
        m.nonlinearity = nn.GELU()


@mutant(WHOLE, fixtures=("odd",))
def act_fn_in_the_resnets(model):
    for m in parts(model, kind=MochiResnetBlock3D):
        m.nonlinearity = model.decoder.nonlinearity


@mutant(WHOLE)
def other_activation_at_the_end(model):
    model.decoder.nonlinearity = nn.GELU() if isinstance(model.decoder.nonlinearity, nn.SiLU) else nn.SiLU()


@mutant(WHOLE)
def no_activation_at_the_end(model):
    model.decoder.nonlinearity = nn.Identity()


@mutant(WHOLE)
def a_norm_at_the_end(model):
    model.decoder.nonlinearity = nn.Sequential(nn.GroupNorm(32, model.decoder.proj_out.in_features),
                                               model.decoder.nonlinearity)


def padded(model, pad):
    for m in parts(model, kind=CogVideoXCausalConv3d):
        m.fake_context_parallel_forward = lambda x, _cache=None: pad(x)


@mutant(WHOLE)
def zeros_around_a_frame(model):
    padded(model, lambda x: F.pad(F.pad(x, (0, 0, 0, 0, 2, 0), mode="replicate"), (1, 1, 1, 1)))


@mutant(WHOLE)
def edges_reflected(model):
    padded(model, lambda x: F.pad(F.pad(x, (0, 0, 0, 0, 2, 0), mode="replicate"), (1, 1, 1, 1, 0, 0), mode="reflect"))


@mutant(WHOLE)
def edges_of_columns_alone(model):
    padded(model, lambda x: F.pad(F.pad(x, (1, 1, 0, 0, 2, 0), mode="replicate"), (0, 0, 1, 1)))


@mutant(WHOLE)
def zeros_in_front(model):
    padded(model, lambda x: F.pad(F.pad(x, (1, 1, 1, 1, 0, 0), mode="replicate"), (0, 0, 0, 0, 2, 0)))


@mutant(WHOLE, fixtures=TIMED)
def not_causal(model):
    padded(model, lambda x: F.pad(x, (1, 1, 1, 1, 1, 1), mode="replicate"))


@mutant(WHOLE, fixtures=TIMED)
def a_frame_late(model):
    padded(model, lambda x: F.pad(x[:, :, :-1], (1, 1, 1, 1, 3, 0), mode="replicate"))


def in_chunks(model, front):
    """Two latent frames at a time, as ours goes, front(first of a chunk, all before it) being put before them."""
    frames = {}
    model.decoder.register_forward_pre_hook(lambda _m, args: frames.__setitem__("z", args[0].shape[2]))
    for m in parts(model, kind=CogVideoXCausalConv3d):
        def forward(x, conv_cache=None, m=m):
            step, out = 2 * x.shape[2] // frames["z"], []
            for t in range(0, x.shape[2], step):
                first, before = x[:, :, t:t + 1], x[:, :, :t]
                part = torch.cat([front(first, before) if t else first.repeat(1, 1, 2, 1, 1), x[:, :, t:t + step]], 2)
                out.append(m.conv(F.pad(part, (1, 1, 1, 1, 0, 0), mode="replicate")))
            return torch.cat(out, 2), None
        m.forward = forward


@mutant(WHOLE, fixtures=TIMED)
def every_chunk_begins_anew(model):
    in_chunks(model, lambda first, before: first.repeat(1, 1, 2, 1, 1))


@mutant(WHOLE, fixtures=TIMED)
def the_cache_is_one_frame_twice(model):
    in_chunks(model, lambda first, before: before[:, :, -1:].repeat(1, 1, 2, 1, 1))


@mutant(WHOLE, fixtures=TIMED)
def the_cache_is_of_zeros(model):
    in_chunks(model, lambda first, before: torch.zeros_like(first).repeat(1, 1, 2, 1, 1))


@mutant(WHOLE)
def kernels_transposed(model):
    for m in parts(model, kind=nn.Conv3d):
        m.weight.data = m.weight.data.transpose(3, 4).contiguous()


@mutant(WHOLE, fixtures=TIMED)
def kernels_backwards_in_time(model):
    for m in parts(model, kind=nn.Conv3d):
        m.weight.data = m.weight.data.flip(2)


def reordered(model, order):
    """The rows of each block's linear, whose (C, st, sh, sw) order(i, st, s, rows) gives anew as (C, st, sh, sw)."""
    for block in model.decoder.up_blocks:
        st, s = block.temporal_expansion, block.spatial_expansion
        for p in (block.proj.weight, block.proj.bias):
            rows = torch.arange(p.shape[0])
            p.data = p.data[order(rows, p.shape[0] // (st * s * s), st, s).reshape(-1)]


@mutant(WHOLE)
def rows_and_columns_of_patches_exchanged(model):
    reordered(model, lambda rows, c, st, s: rows.view(c, st, s, s).transpose(2, 3))


@mutant(WHOLE)
def channels_last_in_patches(model):
    reordered(model, lambda rows, c, st, s: rows.view(st, s, s, c).permute(3, 0, 1, 2))


@mutant(WHOLE, fixtures=TIMED)
def time_last_in_patches(model):
    reordered(model, lambda rows, c, st, s: rows.view(c, s, s, st).permute(0, 3, 1, 2))


@mutant(WHOLE, fixtures=TIMED)
def time_first_in_patches(model):
    reordered(model, lambda rows, c, st, s: rows.view(st, c, s, s).transpose(0, 1))


@mutant(WHOLE)
def last_resnets_skipped(model):
    model.decoder.block_out.resnets = model.decoder.block_out.resnets[:-1]
    model.decoder.block_out.norms = model.decoder.block_out.norms[:-1]


@mutant(WHOLE, fixtures=TIMED)
def resnets_swapped(model):
    block = model.decoder.up_blocks[0]
    block.resnets = block.resnets[::-1]


def resnet(model, change):
    m = model.decoder.up_blocks[0].resnets[0]

    def forward(x, conv_cache=None, kept=m.forward):
        y, cache = kept(x, conv_cache)
        return change(m, x, y), cache
    m.forward = forward


@mutant(WHOLE)
def residual_dropped(model):
    resnet(model, lambda m, x, y: y - x)


@mutant(WHOLE)
def residual_is_the_normed(model):
    resnet(model, lambda m, x, y: y - x + m.norm1(x))


@mutant(WHOLE)
def convolutions_exchanged(model):
    for m in parts(model, kind=MochiResnetBlock3D):
        m.conv1, m.conv2 = m.conv2, m.conv1


@mutant(WHOLE, TILED, fixtures=TIMED)
def frames_dropped_at_the_end(model):
    model.drop_last_temporal_frames, kept = False, model.decode
    ratio = model.temporal_compression_ratio

    def decode(z):
        out = kept(z)
        out.sample = out.sample[:, :, : 1 - ratio]
        return out
    model.decode = decode


@mutant(WHOLE, fixtures=TIMED)
def no_frames_dropped(model):
    model.drop_last_temporal_frames = False


@mutant(TILED)
def not_tiled(model):
    model.enable_tiling = lambda **_: None


def tile(**changes):
    def change(model):
        kept = model.enable_tiling
        model.enable_tiling = lambda **sizes: kept(**{k: v + changes.get(k, 0) for k, v in sizes.items()})
    return change


def each_tile():
    for key in ("tile_sample_min_height", "tile_sample_min_width", "tile_sample_stride_height",
                "tile_sample_stride_width"):
        for step in (-8, -1):
            MUTANTS.append((f"{key}{step}", TILED, ("odd",) if step == -1 else ALL, tile(**{key: step})))


each_tile()


@mutant("unscaled", fixtures=SCALED)
def mean_first(model):
    std = torch.tensor(model.config.latents_std)
    model.register_to_config(latents_mean=(torch.tensor(model.config.latents_mean) * std).tolist())


@mutant("unscaled", fixtures=SCALED)
def mean_taken_away(model):
    model.register_to_config(latents_mean=[-m for m in model.config.latents_mean])


@mutant("unscaled", fixtures=SCALED)
def divided_by_the_deviation(model):
    model.register_to_config(latents_std=[1 / s for s in model.config.latents_std])


@mutant("unscaled", fixtures=SCALED)
def no_mean_and_deviation(model):
    model.register_to_config(latents_mean=None)


@mutant("unscaled", fixtures=("odd", "defaults"))
def multiplied(model):
    model.register_to_config(scaling_factor=1 / model.config.scaling_factor)


@mutant("unscaled", fixtures=("odd",))
def mean_scaled_too(model):
    factor = model.config.scaling_factor
    model.register_to_config(latents_mean=[m / factor for m in model.config.latents_mean])
