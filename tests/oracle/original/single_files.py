# SPDX-License-Identifier: Apache-2.0
"""A tiny FLUX.1 folder, and single files that may stand for its components.

  single_files.py FLUX_PIPELINES SD3_PIPELINES OUT_DIR
  OUT_DIR/model/              what save_pretrained writes; its transformer and VAE are cut as the released ones
  OUT_DIR/transformer.safetensors, vae.safetensors, clip.safetensors, t5.safetensors
                              its components, the first two under their authors' names; ours.safetensors: the transformer under diffusers'
  OUT_DIR/bundle.safetensors  all of them in one, behind the prefixes that ComfyUI gives them
  OUT_DIR/other.safetensors   a transformer of the same names and shapes
  OUT_DIR/scaled.safetensors  its transformer in e4m3, scaled; t5_e4m3.safetensors: its T5, plain
  OUT_DIR/widened/            a folder like model/ with what these two stand for
  OUT_DIR/sd3.safetensors     the transformer of SD3_PIPELINES/medium under its authors' names, among other things
"""
import pathlib
import shutil
import sys

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from safetensors.torch import load_file, save_file

import original

PREFIXES = {"transformer": "model.diffusion_model.", "vae": "vae.", "clip": "text_encoders.clip_l.transformer.",
            "t5": "text_encoders.t5xxl.transformer."}


def perturbed(model, seed):
    """Every parameter counts and no activation runs away."""
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        fan_in = p[0].numel() if p.dim() > 1 else 1
        p.data = torch.randn(p.shape, generator=generator) / fan_in**0.5 * (1 if p.dim() > 1 else 0.1)
    for name, p in model.named_parameters():
        if "norm" in name and name.endswith("weight") and p.dim() == 1:
            p.data += 1
    return model


def transformer(seed):
    return perturbed(FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=2, num_single_layers=3, attention_head_dim=16,
        num_attention_heads=original.DIM // 16, joint_attention_dim=24, pooled_projection_dim=32, guidance_embeds=True,
        axes_dims_rope=(4, 6, 6)), seed)


def vae():
    return perturbed(AutoencoderKL(
        block_out_channels=(8, 16, 16, 32), layers_per_block=1, norm_num_groups=4, latent_channels=4, scaling_factor=0.45,
        shift_factor=-0.3, sample_size=32, use_quant_conv=False, use_post_quant_conv=False,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4), 3)


def save(path, state):
    save_file({k: v.contiguous() for k, v in state.items()}, path)


def main():
    base, sd3, out = pathlib.Path(sys.argv[1], "dev", "model"), pathlib.Path(sys.argv[2], "medium", "model"), pathlib.Path(sys.argv[3])
    model, widened = out / "model", out / "widened"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(base, model)
    model_transformer, model_vae = transformer(1), vae()
    for part, name in ((model_transformer, "transformer"), (model_vae, "vae")):
        shutil.rmtree(model / name)
        part.save_pretrained(model / name)
    ours = {k: v.clone() for k, v in model_transformer.state_dict().items()}
    parts = {"transformer": original.flux_theirs(dict(ours)), "vae": original.vae_theirs(dict(model_vae.state_dict())),
             "clip": load_file(model / "text_encoder" / "model.safetensors"),
             "t5": load_file(model / "text_encoder_2" / "model.safetensors")}
    for name, state in parts.items():
        save(out / f"{name}.safetensors", state)
    save(out / "ours.safetensors", ours)
    save(out / "bundle.safetensors", {PREFIXES[name] + k: v for name, state in parts.items() for k, v in state.items()})
    save(out / "other.safetensors", original.flux_theirs(dict(transformer(2).state_dict())))

    scaled, wide = original.eight_bits(parts["transformer"], original.flux_converter())
    narrow = {k: v.to(torch.float8_e4m3fn) if v.dim() == 2 else v for k, v in parts["t5"].items()}
    save(out / "scaled.safetensors", scaled)
    save(out / "t5_e4m3.safetensors", narrow)
    shutil.copytree(model, widened)
    save(widened / "transformer" / "diffusion_pytorch_model.safetensors", wide)
    save(widened / "text_encoder_2" / "model.safetensors", {k: v.float() for k, v in narrow.items()})
    shutil.copy(base.parent / "request.json", out)
    theirs = original.sd3_theirs(load_file(sd3 / "transformer" / "diffusion_pytorch_model.safetensors"))
    save(out / "sd3.safetensors", {PREFIXES["transformer"] + k: v for k, v in theirs.items()} | {"first": torch.ones(2)})


if __name__ == "__main__":
    main()
