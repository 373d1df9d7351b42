# SPDX-License-Identifier: Apache-2.0
"""Tiny genuine FLUX.1 transformers with every stage dumped, made by diffusers itself.

usage: fixtures.py OUT_DIR [NAME...]

  OUT_DIR/<name>/transformer/      what FluxTransformer2DModel.save_pretrained writes
  OUT_DIR/<name>/dump.safetensors  fp32 on CPU:
    latents [B, C, h, w], tokens [B, N, 4 C] (packed by FluxPipeline), unpacked (of output, by FluxPipeline)
    text [B, L, joint_attention_dim], pooled [B, pooled_projection_dim], t [B], guidance [B] where the model has one
    temb, x_embedder, context_embedder, block.I and single.I [B, L + N, D] (text first), output [B, N, out_channels]
    rope.cos, rope.sin [L + N, head_dim / 2]; far.cos, far.sin: of FAR patches; far.bf16.cos, .sin: of bf16 positions
    <key>.fp64                     of the stages and the output: how exact the oracle itself is
    bf16.cpu, fp16.cpu             the output in half precision, as fp32; bf16.cuda, fp16.cuda where there is a GPU
    rounded.t, rounded.guidance    inputs that half precision cannot hold; bf16.temb [B, D] from them, as fp32
  "loud" has inputs, and fp16.cpu alone: its rows exceed fp16.
"""

import copy
import pathlib
import shutil
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import tiny  # noqa: E402, before diffusers: it keeps that offline

import diffusers.models.transformers.transformer_flux as flux  # noqa: E402
import double_single  # noqa: E402
import forwards  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from tiny import far, perturb, randn, scale  # noqa: E402

SCRIPTS = ("fixtures.py", "../double_single.py", "../forwards.py")
FAR = (2, 300)  # patches: beyond what bf16 counts

# Names of keys that a config leaves out stand for the class defaults.
SPECS = {
    "schnell": dict(
        config=dict(in_channels=16, num_layers=2, num_single_layers=3, num_attention_heads=3, attention_head_dim=16,
                    joint_attention_dim=40, pooled_projection_dim=24, axes_dims_rope=[4, 6, 6]),
        batch=1, height=8, width=8, text=7, residual=0.03),
    "dev": dict(
        config=dict(in_channels=16, num_layers=2, num_single_layers=2, num_attention_heads=2, attention_head_dim=24,
                    joint_attention_dim=32, pooled_projection_dim=20, guidance_embeds=True, axes_dims_rope=[4, 8, 12]),
        batch=2, height=6, width=14, text=9, residual=0.03),
    "odd_config": dict(
        config=dict(in_channels=20, out_channels=12, num_layers=1, num_single_layers=4, num_attention_heads=5,
                    attention_head_dim=8, joint_attention_dim=28, pooled_projection_dim=12, guidance_embeds=True,
                    axes_dims_rope=[2, 4, 2]),
        batch=3, height=14, width=4, text=1, residual=1.0),
    "default_axes": dict(
        config=dict(num_layers=1, num_single_layers=1, num_attention_heads=1, attention_head_dim=128,
                    joint_attention_dim=48, pooled_projection_dim=16, guidance_embeds=True),
        omit=["axes_dims_rope", "in_channels", "out_channels"], batch=2, height=20, width=12, text=21, residual=0.3),
    "loud": dict(
        config=dict(in_channels=8, num_layers=2, num_single_layers=2, num_attention_heads=2, attention_head_dim=16,
                    joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=[4, 6, 6]),
        batch=1, height=4, width=6, text=5, residual=1.0, loud=True),
}


def quieten(model, residual, d):
    for module in (model.x_embedder, model.context_embedder):
        scale(module, residual)
    double_single.quieten(model, residual, d)


def make_loud(model):
    """One channel of the text leaves fp16 in the first double block, one of both streams in the first single block."""
    d = model.inner_dim
    double, single = model.transformer_blocks[0], model.single_transformer_blocks[0]
    double.ff_context.net[2].bias.data[3] = 60000
    double.norm1_context.linear.bias.data[5 * d + 3] = 8
    single.proj_out.bias.data[5] = -60000
    single.norm.linear.bias.data[2 * d + 5] = 8


def make_model(name):
    spec = SPECS[name]
    generator = torch.Generator().manual_seed(5000 + list(SPECS).index(name))
    model = flux.FluxTransformer2DModel(**spec["config"]).eval()
    perturb(model, generator)
    if spec.get("loud"):
        make_loud(model)
    else:
        quieten(model, spec["residual"], spec["config"]["attention_head_dim"])
    return model, spec


def ids_of(text, rows, columns, dtype=torch.float32):
    from diffusers import FluxPipeline

    image = FluxPipeline._prepare_latent_image_ids(1, rows, columns, "cpu", dtype)
    return torch.zeros(text, 3, dtype=dtype), image


def inputs_of(model, spec):
    """The keyword arguments of one call, and the latents that its tokens are of."""
    from diffusers import FluxPipeline

    config, generator, batch = model.config, torch.Generator().manual_seed(4321), spec["batch"]
    shape = batch, config.in_channels // 4, spec["height"], spec["width"]
    latents = randn(generator, *shape)
    txt_ids, img_ids = ids_of(spec["text"], spec["height"] // 2, spec["width"] // 2)
    # t and guidance, also times 1000, are exact in every dtype: what halves lose is lost in the blocks.
    inputs = dict(hidden_states=FluxPipeline._pack_latents(latents, *shape),
                  encoder_hidden_states=randn(generator, batch, spec["text"], config.joint_attention_dim),
                  pooled_projections=randn(generator, batch, config.pooled_projection_dim),
                  timestep=torch.tensor([0.5, 0.125, 0.25])[:batch], img_ids=img_ids, txt_ids=txt_ids)
    if config.guidance_embeds:
        inputs["guidance"] = torch.tensor([4.0, 2.0, 1.0])[:batch]
    return inputs, latents


def forward(model, inputs):
    return model(**inputs, return_dict=False)[0]


def stages(model, inputs, out, suffix=""):
    def plain(key):
        return lambda result: out.__setitem__(key + suffix, result.clone())

    def both(key):
        return lambda result: out.__setitem__(key + suffix, torch.cat(result, dim=1))

    hooks = [(b, both(f"block.{i}")) for i, b in enumerate(model.transformer_blocks)]
    hooks += [(b, both(f"single.{i}")) for i, b in enumerate(model.single_transformer_blocks)]
    hooks += [(model.time_text_embed, plain("temb")), (model.x_embedder, plain("x_embedder")),
              (model.context_embedder, plain("context_embedder"))]
    with forwards.hooked(hooks):
        out["output" + suffix] = forward(model, inputs)


def tables(model, prefix, ids):
    """diffusers repeats every value; a pair has one."""
    return {f"{prefix}.{k}": table[:, ::2] for k, table in zip(("cos", "sin"), model.pos_embed(torch.cat(ids)))}


def cast(inputs, device, dtype):
    kept = ("timestep", "guidance", "img_ids", "txt_ids")  # a pipeline casts the timestep; the model does it as well
    return {k: v.to(device) if k in kept else v.to(device, dtype) for k, v in inputs.items()}


def temb_of(model, inputs):
    """What the first lines of the model's forward give to its blocks."""
    kept = {}
    with forwards.hooked([(model.time_text_embed, lambda result: kept.update(temb=result.clone()))]):
        forward(model, inputs)
    return kept["temb"]


def half_outputs(model, inputs):
    out = {}
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
            half = copy.deepcopy(model).to(device, dtype)
            out[f"{name}.{device}"] = forward(half, cast(inputs, device, dtype)).float().cpu()
    return out


def rounded_inputs(inputs):
    batch = len(inputs["timestep"])
    rounded = dict(inputs, timestep=torch.tensor([0.98841, 0.43103, 0.0371])[:batch])
    if "guidance" in inputs:
        rounded["guidance"] = torch.tensor([3.5, 1.7, 7.3])[:batch]
    return rounded


def named(inputs):
    names = dict(hidden_states="tokens", encoder_hidden_states="text", pooled_projections="pooled", timestep="t",
                 guidance="guidance")
    return {names[k]: v for k, v in inputs.items() if k in names}


def dump(model, spec):
    from diffusers import FluxPipeline

    inputs, latents = inputs_of(model, spec)
    out = dict(named(inputs), latents=latents)
    if spec.get("loud"):
        half, peaks = copy.deepcopy(model).half(), []
        for block in (half.transformer_blocks[0], half.single_transformer_blocks[0]):
            block.register_forward_hook(lambda _m, _in, result: peaks.append([x.abs().max().item() for x in result]))
        out["fp16.cpu"] = forward(half, cast(inputs, "cpu", torch.float16)).float()
        assert peaks[0][0] == peaks[1][0] == peaks[1][1] == 65504 and peaks[0][1] < 1000, f"not loud enough: {peaks}"
        return out
    stages(model, inputs, out)
    out["unpacked"] = FluxPipeline._unpack_latents(out["output"], 8 * spec["height"], 8 * spec["width"], 8)
    out |= tables(model, "rope", (inputs["txt_ids"], inputs["img_ids"]))
    out |= tables(model, "far", ids_of(spec["text"], *FAR))
    out |= tables(model, "far.bf16", ids_of(spec["text"], *FAR, torch.bfloat16))
    with forwards.double_rotation(flux):
        doubled = {k: v if k.endswith("ids") else v.double() for k, v in inputs.items()}
        stages(copy.deepcopy(model).double(), doubled, out, ".fp64")
    out |= half_outputs(model, inputs)
    rounded = rounded_inputs(inputs)
    out |= {f"rounded.{k}": v for k, v in named(rounded).items() if k in ("t", "guidance")}
    half = copy.deepcopy(model).to(torch.bfloat16)
    out["bf16.temb"] = temb_of(half, cast(rounded, "cpu", torch.bfloat16)).float()
    return out


def save(model, spec, folder):
    import json

    model.save_pretrained(folder)
    file = folder / "config.json"
    config = json.loads(file.read_text())
    for key in spec.get("omit", []):
        del config[key]
    file.write_text(json.dumps(config, indent=2) + "\n")


def make(name, folder):
    model, spec = make_model(name)
    inputs, _ = inputs_of(model, spec)
    scale(model.proj_out, 1 / forward(model, inputs).std().item())
    tensors = tiny.tidy(dump(model, spec))
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save(model, spec, folder / "transformer")
    save_file(tensors, folder / "dump.safetensors")
    if spec.get("loud"):
        return f"fp16 output std {tensors['fp16.cpu'].std():.2f}"
    truth = tensors["output.fp64"]
    return f"output std {tensors['output'].std():.2f}, bf16 {far(tensors['bf16.cpu'], truth):.1e}, " \
           f"fp32 {far(tensors['output'], truth):.1e}"


if __name__ == "__main__":
    tiny.main(__file__, SCRIPTS, SPECS, make)
