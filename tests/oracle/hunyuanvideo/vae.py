# SPDX-License-Identifier: Apache-2.0
"""Tiny genuine video autoencoders with every stage of a decode, made by diffusers' AutoencoderKLHunyuanVideo itself.

usage: vae.py OUT_DIR [NAME...]

  OUT_DIR/<name>/vae/                 what save_pretrained writes
  OUT_DIR/<name>/tiles.json           what enable_tiling was told; null: nothing
  OUT_DIR/<name>/dump.safetensors     fp32 on CPU:
    latents, unscaled [1, C, T, h, w]   unscaled: as the pipeline does; unscaled.bf16: all in bf16
    <stage>, <stage>.fp64               of the decoder at z, as VaeRun::observe names them
    <size>.z [B, C, T, h, w]            SIZES
    <size>.<way>                        sample (in tiles of time alone), tiled (of space as well), whole (in none); each
                                        also .fp64; of z and both .bf16, of those and one .fp16, as fp32
  OUT_DIR/<name>/mutants.safetensors  "<mutant>|<key of dump>": what diffusers gives with one thing wrong
  OUT_DIR/names.json                  {key: shape} of the released decoder, whose config is the class defaults
"""

import copy
import json
import pathlib
import shutil
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

import tiny  # noqa: E402, before diffusers: it keeps that offline

import torch  # noqa: E402
import vae_wrong as wrong  # noqa: E402
from autoencoders import convolutions_of_a_gpu, perturb, told_apart  # noqa: E402
from diffusers import AutoencoderKLHunyuanVideo  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from tiny import far  # noqa: E402

SCRIPTS = ("vae.py", "vae_wrong.py", "../autoencoders/__init__.py")
SIZES = ("z", "one", "batch", "long", "seven", "wide", "tall", "both")
HALF = {"released": ("z",), "odd": ("z", "both"), "defaults": ("z",)}
WAYS = {"sample": {}, "tiled": dict(tiled=True), "whole": dict(framewise=False)}
KEYS = tuple(f"tile_sample_{kind}_{axis}" for kind in ("min", "stride") for axis in ("num_frames", "height", "width"))


def blocks(count):
    return dict(down_block_types=["HunyuanVideoDownBlock3D"] * count, up_block_types=["HunyuanVideoUpBlock3D"] * count)


SPECS = {
    "released": dict(
        config=dict(block_out_channels=[8, 8, 16, 16], layers_per_block=1, norm_num_groups=4, latent_channels=6),
        tiles=(16, 64, 48, 12, 48, 32),
        z=(1, 3, 5, 4), one=(1, 1, 3, 3), batch=(2, 2, 2, 3), long=(1, 9, 3, 2), seven=(1, 7, 2, 3), wide=(1, 2, 4, 15),
        tall=(1, 1, 19, 4), both=(1, 6, 11, 9)),
    "odd": dict(
        config=dict(block_out_channels=[12, 12, 24], layers_per_block=2, norm_num_groups=3, latent_channels=5,
                    out_channels=4, act_fn="gelu", mid_block_add_attention=False, spatial_compression_ratio=4,
                    scaling_factor=0.6, **blocks(3)),
        tiles=(12, 32, 24, 8, 24, 16),
        z=(1, 2, 4, 5), one=(1, 1, 2, 3), batch=(2, 3, 3, 2), long=(1, 6, 2, 3), seven=(1, 5, 3, 2), wide=(1, 3, 3, 13),
        tall=(1, 2, 15, 3), both=(1, 5, 9, 8)),
    # As enable_tiling leaves them: tiles of 32 latents.
    "defaults": dict(
        config=dict(block_out_channels=[4, 4, 4, 8], layers_per_block=1, norm_num_groups=2, latent_channels=4),
        tiles=None,
        z=(1, 2, 4, 5), one=(1, 1, 2, 2), batch=(2, 2, 3, 2), long=(1, 10, 2, 2), seven=(1, 7, 2, 2), wide=(1, 1, 3, 34),
        tall=(1, 1, 50, 2), both=(1, 1, 34, 33)),
}


def make_model(name, config):
    generator = torch.Generator().manual_seed(1300 + list(SPECS).index(name))
    model = AutoencoderKLHunyuanVideo(**config).eval()
    perturb(model, generator, ("conv_in.conv", "conv1.conv", "conv2.conv", "to_out.0"))
    return model


def decode(model, z, sizes, tiled=False, framewise=True):
    model.enable_tiling(**sizes)
    model.use_tiling, model.use_framewise_decoding = tiled, framewise
    return model.decode(z).sample


def unscale(model, latents):
    """pipeline_hunyuan_video.py's line before vae.decode."""
    return latents / model.config.scaling_factor


def stages(model):
    decoder = model.decoder
    out = [("post_quant_conv", model.post_quant_conv), ("conv_in", decoder.conv_in),
           ("conv_norm_out", decoder.conv_norm_out), ("conv_out", decoder.conv_out)]
    out += [(f"mid.resnet.{j}", m) for j, m in enumerate(decoder.mid_block.resnets)]
    for i, block in enumerate(decoder.up_blocks):
        out += [(f"block.{i}.resnet.{j}", m) for j, m in enumerate(block.resnets)]
        out += [(f"block.{i}.upsampler", m) for m in block.upsamplers or []]
    return out


def dump_stages(model, z, sizes, out, suffix=""):
    handles = [m.register_forward_hook(lambda _m, _in, y, key=key: out.__setitem__(key + suffix, y.clone()))
               for key, m in stages(model)]
    for m in model.decoder.mid_block.attentions:
        if m is not None:  # rows of places: as the resnet behind it sees them
            handles.append(model.decoder.mid_block.resnets[1].register_forward_pre_hook(
                lambda _m, x: out.__setitem__("mid.attention" + suffix, x[0].clone())))
    decode(model, z, sizes)
    for handle in handles:
        handle.remove()


def dump(model, name, sizes, generator):
    spec = SPECS[name]
    channels, out = model.config.latent_channels, {}
    out["latents"] = torch.randn((1, channels, 2, 3, 4), generator=generator)
    out["unscaled"] = unscale(model, out["latents"])
    out["unscaled.bf16"] = unscale(model, out["latents"].bfloat16())
    twins = {"": model, ".fp64": copy.deepcopy(model).double(), ".bf16": copy.deepcopy(model).bfloat16(),
             ".fp16": copy.deepcopy(model).half()}
    for size in SIZES:
        b, t, h, w = spec[size]
        out[f"{size}.z"] = z = torch.randn((b, channels, t, h, w), generator=generator)
        for suffix, twin in twins.items():
            if size not in {".bf16": HALF[name], ".fp16": (*HALF[name], "one")}.get(suffix, SIZES):
                continue
            for way, how in WAYS.items():
                with convolutions_of_a_gpu():
                    value = decode(twin, z.to(next(twin.parameters()).dtype), sizes, **how)
                out[f"{size}.{way}{suffix}"] = value if suffix in ("", ".fp64") else value.float()
    for suffix in ("", ".fp64"):
        dump_stages(twins[suffix], out["z.z"].to(next(twins[suffix].parameters()).dtype), sizes, out, suffix)
    return out


def result(model, sizes, tensors, key):
    size, _, way = key.partition(".")
    return unscale(model, tensors["latents"]) if key == "unscaled" else decode(model, tensors[f"{size}.z"], sizes, **WAYS[way])


def make(name, folder):
    spec = SPECS[name]
    model = make_model(name, spec["config"])
    sizes = dict(zip(KEYS, spec["tiles"])) if spec["tiles"] else {}
    generator = torch.Generator().manual_seed(41)
    b, t, h, w = spec["z"]
    probe = decode(model, torch.randn((b, model.config.latent_channels, t, h, w), generator=generator), sizes)
    for p in (model.decoder.conv_out.conv.weight, model.decoder.conv_out.conv.bias):
        p.data /= 2 * probe.std()
    tensors = dump(model, name, sizes, generator)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model.save_pretrained(folder / "vae")
    (folder / "tiles.json").write_text(json.dumps(spec["tiles"] and sizes) + "\n")
    reloaded = AutoencoderKLHunyuanVideo.from_pretrained(folder / "vae").eval()
    assert torch.equal(decode(reloaded, tensors["z.z"], sizes), tensors["z.sample"]), "diffusers reads it otherwise"
    broken = told_apart(model, name, wrong.of(name), tensors, lambda m, t, key: result(m, sizes, t, key))
    for file, values in (("dump", tensors), ("mutants", broken)):
        save_file(tiny.tidy(values), folder / f"{file}.safetensors")
    return f"{len(broken)} mutants, fp32 {far(tensors['z.sample'], tensors['z.sample.fp64']):.1e}, " \
           f"bf16 {far(tensors['z.sample.bf16'], tensors['z.sample.fp64']):.1e}"


def main():
    out = tiny.main(__file__, SCRIPTS, SPECS, make)
    with torch.device("meta"):
        model = AutoencoderKLHunyuanVideo()
    names = {k: list(p.shape) for k, p in model.named_parameters() if k.startswith(("decoder", "post_quant"))}
    (out / "names.json").write_text(json.dumps(names, indent=1) + "\n")


if __name__ == "__main__":
    main()
