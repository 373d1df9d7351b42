# SPDX-License-Identifier: Apache-2.0
"""Tiny genuine Mochi pipelines with every stage dumped, made by diffusers, and what one mistake changes.

usage: pipelines.py OUT_DIR

  OUT_DIR/<name>/model/               what MochiPipeline.save_pretrained writes
  OUT_DIR/<name>/request.json         the arguments of its call; MODES tell what a mode changes
  OUT_DIR/<name>/dump.safetensors     fp32 on CPU:
    ids [1, n], embeds [1, n, C]      of the prompt, without padding; of the negative one the same as negative.<key>
    noise [1, C, T, h, w]
    <mode>.velocity                   of the first forward, [negative, positive] where it is guided
    <mode>.latents.I [1, C, T, h, w]  after step I; <mode>.sigmas, <mode>.timesteps
    <mode>.image [1, 3, F, H, W]      what the VAE gives, not clamped; <mode>.pixels uint8 [F, H, W, 3], the PIL images
    plain.bf16.noise                  as it is used in bf16, as fp32
  OUT_DIR/<name>/mutants.safetensors  "<mutant>|<key of dump>"
  OUT_DIR/names.json                  {variant: {component: {config, names: {key: shape}}}} of the released sizes
"""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

import mistakes  # noqa: E402
import pictures  # noqa: E402
import tiny  # noqa: E402
from pictures import LONG, SENTENCE  # noqa: E402

SCRIPTS = ("pipelines.py", "mistakes.py")
SLIPS = mistakes.mistake
MODES = {"plain": dict(guidance_scale=1.0, negative_prompt=None), "guided": {}}
MEANS, DEVIATIONS = [0.1 * k - 0.5 for k in range(12)], [1.6 - 0.1 * k for k in range(12)]

SPECS = {
    # An empty negative prompt is no text at all, as the released model is used; heads that our own attention takes.
    "empty": dict(
        transformer=dict(num_layers=2, num_attention_heads=2, attention_head_dim=64, pooled_projection_dim=48,
                         text_embed_dim=64, time_embed_dim=32),
        vae=dict(decoder_block_out_channels=[32, 32, 64, 64], layers_per_block=[1, 1, 2, 1, 1], latents_mean=MEANS,
                 latents_std=DEVIATIONS),
        force_zeros=True,
        request=dict(prompt=SENTENCE, negative_prompt="", height=32, width=48, num_frames=7, num_inference_steps=4,
                     guidance_scale=4.5, max_sequence_length=60, seed=5)),
    # A prompt beyond the limit, and a negative one of its end alone; higher than wide; an odd number of steps.
    "cut": dict(
        transformer=dict(num_layers=3, num_attention_heads=3, attention_head_dim=16, pooled_projection_dim=32,
                         text_embed_dim=48, time_embed_dim=24),
        vae=dict(decoder_block_out_channels=[32, 32, 32, 64], layers_per_block=[1, 1, 1, 1, 1], latents_mean=None,
                 latents_std=None, scaling_factor=0.8),
        force_zeros=False,
        request=dict(prompt=LONG, negative_prompt="", height=64, width=32, num_frames=13, num_inference_steps=5,
                     guidance_scale=3.0, max_sequence_length=40, seed=11)),
    # One frame; two prompts.
    "picture": dict(
        transformer=dict(num_layers=3, num_attention_heads=2, attention_head_dim=24, pooled_projection_dim=40,
                         text_embed_dim=40, time_embed_dim=16),
        vae=dict(decoder_block_out_channels=[32, 32, 32, 32], layers_per_block=[1, 1, 1, 1, 1], latents_mean=MEANS,
                 latents_std=DEVIATIONS, scaling_factor=1.3),
        force_zeros=True,
        request=dict(prompt=SENTENCE, negative_prompt="Text, Wasserzeichen", height=48, width=80, num_frames=1,
                     num_inference_steps=6, guidance_scale=2.5, max_sequence_length=61, seed=23)),
}
PARAMETERS = {"text_encoder": 4762310656, "transformer": 10027677744, "vae": 459748611}  # published totals


def make_vae(config, generator):
    from diffusers import AutoencoderKLMochi

    model = AutoencoderKLMochi(encoder_block_out_channels=[32] * 4, add_attention_block=[False] * 5, **config).eval()
    tiny.perturb(model, generator)
    probe = model.decode(3 * tiny.randn(generator, 1, 12, 2, 4, 5)).sample
    tiny.scale(model.decoder.proj_out, 0.4 / probe.std().item())
    return model


def make_pipeline(name, spiece):
    from diffusers import FlowMatchEulerDiscreteScheduler, MochiPipeline, MochiTransformer3DModel

    spec, generator = SPECS[name], torch.Generator().manual_seed(9800 + list(SPECS).index(name))
    tokenizer, _, _ = pictures.tokenizers(spiece, [])
    transformer = MochiTransformer3DModel(**spec["transformer"]).eval()
    tiny.perturb(transformer, generator)
    for block in transformer.transformer_blocks:  # or scores would be so large that fp32 hardly holds them
        for norm in (block.attn1.norm_q, block.attn1.norm_added_q):
            norm.weight.data *= 0.4
    pipe = MochiPipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        vae=make_vae(spec["vae"], generator), tokenizer=tokenizer,
        text_encoder=pictures.make_t5(spec["transformer"]["text_embed_dim"], tokenizer, generator),
        force_zeros_for_empty_prompt=spec["force_zeros"])
    pictures.settle_transformer(sys.modules[__name__], pipe, spec["request"])
    return pipe, spec["request"]


def text_stages(pipe, request, negative):
    text, length = request["negative_prompt" if negative else "prompt"], request["max_sequence_length"]
    embeds, mask = pipe._get_t5_prompt_embeds([text], max_sequence_length=length)
    ids, prefix, valid = pictures.ids(pipe.tokenizer, text, length), "negative." if negative else "", int(mask.sum())
    assert mask[0, :valid].all()
    return {f"{prefix}ids": ids[:, :valid], f"{prefix}embeds": embeds[:, :valid]}


def noise(pipe, request, dtype):
    generator = torch.Generator("cpu").manual_seed(request["seed"])
    sizes = (request[k] for k in ("height", "width", "num_frames"))
    return pipe.prepare_latents(1, pipe.transformer.config.in_channels, *sizes, dtype, "cpu", generator)


def conditions(moved, guided):
    """Of a call in half precision: both prompts of one length, and masks."""
    sides = {"": moved("embeds")} | ({"negative_": moved("negative.embeds")} if guided else {})
    longest, given = max(x.shape[1] for x in sides.values()), {}
    for side, rows in sides.items():
        given[f"{side}prompt_embeds"] = torch.nn.functional.pad(rows, (0, 0, 0, longest - rows.shape[1]))
        given[f"{side}prompt_attention_mask"] = torch.arange(longest, device=rows.device)[None] < rows.shape[1]
    return given


def decoded(pipe, latents):
    c = pipe.vae.config
    mean, std = (torch.tensor(v or [d] * 12).view(1, 12, 1, 1, 1).to(latents.device, latents.dtype)
                 for v, d in ((c.latents_mean, 0.0), (c.latents_std, 1.0)))
    image = pipe.vae.decode(latents * std / c.scaling_factor + mean, return_dict=False)[0]
    pixels = pipe.video_processor.postprocess_video(image, output_type="np")[0]
    return {"image": image, "pixels": torch.from_numpy((pixels * 255).round())}


def released_names():
    from diffusers import AutoencoderKLMochi, MochiTransformer3DModel
    from transformers import T5Config, T5EncoderModel

    t5 = pictures.RELEASED_T5
    parts = {"text_encoder": (t5, lambda: T5EncoderModel(T5Config(**t5))), "transformer": ({}, MochiTransformer3DModel),
             "vae": ({}, AutoencoderKLMochi)}
    return {"1-preview": pictures.names_of(parts, PARAMETERS)}


if __name__ == "__main__":
    pictures.main(sys.modules[__name__])
