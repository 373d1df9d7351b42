# SPDX-License-Identifier: Apache-2.0
"""The list of mutants of HunyuanVideo's decoder: a change to a copy of the model, as a plausible slip would make it."""

import torch
from diffusers.models.autoencoders import autoencoder_kl_hunyuan_video as module
from torch import nn
from torch.nn import functional as F

import autoencoders

ALL = ("released", "odd", "defaults")
CUT = ALL[:2]
ATTENTIVE = ("released", "defaults")
WHOLE, TILED, LONG = "z.sample", "both.tiled", "long.sample"
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


def attention(model):
    return model.decoder.mid_block.attentions[0]


def each_layer():
    for name, suffix, fixtures in (("norm1", ".norm1", ALL), ("norm2", ".norm2", ALL),
                                   ("group_norm", ".group_norm", ATTENTIVE), ("conv_norm_out", "conv_norm_out", ALL)):
        def eps(model, suffix=suffix):
            for m in parts(model, suffix):
                m.eps *= 10

        def groups(model, suffix=suffix):
            for m in parts(model, suffix):
                m.num_groups = 1

        def frames(model, suffix=suffix):
            for m in parts(model, suffix):
                def forward(x, kept=m.forward):
                    return torch.stack([kept(f) for f in x.unbind(2)], 2)
                m.forward = forward
        for label, change in (("eps", eps), ("one_group", groups)):
            MUTANTS.append((f"{name}_{label}", WHOLE, fixtures, change))
        if name != "group_norm":
            MUTANTS.append((f"{name}_of_each_frame", WHOLE, fixtures, frames))
    for suffix, fixtures in ((".norm1", ALL), (".norm2", ALL), (".conv1.conv", ALL), (".conv2.conv", ALL),
                             ("conv_in.conv", ALL), ("conv_out.conv", ALL), ("conv_shortcut.conv", ALL),
                             ("upsamplers.0.conv.conv", ALL), ("to_q", ATTENTIVE), ("to_v", ATTENTIVE),
                             ("to_out.0", ATTENTIVE)):
        def change(model, suffix=suffix):
            for m in parts(model, suffix):
                m.bias.data.zero_()
        MUTANTS.append((f"no_bias_of_{suffix.strip('.')}", WHOLE, fixtures, change))


each_layer()
for label, spoil in autoencoders.blends():
    MUTANTS.append((label, TILED, CUT, spoil))


def blend_in_time(model, change):
    kept = model.blend_h
    autoencoders.blend(model, -3, **change)
    model.blend_t, model.blend_h = model.blend_h, kept


for label, how in autoencoders.BLENDS.items():
    MUTANTS.append((f"blend_of_frames_{label}", LONG, ALL, lambda model, how=how: blend_in_time(model, how)))


@mutant(WHOLE)
def other_activation(model):
    for m in parts(model, kind=module.HunyuanVideoResnetBlockCausal3D):
        m.nonlinearity = nn.GELU() if isinstance(m.nonlinearity, nn.SiLU) else nn.SiLU()


@mutant(WHOLE)
def conv_act_is_gelu(model):
    model.decoder.conv_act = nn.GELU()


@mutant(WHOLE)
def no_conv_act(model):
    model.decoder.conv_act = nn.Identity()


@mutant(WHOLE)
def no_conv_norm_out(model):
    model.decoder.conv_norm_out = nn.Identity()


@mutant(WHOLE)
def no_post_quant_conv(model):
    model.post_quant_conv = nn.Identity()


def padded(model, pad):
    for m in parts(model, kind=module.HunyuanVideoCausalConv3d):
        if m.conv.kernel_size[0] == 3:
            m.forward = lambda x, m=m: m.conv(pad(x))


@mutant(WHOLE)
def zeros_around_a_frame(model):
    padded(model, lambda x: F.pad(F.pad(x, (0, 0, 0, 0, 2, 0), mode="replicate"), (1, 1, 1, 1)))


@mutant(WHOLE)
def edges_of_columns_alone(model):
    padded(model, lambda x: F.pad(F.pad(x, (1, 1, 0, 0, 2, 0), mode="replicate"), (0, 0, 1, 1)))


@mutant(WHOLE)
def zeros_in_front(model):
    padded(model, lambda x: F.pad(F.pad(x, (1, 1, 1, 1, 0, 0), mode="replicate"), (0, 0, 0, 0, 2, 0)))


@mutant(WHOLE)
def not_causal(model):
    padded(model, lambda x: F.pad(x, (1, 1, 1, 1, 1, 1), mode="replicate"))


@mutant(WHOLE)
def kernels_transposed(model):
    for m in parts(model, kind=nn.Conv3d):
        m.weight.data = m.weight.data.transpose(3, 4).contiguous()


@mutant(WHOLE)
def kernels_backwards_in_time(model):
    for m in parts(model, kind=nn.Conv3d):
        m.weight.data = m.weight.data.flip(2)


def upsampled(model, resize):
    for m in parts(model, kind=module.HunyuanVideoUpsampleCausal3D):
        m.forward = lambda x, m=m: resize(m, x)


def apart(mode):
    def resize(m, x):
        first = F.interpolate(x[:, :, 0], scale_factor=m.upsample_factor[1:], mode=mode[0]).unsqueeze(2)
        rest = F.interpolate(x[:, :, 1:].contiguous(), scale_factor=m.upsample_factor, mode=mode[1])
        return m.conv(torch.cat([first, rest], 2))
    return resize


@mutant(WHOLE)
def smooth_upsampling(model):
    upsampled(model, apart(("bilinear", "trilinear")))


@mutant(WHOLE)
def first_frame_is_not_apart(model):
    def resize(m, x):
        whole = F.interpolate(x, scale_factor=m.upsample_factor, mode="nearest")
        return m.conv(whole[:, :, m.upsample_factor[0] - 1:])
    upsampled(model, lambda m, x: resize(m, x.flip(2)).flip(2) if x.shape[2] > 1 else resize(m, x))


@mutant(WHOLE)
def time_is_doubled_first(model):
    ups = parts(model, kind=module.HunyuanVideoUpsampleCausal3D)
    for m, other in zip(ups, [m.upsample_factor for m in ups][::-1]):
        m.upsample_factor = other
    if ups[0].upsample_factor == ups[-1].upsample_factor:  # of all alike: the time alone behind the first
        ups[0].upsample_factor, ups[-1].upsample_factor = (4, 2, 2), (1, 2, 2)


@mutant(WHOLE)
def residual_dropped(model):
    m = model.decoder.up_blocks[0].resnets[1]
    m.forward = lambda x, kept=m.forward: kept(x) - x


@mutant(WHOLE)
def residual_is_the_normed(model):
    m = model.decoder.up_blocks[0].resnets[1]
    m.forward = lambda x, kept=m.forward: kept(x) - x + m.norm1(x)


@mutant(WHOLE)
def shortcut_of_the_normed(model):
    for m in parts(model, kind=module.HunyuanVideoResnetBlockCausal3D):
        if m.conv_shortcut is not None:
            m.forward = lambda x, m=m, kept=m.forward: kept(x) + m.conv_shortcut(m.norm1(x)) - m.conv_shortcut(x)


@mutant(WHOLE)
def mid_resnets_swapped(model):
    mid = model.decoder.mid_block
    mid.resnets = nn.ModuleList([mid.resnets[1], mid.resnets[0]])


@mutant(WHOLE)
def last_resnets_skipped(model):
    for block in model.decoder.up_blocks:
        block.resnets = block.resnets[:-1]


def mask(seen):
    """seen(frames of queries [T, 1], of keys [1, T])"""
    def change(model):
        def wrapped(x, attention_mask, kept=attention(model).forward):
            frames = model.frames_of_z
            t = torch.arange(frames).repeat_interleave(x.shape[1] // frames)
            allowed = seen(t[:, None], t[None])
            return kept(x, attention_mask=torch.where(allowed, 0.0, -torch.inf)[None].to(x.dtype))
        model.decoder.register_forward_pre_hook(lambda _m, x: setattr(model, "frames_of_z", x[0].shape[2]))
        attention(model).forward = wrapped
    return change


for label, seen in (("of_all_frames", lambda q, k: k >= 0), ("of_its_own_frame", lambda q, k: q == k),
                    ("of_later_frames", lambda q, k: q <= k), ("of_two_frames", lambda q, k: (k <= q) & (k >= q - 1))):
    MUTANTS.append((f"attention_{label}", WHOLE, ("released",) if label == "of_two_frames" else ATTENTIVE, mask(seen)))


@mutant(WHOLE, fixtures=ATTENTIVE)
def attention_of_places_before(model):
    def wrapped(x, attention_mask, kept=attention(model).forward):
        causal = torch.full((x.shape[1], x.shape[1]), -torch.inf, dtype=x.dtype).triu(1)
        return kept(x, attention_mask=causal[None])
    attention(model).forward = wrapped


@mutant(WHOLE, fixtures=ATTENTIVE)
def no_attention(model):
    attention(model).forward = lambda x, **_: x


@mutant(WHOLE, fixtures=ATTENTIVE)
def attention_without_residual(model):
    attention(model).residual_connection = False


@mutant(WHOLE, fixtures=ATTENTIVE)
def attention_without_norm(model):
    attention(model).group_norm = None


@mutant(WHOLE, fixtures=ATTENTIVE)
def attention_scale_of_64(model):
    m = attention(model)
    factor = (m.to_q.weight.shape[0] / 64) ** 0.5
    for p in (m.to_q.weight, m.to_q.bias):
        p.data *= factor


@mutant(WHOLE, fixtures=ATTENTIVE)
def two_heads(model):
    attention(model).heads = 2


@mutant(WHOLE, fixtures=ATTENTIVE)
def query_and_key_swapped(model):
    m = attention(model)
    m.to_q, m.to_k = m.to_k, m.to_q


@mutant(WHOLE, fixtures=ATTENTIVE)
def key_and_value_swapped(model):
    m = attention(model)
    m.to_k, m.to_v = m.to_v, m.to_k


@mutant(LONG)
def not_in_tiles_of_time(model):
    kept = model.decode

    def decode(z):
        model.use_framewise_decoding = False
        return kept(z)
    model.decode = decode


@mutant(TILED)
def not_tiled(model):
    kept = model.decode

    def decode(z):
        model.use_tiling = False
        return kept(z)
    model.decode = decode


@mutant(LONG)
def no_latent_in_front_of_a_tile(model):
    """The tiles of one latent less; nothing of theirs is dropped but a frame."""
    kept = model.decoder.forward
    model.decoder.forward = lambda z: kept(z[:, :, :-1]) if z.shape[2] > model.tile_sample_min_num_frames // 4 else kept(z)


def tile(key, step):
    def change(model):
        kept = model.decode

        def decode(z):
            setattr(model, key, getattr(model, key) + step)
            return kept(z)
        model.decode = decode
    return change


for key in ("min_height", "min_width", "stride_height", "stride_width"):
    MUTANTS.append((f"{key}_less", TILED, ALL, tile(f"tile_sample_{key}", -8)))
for key in ("min_num_frames", "stride_num_frames"):
    MUTANTS.append((f"{key}_less", LONG, ALL, tile(f"tile_sample_{key}", -4)))


@mutant("unscaled")
def multiplied(model):
    model.register_to_config(scaling_factor=1 / model.config.scaling_factor)
