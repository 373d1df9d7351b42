# SPDX-License-Identifier: Apache-2.0
"""Tiny genuine Stable Diffusion 3 and 3.5 transformers with every stage dumped, made by diffusers itself.

usage: fixtures.py OUT_DIR [NAME...]

  OUT_DIR/<name>/transformer/         what SD3Transformer2DModel.save_pretrained writes
  OUT_DIR/<name>/dump.safetensors     fp32 on CPU:
    latents [B, C, h, w], text [B, L, joint_attention_dim], pooled [B, pooled_projection_dim], t [B]
    temb, pos_embed [B, N, D], context_embedder [B, L, D], block.I [B, N + L, D] (image first; the last: [B, N, D])
    output [B, C, h, w]; skipped: the output without the blocks of skip [n] (int64)
    <key>.fp64                        of the stages and the outputs: how exact the oracle itself is
    bf16.cpu, fp16.cpu                the output in half precision, as fp32
  OUT_DIR/<name>/mutants.safetensors  "<mutant>|<stage>": what diffusers would give with one thing wrong (mutants.py)
"""

import copy
import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import tiny  # noqa: E402, before diffusers: it keeps that offline

import mutants  # noqa: E402
import torch  # noqa: E402
from diffusers import SD3Transformer2DModel  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from tiny import far, perturb, randn, scale, tidy  # noqa: E402

SCRIPTS = ("fixtures.py", "mutants.py", "../mutations.py")

SPECS = {
    "sd3": dict(
        config=dict(sample_size=8, in_channels=4, out_channels=4, num_layers=3, num_attention_heads=3,
                    attention_head_dim=16, joint_attention_dim=40, caption_projection_dim=48, pooled_projection_dim=24,
                    pos_embed_max_size=9),
        batch=1, height=10, width=6, text=7, skip=[1], residual=0.03),
    "large": dict(
        config=dict(sample_size=16, in_channels=16, out_channels=16, num_layers=3, num_attention_heads=2,
                    attention_head_dim=24, joint_attention_dim=32, caption_projection_dim=48, pooled_projection_dim=20,
                    pos_embed_max_size=12, qk_norm="rms_norm"),
        batch=2, height=6, width=14, text=9, skip=[0, 2], residual=0.03),
    "medium": dict(
        config=dict(sample_size=16, in_channels=8, out_channels=8, num_layers=4, num_attention_heads=2,
                    attention_head_dim=16, joint_attention_dim=28, caption_projection_dim=32, pooled_projection_dim=12,
                    pos_embed_max_size=16, qk_norm="rms_norm", dual_attention_layers=[0, 1]),
        batch=2, height=18, width=10, text=5, skip=[1, 2], residual=0.03),
    "odd_config": dict(
        config=dict(sample_size=9, patch_size=3, in_channels=5, out_channels=6, num_layers=2, num_attention_heads=5,
                    attention_head_dim=8, joint_attention_dim=28, caption_projection_dim=40, pooled_projection_dim=12,
                    pos_embed_max_size=7, qk_norm="rms_norm", dual_attention_layers=[1]),
        batch=3, height=15, width=9, text=1, skip=[0], residual=0.03),
    # Heads of the released size, which quantized attention takes.
    "wide_heads": dict(
        config=dict(sample_size=16, in_channels=4, out_channels=4, num_layers=2, num_attention_heads=2,
                    attention_head_dim=64, joint_attention_dim=24, caption_projection_dim=128, pooled_projection_dim=12,
                    pos_embed_max_size=16, qk_norm="rms_norm", dual_attention_layers=[0]),
        batch=2, height=12, width=16, text=6, skip=[1], residual=0.03),
}


def quieten(model, residual, d):
    """Small residual streams, one head's queries and another's keys small: what norms divide by is near their eps."""
    model.pos_embed.pos_embed *= residual
    scale(model.pos_embed.proj, residual)
    scale(model.context_embedder, residual)
    for block in model.transformer_blocks:
        outs, pairs = [block.attn.to_out[0], block.ff.net[2]], [(block.attn.to_q, block.attn.to_k)]
        pairs.append((block.attn.add_q_proj, block.attn.add_k_proj))
        if not block.context_pre_only:
            outs += [block.attn.to_add_out, block.ff_context.net[2]]
        if block.attn2 is not None:
            outs.append(block.attn2.to_out[0])
            pairs.append((block.attn2.to_q, block.attn2.to_k))
        for module in outs:
            scale(module, residual)
        for q, k in pairs if model.config.qk_norm else ():
            scale(q, 0.003, slice(0, d))
            scale(k, 0.003, slice(-d, None))


def make_model(name):
    spec = SPECS[name]
    generator = torch.Generator().manual_seed(7000 + list(SPECS).index(name))
    model = SD3Transformer2DModel(**spec["config"]).eval()
    perturb(model, generator)
    quieten(model, spec["residual"], model.config.attention_head_dim)
    c, batch = model.config, spec["batch"]
    inputs = dict(hidden_states=randn(generator, batch, c.in_channels, spec["height"], spec["width"]),
                  encoder_hidden_states=randn(generator, batch, spec["text"], c.joint_attention_dim),
                  pooled_projections=randn(generator, batch, c.pooled_projection_dim),
                  timestep=torch.tensor([987.381, 431.03, 8.929])[:batch])
    scale(model.proj_out, 1 / forward(model, inputs).std().item())
    return model, inputs


def forward(model, inputs, **extra):
    return model(**inputs, **extra, return_dict=False)[0]


def stages(model, inputs, skip, suffix=""):
    out = {}

    def plain(key):
        return lambda _m, _in, result: out.__setitem__(key + suffix, result.clone())

    def block(key):
        return lambda _m, _in, result: out.__setitem__(
            key + suffix, torch.cat([x for x in result[::-1] if x is not None], dim=1))

    hooks = [(b, block(f"block.{i}")) for i, b in enumerate(model.transformer_blocks)]
    hooks += [(model.time_text_embed, plain("temb")), (model.pos_embed, plain("pos_embed")),
              (model.context_embedder, plain("context_embedder"))]
    handles = [module.register_forward_hook(hook) for module, hook in hooks]
    out["output" + suffix] = forward(model, inputs)
    for handle in handles:
        handle.remove()
    out["skipped" + suffix] = forward(model, inputs, skip_layers=skip)
    return out


def half_outputs(model, inputs):
    out = {}
    for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
        cast = {k: v if k == "timestep" else v.to(dtype) for k, v in inputs.items()}
        out[f"{name}.cpu"] = forward(copy.deepcopy(model).to(dtype), cast).float()
    return out


def dump(model, inputs, skip):
    names = dict(hidden_states="latents", encoder_hidden_states="text", pooled_projections="pooled", timestep="t")
    out = {names[k]: v for k, v in inputs.items()} | {"skip": torch.tensor(skip)}
    out |= stages(model, inputs, skip)
    out |= stages(copy.deepcopy(model).double(), {k: v.double() for k, v in inputs.items()}, skip, ".fp64")
    return out | half_outputs(model, inputs)


def make(name, folder):
    model, inputs = make_model(name)
    tensors = tidy(dump(model, inputs, SPECS[name]["skip"]))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model.save_pretrained(folder / "transformer")
    save_file(tensors, folder / "dump.safetensors")
    wrong = tidy({f"{label}|output": out for label, out in mutants.outputs(model, inputs)})
    for label, value in wrong.items():
        away = far(value, tensors["output"])
        assert away > mutants.VISIBLE, f"{name}: {label} is but {away:.1e} away"
    save_file(wrong, folder / "mutants.safetensors")
    truth = tensors["output.fp64"]
    return f"{len(wrong)} mutants, bf16 {far(tensors['bf16.cpu'], truth):.1e}, fp32 {far(tensors['output'], truth):.1e}"


if __name__ == "__main__":
    tiny.main(__file__, SCRIPTS, SPECS, make)
