# SPDX-License-Identifier: Apache-2.0
"""Tiny genuine HunyuanVideo transformers with every stage dumped, made by diffusers itself.

usage: fixtures.py OUT_DIR [NAME...]

  OUT_DIR/<name>/transformer/            what HunyuanVideoTransformer3DModel.save_pretrained writes
  OUT_DIR/<name>/dump.safetensors        fp32 on CPU, of the whole batch, whose texts have padding:
    latents [B, C, T, h, w], text [B, L, text_embed_dim], lengths [B] int64: the rows of text that are not padding,
    pooled [B, pooled_projection_dim], t [B], guidance [B] (the scale itself) where the model has one, output as latents
    rope.cos, rope.sin [N, head_dim / 2]; far.cos, far.sin: of FAR patches
    <key>.fp64                           of the stages and the output: how exact the oracle itself is
    bf16.cpu, fp16.cpu                   the output in half precision, as fp32; bf16.cuda, fp16.cuda where there is a GPU
    rounded.guidance                     an input that half precision cannot hold; bf16.temb [B, D] from it, as fp32
  OUT_DIR/<name>/sample.I.safetensors    the inputs of sample I of it, its output, and its stages without padded rows:
    temb, x_embedder, refiner.temb, refiner.proj_in, refiner.I, context_embedder, block.I and single.I (video first)
  OUT_DIR/<name>/mutants.safetensors     mutants.py's: "<mutant>|<key of dump.safetensors that it would change>"
  OUT_DIR/released.json                  {key: shape} of the released transformer, whose config is the class defaults
"""

import copy
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent), str(HERE.parent / "joint")]

import tiny  # noqa: E402, before diffusers: it keeps that offline

import double_single  # noqa: E402
import forwards  # noqa: E402
import padded_texts  # noqa: E402
import torch  # noqa: E402
from diffusers.models import embeddings  # noqa: E402
from diffusers.models.transformers.transformer_hunyuan_video import HunyuanVideoTransformer3DModel  # noqa: E402
from tiny import far, perturb, randn, scale  # noqa: E402

import mutants  # noqa: E402

SCRIPTS = ("fixtures.py", "mutants.py", "attention.py", "../double_single.py", "../forwards.py", "../mutations.py",
           "../joint/padded_texts.py")
FAR = (5, 3, 97)  # patches
PARAMETERS = 12821012544  # published total

# Names of keys that a config leaves out stand for the class defaults.
SPECS = {
    "picture": dict(
        config=dict(in_channels=4, out_channels=4, num_layers=2, num_single_layers=3, num_refiner_layers=2,
                    num_attention_heads=3, attention_head_dim=16, text_embed_dim=40, pooled_projection_dim=24,
                    guidance_embeds=False, rope_axes_dim=[4, 6, 6]),
        frames=1, height=8, width=12, text=7, lengths=[5], residual=0.03),
    "clip": dict(
        config=dict(in_channels=4, out_channels=4, num_layers=2, num_single_layers=2, num_refiner_layers=2,
                    num_attention_heads=2, attention_head_dim=24, text_embed_dim=32, pooled_projection_dim=20,
                    rope_axes_dim=[4, 8, 12]),
        frames=3, height=10, width=6, text=9, lengths=[9, 4], residual=0.02),
    "odd_config": dict(
        config=dict(in_channels=5, out_channels=3, num_layers=1, num_single_layers=2, num_refiner_layers=3,
                    num_attention_heads=5, attention_head_dim=8, patch_size=3, patch_size_t=2, text_embed_dim=28,
                    pooled_projection_dim=12, rope_theta=100.0, rope_axes_dim=[2, 4, 2]),
        frames=4, height=6, width=9, text=6, lengths=[1, 6, 4], residual=0.05),
    "default_axes": dict(
        config=dict(num_layers=1, num_single_layers=1, num_refiner_layers=1, num_attention_heads=1,
                    attention_head_dim=128, text_embed_dim=48, pooled_projection_dim=16),
        omit=["rope_axes_dim", "rope_theta", "in_channels", "out_channels", "patch_size", "patch_size_t", "mlp_ratio",
              "guidance_embeds", "qk_norm", "image_condition_type"],
        frames=2, height=12, width=8, text=21, lengths=[17, 20], residual=0.05),
}


def quieten(model, residual, d):
    refiner = model.context_embedder
    for module in (model.x_embedder.proj, refiner.proj_in):
        scale(module, residual)
    for block in refiner.token_refiner.refiner_blocks:
        scale(block.attn.to_out[0], residual)
        scale(block.ff.net[2], residual)
    double_single.quieten(model, residual, d, text=3)  # the last block's is seen through the text alone


def mask_of(lengths, rows):
    return (torch.arange(rows)[None] < lengths[:, None]).long()


def make_model(name):
    """A model and the keyword arguments of one call; guidance is the scale itself."""
    spec = SPECS[name]
    generator = torch.Generator().manual_seed(9000 + list(SPECS).index(name))
    model = HunyuanVideoTransformer3DModel(**spec["config"]).eval()
    perturb(model, generator)
    quieten(model, spec["residual"], model.config.attention_head_dim)
    c, lengths = model.config, torch.tensor(spec["lengths"])
    batch = len(lengths)
    # t, and guidance times 1000, are exact in every dtype: what halves lose is lost in the blocks.
    inputs = dict(hidden_states=randn(generator, batch, c.in_channels, spec["frames"], spec["height"], spec["width"]),
                  timestep=torch.tensor([500.0, 125.0, 976.0])[:batch],
                  encoder_hidden_states=randn(generator, batch, spec["text"], c.text_embed_dim),
                  encoder_attention_mask=mask_of(lengths, spec["text"]),
                  pooled_projections=randn(generator, batch, c.pooled_projection_dim))
    if c.guidance_embeds:
        inputs["guidance"] = torch.tensor([4.0, 2.0, 1.0])[:batch]
    scale(model.proj_out, 1 / forward(model, inputs).std().item())
    return model, inputs


def forward(model, inputs):
    """As the pipeline calls it: the scale is multiplied in the transformer's dtype."""
    inputs = dict(inputs)
    if "guidance" in inputs:
        inputs["guidance"] = inputs["guidance"].to(inputs["hidden_states"].dtype) * 1000.0
    return model(**inputs, return_dict=False)[0]


def stages(model, inputs):
    out = {}

    def keep(key, pick):
        return lambda result: out.__setitem__(key, pick(result).clone())

    def plain(result):
        return result

    def first(result):
        return result[0]

    def both(result):
        return torch.cat(result, dim=1)

    refiner = model.context_embedder
    hooks = [(model.time_text_embed, "temb", first), (model.x_embedder, "x_embedder", plain),
             (refiner.time_text_embed, "refiner.temb", plain), (refiner.proj_in, "refiner.proj_in", plain),
             (refiner, "context_embedder", plain)]
    hooks += [(b, f"refiner.{i}", plain) for i, b in enumerate(refiner.token_refiner.refiner_blocks)]
    hooks += [(b, f"block.{i}", both) for i, b in enumerate(model.transformer_blocks)]
    hooks += [(b, f"single.{i}", both) for i, b in enumerate(model.single_transformer_blocks)]
    with forwards.hooked([(module, keep(key, pick)) for module, key, pick in hooks]):
        out["output"] = forward(model, inputs)
    return out


def tables(model, prefix, grid):
    """diffusers repeats every value; a pair has one."""
    p, pt = model.config.patch_size, model.config.patch_size_t
    latents = torch.empty(1, 1, grid[0] * pt, grid[1] * p, grid[2] * p)
    return {f"{prefix}.{k}": table[:, ::2] for k, table in zip(("cos", "sin"), model.rope(latents))}


def cast(inputs, device, dtype):
    kept = ("timestep", "encoder_attention_mask")
    return {k: v.to(device) if k in kept else v.to(device, dtype) for k, v in inputs.items()}


def half_outputs(model, inputs):
    out = padded_texts.half_outputs(model, inputs, forward, cast)
    rounded = dict(inputs)
    if "guidance" in inputs:
        out["rounded.guidance"] = rounded["guidance"] = torch.tensor([6.0, 3.3, 7.7])[:len(inputs["guidance"])]
        half = copy.deepcopy(model).to(torch.bfloat16)
        out["bf16.temb"] = stages(half, cast(rounded, "cpu", torch.bfloat16))["temb"].float()
    return out


def named(inputs):
    names = dict(hidden_states="latents", encoder_hidden_states="text", pooled_projections="pooled", timestep="t",
                 guidance="guidance")
    return {names[k]: v for k, v in inputs.items() if k in names} | {
        "lengths": inputs["encoder_attention_mask"].sum(1)}


def rows_of(key, value, i, video, length):
    """Of sample i, without its padding."""
    value = value[i:i + 1]
    if key.startswith(("block.", "single.")):
        return value[:, :video + length]
    text = key.startswith(("refiner.", "context_embedder")) and value.ndim == 3
    return value[:, :length] if text else value


def samples(given, plain, double):
    for i, length in enumerate(given["lengths"].tolist()):
        video = plain["x_embedder"].shape[1]
        out = {k: v[i:i + 1] for k, v in given.items()}
        out |= {k: rows_of(k, v, i, video, length) for k, v in plain.items()}
        yield out | {f"{k}.fp64": rows_of(k, v, i, video, length) for k, v in double.items()}


def make(name, folder):
    model, inputs = make_model(name)
    given, plain = named(inputs), stages(model, inputs)
    with forwards.double_rotation(embeddings):
        double = stages(copy.deepcopy(model).double(), cast(inputs, "cpu", torch.float64))
    out = given | {"output": plain["output"], "output.fp64": double["output"]}
    grid = [size // patch for size, patch in zip(inputs["hidden_states"].shape[2:], model.x_embedder.proj.stride)]
    out |= tables(model, "rope", grid) | tables(model, "far", FAR) | half_outputs(model, inputs)
    wrong = {f"{label}|{key}": value for label, key, value in mutants.results(model, inputs, sys.modules[__name__])}
    padded_texts.check_visible(name, wrong, out, mutants.VISIBLE)
    files = {f"sample.{i}": sample for i, sample in enumerate(samples(given, plain, double))}
    return padded_texts.save(folder, model, SPECS[name].get("omit", []), files | dict(dump=out, mutants=wrong))


if __name__ == "__main__":
    out_dir = tiny.main(__file__, SCRIPTS, SPECS, make)
    (out_dir / "released.json").write_text(json.dumps(padded_texts.released(HunyuanVideoTransformer3DModel, PARAMETERS)))
