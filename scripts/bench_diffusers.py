# SPDX-License-Identifier: Apache-2.0
"""Times one denoising forward of diffusers' own transformer with random weights: what `sagelab bench model` stands beside.

bench_diffusers.py 2b|5b|1.5|schnell|dev|sd3-medium|sd3.5-large|sd3.5-medium|mochi|hunyuanvideo
                   [--attention default|flash|cudnn|efficient ...] [--repeat N] [--warmup N]
Prints one JSON line per attention backend: median, min and max milliseconds at the default size. CogVideoX: batch 2;
FLUX.1 and Stable Diffusion 3 at 1024x1024, Mochi at 163 frames of 848x480, HunyuanVideo at 129 of 1280x720: batch 1.
HunyuanVideo's joint attention has a mask, which neither flash nor cuDNN takes: but for "default" it is dropped, since
here all of its text is valid.
"""

import argparse
import contextlib
import json
import pathlib
import statistics

import torch
from diffusers import (CogVideoXTransformer3DModel, FluxTransformer2DModel, HunyuanVideoTransformer3DModel,
                       MochiTransformer3DModel, SD3Transformer2DModel)
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoAttnProcessor2_0
from torch.nn.attention import SDPBackend, sdpa_kernel

CONFIGS = pathlib.Path(__file__).resolve().parent.parent / "tests/oracle/configs"
SIZES = {"2b": (13, 60, 90), "5b": (13, 60, 90), "1.5": (22, 96, 170)}  # latent frames, height, width
FLUX = {"schnell": (256, False), "dev": (512, True)}  # rows of text, guidance as an input
SD3 = {  # heads and layers, side of the position table, more of the config
    "sd3-medium": (24, 192, {}), "sd3.5-large": (38, 192, {"qk_norm": "rms_norm"}),
    "sd3.5-medium": (24, 384, {"qk_norm": "rms_norm", "dual_attention_layers": tuple(range(13))})}
MOCHI = ("mochi",)
HUNYUAN = ("hunyuanvideo",)
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION,
            "efficient": SDPBackend.EFFICIENT_ATTENTION}


def model_of(variant):
    if variant in FLUX:
        return FluxTransformer2DModel.from_config({"guidance_embeds": FLUX[variant][1]})
    if variant in SD3:
        count, side, more = SD3[variant]
        return SD3Transformer2DModel.from_config({"num_layers": count, "num_attention_heads": count,
                                                  "caption_projection_dim": 64 * count, "pos_embed_max_size": side} | more)
    if variant in MOCHI:
        return MochiTransformer3DModel.from_config({})
    if variant in HUNYUAN:
        return HunyuanVideoTransformer3DModel.from_config({})
    config = json.loads((CONFIGS / f"cogvideox_{variant}/transformer/config.json").read_text())
    return CogVideoXTransformer3DModel.from_config(config)


def build(variant, dtype):
    torch.manual_seed(0)
    with torch.device("meta"):
        model = model_of(variant)
    model = model.to(dtype).to_empty(device="cuda").eval()
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, (parameter.numel() / parameter.shape[0]) ** -0.5)
        elif name.endswith("bias"):
            parameter.data.normal_(0, 0.1)
        else:
            parameter.data.normal_(1, 0.1)
    if variant in SD3:
        model.pos_embed.pos_embed.normal_()  # a buffer: to_empty left it undefined
    if variant in SIZES and getattr(model.patch_embed, "use_positional_embeddings", False):
        # Not saved with the weights: to_empty left it undefined.
        p = model.patch_embed
        p.pos_embedding = p._get_positional_embeddings(p.sample_height, p.sample_width, p.sample_frames, "cuda")
    return model


def flux_inputs(model, variant, dtype):
    rows, guided = FLUX[variant]
    generator = torch.Generator("cuda").manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator, device="cuda", dtype=dtype)
    places = torch.cartesian_prod(torch.zeros(1), torch.arange(64.0), torch.arange(64.0)).to("cuda", dtype)
    return {"hidden_states": draw(1, 64 * 64, 64), "encoder_hidden_states": draw(1, rows, 4096),
            "pooled_projections": draw(1, 768), "timestep": torch.tensor([0.5], device="cuda", dtype=dtype),
            "guidance": torch.tensor([3.5], device="cuda") if guided else None, "img_ids": places,
            "txt_ids": torch.zeros(rows, 3, device="cuda", dtype=dtype), "return_dict": False}


def sd3_inputs(dtype):
    generator = torch.Generator("cuda").manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator, device="cuda", dtype=dtype)
    return {"hidden_states": draw(1, 16, 128, 128), "encoder_hidden_states": draw(1, 77 + 256, 4096),
            "pooled_projections": draw(1, 2048), "timestep": torch.tensor([500.0], device="cuda"), "return_dict": False}


def mochi_inputs(dtype):
    generator = torch.Generator("cuda").manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator, device="cuda", dtype=dtype)
    return {"hidden_states": draw(1, 12, 28, 60, 106), "encoder_hidden_states": draw(1, 256, 4096),
            "encoder_attention_mask": torch.ones(1, 256, dtype=torch.bool, device="cuda"),
            "timestep": torch.tensor([500.0], device="cuda"), "return_dict": False}


def hunyuan_inputs(dtype):
    generator = torch.Generator("cuda").manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator, device="cuda", dtype=dtype)
    return {"hidden_states": draw(1, 16, 33, 90, 160), "encoder_hidden_states": draw(1, 256, 4096),
            "encoder_attention_mask": torch.ones(1, 256, dtype=torch.bool, device="cuda"),
            "pooled_projections": draw(1, 768), "guidance": torch.tensor([6000.0], device="cuda", dtype=dtype),
            "timestep": torch.tensor([500], device="cuda"), "return_dict": False}


class Unmasked(HunyuanVideoAttnProcessor2_0):
    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, image_rotary_emb=None):
        return super().__call__(attn, hidden_states, encoder_hidden_states, None, image_rotary_emb)


def inputs(model, variant, dtype):
    if variant in HUNYUAN:
        return hunyuan_inputs(dtype)
    if variant in MOCHI:
        return mochi_inputs(dtype)
    if variant in FLUX:
        return flux_inputs(model, variant, dtype)
    if variant in SD3:
        return sd3_inputs(dtype)
    frames, height, width = SIZES[variant]
    config = model.config
    generator = torch.Generator("cuda").manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator, device="cuda", dtype=dtype)
    rotary = None
    if config.use_rotary_positional_embeddings:
        grid = (height // config.patch_size, width // config.patch_size)
        if config.patch_size_t is None:
            rotary = get_3d_rotary_pos_embed(config.attention_head_dim, ((0, 0), grid), grid, frames, device="cuda")
        else:
            rotary = get_3d_rotary_pos_embed(config.attention_head_dim, None, grid,
                                             (frames + config.patch_size_t - 1) // config.patch_size_t,
                                             grid_type="slice", max_size=grid, device="cuda")
    return {"hidden_states": draw(2, frames, config.in_channels, height, width),
            "encoder_hidden_states": draw(2, config.max_text_seq_length, config.text_embed_dim),
            "timestep": torch.tensor([500, 500], device="cuda"), "image_rotary_emb": rotary, "return_dict": False}


# Text alone is pooled (Mochi) or refined (HunyuanVideo) under a mask, which not every kernel takes: 256 rows, a
# thousandth of a forward.
def kernels(variant, attention):
    if attention not in BACKENDS:
        return contextlib.nullcontext()
    if variant in MOCHI + HUNYUAN:
        return sdpa_kernel([BACKENDS[attention], SDPBackend.MATH], set_priority=True)
    return sdpa_kernel(BACKENDS[attention])


def milliseconds(call):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("variant", choices=[*SIZES, *FLUX, *SD3, *MOCHI, *HUNYUAN])
    parser.add_argument("--attention", nargs="+", default=["default"], choices=["default", *BACKENDS])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=2)
    arguments = parser.parse_args()
    dtype = torch.float16 if arguments.variant in ("2b", "sd3-medium") else torch.bfloat16
    model = build(arguments.variant, dtype)
    call = inputs(model, arguments.variant, dtype)
    for attention in arguments.attention:
        if arguments.variant in HUNYUAN:
            for block in [*model.transformer_blocks, *model.single_transformer_blocks]:
                block.attn.set_processor(HunyuanVideoAttnProcessor2_0() if attention == "default" else Unmasked())
        with kernels(arguments.variant, attention):
            for _ in range(arguments.warmup):
                out = model(**call)[0]
            assert torch.isfinite(out).all(), "the forward of diffusers is not finite"
            times = [milliseconds(lambda: model(**call)) for _ in range(arguments.repeat)]
        print(json.dumps({"program": "diffusers", "variant": arguments.variant, "attention": attention,
                          "median_ms": statistics.median(times), "min_ms": min(times), "max_ms": max(times),
                          "gpu": torch.cuda.get_device_name()}), flush=True)


if __name__ == "__main__":
    main()
