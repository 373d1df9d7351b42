# SPDX-License-Identifier: Apache-2.0
"""Decodes of a small AutoencoderKLCogVideoX whose tile constants do not divide.

vae.py OUT_DIR writes OUT_DIR/vae (save_pretrained) and decodes.safetensors: for every latent <name>: <name>.z,
<name>.sample, <name>.sample.fp64, <name>.sample.bf16, and the same three of .tiled; for mutants <name>.tiled|<mutant>.
"""
import copy
import pathlib
import sys

import torch
from diffusers import AutoencoderKLCogVideoX
from safetensors.torch import save_file

# Tiles of 5 x 4 latents: strides int(5 * 5/6) = 4 and int(4 * 4/5) = 3, which are 32 and 24 pixels, but 37 and 29 pixels
# of each tile are kept: diffusers' result is larger than the video.
CONFIG = dict(block_out_channels=(8, 16, 16, 24), layers_per_block=1, norm_num_groups=4, latent_channels=6, norm_eps=1e-2,
              sample_height=88, sample_width=72, scaling_factor=0.7)
LATENTS = {  # [B, C, T, h, w]
    "one_frame": (1, 6, 1, 4, 3),
    "two_frames": (1, 6, 2, 3, 4),
    "batch": (2, 6, 5, 3, 3),
    "wide": (1, 6, 4, 3, 11),
    "tall": (1, 6, 3, 14, 4),
    "both": (1, 6, 1, 10, 8),
}


def make_vae():
    torch.manual_seed(3)
    vae = AutoencoderKLCogVideoX(**CONFIG, down_block_types=("CogVideoXDownBlock3D",) * 4,
                                 up_block_types=("CogVideoXUpBlock3D",) * 4).eval()
    for parameter in vae.parameters():
        if parameter.ndim == 1:
            parameter.data += 0.2 * torch.randn_like(parameter)
    return vae


def tiled(vae, z):
    vae.enable_tiling()
    out = vae.decode(z).sample
    vae.disable_tiling()
    return out


def constants(**changes):
    def patch(vae):
        for key, value in changes.items():
            setattr(vae, key, value)
    return patch


def no_vertical(vae):
    vae.blend_v, vae.blend_h = (lambda a, b, e: b), vae.blend_h


def unblended_neighbours(vae):
    blend_v, blend_h = vae.blend_v, vae.blend_h
    vae.blend_v = lambda a, b, e: blend_v(a, b.clone(), e)
    vae.blend_h = lambda a, b, e: blend_h(a, b.clone(), e)


def ramp(vae, shift):
    def blend(dim):
        def run(a, b, extent):
            extent = min(a.shape[dim], b.shape[dim], extent)
            weight = ((torch.arange(extent, dtype=torch.float64) + shift) / extent).view([-1 if d == dim else 1 for d in range(5)])
            head = b.narrow(dim, 0, extent)
            head.copy_(a.narrow(dim, a.shape[dim] - extent, extent) * (1 - weight).float() + head * weight.float())
            return b
        return run
    vae.blend_v, vae.blend_h = blend(3), blend(4)


MUTANTS = {
    "height_overlap": constants(tile_overlap_factor_height=1 / 5),  # blends int(44 / 5) = 8 for 7, strides 4 either way
    "width_overlap": constants(tile_overlap_factor_width=1 / 6),
    "no_vertical_blend": no_vertical,
    "neighbours_not_yet_blended": unblended_neighbours,
    "ramp_ends_at_one": lambda vae: ramp(vae, 1),
    "ramp_from_the_middle": lambda vae: ramp(vae, 0.5),
}


def main(out_dir):
    out_dir.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    vae = make_vae()
    vae.save_pretrained(out_dir / "vae")
    generator = torch.Generator("cpu").manual_seed(4)
    out = {}
    for name, shape in LATENTS.items():
        out[f"{name}.z"] = z = torch.randn(shape, generator=generator)
        for kind, decode in (("sample", lambda v, z: v.decode(z).sample), ("tiled", tiled)):
            out[f"{name}.{kind}"] = decode(vae, z)
            out[f"{name}.{kind}.fp64"] = decode(copy.deepcopy(vae).double(), z.double())
            out[f"{name}.{kind}.bf16"] = decode(copy.deepcopy(vae).bfloat16(), z.bfloat16())
    blended = copy.deepcopy(vae)
    ramp(blended, 0)
    assert torch.equal(tiled(blended, out["both.z"]), out["both.tiled"])
    for mutant, patch in MUTANTS.items():
        wrong = copy.deepcopy(vae)
        patch(wrong)
        result = tiled(wrong, out["both.z"])
        # A keep of other size gives another size: compare what both have.
        h, w = out["both.tiled"].shape[-2:]
        if result.shape[-2:] != (h, w):
            padded = torch.zeros_like(out["both.tiled"])
            part = result[..., :h, :w]
            padded[..., : part.shape[-2], : part.shape[-1]] = part
            result = padded
        out[f"both.tiled|{mutant}"] = result
    save_file({k: v.contiguous() for k, v in out.items()}, out_dir / "decodes.safetensors")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
