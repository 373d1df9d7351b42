# SPDX-License-Identifier: Apache-2.0
"""Tiny components under diffusers' names and under their authors', which diffusers' own converters turn into the former.

  original.py FOLDER: writes FOLDER/<component>/{ours,theirs,bundle,scaled,widened}.safetensors
  ours: diffusers' names; theirs: the authors'; bundle: those behind a prefix, among other things;
  scaled: e4m3 with a scale beside each matrix; widened: what that stands for, diffusers' names"""
import inspect
import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel, SD3Transformer2DModel
from diffusers.loaders import single_file_utils
from safetensors.torch import save_file

DIM = 32


def flux():
    torch.manual_seed(1)
    return FluxTransformer2DModel(patch_size=1, in_channels=8, num_layers=2, num_single_layers=3, attention_head_dim=16,
                                  num_attention_heads=DIM // 16, joint_attention_dim=24, pooled_projection_dim=20,
                                  guidance_embeds=True, axes_dims_rope=(4, 6, 6))


def count(state, blocks):
    return len({key.split(".")[1] for key in state if key.startswith(blocks + ".")})


def flux_theirs(state):
    cat = lambda names, leaf: torch.cat([state.pop(f"{n}.{leaf}") for n in names])
    made = {}
    move = lambda theirs, ours: made.update({f"{theirs}.{leaf}": state.pop(f"{ours}.{leaf}") for leaf in ("weight", "bias")})
    scale = lambda theirs, ours: made.update({f"{theirs}.scale": state.pop(f"{ours}.weight")})
    for theirs, ours in (("time_in", "timestep"), ("guidance_in", "guidance"), ("vector_in", "text")):
        move(f"{theirs}.in_layer", f"time_text_embed.{ours}_embedder.linear_1")
        move(f"{theirs}.out_layer", f"time_text_embed.{ours}_embedder.linear_2")
    move("txt_in", "context_embedder")
    move("img_in", "x_embedder")
    for i in range(count(state, "transformer_blocks")):
        a, b = f"double_blocks.{i}", f"transformer_blocks.{i}"
        for s, norm, qkv, q, k, out, ff in (
                ("img", "norm1", ("to_q", "to_k", "to_v"), "norm_q", "norm_k", "to_out.0", "ff"),
                ("txt", "norm1_context", ("add_q_proj", "add_k_proj", "add_v_proj"), "norm_added_q", "norm_added_k",
                 "to_add_out", "ff_context")):
            move(f"{a}.{s}_mod.lin", f"{b}.{norm}.linear")
            made |= {f"{a}.{s}_attn.qkv.{leaf}": cat([f"{b}.attn.{n}" for n in qkv], leaf) for leaf in ("weight", "bias")}
            scale(f"{a}.{s}_attn.norm.query_norm", f"{b}.attn.{q}")
            scale(f"{a}.{s}_attn.norm.key_norm", f"{b}.attn.{k}")
            move(f"{a}.{s}_attn.proj", f"{b}.attn.{out}")
            move(f"{a}.{s}_mlp.0", f"{b}.{ff}.net.0.proj")
            move(f"{a}.{s}_mlp.2", f"{b}.{ff}.net.2")
    for i in range(count(state, "single_transformer_blocks")):
        a, b = f"single_blocks.{i}", f"single_transformer_blocks.{i}"
        move(f"{a}.modulation.lin", f"{b}.norm.linear")
        made |= {f"{a}.linear1.{leaf}": cat([f"{b}.attn.to_q", f"{b}.attn.to_k", f"{b}.attn.to_v", f"{b}.proj_mlp"], leaf)
                 for leaf in ("weight", "bias")}
        scale(f"{a}.norm.query_norm", f"{b}.attn.norm_q")
        scale(f"{a}.norm.key_norm", f"{b}.attn.norm_k")
        move(f"{a}.linear2", f"{b}.proj_out")
    move("final_layer.linear", "proj_out")
    for leaf in ("weight", "bias"):  # scale, shift -> shift, scale
        made[f"final_layer.adaLN_modulation.1.{leaf}"] = torch.cat(state.pop(f"norm_out.linear.{leaf}").chunk(2)[::-1])
    assert not state, list(state)
    return made


def flux_converter():
    """diffusers', whose width is a constant of the released models."""
    code = inspect.getsource(single_file_utils.convert_flux_transformer_checkpoint_to_diffusers)
    assert code.count("inner_dim = 3072") == 1
    scope = dict(vars(single_file_utils))
    exec(code.replace("inner_dim = 3072", f"inner_dim = {DIM}"), scope)
    return scope["convert_flux_transformer_checkpoint_to_diffusers"]


def sd3():
    torch.manual_seed(3)
    return SD3Transformer2DModel(sample_size=8, in_channels=4, out_channels=4, num_layers=3, num_attention_heads=2,
                                 attention_head_dim=16, joint_attention_dim=24, caption_projection_dim=DIM,
                                 pooled_projection_dim=20, pos_embed_max_size=6, qk_norm="rms_norm",
                                 dual_attention_layers=(0,))


SD3_NAMES = {"pos_embed.pos_embed": "pos_embed", "pos_embed.proj": "x_embedder.proj", "context_embedder": "context_embedder",
             "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0", "proj_out": "final_layer.linear",
             "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
             "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
             "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2"}
SD3_PARTS = {"norm1.linear": "x_block.adaLN_modulation.1", "norm1_context.linear": "context_block.adaLN_modulation.1",
             "attn.norm_q": "x_block.attn.ln_q", "attn.norm_k": "x_block.attn.ln_k",
             "attn.norm_added_q": "context_block.attn.ln_q", "attn.norm_added_k": "context_block.attn.ln_k",
             "attn.to_out.0": "x_block.attn.proj", "attn.to_add_out": "context_block.attn.proj",
             "attn2.norm_q": "x_block.attn2.ln_q", "attn2.norm_k": "x_block.attn2.ln_k",
             "attn2.to_out.0": "x_block.attn2.proj", "ff.net.0.proj": "x_block.mlp.fc1", "ff.net.2": "x_block.mlp.fc2",
             "ff_context.net.0.proj": "context_block.mlp.fc1", "ff_context.net.2": "context_block.mlp.fc2"}
SD3_QKV = {"x_block.attn": ("attn.to_q", "attn.to_k", "attn.to_v"), "x_block.attn2": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
           "context_block.attn": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")}


def sd3_theirs(state):
    made, last = {SD3_NAMES["pos_embed.pos_embed"]: state.pop("pos_embed.pos_embed")}, count(state, "transformer_blocks") - 1
    halves = lambda value: torch.cat(value.chunk(2)[::-1])  # scale, shift -> shift, scale
    for leaf in ("weight", "bias"):
        for ours, theirs in SD3_NAMES.items():
            if ours != "pos_embed.pos_embed":
                made[f"{theirs}.{leaf}"] = state.pop(f"{ours}.{leaf}")
        made[f"final_layer.adaLN_modulation.1.{leaf}"] = halves(state.pop(f"norm_out.linear.{leaf}"))
        for i in range(last + 1):
            a, b = f"joint_blocks.{i}", f"transformer_blocks.{i}"
            for theirs, names in SD3_QKV.items():
                if f"{b}.{names[0]}.{leaf}" in state:
                    made[f"{a}.{theirs}.qkv.{leaf}"] = torch.cat([state.pop(f"{b}.{n}.{leaf}") for n in names])
            for ours, theirs in SD3_PARTS.items():
                value = state.pop(f"{b}.{ours}.{leaf}", None)
                if value is not None:
                    swaps = i == last and ours == "norm1_context.linear"
                    made[f"{a}.{theirs}.{leaf}"] = halves(value) if swaps else value
    assert not state, list(state)
    return made


def vae():
    torch.manual_seed(2)
    return AutoencoderKL(block_out_channels=(4, 8, 12, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4,
                         down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)


def vae_theirs(state):
    made = {}
    for key, value in state.items():
        new = key
        for side, blocks, theirs in (("encoder", "down_blocks", "down"), ("decoder", "up_blocks", "up")):
            for i in range(4):
                at = i if side == "encoder" else 3 - i
                new = new.replace(f"{side}.{blocks}.{i}.resnets", f"{side}.{theirs}.{at}.block")
                new = new.replace(f"{side}.{blocks}.{i}.{theirs}samplers.0", f"{side}.{theirs}.{at}.{theirs}sample")
        new = new.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        for i in range(2):
            new = new.replace(f"mid_block.resnets.{i}", f"mid.block_{i + 1}")
        new = new.replace("mid_block.attentions.0.group_norm", "mid.attn_1.norm")
        for ours, name in (("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
            before, new = new, new.replace(f"mid_block.attentions.0.{ours}", f"mid.attn_1.{name}")
            if before != new and value.dim() == 2:
                value = value[:, :, None, None]
        made[new] = value
    return made


def vae_converter(model):
    return lambda state: single_file_utils.convert_ldm_vae_checkpoint(state, model.config)


def eight_bits(theirs, convert):
    """Matrices in e4m3, some with a scale for the whole, some for each row, some plain; and what they stand for."""
    scaled, wide = {"scaled_fp8": torch.zeros(2).to(torch.float8_e4m3fn)}, {}
    for i, (key, value) in enumerate(sorted(theirs.items())):
        if value.dim() != 2:
            scaled[key] = wide[key] = value
            continue
        scale = (torch.tensor(1.0), value.abs().amax() / 448, value.abs().amax(1) / 448)[i % 3]
        column = scale if scale.dim() == 0 else scale[:, None]
        scaled[key] = (value / column).to(torch.float8_e4m3fn)
        wide[key] = scaled[key].float() * column
        if i % 3:
            scaled[key.removesuffix("weight") + ("scale_weight" if i % 2 else "weight_scale")] = scale
            scaled[key.removesuffix("weight") + "scale_input"] = torch.tensor(0.5)
    return scaled, convert(wide)


def main():
    sd3_converter = single_file_utils.convert_sd3_transformer_checkpoint_to_diffusers
    for name, model, theirs_of, prefix, converter in (
            ("flux", flux(), flux_theirs, "model.diffusion_model.", lambda _: flux_converter()),
            ("sd3", sd3(), sd3_theirs, "model.diffusion_model.", lambda _: sd3_converter),
            ("vae", vae(), vae_theirs, "first_stage_model.", vae_converter)):
        convert = converter(model)
        folder = pathlib.Path(sys.argv[1], name)
        folder.mkdir(parents=True, exist_ok=True)
        for p in model.parameters():
            torch.nn.init.normal_(p)
        ours = {k: v.clone() for k, v in model.state_dict().items()}
        theirs = theirs_of(dict(ours))
        back = convert(dict(theirs))
        assert back.keys() == ours.keys() and all(torch.equal(back[k], ours[k]) for k in ours), name
        save = lambda file, state: save_file({k: v.contiguous() for k, v in state.items()}, folder / f"{file}.safetensors")
        save("ours", ours)
        save("theirs", theirs)
        save("bundle", {prefix + k: v for k, v in theirs.items()} | {"other.weight": torch.ones(3)})
        if name == "flux":
            scaled, wide = eight_bits(theirs, convert)
            save("scaled", scaled)
            save("widened", wide)


if __name__ == "__main__":
    main()
