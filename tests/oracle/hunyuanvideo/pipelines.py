# SPDX-License-Identifier: Apache-2.0
"""Tiny genuine HunyuanVideo pipelines with every stage dumped, made by diffusers, and what one mistake changes.

usage: pipelines.py OUT_DIR

  OUT_DIR/<name>/model/               what HunyuanVideoPipeline.save_pretrained writes
  OUT_DIR/<name>/request.json         the arguments of its call; MODES tell which of them a mode leaves out
  OUT_DIR/<name>/dump.safetensors     fp32 on CPU:
    clip_ids [1, 77], pooled [1, C]   of the prompt; of the negative one the same as negative.<key>, and so below
    ids [1, 95 + n], embeds [1, n, C] in the template and without padding; embeds without the template's rows
    noise [1, C, T, h, w]
    <mode>.velocity                   of the first forward, the positive one
    <mode>.latents.I [1, C, T, h, w]  after step I; <mode>.sigmas, <mode>.timesteps
    <mode>.image [1, 3, F, H, W]      what the VAE gives, not clamped; <mode>.pixels uint8 [F, H, W, 3], the PIL images
    plain.bf16.noise                  as a run in bf16 has it
    bf16.temb.I [1, D]                of the forward of step I in bf16, from pooled rounded, as fp32
    tiled.latents, tiled.image        of a VAE that is told to cut space
  OUT_DIR/<name>/mutants.safetensors  "<mutant>|<key of dump>"
  OUT_DIR/names.json                  {variant: {component: {config, names: {key: shape}}}} of the released sizes
"""

import contextlib
import copy
import importlib.util
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import torch  # noqa: E402

import mistakes  # noqa: E402
import pictures  # noqa: E402
import tiny  # noqa: E402
from pictures import LONG, SENTENCE, ids  # noqa: E402

SCRIPTS = ("pipelines.py", "mistakes.py", "../llama/vocabulary.py")
SLIPS = mistakes.mistake
# A mode is a run; what it leaves out takes diffusers' default.
MODES = {"plain": dict.fromkeys(("true_cfg_scale", "negative_prompt")), "guided": {}}
OTHERS = ("bf16", "tiled")
SKIPPED = 2  # layers of Llama at the end, and its norm

SPECS = {
    # Time is cut by the VAE; embedded guidance; heads that our own attention takes.
    "clip": dict(
        transformer=dict(in_channels=8, out_channels=8, num_layers=1, num_single_layers=2, num_refiner_layers=2,
                         num_attention_heads=2, attention_head_dim=64, text_embed_dim=48, pooled_projection_dim=24,
                         rope_axes_dim=[16, 24, 24]),
        vae=dict(block_out_channels=[8, 8, 16, 16], layers_per_block=1, norm_num_groups=4, latent_channels=8),
        llama=dict(num_hidden_layers=5, num_attention_heads=4, num_key_value_heads=2, intermediate_size=80),
        clip=dict(hidden_size=24, num_attention_heads=3, eos_token_id=2), shift=7.0,
        request=dict(prompt=SENTENCE, negative_prompt="Text, Wasserzeichen", height=32, width=48, num_frames=17,
                     num_inference_steps=4, guidance_scale=6.0, true_cfg_scale=2.5, max_sequence_length=66, seed=5)),
    # A prompt beyond both limits, an empty negative one; no embedded guidance; a VAE that halves space twice.
    "cut": dict(
        transformer=dict(in_channels=6, out_channels=6, num_layers=2, num_single_layers=1, num_refiner_layers=1,
                         num_attention_heads=3, attention_head_dim=16, text_embed_dim=40, pooled_projection_dim=32,
                         guidance_embeds=False, rope_theta=100.0, rope_axes_dim=[4, 6, 6]),
        vae=dict(block_out_channels=[6, 6, 12], layers_per_block=1, norm_num_groups=3, latent_channels=6,
                 spatial_compression_ratio=4, mid_block_add_attention=False, scaling_factor=0.8,
                 down_block_types=["HunyuanVideoDownBlock3D"] * 3, up_block_types=["HunyuanVideoUpBlock3D"] * 3),
        llama=dict(num_hidden_layers=4, num_attention_heads=5, intermediate_size=56, hidden_act="gelu"),
        clip=dict(hidden_size=32, num_attention_heads=4, eos_token_id=None), shift=2.2,
        request=dict(prompt=LONG, negative_prompt="", height=64, width=32, num_frames=9, num_inference_steps=5,
                     guidance_scale=6.0, true_cfg_scale=1.7, max_sequence_length=40, seed=11)),
    # One frame; another shift, guidance that bf16 rounds.
    "picture": dict(
        transformer=dict(in_channels=8, out_channels=8, num_layers=2, num_single_layers=3, num_refiner_layers=1,
                         num_attention_heads=2, attention_head_dim=24, text_embed_dim=32, pooled_projection_dim=40,
                         rope_axes_dim=[4, 8, 12]),
        vae=dict(block_out_channels=[4, 8, 8, 8], layers_per_block=1, norm_num_groups=2, latent_channels=8),
        llama=dict(num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=1, intermediate_size=40),
        clip=dict(hidden_size=40, num_attention_heads=2, eos_token_id=2), shift=3.0,
        request=dict(prompt=SENTENCE, negative_prompt="blurry", height=80, width=48, num_frames=1,
                     num_inference_steps=6, guidance_scale=4.3, true_cfg_scale=3.0, max_sequence_length=64, seed=23)),
}
PARAMETERS = {"text_encoder": 7505186816, "text_encoder_2": 123060480, "transformer": 12821012544,
              "vae": 246478803}  # published totals


def llama_vocabulary():
    spec = importlib.util.spec_from_file_location("llama_vocabulary", HERE.parent / "llama" / "vocabulary.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make_llama_tokenizer():
    from transformers import PreTrainedTokenizerFast

    llama = llama_vocabulary()
    tokenizer = llama.make_tokenizer(*llama.train(pictures.corpus.english_lines(), 900))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=llama.BOS, pad_token=llama.PAD)


def make_llama(options, width, size, generator):
    from transformers import LlamaConfig, LlamaModel

    rope = {"rope_theta": 500000.0, "rope_type": "default"}
    model = LlamaModel(LlamaConfig(vocab_size=size, hidden_size=width, rms_norm_eps=1e-5, rope_parameters=rope,
                                   **options)).eval()
    tiny.perturb(model, generator)
    return model


def make_vae(config, generator):
    from diffusers import AutoencoderKLHunyuanVideo

    model = AutoencoderKLHunyuanVideo(**config).eval()
    tiny.perturb(model, generator)
    probe = model.decode(tiny.randn(generator, 1, config["latent_channels"], 2, 4, 5)).sample
    tiny.scale(model.decoder.conv_out.conv, 0.5 / probe.std().item())
    return model


def make_pipeline(name, _spiece):
    from diffusers import FlowMatchEulerDiscreteScheduler, HunyuanVideoPipeline, HunyuanVideoTransformer3DModel
    from transformers import CLIPTextModel

    spec, generator = SPECS[name], torch.Generator().manual_seed(9100 + list(SPECS).index(name))
    vocab, clip_tokenizer = pictures.clip_tokenizers([pictures.vocabulary.EOS])
    tokenizer, width = make_llama_tokenizer(), spec["transformer"]["text_embed_dim"]
    transformer = HunyuanVideoTransformer3DModel(**spec["transformer"]).eval()
    tiny.perturb(transformer, generator)
    for key, p in transformer.named_parameters():  # or scores would be so large that fp32 hardly holds them
        if key.endswith(("norm_q.weight", "norm_added_q.weight")):
            p.data *= 0.4
    pipe = HunyuanVideoPipeline(
        text_encoder=make_llama(spec["llama"], width, len(tokenizer) + 3, generator), tokenizer=tokenizer,
        transformer=transformer, vae=make_vae(spec["vae"], generator),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=spec["shift"]),
        text_encoder_2=pictures.make_clip(CLIPTextModel, spec["clip"], vocab, generator), tokenizer_2=clip_tokenizer[0])
    pictures.settle_transformer(sys.modules[__name__], pipe, spec["request"])
    return pipe, spec["request"]


def text_stages(pipe, request, negative):
    text, prefix = request["negative_prompt" if negative else "prompt"], "negative." if negative else ""
    length, template = request["max_sequence_length"], request.get("prompt_template", mistakes.TEMPLATE)
    embeds, pooled, mask = pipe.encode_prompt(text, prompt_template=template, max_sequence_length=length)
    valid, crop = int(mask.sum()), template["crop_start"]
    assert mask[0, :valid].all()
    rows = ids(pipe.tokenizer, template["template"].format(text), crop + length)
    return {prefix + "clip_ids": ids(pipe.tokenizer_2, text, 77), prefix + "pooled": pooled,
            prefix + "ids": rows[:, :crop + valid], prefix + "embeds": embeds[:, :valid]}


def noise(pipe, request, _dtype):
    """In fp32, whatever the dtype of the rest."""
    generator = torch.Generator("cpu").manual_seed(request["seed"])
    sizes = (request[k] for k in ("height", "width", "num_frames"))
    return pipe.prepare_latents(1, pipe.transformer.config.in_channels, *sizes, torch.float32, "cpu", generator)


@contextlib.contextmanager
def in_half(model):
    whole = copy.deepcopy(model.state_dict())
    model.to(torch.bfloat16)
    try:
        yield
    finally:
        model.float().load_state_dict(whole)


def other_stages(pipe, request):
    """What a run in fp32, and without tiles, does not show."""
    given, tembs, vae = text_stages(pipe, request, False), [], pipe.vae
    embedder = pipe.transformer.time_text_embed
    with in_half(pipe.transformer):
        handle = embedder.register_forward_hook(lambda _m, _in, result: tembs.append(result[0].float()))
        call = {k: v for k, v in pictures.arguments(sys.modules[__name__], request, "plain").items() if k != "prompt"}
        length = given["embeds"].shape[1]
        pipe(**call, prompt_embeds=given["embeds"], pooled_prompt_embeds=given["pooled"], output_type="latent",
             prompt_attention_mask=torch.ones(1, length, dtype=torch.long))
        handle.remove()
    out = {f"bf16.temb.{i}": temb for i, temb in enumerate(tembs)}
    high = vae.tile_sample_min_height // vae.spatial_compression_ratio + 3
    z = tiny.randn(torch.Generator().manual_seed(7), 1, vae.config.latent_channels, 1, high, 8)
    vae.enable_tiling()
    out |= {"tiled.latents": z, "tiled.image": vae.decode(z / vae.config.scaling_factor).sample}
    vae.disable_tiling()
    return out


def conditions(moved, guided):
    """Of a call in half precision: rows without padding."""
    given = {}
    for side, prefix in (("", ""), ("negative_", "negative."))[:1 + guided]:
        rows = moved(prefix + "embeds")
        given |= {f"{side}prompt_embeds": rows, f"{side}pooled_prompt_embeds": moved(prefix + "pooled"),
                  f"{side}prompt_attention_mask": torch.ones(rows.shape[:2], device=rows.device, dtype=torch.long)}
    return given


def decoded(pipe, latents):
    image = pipe.vae.decode(latents / pipe.vae.config.scaling_factor, return_dict=False)[0]
    pixels = pipe.video_processor.postprocess_video(image, output_type="np")[0]
    return {"image": image, "pixels": torch.from_numpy((pixels * 255).round())}


def released_parts():
    """{component: (config, make)}"""
    from diffusers import AutoencoderKLHunyuanVideo, HunyuanVideoTransformer3DModel
    from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel

    llama = dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
                 num_key_value_heads=8, vocab_size=128320, rms_norm_eps=1e-5)
    clip = dict(hidden_size=768, intermediate_size=3072, num_attention_heads=12, projection_dim=768)
    return {"text_encoder": (llama, lambda: LlamaModel(LlamaConfig(**llama))),
            "text_encoder_2": (clip, lambda: CLIPTextModel(CLIPTextConfig(**clip))),
            "transformer": ({}, HunyuanVideoTransformer3DModel), "vae": ({}, AutoencoderKLHunyuanVideo)}


def released_names():
    """But for what is not read: of Llama the layers that are skipped and the norm, of the VAE what encodes."""
    parts = released_parts()
    names, kept = pictures.names_of(parts, PARAMETERS), parts["text_encoder"][0]["num_hidden_layers"] - SKIPPED
    unread = ("norm.", *(f"layers.{kept + i}." for i in range(SKIPPED)))
    for component, prefixes in (("text_encoder", unread), ("vae", ("quant_conv.",))):
        held = names[component]["names"]
        names[component]["names"] = {k: shape for k, shape in held.items() if not k.startswith(prefixes)}
    return {"13b": names}


if __name__ == "__main__":
    pictures.main(sys.modules[__name__])
