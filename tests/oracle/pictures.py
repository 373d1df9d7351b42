# SPDX-License-Identifier: Apache-2.0
"""What the makers of tiny picture pipelines share: parts, runs with every stage, what one mistake changes.

A family is the module that calls main(): SPECS, MODES ({mode: changes of the request, None leaves out}), SCRIPTS, SLIPS,
make_pipeline(name, spiece), text_stages(pipe, request, negative), noise(pipe, request, dtype), released_names() and, where
there are more, other_stages(pipe, request): their keys start with one of OTHERS.
"""

import functools
import json
import os
import pathlib
import shutil
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path += [str(HERE), str(HERE / "clip"), str(HERE / "cogvideox")]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import corpus  # noqa: E402
import models  # noqa: E402
import tiny  # noqa: E402
import vocabulary  # noqa: E402

SCRIPTS = ("../pictures.py", "../slips.py", "../cogvideox/models.py", "../clip/vocabulary.py", "../text_tokenizers.py",
           "../corpus.py")
SENTENCE = "Ein Fuchs läuft über den verschneiten Hügel — façade of ice, 35mm film, 日の出."
LONG = " ".join(f"{SENTENCE} Take {i}, golden hour, wide angle." for i in range(8))
RELEASED_T5 = dict(vocab_size=32128, d_model=4096, d_ff=10240, d_kv=64, num_heads=64, num_layers=24,
                   feed_forward_proj="gated-gelu")
RELEASED_VAE = dict(block_out_channels=[128, 256, 512, 512], layers_per_block=2, latent_channels=16, norm_num_groups=32,
                    sample_size=1024, use_quant_conv=False, use_post_quant_conv=False,
                    down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4)
VISIBLE = 1e-4  # well beyond three times the bounds of the parity tests


def clip_tokenizers(pads):
    """The vocabulary, and one CLIPTokenizer for each pad token."""
    from transformers import CLIPTokenizer

    vocab, merges = vocabulary.train(corpus.english_lines(), 600)
    with tempfile.TemporaryDirectory() as folder:
        folder, clips = pathlib.Path(folder), []
        for i, pad in enumerate(pads):
            vocabulary.write_files(folder / str(i), vocab, merges)
            vocabulary.released(folder / str(i), vocab, pad)
            clips.append(CLIPTokenizer.from_pretrained(folder / str(i)))
        return vocab, clips


def tokenizers(spiece, pads):
    """T5's, the vocabulary of CLIP's, and one CLIPTokenizer for each pad token."""
    from transformers import T5Tokenizer

    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "spiece.model").write_bytes(spiece)
        return T5Tokenizer.from_pretrained(folder), *clip_tokenizers(pads)


def make_clip(kind, options, vocab, generator):
    from transformers import CLIPTextConfig

    options = dict(num_hidden_layers=2, hidden_act="quick_gelu", intermediate_size=48) | options
    options["eos_token_id"] = options["eos_token_id"] or vocab[vocabulary.EOS]
    model = kind(CLIPTextConfig(vocab_size=len(vocab), bos_token_id=vocab[vocabulary.BOS], **options)).eval()
    tiny.perturb(model, generator)
    return model


def make_t5(d_model, tokenizer, generator):
    spec = dict(d_model=d_model, d_ff=48, d_kv=8, num_heads=4, num_layers=2, feed_forward_proj="gated-gelu")
    return models.make_text_encoder(dict(t5=spec), len(tokenizer) + 4, generator)


def make_vae(options, generator):
    from diffusers import AutoencoderKL

    count = len(options["block_out_channels"])
    vae = AutoencoderKL(norm_num_groups=4, layers_per_block=1, use_quant_conv=False, use_post_quant_conv=False,
                        down_block_types=["DownEncoderBlock2D"] * count, up_block_types=["UpDecoderBlock2D"] * count,
                        **options).eval()
    tiny.perturb(vae, generator)
    probe = vae.decode(tiny.randn(generator, 1, options["latent_channels"], 9, 7)).sample
    tiny.scale(vae.decoder.conv_out, 0.5 / probe.std().item())
    return vae


def settle_transformer(family, pipe, request):
    """A prediction's std is about 1."""
    pipe.set_progress_bar_config(disable=True)
    first = run(family, pipe, request | dict(num_inference_steps=2), "plain")["plain.velocity"]
    tiny.scale(pipe.transformer.proj_out, 1 / first.std().item())


def arguments(family, request, mode):
    kept = {k: v for k, v in (request | family.MODES[mode]).items() if k != "seed" and v is not None}
    return kept | dict(generator=torch.Generator("cpu").manual_seed(request["seed"]))


def run(family, pipe, request, mode):
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
        shown = pipe(**arguments(family, request, mode), callback_on_step_end=after_step)[0][0]
    finally:
        handle.remove()
        del pipe.vae.decode
    frames = shown if isinstance(shown, list) else [shown]
    out[f"{mode}.pixels"] = torch.from_numpy(np.stack([np.array(frame) for frame in frames]))
    out[f"{mode}.velocity"] = velocity[0]
    out[f"{mode}.sigmas"] = pipe.scheduler.sigmas.clone()
    out[f"{mode}.timesteps"] = pipe.scheduler.timesteps.clone()
    return out


def ids(tokenizer, text, length):
    return tokenizer([text], padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids


def dump(family, pipe, request):
    out = family.text_stages(pipe, request, False) | family.text_stages(pipe, request, True)
    out["noise"] = family.noise(pipe, request, torch.float32)
    out["plain.bf16.noise"] = family.noise(pipe, request, torch.bfloat16).float()
    for mode in family.MODES:
        out |= run(family, pipe, request, mode)
    return out | (family.other_stages(pipe, request) if hasattr(family, "other_stages") else {})


def last(request, mode):
    return f"{mode}.latents.{request['num_inference_steps'] - 1}"


def mutants(family, pipe, name, request, truth):
    out = {}
    for mutant, key, patched in family.SLIPS.of(name):
        mode = key.split(".")[0]
        stage = last(request, mode) if key.endswith(".final") else key
        with patched(pipe, request) as changed:
            if mode in family.MODES:
                result = run(family, pipe, changed, mode)[stage]
            elif key == "noise":
                result = family.noise(pipe, changed, torch.float32)
            elif mode in getattr(family, "OTHERS", ()):
                result = family.other_stages(pipe, changed)[stage]
            else:
                result = family.text_stages(pipe, changed, mode == "negative")[stage]
        label = f"{mutant}|{stage}"
        assert label not in out and result.shape == truth[stage].shape and result.isfinite().all(), f"{name}: {label}"
        away = tiny.far(result, truth[stage])
        if os.environ.get("VERBOSE"):
            print(f"  {name:9} {label:45} {away:.1e}", flush=True)
        assert away > VISIBLE, f"{name}: {label} is {away:.1e} from the truth: nobody could tell"
        out[label] = result
    return out


def make(family, name, folder, spiece):
    pipe, request = family.make_pipeline(name, spiece)
    truth = dump(family, pipe, request)
    wrong = mutants(family, pipe, name, request, truth)
    again = run(family, pipe, request, "guided")
    assert all(torch.equal(v, truth[k]) for k, v in again.items()), "a mutant was left behind"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pipe.save_pretrained(folder / "model")
    (folder / "request.json").write_text(json.dumps(request, ensure_ascii=False, indent=2) + "\n")
    for file, tensors in (("dump", truth), ("mutants", wrong)):
        save_file(tiny.tidy(tensors), folder / f"{file}.safetensors")
    clipped = (truth["guided.image"].abs() > 1).float().mean().item()
    return f"{len(wrong)} mutants, latents std {truth[last(request, 'guided')].std():.2f}, image std " \
           f"{truth['guided.image'].std():.2f} with {100 * clipped:.1f} % clipped"


def names_of(components, parameters):
    """{component: {config, names: {key: shape}}} of {component: (config, make)}, as released files have them; of the VAE
    only what decodes. parameters: published totals, buffers left out."""
    out = {}
    for component, (config, make) in components.items():
        with torch.device("meta"):
            model = make()
        count = sum(p.numel() for p in model.parameters())
        assert count == parameters[component], f"{component}: {count}"
        prefix = "text_model." if type(model).__name__ == "CLIPTextModel" else ""
        held = dict(model.named_parameters()) | {k: v for k, v in model.state_dict().items() if k.startswith("pos_embed.")}
        shapes = {prefix + k: list(v.shape) for k, v in held.items()}
        if component == "vae":
            shapes = {k: shape for k, shape in shapes.items() if not k.startswith("encoder.")}
        out[component] = dict(config=config, names=shapes)
    return out


def main(family):
    spiece = functools.cache(models.train_spiece)
    out = tiny.main(family.__file__, SCRIPTS + family.SCRIPTS, family.SPECS,
                    lambda name, folder: make(family, name, folder, spiece()))
    (out / "names.json").write_text(json.dumps(family.released_names(), indent=1) + "\n")
