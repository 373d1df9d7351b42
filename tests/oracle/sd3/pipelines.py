# SPDX-License-Identifier: Apache-2.0
"""Tiny genuine Stable Diffusion 3 pipelines with every stage dumped, made by diffusers, and what one mistake changes.

usage: pipelines.py OUT_DIR

  OUT_DIR/<name>/model/               what StableDiffusion3Pipeline.save_pretrained writes; "sd3" has no T5
  OUT_DIR/<name>/request.json         the arguments of its call; MODES tell what a mode changes
  OUT_DIR/<name>/dump.safetensors     fp32 on CPU:
    clip_l_ids, clip_g_ids [1, 77], t5_ids [1, L], clip_l, clip_g [1, 77, c], t5 [1, L, C]: ids and rows of each encoder
    pooled [1, P], embeds [1, 77 + L, C]; of the negative prompts the same as negative.<key>
    dropped.embeds                    of the pipeline without T5
    noise [1, C, h, w]
    <mode>.velocity                   of the first forward, [negative, positive] where it is guided
    <mode>.latents.I [1, C, h, w]     after step I; <mode>.sigmas, <mode>.timesteps
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
NEGATIVE = dict.fromkeys(("negative_prompt", "negative_prompt_2", "negative_prompt_3"))
MODES = {"plain": dict(guidance_scale=1.0, skip_guidance_layers=None) | NEGATIVE, "guided": dict(skip_guidance_layers=None),
         "skipped": {}}
released_names = released.names

SPECS = {
    # SD3 medium: no norms of queries and keys; saved without T5. One prompt for all; latents of three levels.
    "sd3": dict(
        transformer=dict(sample_size=20, in_channels=4, out_channels=4, num_layers=3, num_attention_heads=3,
                         attention_head_dim=16, joint_attention_dim=72, caption_projection_dim=48,
                         pooled_projection_dim=48, pos_embed_max_size=48),
        vae=dict(block_out_channels=[16, 16, 32], latent_channels=4, scaling_factor=1.5305, shift_factor=0.0609,
                 sample_size=32),
        clip_l=dict(hidden_size=24, num_attention_heads=3, projection_dim=20, num_hidden_layers=3, eos_token_id=2),
        clip_g=dict(hidden_size=32, num_attention_heads=4, projection_dim=28, num_hidden_layers=4, hidden_act="gelu",
                    eos_token_id=2),
        t5=False, scheduler=dict(shift=5.0),
        request=dict(prompt=SENTENCE, prompt_2="", prompt_3="", negative_prompt="", negative_prompt_2="",
                     negative_prompt_3="", height=48, width=64, num_inference_steps=4, guidance_scale=4.0,
                     max_sequence_length=24, skip_guidance_layers=[0, 1], skip_layer_guidance_scale=1.5,
                     skip_layer_guidance_start=0.1, skip_layer_guidance_stop=0.7, seed=5)),
    # 3.5 large: norms of queries and keys; prompts beyond every limit; higher than wide; the released shift.
    "large": dict(
        transformer=dict(sample_size=16, in_channels=8, out_channels=8, num_layers=3, num_attention_heads=2,
                         attention_head_dim=24, joint_attention_dim=64, caption_projection_dim=48,
                         pooled_projection_dim=40, pos_embed_max_size=72, qk_norm="rms_norm"),
        vae=dict(block_out_channels=[8, 16], latent_channels=8, scaling_factor=0.7, shift_factor=-0.3, sample_size=32),
        clip_l=dict(hidden_size=24, num_attention_heads=3, projection_dim=16, num_hidden_layers=2, eos_token_id=2),
        clip_g=dict(hidden_size=32, num_attention_heads=4, projection_dim=24, num_hidden_layers=3, hidden_act="gelu",
                    eos_token_id=None),
        t5=True, scheduler=dict(shift=3.0),
        request=dict(prompt=LONG, prompt_2="", prompt_3="", negative_prompt="Text, Wasserzeichen", negative_prompt_2="",
                     negative_prompt_3="", height=52, width=36, num_inference_steps=5, guidance_scale=3.5,
                     max_sequence_length=64, skip_guidance_layers=[1], skip_layer_guidance_scale=2.0,
                     skip_layer_guidance_start=0.1, skip_layer_guidance_stop=0.5, seed=11)),
    # 3.5 medium: a second attention in some layers; a prompt for each encoder, skipped layers; a shift by the size.
    "medium": dict(
        transformer=dict(sample_size=24, in_channels=4, out_channels=4, num_layers=4, num_attention_heads=2,
                         attention_head_dim=32, joint_attention_dim=72, caption_projection_dim=64,
                         pooled_projection_dim=36, pos_embed_max_size=80, qk_norm="rms_norm", dual_attention_layers=[0, 1]),
        vae=dict(block_out_channels=[8, 16], latent_channels=4, scaling_factor=1.2, shift_factor=0.2, sample_size=32),
        clip_l=dict(hidden_size=24, num_attention_heads=3, projection_dim=16, num_hidden_layers=3, eos_token_id=None),
        clip_g=dict(hidden_size=40, num_attention_heads=5, projection_dim=20, num_hidden_layers=4, hidden_act="gelu",
                    eos_token_id=2),
        t5=True, scheduler=dict(shift=3.0, use_dynamic_shifting=True, base_image_seq_len=24, max_image_seq_len=160),
        request=dict(prompt=SENTENCE, prompt_2="A fox runs over a hill.", prompt_3="Snow, and a fox in it!",
                     negative_prompt="Text, Wasserzeichen", negative_prompt_2="blurry", negative_prompt_3="low quality",
                     height=44, width=60, num_inference_steps=6, guidance_scale=2.5, max_sequence_length=40, clip_skip=1,
                     skip_guidance_layers=[1, 2], skip_layer_guidance_scale=2.8, skip_layer_guidance_start=0.01,
                     skip_layer_guidance_stop=0.4, seed=23)),
}


def make_pipeline(name, spiece):
    from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTextModelWithProjection

    spec, generator = SPECS[name], torch.Generator().manual_seed(8000 + list(SPECS).index(name))
    t5_tokenizer, vocab, clip_tokenizers = pictures.tokenizers(spiece, [pictures.vocabulary.EOS, "!"])
    transformer = SD3Transformer2DModel(**spec["transformer"]).eval()
    tiny.perturb(transformer, generator)
    clips = [pictures.make_clip(CLIPTextModelWithProjection, spec[part], vocab, generator) for part in ("clip_l", "clip_g")]
    t5 = pictures.make_t5(spec["transformer"]["joint_attention_dim"], t5_tokenizer, generator)
    pipe = StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(**spec["scheduler"]),
        vae=pictures.make_vae(spec["vae"], generator), text_encoder=clips[0], tokenizer=clip_tokenizers[0],
        text_encoder_2=clips[1], tokenizer_2=clip_tokenizers[1], text_encoder_3=t5 if spec["t5"] else None,
        tokenizer_3=t5_tokenizer if spec["t5"] else None)
    pictures.settle_transformer(sys.modules[__name__], pipe, spec["request"])
    return pipe, spec["request"]


def text_stages(pipe, request, negative):
    """The negative prompts are encoded by the pipeline's own branch for them."""
    prefix = "negative." if negative else ""
    first, *others = (request[prefix.replace(".", "_") + key] for key in ("prompt", "prompt_2", "prompt_3"))
    second, third = (other or first for other in others)
    length, skip = request["max_sequence_length"], None if negative else request.get("clip_skip")
    rows = [pipe._get_clip_prompt_embeds(text, clip_skip=skip, clip_model_index=i)[0] for i, text in enumerate((first, second))]
    texts = {k: v for k, v in request.items() if "prompt" in k}

    def encoded():
        embeds, negatives, pooled, negatives_pooled = pipe.encode_prompt(
            **texts, clip_skip=request.get("clip_skip"), max_sequence_length=length)
        return (negatives, negatives_pooled) if negative else (embeds, pooled)

    embeds, pooled = encoded()
    out = {"clip_l_ids": ids(pipe.tokenizer, first, 77), "clip_g_ids": ids(pipe.tokenizer_2, second, 77), "clip_l": rows[0],
           "clip_g": rows[1], "pooled": pooled, "embeds": embeds}
    if pipe.text_encoder_3 is not None:
        out |= {"t5_ids": ids(pipe.tokenizer_3, third, length),
                "t5": pipe._get_t5_prompt_embeds(third, max_sequence_length=length)}
        kept = pipe.text_encoder_3
        object.__setattr__(pipe, "text_encoder_3", None)  # past the pipeline, which would save it so
        out["dropped.embeds"] = encoded()[0]
        object.__setattr__(pipe, "text_encoder_3", kept)
    return {prefix + k: v for k, v in out.items()}


def noise(pipe, request, dtype):
    generator = torch.Generator("cpu").manual_seed(request["seed"])
    channels = pipe.transformer.config.in_channels
    return pipe.prepare_latents(1, channels, request["height"], request["width"], dtype, "cpu", generator)


if __name__ == "__main__":
    pictures.main(sys.modules[__name__])
