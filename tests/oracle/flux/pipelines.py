# SPDX-License-Identifier: Apache-2.0
"""Tiny genuine FLUX.1 pipelines with every stage dumped, made by diffusers, and what one mistake changes.

usage: pipelines.py OUT_DIR

  OUT_DIR/<name>/model/               what FluxPipeline.save_pretrained writes
  OUT_DIR/<name>/request.json         the arguments of its call; MODES tell which of them a mode leaves out
  OUT_DIR/<name>/dump.safetensors     fp32 on CPU:
    clip_ids, t5_ids [1, L], pooled [1, C], embeds [1, L, C]; of the negative prompts the same as negative.<key>
    noise [1, N, 4C]                  packed
    <mode>.latents.I [1, N, 4C]       after step I; <mode>.sigmas, <mode>.timesteps
    <mode>.image [1, 3, H, W]         what the VAE gives, not clamped; <mode>.pixels uint8 [1, H, W, 3], the PIL image
    plain.bf16.noise                  drawn in bf16, as fp32
  OUT_DIR/<name>/mutants.safetensors  "<mutant>|<key of dump>"
  OUT_DIR/names.json                  {variant: {component: {config, names: {key: shape}}}} of the released sizes
"""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

import mistakes  # noqa: E402
import pictures  # noqa: E402
import released  # noqa: E402
import tiny  # noqa: E402
from pictures import LONG, SENTENCE, ids  # noqa: E402

SCRIPTS = ("pipelines.py", "mistakes.py", "released.py")
SLIPS = mistakes.mistake
# A mode is a run; what it leaves out takes diffusers' default.
MODES = {"plain": dict.fromkeys(("true_cfg_scale", "negative_prompt", "negative_prompt_2")), "guided": {}}
released_names = released.names

SPECS = {
    # Static shift, no guidance embedding, fewer text tokens; a prompt of two sentences for either encoder.
    "schnell": dict(
        transformer=dict(in_channels=16, num_layers=2, num_single_layers=2, num_attention_heads=2,
                         attention_head_dim=32, joint_attention_dim=32, pooled_projection_dim=24,
                         axes_dims_rope=[8, 12, 12]),
        vae=dict(block_out_channels=[16, 16, 32], latent_channels=4, scaling_factor=0.3611, shift_factor=0.1159,
                 sample_size=32),
        clip=dict(hidden_size=24, num_attention_heads=3, eos_token_id=2), scheduler=dict(shift=1.0),
        request=dict(prompt=SENTENCE, prompt_2="A fox runs over a hill.", negative_prompt="", negative_prompt_2="",
                     height=48, width=48, num_inference_steps=4, guidance_scale=0.0, true_cfg_scale=2.5,
                     max_sequence_length=48, seed=3)),
    # Dynamic shift and embedded guidance, wider than high, prompts beyond both limits; the modern end token.
    "dev": dict(
        transformer=dict(in_channels=16, num_layers=1, num_single_layers=3, num_attention_heads=3,
                         attention_head_dim=16, joint_attention_dim=24, pooled_projection_dim=32, guidance_embeds=True,
                         axes_dims_rope=[4, 6, 6]),
        vae=dict(block_out_channels=[8, 16], latent_channels=4, scaling_factor=0.45, shift_factor=-0.3, sample_size=32),
        clip=dict(hidden_size=32, num_attention_heads=4, eos_token_id=None),
        scheduler=dict(shift=3.0, use_dynamic_shifting=True, base_image_seq_len=24, max_image_seq_len=160,
                       base_shift=0.5, max_shift=1.15),
        request=dict(prompt=LONG, prompt_2="", negative_prompt="Text, Wasserzeichen",
                     negative_prompt_2="blurry, low quality", height=36, width=52, num_inference_steps=5,
                     guidance_scale=3.5, true_cfg_scale=1.7,
                     max_sequence_length=64, seed=11)),
}


def make_pipeline(name, spiece):
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel

    spec, generator = SPECS[name], torch.Generator().manual_seed(6000 + list(SPECS).index(name))
    t5_tokenizer, vocab, (clip_tokenizer,) = pictures.tokenizers(spiece, [pictures.vocabulary.EOS])
    transformer = FluxTransformer2DModel(**spec["transformer"]).eval()
    tiny.perturb(transformer, generator)
    pipe = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**spec["scheduler"]), vae=pictures.make_vae(spec["vae"], generator),
        text_encoder=pictures.make_clip(CLIPTextModel, spec["clip"], vocab, generator), tokenizer=clip_tokenizer,
        tokenizer_2=t5_tokenizer, transformer=transformer,
        text_encoder_2=pictures.make_t5(spec["transformer"]["joint_attention_dim"], t5_tokenizer, generator))
    pictures.settle_transformer(sys.modules[__name__], pipe, spec["request"])
    return pipe, spec["request"]


def text_stages(pipe, request, negative):
    prefix = "negative." if negative else ""
    first, second = (request[prefix.replace(".", "_") + key] for key in ("prompt", "prompt_2"))
    length = request["max_sequence_length"]
    embeds, pooled, _ = pipe.encode_prompt(prompt=first, prompt_2=second, max_sequence_length=length)
    return {prefix + "clip_ids": ids(pipe.tokenizer, first, 77),
            prefix + "t5_ids": ids(pipe.tokenizer_2, second or first, length),
            prefix + "pooled": pooled, prefix + "embeds": embeds}


def noise(pipe, request, dtype):
    generator = torch.Generator("cpu").manual_seed(request["seed"])
    channels = pipe.transformer.config.in_channels // 4
    return pipe.prepare_latents(1, channels, request["height"], request["width"], dtype, "cpu", generator)[0]


if __name__ == "__main__":
    pictures.main(sys.modules[__name__])
