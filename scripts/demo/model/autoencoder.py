# SPDX-License-Identifier: Apache-2.0
"""The forward pass of diffusers' AutoencoderKLCogVideoX over whole clips or crops, on its own weights, made for training.

The same function as its encoder and decoder over one chunk; the spatial norms' 1x1x1 convolutions are computed at the
latents' size, which nearest resizing commutes with, and nothing is cached. `agrees` measures the difference."""

import torch
import torch.nn.functional as F

CONFIG = dict(in_channels=3, out_channels=3, latent_channels=16, block_out_channels=(16, 48, 96, 128), layers_per_block=1,
              norm_num_groups=16, temporal_compression_ratio=4, sample_height=256, sample_width=256, scaling_factor=1.0,
              down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4)


def build(device):
    """A new model. Its norms begin as plain norms and its residual branches small: that trains several times faster."""
    from diffusers import AutoencoderKLCogVideoX

    vae = AutoencoderKLCogVideoX(**CONFIG)
    with torch.no_grad():
        for name, module in vae.named_modules():
            if name.endswith(("conv_y", "conv_b")):
                module.conv.weight.mul_(0.1)
                module.conv.bias.fill_(1.0 if name.endswith("conv_y") else 0.0)
            elif name.endswith(".conv2"):
                module.conv.weight.mul_(0.3)
        vae.encoder.conv_out.conv.bias[CONFIG["latent_channels"]:] = -5.0  # a small variance at first
    return vae.to(device)


def causal(conv, x):
    if conv.time_kernel_size > 1:
        x = torch.cat([x[:, :, :1]] * (conv.time_kernel_size - 1) + [x], 2)
    return F.conv3d(x, conv.conv.weight, conv.conv.bias, padding=conv.const_padding_conv3d)


def stretch_time(z, frames):
    """[B, C, t, h, w] -> frames; of an odd count the first keeps to itself."""
    if frames == z.shape[2]:
        return z
    if frames % 2:
        return torch.cat([z[:, :, :1], z[:, :, 1:].repeat_interleave((frames - 1) // (z.shape[2] - 1), 2)], 2)
    return z.repeat_interleave(frames // z.shape[2], 2)


def spatial_norm(norm, x, z):
    b, c, t, h, w = x.shape
    zh, zw = z.shape[3:]
    y = stretch_time(causal(norm.conv_y, z), t).reshape(b, c, t, zh, 1, zw, 1)
    bias = stretch_time(causal(norm.conv_b, z), t).reshape(b, c, t, zh, 1, zw, 1)
    return (norm.norm_layer(x).reshape(b, c, t, zh, h // zh, zw, w // zw) * y + bias).reshape(b, c, t, h, w)


def residual(block, x, z=None):
    plain = z is None
    y = causal(block.conv1, F.silu(block.norm1(x) if plain else spatial_norm(block.norm1, x, z)))
    y = causal(block.conv2, F.silu(block.norm2(y) if plain else spatial_norm(block.norm2, y, z)))
    return y + (block.conv_shortcut(x) if block.in_channels != block.out_channels else x)


def by_frame(function, x):
    b, _, t = x.shape[:3]
    y = function(x.transpose(1, 2).flatten(0, 1))
    return y.unflatten(0, (b, t)).transpose(1, 2)


def downsample(layer, x):
    if layer.compress_time:
        odd = x.shape[2] % 2
        rest = x[:, :, odd:]
        rest = 0.5 * (rest[:, :, ::2] + rest[:, :, 1::2])
        x = torch.cat([x[:, :, :1], rest], 2) if odd else rest
    return by_frame(lambda f: layer.conv(F.pad(f, (0, 1, 0, 1))), x)


def upsample(layer, x):
    """Frames that doubling the time would make equal are convolved once."""
    frames = x.shape[2]
    x = by_frame(lambda f: layer.conv(F.interpolate(f, scale_factor=2.0)), x)
    if layer.compress_time and frames > 1:
        x = stretch_time(x, 2 * frames - frames % 2)
    return x


def encode(vae, x):
    """[B, 3, T, H, W] -> mean and log variance, each [B, C, t, h, w]."""
    net = vae.encoder
    x = causal(net.conv_in, x)
    for block in net.down_blocks:
        for resnet in block.resnets:
            x = residual(resnet, x)
        for layer in block.downsamplers or ():
            x = downsample(layer, x)
    for resnet in net.mid_block.resnets:
        x = residual(resnet, x)
    mean, log_variance = causal(net.conv_out, F.silu(net.norm_out(x))).chunk(2, 1)
    return mean, log_variance.clamp(-30, 20)


def decode(vae, z):
    net = vae.decoder
    x = causal(net.conv_in, z)
    for resnet in net.mid_block.resnets:
        x = residual(resnet, x, z)
    for block in net.up_blocks:
        for resnet in block.resnets:
            x = residual(resnet, x, z)
        for layer in block.upsamplers or ():
            x = upsample(layer, x)
    return causal(net.conv_out, F.silu(spatial_norm(net.norm_out, x, z)))


@torch.no_grad()
def agrees(vae, clip):
    """Largest difference of encode and decode above from diffusers' over one chunk; clip [B, 3, 9, H, W]."""
    mean, log_variance = encode(vae, clip)
    theirs = vae.encoder(clip)[0]
    z = theirs[:, :mean.shape[1]]
    return max((mean - z).abs().max().item(), (log_variance - theirs[:, mean.shape[1]:]).abs().max().item(),
               (decode(vae, z) - vae.decoder(z)[0]).abs().max().item())
