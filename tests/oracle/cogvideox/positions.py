# SPDX-License-Identifier: Apache-2.0
"""CogVideoX position tables at full size, and transformers with the switches that no pipeline fixture has.

usage: positions.py OUT_DIR

  OUT_DIR/tables.safetensors
    rope.<name>.cos, .sin     fp32 [V, head_dim / 2]: of each pair of equal columns, one
    rope.<name>.size          int64 [frames, height, width] of the latents
    sincos.<name>.rows        int64 [N]: which rows of the table
    sincos.<name>.fp32, .fp16 [N, D]: those rows, as the model adds them
  OUT_DIR/<switch>/           config.json and weights of one small transformer
  OUT_DIR/<switch>/dump.safetensors
    <case>.latents, <case>.text, <case>.t, <case>.output, <case>.output.fp64
"""

import copy
import os
import pathlib
import sys
import types

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

import torch  # noqa: E402
from diffusers import CogVideoXPipeline, CogVideoXTransformer3DModel  # noqa: E402
from diffusers.models.embeddings import CogVideoXPatchEmbed  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import dump as dumping  # noqa: E402
import models  # noqa: E402

FIVE_B = dict(sample_height=60, sample_width=90, patch_size=2, patch_size_t=None, attention_head_dim=64)
ONE_FIVE = dict(sample_height=300, sample_width=300, patch_size=2, patch_size_t=2, attention_head_dim=64)
# Latent frames, height and width. half_*: a size or a crop falls on a half, where rounding up and to even differ.
ROPES = {
    "5b": (FIVE_B, 13, 60, 90),
    "1.5": (ONE_FIVE, 22, 96, 170),
    "tall": (FIVE_B, 5, 96, 60),
    "wide": (FIVE_B, 3, 32, 128),
    "half_size": (FIVE_B, 2, 32, 64),
    "half_crop": (FIVE_B, 2, 50, 90),
    "half_width": (FIVE_B, 2, 64, 88),
    "one_patch": (FIVE_B, 1, 2, 2),
    "one_row": (ONE_FIVE, 2, 2, 6),
}
SWITCHES = {
    "learned": dict(use_rotary_positional_embeddings=True, use_learned_positional_embeddings=True),
    "geglu": dict(activation_fn="geglu"),
    "geglu-approximate": dict(activation_fn="geglu-approximate"),
    "swiglu": dict(activation_fn="swiglu", timestep_activation_fn="relu"),
    "linear-silu": dict(activation_fn="linear-silu", timestep_activation_fn="swish"),
}


def rope_tables(out):
    for name, (config, frames, height, width) in ROPES.items():
        pipe = types.SimpleNamespace(vae_scale_factor_spatial=8,
                                     transformer=types.SimpleNamespace(config=types.SimpleNamespace(**config)))
        tables = CogVideoXPipeline._prepare_rotary_positional_embeddings(pipe, 8 * height, 8 * width, frames, "cpu")
        for key, table in zip(("cos", "sin"), tables):
            assert torch.equal(table[:, 0::2], table[:, 1::2])
            out[f"rope.{name}.{key}"] = table[:, 0::2].contiguous()
        out[f"rope.{name}.size"] = torch.tensor([frames, height, width])


def sincos_tables(out):
    for name, options in {"2b": dict(embed_dim=1920),
                          "scaled": dict(embed_dim=64, sample_height=10, sample_width=14, sample_frames=17,
                                         spatial_interpolation_scale=1.3, temporal_interpolation_scale=0.7)}.items():
        embed = CogVideoXPatchEmbed(text_embed_dim=8, use_learned_positional_embeddings=False, **options)
        table = embed.pos_embedding[0]
        assert table.dtype == torch.float64
        rows = torch.randperm(len(table), generator=torch.Generator().manual_seed(5))[:500].sort().values
        out[f"sincos.{name}.rows"] = rows
        out[f"sincos.{name}.fp32"], out[f"sincos.{name}.fp16"] = table[rows].float(), table[rows].half()


def forward(model, name, frames, out):
    c, generator = model.config, torch.Generator().manual_seed(9)
    latents = torch.randn(2, frames, c.in_channels, c.sample_height, c.sample_width, generator=generator)
    text = torch.randn(2, c.max_text_seq_length, c.text_embed_dim, generator=generator)
    t, rope = torch.tensor([999, 3]), None
    if c.use_rotary_positional_embeddings:
        pipe = types.SimpleNamespace(vae_scale_factor_spatial=8, transformer=model)
        rope = CogVideoXPipeline._prepare_rotary_positional_embeddings(
            pipe, 8 * c.sample_height, 8 * c.sample_width, frames, "cpu")
    out[f"{name}.latents"], out[f"{name}.text"], out[f"{name}.t"] = latents, text, t
    out[f"{name}.output"] = model(latents, text, t, image_rotary_emb=rope, return_dict=False)[0].contiguous()
    with dumping.double_throughout():
        double = copy.deepcopy(model).double()
        result = double(latents.double(), text.double(), t, image_rotary_emb=rope, return_dict=False)[0]
    out[f"{name}.output.fp64"] = result.contiguous()


def switch(name, folder):
    generator = torch.Generator().manual_seed(77)
    config = models.TRANSFORMER | dict(sample_height=6, sample_width=8, sample_frames=9, max_text_seq_length=10)
    model = CogVideoXTransformer3DModel(**(config | SWITCHES[name])).eval()
    models.perturb(model, generator)
    if model.config.use_learned_positional_embeddings:
        table = model.patch_embed.pos_embedding
        model.patch_embed.pos_embedding = torch.randn(table.shape, generator=generator)
    model.save_pretrained(folder)
    out = {}
    forward(model, "own", 3, out)
    forward(model, "shorter", 2, out)
    save_file(out, folder / "dump.safetensors")


def main():
    out = pathlib.Path(sys.argv[1])
    torch.set_grad_enabled(False)
    out.mkdir(parents=True, exist_ok=True)
    tables = {}
    rope_tables(tables)
    sincos_tables(tables)
    save_file(tables, out / "tables.safetensors")
    for name in SWITCHES:
        switch(name, out / name)


if __name__ == "__main__":
    main()
