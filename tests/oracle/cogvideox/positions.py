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
    <case>.output|<mutant>    what the model gives with one thing wrong about its switch
"""

import copy
import functools
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
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

import dump as dumping  # noqa: E402
import models  # noqa: E402
from wrong import patched  # noqa: E402

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
    "patches_of_1": dict(patch_size=1),
    "patches_of_3_frames": dict(use_rotary_positional_embeddings=True, patch_size=1, patch_size_t=3),
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


def activations(model):
    return [block.ff.net[0] for block in model.transformer_blocks]


def exchanged(module):
    """Gates where values should be."""
    linear = module.proj
    return [(p, "data", torch.cat(p.data.chunk(2)[::-1])) for p in (linear.weight, linear.bias)]


def with_activation(module, function):
    """The first linear as it is, its gates (or all of it) through another function."""
    gated = module.proj.out_features == 2 * model_ff(module)

    def wrong(x):
        y = module.proj(x)
        if not gated:
            return function(y)
        values, gates = y.chunk(2, dim=-1)
        return values * function(gates)
    return [(module, "forward", wrong)]


def model_ff(module):
    return 4 * module.proj.in_features


def patch_order(model, order):
    """The patch's axes in another order: (channels, frames, rows, columns), on the way in or out."""
    c, proj = model.config, model.proj_out
    sizes = (c.out_channels, c.patch_size_t or 1, c.patch_size, c.patch_size)
    features = torch.arange(proj.out_features).view(sizes).permute(order).flatten()
    return [(p, "data", p.data[features]) for p in (proj.weight, proj.bias)]


def table_as(change):
    return lambda model: [(t := model.patch_embed.pos_embedding, "data", change(t.data))]


def activated_by(function):
    return lambda model: [patch for m in activations(model) for patch in with_activation(m, function)]


def halves_exchanged(model):
    return [patch for m in activations(model) for patch in exchanged(m)]


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def time_activation(module):
    return lambda model: [(model.time_embedding, "act", module)]


def mispatched(model):
    """Rows and columns of the grid exchanged before the patches are taken."""
    true = model.patch_embed.forward
    return [(model.patch_embed, "forward", lambda text, video: true(text, video.transpose(-1, -2).reshape(video.shape)))]


def without_positions(model):
    return [(model.patch_embed, "use_positional_embeddings", False)]


def no_rope(true, *args, image_rotary_emb, **k):
    cos, sin = image_rotary_emb
    return true(*args, image_rotary_emb=(torch.ones_like(cos), torch.zeros_like(sin)), **k)


def rope_ignored(model):
    return [(model, "forward", functools.partial(no_rope, model.forward))]


# Per switch and mutant: what to patch. "own" and "shorter" are both run; the table counts in "own" alone.
MUTANTS = {
    "learned": {"table_ignored": table_as(torch.zeros_like), "table_flipped": table_as(lambda t: t.flip(1)),
                "rope_ignored": rope_ignored},
    "geglu": {"values_and_gates_exchanged": halves_exchanged, "tanh_gelu": activated_by(lambda x: F.gelu(x, approximate="tanh")),
              "silu": activated_by(F.silu)},
    "geglu-approximate": {"tanh_gelu": activated_by(lambda x: F.gelu(x, approximate="tanh")), "gelu": activated_by(F.gelu)},
    "swiglu": {"values_and_gates_exchanged": halves_exchanged, "gelu": activated_by(F.gelu),
               "time_silu": time_activation(nn.SiLU())},
    "linear-silu": {"gelu": activated_by(F.gelu), "quick_gelu": activated_by(quick_gelu)},
    "patches_of_1": {"rows_for_columns": mispatched, "positions_dropped": without_positions},
    "patches_of_3_frames": {"frames_before_channels": lambda m: patch_order(m, (1, 0, 2, 3)), "rope_ignored": rope_ignored},
}


def forward(switch_name, model, name, frames, out):
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
    for mutant, patches in MUTANTS[switch_name].items():
        with patched(patches(model)):
            wrong = model(latents, text, t, image_rotary_emb=rope, return_dict=False)[0].contiguous()
        if mutant.startswith("table_") and name != "own":
            assert torch.equal(wrong, out[f"{name}.output"])  # with fewer frames diffusers makes a sin-cos table
            continue
        out[f"{name}.output|{mutant}"] = wrong
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
    patch = model.config.patch_size_t or 1
    forward(name, model, "own", 3 * patch, out)
    forward(name, model, "shorter", 2 * patch, out)
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
