# SPDX-License-Identifier: Apache-2.0
"""Tiny genuine Mochi transformers with every stage dumped, made by diffusers itself.

usage: fixtures.py OUT_DIR [NAME...]

  OUT_DIR/<name>/transformer/            what MochiTransformer3DModel.save_pretrained writes
  OUT_DIR/<name>/dump.safetensors        fp32 on CPU, of the whole batch, whose texts have padding:
    latents [B, C, T, h, w], text [B, L, text_embed_dim], lengths [B] int64: the rows of text that are not padding,
    t [B], output as latents, positions [N, 3]; far: of FAR patches
    <key>.fp64                           of the stages and the output: how exact the oracle itself is
    bf16.cpu, fp16.cpu                   the output in half precision, as fp32; bf16.cuda, fp16.cuda where there is a GPU
  OUT_DIR/<name>/sample.I.safetensors    the inputs of sample I of it, its output, and its stages without padded rows:
    temb, patch_embed, caption_proj, block.I (video) and context.I (text)
  OUT_DIR/<name>/mutants.safetensors     mutants.py's: "<mutant>|output"
  OUT_DIR/released.json                  {key: shape} of the released transformer, whose config is the class defaults
"""

import contextlib
import copy
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent), str(HERE.parent / "joint")]

import tiny  # noqa: E402, before diffusers: it keeps that offline

import forwards  # noqa: E402
import padded_texts  # noqa: E402
import torch  # noqa: E402
from diffusers.models.transformers.transformer_mochi import MochiTransformer3DModel  # noqa: E402
from tiny import far, perturb, randn, scale  # noqa: E402

import mutants  # noqa: E402

SCRIPTS = ("fixtures.py", "mutants.py", "attention.py", "../forwards.py", "../mutations.py",
           "../joint/padded_texts.py")
FAR = (5, 3, 97)  # patches
PARAMETERS = 10027677744  # published total

# Names of keys that a config leaves out stand for the class defaults.
SPECS = {
    "picture": dict(
        config=dict(in_channels=4, num_layers=2, num_attention_heads=3, attention_head_dim=16,
                    pooled_projection_dim=20, text_embed_dim=40, time_embed_dim=16),
        frames=1, height=6, width=10, text=7, lengths=[5], residual=0.03),
    "clip": dict(
        config=dict(num_layers=3, num_attention_heads=2, attention_head_dim=24, pooled_projection_dim=34,
                    text_embed_dim=32, time_embed_dim=24),
        frames=3, height=10, width=6, text=9, lengths=[9, 4], residual=0.02),
    "odd_config": dict(
        config=dict(in_channels=5, out_channels=3, num_layers=2, num_attention_heads=5, attention_head_dim=6,
                    patch_size=3, pooled_projection_dim=14, text_embed_dim=24, time_embed_dim=10),
        frames=4, height=6, width=9, text=6, lengths=[0, 6, 1], residual=0.05),
    "default_keys": dict(
        config=dict(num_layers=2, num_attention_heads=1, attention_head_dim=128, pooled_projection_dim=40,
                    text_embed_dim=48),
        omit=["in_channels", "out_channels", "patch_size", "qk_norm", "time_embed_dim", "activation_fn",
              "max_sequence_length"],
        frames=2, height=12, width=8, text=21, lengths=[17, 0], residual=0.05),
}


def scale_weight(linear, factor, rows=slice(None)):
    linear.weight.data[rows] *= factor


def quieten(model, residual, d):
    """Small residual streams, and one head's queries and another's keys small: what norms divide by is near their eps."""
    for module in (model.patch_embed.proj, model.time_embed.caption_proj):
        scale(module, residual)
    model.pos_frequencies.data *= 0.2
    for block in model.transformer_blocks:
        attn = block.attn1
        for norm in (attn.norm_q, attn.norm_added_q):  # or scores would be so large that fp32 hardly holds them
            norm.weight.data *= 0.4
        scale(attn.to_out[0], residual)
        scale_weight(block.ff.net[2], residual)
        norms = [block.norm1.linear]
        if hasattr(attn, "to_add_out"):
            scale(attn.to_add_out, residual)
            scale_weight(block.ff_context.net[2], residual)
            norms.append(block.norm1_context.linear)
        for linear in norms:  # their gates
            for rows in torch.arange(linear.out_features).chunk(4)[1::2]:
                scale(linear, 0.06, rows)
        for q, k in ((attn.to_q, attn.to_k), (attn.add_q_proj, attn.add_k_proj)):
            scale_weight(q, 0.003, slice(0, d))
            scale_weight(k, 0.003, slice(-d, None))


def make_model(name):
    """A model and the keyword arguments of one call."""
    spec = SPECS[name]
    generator = torch.Generator().manual_seed(9500 + list(SPECS).index(name))
    model = MochiTransformer3DModel(**spec["config"]).eval()
    perturb(model, generator)
    quieten(model, spec["residual"], model.config.attention_head_dim)
    c, lengths = model.config, torch.tensor(spec["lengths"])
    batch, rows = len(lengths), spec["text"]
    # t is exact in every dtype: what halves lose is lost in the blocks.
    inputs = dict(hidden_states=randn(generator, batch, c.in_channels, spec["frames"], spec["height"], spec["width"]),
                  timestep=torch.tensor([440.0, 125.0, 976.0])[:batch],
                  encoder_hidden_states=randn(generator, batch, rows, c.text_embed_dim),
                  encoder_attention_mask=torch.arange(rows)[None] < lengths[:, None])
    scale(model.proj_out, 1 / forward(model, inputs).std().item())
    return model, inputs


def forward(model, inputs):
    return model(**inputs, return_dict=False)[0]


def stages(model, inputs):
    out = {}
    batch = len(inputs["timestep"])

    def keep(key, pick):
        return lambda result: out.__setitem__(key, pick(result).clone())

    hooks = [(model.time_embed, keep("temb", lambda r: r[0])), (model.time_embed, keep("caption_proj", lambda r: r[1])),
             (model.patch_embed, keep("patch_embed", lambda r: r.unflatten(0, (batch, -1)).flatten(1, 2)))]
    for i, block in enumerate(model.transformer_blocks):
        hooks += [(block, keep(f"block.{i}", lambda r: r[0])), (block, keep(f"context.{i}", lambda r: r[1]))]
    with forwards.hooked(hooks):
        out["output"] = forward(model, inputs)
    return out


@contextlib.contextmanager
def all_double():
    """Where diffusers computes in fp32 whatever the dtype is, it computes in fp64."""
    single, to_single = torch.float32, torch.Tensor.float
    torch.float32, torch.Tensor.float = torch.float64, torch.Tensor.double
    try:
        yield
    finally:
        torch.float32, torch.Tensor.float = single, to_single


def cast(inputs, device, dtype):
    kept = ("timestep", "encoder_attention_mask")
    return {k: v.to(device) if k in kept else v.to(device, dtype) for k, v in inputs.items()}


def named(inputs):
    names = dict(hidden_states="latents", encoder_hidden_states="text", timestep="t")
    return {names[k]: v for k, v in inputs.items() if k in names} | {
        "lengths": inputs["encoder_attention_mask"].sum(1)}


def samples(given, plain, double):
    """Each without its padding."""
    def row(key, value, i, length):
        return value[i:i + 1, :length] if key.startswith(("context.", "caption_proj")) else value[i:i + 1]

    for i, length in enumerate(given["lengths"].tolist()):
        out = {k: v[i:i + 1] for k, v in given.items()} | {k: row(k, v, i, length) for k, v in plain.items()}
        yield out | {f"{k}.fp64": row(k, v, i, length) for k, v in double.items()}


def positions(model, grid):
    return model.rope._get_positions(*grid, dtype=torch.float32)


def make(name, folder):
    model, inputs = make_model(name)
    given, plain = named(inputs), stages(model, inputs)
    doubled, waves = copy.deepcopy(model).double(), model.time_embed.time_proj(inputs["timestep"])
    doubled.time_embed.time_proj.forward = lambda _: waves  # of fp32 by definition
    with all_double():
        double = stages(doubled, cast(inputs, "cpu", torch.float64))
    p = model.config.patch_size
    frames, height, width = inputs["hidden_states"].shape[2:]
    out = given | {"output": plain["output"], "output.fp64": double["output"], "far": positions(model, FAR),
                   "positions": positions(model, (frames, height // p, width // p))}
    out |= padded_texts.half_outputs(model, inputs, forward, cast)
    wrong = {f"{label}|output": value for label, value in mutants.results(model, inputs, sys.modules[__name__])}
    padded_texts.check_visible(name, wrong, out, mutants.VISIBLE)
    files = {f"sample.{i}": sample for i, sample in enumerate(samples(given, plain, double))}
    return padded_texts.save(folder, model, SPECS[name].get("omit", []), files | dict(dump=out, mutants=wrong))


if __name__ == "__main__":
    out_dir = tiny.main(__file__, SCRIPTS, SPECS, make)
    (out_dir / "released.json").write_text(json.dumps(padded_texts.released(MochiTransformer3DModel, PARAMETERS)))
