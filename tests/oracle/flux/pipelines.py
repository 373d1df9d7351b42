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

import json
import os
import pathlib
import shutil
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE.parent), str(HERE.parent / "clip"), str(HERE.parent / "cogvideox")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import corpus  # noqa: E402
import fixtures as oracle  # noqa: E402
import mistakes  # noqa: E402
import models  # noqa: E402
import released  # noqa: E402
import vocabulary  # noqa: E402

SCRIPTS = ("pipelines.py", "mistakes.py", "released.py", "fixtures.py", "../cogvideox/models.py",
           "../clip/vocabulary.py", "../text_tokenizers.py", "../corpus.py")
SENTENCE = "Ein Fuchs läuft über den verschneiten Hügel — façade of ice, 35mm film, 日の出."
LONG = " ".join(f"{SENTENCE} Take {i}, golden hour, wide angle." for i in range(8))
# A mode is a run; what it leaves out takes diffusers' default.
MODES = {"plain": ("true_cfg_scale", "negative_prompt", "negative_prompt_2"), "guided": ()}
VISIBLE = 1e-4  # well beyond three times the bounds of the parity tests

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


def make_clip_tokenizer(folder):
    vocab, merges = vocabulary.train(corpus.english_lines(), 600)
    vocabulary.write_files(folder, vocab, merges)
    vocabulary.released(folder, vocab, vocabulary.EOS)
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder), vocab


def make_clip(spec, vocab, generator):
    from transformers import CLIPTextConfig, CLIPTextModel

    options = dict(spec["clip"])
    options["eos_token_id"] = options["eos_token_id"] or vocab[vocabulary.EOS]
    config = CLIPTextConfig(vocab_size=len(vocab), bos_token_id=vocab[vocabulary.BOS], intermediate_size=48,
                            num_hidden_layers=2, hidden_act="quick_gelu", **options)
    model = CLIPTextModel(config).eval()
    oracle.perturb(model, generator)
    return model


def make_vae(spec, generator):
    from diffusers import AutoencoderKL

    count = len(spec["vae"]["block_out_channels"])
    vae = AutoencoderKL(norm_num_groups=4, layers_per_block=1, use_quant_conv=False, use_post_quant_conv=False,
                        down_block_types=["DownEncoderBlock2D"] * count, up_block_types=["UpDecoderBlock2D"] * count,
                        **spec["vae"]).eval()
    oracle.perturb(vae, generator)
    probe = vae.decode(oracle.randn(generator, 1, spec["vae"]["latent_channels"], 9, 7)).sample
    oracle.scale(vae.decoder.conv_out, 0.5 / probe.std().item())
    return vae


def make_pipeline(name, spiece):
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import T5Tokenizer

    spec, generator = SPECS[name], torch.Generator().manual_seed(6000 + list(SPECS).index(name))
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "t5").mkdir()
        (folder / "t5" / "spiece.model").write_bytes(spiece)
        t5_tokenizer = T5Tokenizer.from_pretrained(folder / "t5")
        clip_tokenizer, vocab = make_clip_tokenizer(folder / "clip")
    t5 = dict(d_model=spec["transformer"]["joint_attention_dim"], d_ff=48, d_kv=8, num_heads=4, num_layers=2,
              feed_forward_proj="gated-gelu")
    transformer = FluxTransformer2DModel(**spec["transformer"]).eval()
    oracle.perturb(transformer, generator)
    pipe = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**spec["scheduler"]), vae=make_vae(spec, generator),
        text_encoder=make_clip(spec, vocab, generator), tokenizer=clip_tokenizer,
        tokenizer_2=t5_tokenizer, transformer=transformer,
        text_encoder_2=models.make_text_encoder(dict(t5=t5), len(t5_tokenizer) + 4, generator))
    pipe.set_progress_bar_config(disable=True)
    first = run(pipe, spec["request"] | dict(num_inference_steps=1), "plain")["plain.velocity"]
    oracle.scale(transformer.proj_out, 1 / first.std().item())
    return pipe, spec["request"]


def arguments(request, mode):
    kept = {k: v for k, v in request.items() if k != "seed" and k not in MODES[mode]}
    return kept | dict(generator=torch.Generator("cpu").manual_seed(request["seed"]))


def run(pipe, request, mode):
    """One call of the pipeline: <mode>.latents.I, .image, .pixels, and what it asked its parts for."""
    out, velocity, decode = {}, [], pipe.vae.decode

    def after_step(pipe, i, _t, values):
        out[f"{mode}.latents.{i}"] = values["latents"].clone()
        return {}

    def kept_decode(z, **options):
        result = decode(z, **options)
        out[f"{mode}.image"] = result[0].clone()
        return result

    handle = pipe.transformer.register_forward_hook(lambda _m, _in, result: velocity.append(result[0].clone()))
    pipe.vae.decode = kept_decode
    try:
        image = pipe(**arguments(request, mode), callback_on_step_end=after_step).images[0]
    finally:
        handle.remove()
        del pipe.vae.decode
    out[f"{mode}.pixels"] = torch.from_numpy(np.array(image))[None]
    out[f"{mode}.velocity"] = velocity[0]
    out[f"{mode}.sigmas"] = pipe.scheduler.sigmas.clone()
    out[f"{mode}.timesteps"] = pipe.scheduler.timesteps.clone()
    return out


def ids(tokenizer, text, length):
    return tokenizer([text], padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids


def text_stages(pipe, request, negative):
    prefix = "negative." if negative else ""
    first, second = (request["negative_prompt" if negative else "prompt"],
                     request["negative_prompt_2" if negative else "prompt_2"])
    length = request["max_sequence_length"]
    embeds, pooled, _ = pipe.encode_prompt(prompt=first, prompt_2=second, max_sequence_length=length)
    return {prefix + "clip_ids": ids(pipe.tokenizer, first, 77),
            prefix + "t5_ids": ids(pipe.tokenizer_2, second or first, length),
            prefix + "pooled": pooled, prefix + "embeds": embeds}


def noise(pipe, request, dtype=torch.float32):
    generator = torch.Generator("cpu").manual_seed(request["seed"])
    channels = pipe.transformer.config.in_channels // 4
    return pipe.prepare_latents(1, channels, request["height"], request["width"], dtype, "cpu", generator)[0]


def dump(pipe, request):
    out = text_stages(pipe, request, False) | text_stages(pipe, request, True)
    out["noise"] = noise(pipe, request)
    out["plain.bf16.noise"] = noise(pipe, request, torch.bfloat16).float()
    for mode in MODES:
        out |= run(pipe, request, mode)
    return out


def last(request, mode):
    return f"{mode}.latents.{request['num_inference_steps'] - 1}"


def mutants(pipe, name, request, truth):
    out = {}
    for mutant, key, patched in mistakes.of(name):
        mode = key.split(".")[0]
        stage = last(request, mode) if key.endswith(".final") else key
        with patched(pipe, request) as changed:
            if mode in MODES:
                result = run(pipe, changed, mode)[stage]
            elif key == "noise":
                result = noise(pipe, changed)
            else:
                result = text_stages(pipe, changed, mode == "negative")[stage]
        label = f"{mutant}|{stage}"
        assert label not in out and result.shape == truth[stage].shape and result.isfinite().all(), f"{name}: {label}"
        away = oracle.far(result, truth[stage])
        if os.environ.get("VERBOSE"):
            print(f"  {name:9} {label:45} {away:.1e}", flush=True)
        assert away > VISIBLE, f"{name}: {label} is {away:.1e} from the truth: nobody could tell"
        out[label] = result
    return out


def make(name, folder, spiece):
    pipe, request = make_pipeline(name, spiece)
    truth = dump(pipe, request)
    wrong = mutants(pipe, name, request, truth)
    again = run(pipe, request, "guided")
    assert all(torch.equal(v, truth[k]) for k, v in again.items()), "a mutant was left behind"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pipe.save_pretrained(folder / "model")
    (folder / "request.json").write_text(json.dumps(request, ensure_ascii=False, indent=2) + "\n")
    for file, tensors in (("dump", truth), ("mutants", wrong)):
        save_file({k: v.clone(memory_format=torch.contiguous_format) for k, v in tensors.items()},
                  folder / f"{file}.safetensors")
    clipped = (truth["guided.image"].abs() > 1).float().mean().item()
    return f"{len(wrong)} mutants, latents std {truth[last(request, 'guided')].std():.2f}, image std " \
           f"{truth['guided.image'].std():.2f} with {100 * clipped:.1f} % clipped"


def main():
    out = pathlib.Path(sys.argv[1])
    oracle.settle()
    mark, spiece = oracle.stamp(SCRIPTS), None
    for name in SPECS:
        done, start = out / name / "stamp", time.time()
        if done.exists() and done.read_text() == mark:
            print(f"{name}: up to date")
            continue
        spiece = spiece or models.train_spiece()
        print(f"{name}: {make(name, out / name, spiece)}; {time.time() - start:.1f} s", flush=True)
        done.write_text(mark)
    (out / "names.json").write_text(json.dumps(released.names(), indent=1) + "\n")


if __name__ == "__main__":
    main()
