# SPDX-License-Identifier: Apache-2.0
"""Tiny genuine picture autoencoders with every stage dumped, made by diffusers' AutoencoderKL itself.

usage: vae.py OUT_DIR [NAME...]

  OUT_DIR/<name>/vae/                 what save_pretrained writes; "sd1" with the attention's old key names
  OUT_DIR/<name>/dump.safetensors     fp32 on CPU, keys as AutoencoderKLRun::observe names them:
    latents, unscaled [1, C, h, w]    unscaled: as the pipelines of FLUX and SD3 do; unscaled.bf16: all in bf16
    z [1, C, h, w], <stage>, <stage>.fp64
    <size>.z, .sample, .tiled         batch, wide, tall, both: untiled and tiled; .fp64 of either; .bf16, as fp32
  OUT_DIR/<name>/mutants.safetensors  "<mutant>|<key of dump>": what diffusers gives with one thing wrong
"""

import copy
import json
import pathlib
import shutil
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

import tiny  # noqa: E402, before diffusers: it keeps that offline

import torch  # noqa: E402
import wrong  # noqa: E402
from autoencoders import perturb, told_apart  # noqa: E402
from diffusers import AutoencoderKL  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from tiny import far  # noqa: E402

SCRIPTS = ("vae.py", "wrong.py", "../autoencoders/__init__.py")


def blocks(count):
    return dict(down_block_types=["DownEncoderBlock2D"] * count, up_block_types=["UpDecoderBlock2D"] * count)


SPECS = {
    "flux": dict(config=dict(block_out_channels=[8, 16, 24, 24], layers_per_block=2, latent_channels=16,
                             norm_num_groups=4, sample_size=64, scaling_factor=0.3611, shift_factor=0.1159,
                             use_quant_conv=False, use_post_quant_conv=False, **blocks(4)),
                 z=(5, 7), batch=(3, 4, 3), wide=(5, 17), tall=(13, 7), both=(11, 15)),
    "sd3": dict(config=dict(block_out_channels=[16, 16, 32], layers_per_block=1, latent_channels=16, norm_num_groups=8,
                            sample_size=42, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False,
                            use_post_quant_conv=False, force_upcast=True, **blocks(3)),
                z=(6, 9), batch=(2, 5, 7), wide=(10, 18), tall=(24, 3), both=(11, 22)),
    "sd1": dict(config=dict(block_out_channels=[8, 16], layers_per_block=2, latent_channels=4, norm_num_groups=2,
                            sample_size=32, scaling_factor=0.18215, **blocks(2)), old_names=True,
                z=(9, 6), batch=(2, 8, 5), wide=(16, 33), tall=(29, 8), both=(17, 25)),
    "odd_config": dict(config=dict(block_out_channels=[12, 24], layers_per_block=1, latent_channels=5, out_channels=4,
                                   norm_num_groups=3, sample_size=21, act_fn="gelu", mid_block_add_attention=False,
                                   use_quant_conv=False, shift_factor=-0.5, **blocks(2)),
                       z=(4, 9), batch=(2, 3, 3), wide=(4, 23), tall=(19, 9), both=(12, 19)),
}


def make_model(name):
    spec = SPECS[name]
    generator = torch.Generator().manual_seed(700 + list(SPECS).index(name))
    model = AutoencoderKL(**spec["config"]).eval()
    perturb(model, generator, ("conv_in", "conv1", "conv2", "to_out.0"))
    return model


def stages(model):
    """(key, module) of all that AutoencoderKLRun::observe reports."""
    decoder = model.decoder
    out = [("conv_in", decoder.conv_in), ("conv_norm_out", decoder.conv_norm_out), ("conv_out", decoder.conv_out)]
    out += [(f"mid.resnet.{j}", m) for j, m in enumerate(decoder.mid_block.resnets)]
    out += [("mid.attention", m) for m in decoder.mid_block.attentions if m is not None]
    for i, block in enumerate(decoder.up_blocks):
        out += [(f"block.{i}.resnet.{j}", m) for j, m in enumerate(block.resnets)]
        out += [(f"block.{i}.upsampler", m) for m in block.upsamplers or []]
    return out + ([("post_quant_conv", model.post_quant_conv)] if model.post_quant_conv is not None else [])


def decode(model, z, tiled=False):
    model.enable_tiling() if tiled else model.disable_tiling()
    return model.decode(z).sample


def unscale(model, latents):
    z = latents / model.config.scaling_factor
    return z if model.config.shift_factor is None else z + model.config.shift_factor


def dump_stages(model, z, out, suffix=""):
    handles = [m.register_forward_hook(lambda _m, _in, y, key=key: out.__setitem__(key + suffix, y.clone()))
               for key, m in stages(model)]
    decode(model, z)
    for handle in handles:
        handle.remove()


def dump(model, spec, generator):
    channels, out = model.config.latent_channels, {}

    def latents(*shape):
        return torch.randn(shape, generator=generator)

    out["latents"] = latents(1, channels, *spec["z"])
    out["unscaled"] = unscale(model, out["latents"])
    out["unscaled.bf16"] = unscale(model, out["latents"].bfloat16())
    out["z"] = latents(1, channels, *spec["z"])
    double, half = copy.deepcopy(model).double(), copy.deepcopy(model).bfloat16()
    dump_stages(model, out["z"], out)
    dump_stages(double, out["z"].double(), out, ".fp64")
    for size in ("batch", "wide", "tall", "both"):
        shape = spec[size]
        z = latents(*(shape if len(shape) == 3 else (1, *shape))[:1], channels, *shape[-2:])
        out[f"{size}.z"] = z
        for key, tiled in (("sample", False), ("tiled", True)):
            out[f"{size}.{key}"] = decode(model, z, tiled)
            out[f"{size}.{key}.fp64"] = decode(double, z.double(), tiled)
            out[f"{size}.{key}.bf16"] = decode(half, z.bfloat16(), tiled).float()
    return out


def save(model, spec, folder):
    model.save_pretrained(folder)
    if not spec.get("old_names"):
        return
    file, old = folder / "diffusion_pytorch_model.safetensors", {}
    renamed = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for key, value in load_file(file).items():
        for new, name in renamed.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{name}.")
        old[key] = value
    assert any("proj_attn" in key for key in old)
    save_file(old, file, metadata={"format": "pt"})


def result(model, tensors, key):
    if key == "unscaled":
        return unscale(model, tensors["latents"])
    if key == "conv_out":
        return decode(model, tensors["z"])
    size, kind = key.split(".")
    return decode(model, tensors[f"{size}.z"], kind == "tiled")


def make(name, folder):
    model, spec = make_model(name), SPECS[name]
    generator = torch.Generator().manual_seed(31)
    probe = decode(model, torch.randn(1, model.config.latent_channels, *spec["z"], generator=generator))
    for p in (model.decoder.conv_out.weight, model.decoder.conv_out.bias):
        p.data /= 2 * probe.std()
    tensors = dump(model, spec, generator)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save(model, spec, folder / "vae")
    reloaded = AutoencoderKL.from_pretrained(folder / "vae").eval()
    assert torch.equal(decode(reloaded, tensors["z"]), tensors["conv_out"]), "diffusers reads it otherwise"
    broken = told_apart(model, name, wrong.of(name), tensors, result)
    for file, values in (("dump", tensors), ("mutants", broken)):
        save_file(tiny.tidy(values), folder / f"{file}.safetensors")
    return f"{len(broken)} mutants, fp32 {far(tensors['conv_out'], tensors['conv_out.fp64']):.1e}, " \
           f"bf16 {far(tensors['both.tiled.bf16'], tensors['both.tiled.fp64']):.1e}"


def main():
    out = tiny.main(__file__, SCRIPTS, SPECS, make)
    # The released configs, as diffusers itself counts and names what a decoder reads.
    names = {}
    for name, channels, quant in (("released_16", 16, False), ("released_4", 4, True)):
        with torch.device("meta"):
            model = AutoencoderKL(block_out_channels=[128, 256, 512, 512], layers_per_block=2, latent_channels=channels,
                                  use_quant_conv=quant, use_post_quant_conv=quant, **blocks(4))
        names[name] = {k: list(p.shape) for k, p in model.named_parameters() if k.startswith(("decoder", "post_quant"))}
    (out / "names.json").write_text(json.dumps(names, indent=1) + "\n")


if __name__ == "__main__":
    main()
