# SPDX-License-Identifier: Apache-2.0
"""Tiny genuine video autoencoders with every stage of a decode, made by diffusers' AutoencoderKLMochi itself.

usage: vae.py OUT_DIR [NAME...]

  OUT_DIR/<name>/vae/                 what save_pretrained writes
  OUT_DIR/<name>/tiles.json           what enable_tiling was told; null: nothing
  OUT_DIR/<name>/dump.safetensors     fp32 on CPU:
    latents, unscaled [1, C, T, h, w]   unscaled: as MochiPipeline does; unscaled.bf16: all in bf16
    <module>, <module>.fp64             of the decoder at z, named as it names them
    <size>.z [B, C, T, h, w]            z, one, batch, wide, tall, both
    <size>.<way>                        sample (untiled), tiled; each also .fp64; some .bf16 and .fp16, and one .fp16
    <size>.kept                         of z and both: untiled, with drop_last_temporal_frames off
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
from autoencoders import SMALL, convolutions_of_a_gpu, perturb, told_apart  # noqa: E402
from diffusers import AutoencoderKLMochi  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from tiny import far  # noqa: E402

SCRIPTS = ("vae.py", "vae_wrong.py", "../autoencoders/__init__.py")
SIZES = ("z", "one", "batch", "wide", "tall", "both")
WAYS = {"sample": {}, "tiled": dict(tiled=True)}

# An encoder without attention and of one width: it is only saved.
SPECS = {
    "released": dict(
        config=dict(decoder_block_out_channels=[32, 32, 64, 96], layers_per_block=[2, 1, 2, 2, 1]),
        tiles=dict(min=(32, 32), stride=(24, 24)), half=("z",),
        z=(1, 3, 4, 5), one=(1, 1, 3, 3), batch=(2, 5, 2, 3), wide=(1, 3, 3, 8), tall=(1, 2, 9, 4), both=(1, 1, 5, 7)),
    # Strides of 3 latents are 18 pixels, of which 21 and 19 are kept: the result is cut to the video.
    "odd": dict(
        config=dict(decoder_block_out_channels=[64, 32, 64], layers_per_block=[1, 2, 2, 1], out_channels=4,
                    temporal_expansions=[3, 1], spatial_expansions=[3, 2], act_fn="gelu", scaling_factor=1.7,
                    latents_mean=[0.1 * k - 0.5 for k in range(12)], latents_std=[2 - 0.1 * k for k in range(12)]),
        tiles=dict(min=(27, 32), stride=(21, 19)), half=("z", "both"),
        z=(1, 4, 5, 4), one=(1, 1, 4, 3), batch=(2, 3, 3, 2), wide=(1, 3, 4, 12), tall=(1, 2, 10, 5), both=(1, 3, 8, 9)),
    # As enable_tiling leaves them: tiles of 32 latents.
    "defaults": dict(
        config=dict(decoder_block_out_channels=[32, 32, 32, 32], layers_per_block=[1, 1, 1, 1, 1],
                    temporal_expansions=[1, 1, 1], latents_mean=None, latents_std=None, scaling_factor=0.8),
        tiles=None, half=("z",),
        z=(1, 1, 6, 7), one=(1, 1, 2, 2), batch=(2, 2, 4, 3), wide=(1, 1, 4, 36), tall=(1, 1, 50, 3),
        both=(1, 1, 34, 33)),
}


def make_model(name, config):
    generator = torch.Generator().manual_seed(900 + list(SPECS).index(name))
    blocks = len(config["decoder_block_out_channels"])
    model = AutoencoderKLMochi(encoder_block_out_channels=[32] * blocks, add_attention_block=[False] * (blocks + 1),
                               **config).eval()
    perturb(model, generator, ("conv_in", "conv1.conv", "conv2.conv"))
    for module in (model.decoder.proj_out, *(block.proj for block in model.decoder.up_blocks)):
        module.bias.data *= SMALL
    return model


def tile_sizes(spec):
    if spec["tiles"] is None:
        return {key: getattr(AutoencoderKLMochi(**LEAST), key) for key in KEYS}
    return dict(zip(KEYS, (*spec["tiles"]["min"], *spec["tiles"]["stride"])))


KEYS = ("tile_sample_min_height", "tile_sample_min_width", "tile_sample_stride_height", "tile_sample_stride_width")
LEAST = dict(decoder_block_out_channels=[32], encoder_block_out_channels=[32], layers_per_block=[1, 1],
             temporal_expansions=[], spatial_expansions=[], add_attention_block=[False, False])


def decode(model, z, sizes, tiled=False):
    model.use_tiling = False
    if tiled:
        model.enable_tiling(**sizes)
    return model.decode(z).sample


def check_framewise(model, z):
    """Nobody decodes so: the convolutions have lost their padding in space, and nothing else pads."""
    broken = copy.deepcopy(model)
    broken._enable_framewise_decoding()
    try:
        broken.decode(z)
    except RuntimeError:
        return
    raise AssertionError("diffusers decodes framewise: our decoder has to, too")


def unscale(model, latents):
    """pipeline_mochi.py's lines before vae.decode."""
    mean, std = (getattr(model.config, key) for key in ("latents_mean", "latents_std"))
    if mean is None or std is None:
        return latents / model.config.scaling_factor
    mean, std = (torch.tensor(v).view(1, 12, 1, 1, 1).to(latents.dtype) for v in (mean, std))
    return latents * std / model.config.scaling_factor + mean


def stages(model):
    decoder = model.decoder
    named = dict(decoder.named_modules())
    keys = [k for k in named if k == "conv_in" or ".resnets." in k and k.rpartition(".")[2].isdigit()]
    return [(k, named[k]) for k in keys] + [(f"up_blocks.{i}", b) for i, b in enumerate(decoder.up_blocks)]


def dump_stages(model, z, sizes, out, suffix=""):
    def keep(key):
        return lambda _m, _in, y: out.__setitem__(key + suffix, (y[0] if isinstance(y, tuple) else y).clone())
    handles = [m.register_forward_hook(keep(key)) for key, m in stages(model)]
    decode(model, z, sizes)
    for handle in handles:
        handle.remove()


def dump(model, spec, sizes, generator):
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
            dtype = next(twin.parameters()).dtype
            if size not in {".bf16": spec["half"], ".fp16": (*spec["half"], "one")}.get(suffix, SIZES):
                continue
            for way, how in WAYS.items():
                with convolutions_of_a_gpu():
                    value = decode(twin, z.to(dtype), sizes, **how)
                out[f"{size}.{way}{suffix}"] = value if suffix in ("", ".fp64") else value.float()
        if size in ("z", "both"):
            model.drop_last_temporal_frames = False
            out[f"{size}.kept"] = decode(model, z, sizes)
            model.drop_last_temporal_frames = True
    for suffix in ("", ".fp64"):
        dump_stages(twins[suffix], out["z.z"].to(next(twins[suffix].parameters()).dtype), sizes, out, suffix)
    return out


def result(model, sizes, tensors, key):
    size, _, way = key.partition(".")
    return unscale(model, tensors["latents"]) if key == "unscaled" else decode(model, tensors[f"{size}.z"], sizes, **WAYS[way])


def make(name, folder):
    spec = SPECS[name]
    model, sizes = make_model(name, spec["config"]), tile_sizes(spec)
    generator = torch.Generator().manual_seed(41)
    b, t, h, w = spec["z"]
    probe = decode(model, torch.randn((b, model.config.latent_channels, t, h, w), generator=generator), sizes)
    for p in (model.decoder.proj_out.weight, model.decoder.proj_out.bias):
        p.data /= 2 * probe.std()
    tensors = dump(model, spec, sizes, generator)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model.save_pretrained(folder / "vae")
    (folder / "tiles.json").write_text(json.dumps(spec["tiles"] and sizes) + "\n")
    reloaded = AutoencoderKLMochi.from_pretrained(folder / "vae").eval()
    assert torch.equal(decode(reloaded, tensors["z.z"], sizes), tensors["z.sample"]), "diffusers reads it otherwise"
    check_framewise(model, tensors["z.z"])
    broken = told_apart(model, name, wrong.of(name), tensors, lambda m, t, key: result(m, sizes, t, key))
    for file, values in (("dump", tensors), ("mutants", broken)):
        save_file(tiny.tidy(values), folder / f"{file}.safetensors")
    return f"{len(broken)} mutants, fp32 {far(tensors['z.sample'], tensors['z.sample.fp64']):.1e}, " \
           f"bf16 {far(tensors['z.sample.bf16'], tensors['z.sample.fp64']):.1e}"


def main():
    out = tiny.main(__file__, SCRIPTS, SPECS, make)
    with torch.device("meta"):
        model = AutoencoderKLMochi()
    names = {k: list(p.shape) for k, p in model.named_parameters() if k.startswith("decoder")}
    (out / "names.json").write_text(json.dumps(names, indent=1) + "\n")


if __name__ == "__main__":
    main()
