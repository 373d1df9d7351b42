# SPDX-License-Identifier: Apache-2.0
"""The list of mutants of the autoencoder: a change to a copy of the model, as a plausible slip would make it."""

import autoencoders
from diffusers.models.autoencoders.vae import DecoderOutput
from torch import nn
from torch.nn import functional as F

ALL = ("flux", "sd3", "sd1", "odd_config")
ATTENTIVE = ALL[:3]
SHIFTED = ("flux", "sd3", "odd_config")
OUT, TILED = "conv_out", "both.tiled"
MUTANTS = []  # (name, key, fixtures, change)


def of(fixture):
    return [(name, key, change) for name, key, fixtures, change in MUTANTS if fixture in fixtures]


def mutant(key, fixtures=ALL):
    def add(function):
        MUTANTS.append((function.__name__, key, fixtures, function))
        return function
    return add


def parts(model, suffix):
    found = [m for n, m in model.decoder.named_modules() if n.endswith(suffix)]
    assert found, suffix
    return found


def attention(model):
    return model.decoder.mid_block.attentions[0]


def replace(module, forward):
    module.forward = forward


def each_eps():
    for name, suffix, fixtures in (("norm1", ".norm1", ALL), ("norm2", ".norm2", ALL),
                                   ("group_norm", ".group_norm", ATTENTIVE), ("conv_norm_out", "conv_norm_out", ALL)):
        def change(model, suffix=suffix):
            for m in parts(model, suffix):
                m.eps *= 10
        MUTANTS.append((f"{name}_eps", OUT, fixtures, change))

        def groups(model, suffix=suffix):
            for m in parts(model, suffix):
                m.num_groups = 1
        MUTANTS.append((f"{name}_one_group", OUT, fixtures, groups))


def each_bias():
    for suffix, fixtures in ((".norm1", ALL), (".norm2", ALL), (".conv1", ALL), (".conv2", ALL), ("conv_in", ALL),
                             ("conv_out", ALL), ("conv_shortcut", ALL), ("upsamplers.0.conv", ALL),
                             ("to_q", ATTENTIVE), ("to_v", ATTENTIVE), ("to_out.0", ATTENTIVE)):
        def change(model, suffix=suffix):
            for m in parts(model, suffix):
                m.bias.data.zero_()
        MUTANTS.append((f"no_bias_of_{suffix.strip('.')}", OUT, fixtures, change))


each_eps()
each_bias()


@mutant(OUT)
def other_activation(model):
    other = nn.GELU() if isinstance(model.decoder.mid_block.resnets[0].nonlinearity, nn.SiLU) else nn.SiLU()
    for m in model.decoder.modules():
        if hasattr(m, "nonlinearity"):
            m.nonlinearity = other


@mutant(OUT)
def conv_act_is_gelu(model):
    model.decoder.conv_act = nn.GELU()


@mutant(OUT)
def no_conv_act(model):
    model.decoder.conv_act = nn.Identity()


@mutant(OUT)
def no_conv_norm_out(model):
    model.decoder.conv_norm_out = nn.Identity()


@mutant(OUT)
def padding_repeats(model):
    for m in model.decoder.modules():
        if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3):
            m.padding_mode, m._reversed_padding_repeated_twice = "replicate", [1, 1, 1, 1]


@mutant(OUT)
def kernels_transposed(model):
    for m in model.decoder.modules():
        if isinstance(m, nn.Conv2d):
            m.weight.data = m.weight.data.transpose(2, 3).contiguous()


@mutant(OUT)
def bilinear_upsampling(model):
    for m in parts(model, "upsamplers.0"):
        replace(m, lambda x, *_, m=m, **__: m.conv(F.interpolate(x, scale_factor=2.0, mode="bilinear")))


@mutant(OUT)
def upsampled_after_the_convolution(model):
    for m in parts(model, "upsamplers.0"):
        replace(m, lambda x, *_, m=m, **__: F.interpolate(m.conv(x), scale_factor=2.0, mode="nearest"))


@mutant(OUT)
def residual_dropped(model):
    resnet = model.decoder.up_blocks[0].resnets[1]
    kept = resnet.forward
    replace(resnet, lambda x, *_, **__: kept(x, None) - x)


@mutant(OUT)
def residual_is_the_normed(model):
    resnet = model.decoder.up_blocks[0].resnets[1]
    kept = resnet.forward
    replace(resnet, lambda x, *_, **__: kept(x, None) - x + resnet.norm1(x))


@mutant(OUT)
def shortcut_of_the_normed(model):
    for m in model.decoder.modules():
        if getattr(m, "conv_shortcut", None) is not None:
            replace(m, lambda x, *_, m=m, kept=m.forward, **__:
                    kept(x, None) + m.conv_shortcut(m.norm1(x)) - m.conv_shortcut(x))


@mutant(OUT)
def mid_resnets_swapped(model):
    mid = model.decoder.mid_block
    mid.resnets = nn.ModuleList([mid.resnets[1], mid.resnets[0]])


@mutant(OUT)
def second_mid_resnet_skipped(model):
    replace(model.decoder.mid_block.resnets[1], lambda x, *_, **__: x)


@mutant(OUT)
def last_resnets_skipped(model):
    for block in model.decoder.up_blocks:
        block.resnets = block.resnets[:-1]


@mutant(OUT, ATTENTIVE)
def no_attention(model):
    replace(attention(model), lambda x, **_: x)


@mutant(OUT, ATTENTIVE)
def attention_without_residual(model):
    attention(model).residual_connection = False


@mutant(OUT, ATTENTIVE)
def attention_without_norm(model):
    attention(model).group_norm = None


@mutant(OUT, ATTENTIVE)
def attention_last(model):
    mid = model.decoder.mid_block
    kept, second = attention(model).forward, mid.resnets[1].forward
    replace(attention(model), lambda x, **_: x)
    replace(mid.resnets[1], lambda x, *_, **__: kept(second(x, None)))


@mutant(OUT, ATTENTIVE)
def attention_scale_of_64(model):
    m = attention(model)
    factor = (m.to_q.weight.shape[0] / 64) ** 0.5
    for p in (m.to_q.weight, m.to_q.bias):
        p.data *= factor


@mutant(OUT, ATTENTIVE)
def two_heads(model):
    attention(model).heads = 2


@mutant(OUT, ATTENTIVE)
def query_and_key_swapped(model):
    m = attention(model)
    m.to_q, m.to_k = m.to_k, m.to_q


@mutant(OUT, ATTENTIVE)
def key_and_value_swapped(model):
    m = attention(model)
    m.to_k, m.to_v = m.to_v, m.to_k


@mutant(OUT, ATTENTIVE)
def places_column_by_column(model):
    m = attention(model)
    kept = m.forward
    replace(m, lambda x, **_: x + (kept(x) - x).flatten(2).unflatten(2, x.shape[:1:-1]).transpose(2, 3))


@mutant(OUT, ("sd1", "odd_config"))
def no_post_quant_conv(model):
    model.post_quant_conv = nn.Identity()


@mutant("unscaled")
def multiplied(model):
    model.register_to_config(scaling_factor=1 / model.config.scaling_factor)


@mutant("unscaled", SHIFTED)
def not_shifted(model):
    model.register_to_config(shift_factor=None)


@mutant("unscaled", SHIFTED)
def shifted_down(model):
    model.register_to_config(shift_factor=-model.config.shift_factor)


@mutant("unscaled", SHIFTED)
def shifted_first(model):
    model.register_to_config(shift_factor=model.config.shift_factor / model.config.scaling_factor)


@mutant(TILED)
def not_tiled(model):
    model.enable_tiling = model.disable_tiling


@mutant(TILED)
def less_overlap(model):
    model.tile_overlap_factor = 0.125


@mutant(TILED)
def smaller_tiles(model):
    model.tile_latent_min_size -= 1


for label, spoil in autoencoders.blends():
    MUTANTS.append((label, TILED, ALL, spoil))


@mutant(TILED)
def left_before_above(model):
    """All transposed: what diffusers then does first is the blend with the tile to the left."""
    kernels_transposed(model)
    kept = model.tiled_decode
    model.tiled_decode = lambda z, **rest: DecoderOutput(sample=kept(z.mT, **rest).sample.mT)
