# SPDX-License-Identifier: Apache-2.0
"""Puts the trained parts into diffusers' own pipeline, and clips out of it."""

import torch

from demo import checkpoint
from demo.model import autoencoder, transformer
from demo.world import captions, pictures, scenes

STEPS, GUIDANCE = 30, 4.0


def load_vae(options):
    vae = autoencoder.build(options.device)
    folder = checkpoint.find(options, "vae")
    tensors, _ = checkpoint.load(folder, options.device)
    if tensors is None:
        raise SystemExit(f"{folder} holds no autoencoder: train the stage `vae` first")
    vae.load_state_dict(tensors)
    return vae.eval()


def pipeline(t5, model, vae, words):
    """words: the folder with spiece.model."""
    from diffusers import CogVideoXPipeline
    from transformers import T5Tokenizer

    pipe = CogVideoXPipeline(tokenizer=T5Tokenizer.from_pretrained(str(words)), text_encoder=t5.eval(), vae=vae,
                             transformer=model.eval(), scheduler=transformer.scheduler())
    pipe.set_progress_bar_config(disable=True)
    return pipe


@torch.no_grad()
def clips(pipe, prompts, size, seed, steps=STEPS):
    """[B, 3, T, H, W] in [-1, 1]; size: (pixels, frames)."""
    pixels, frames = size
    device = pipe.transformer.device
    made = pipe(prompt=list(prompts), height=pixels, width=pixels, num_frames=frames, num_inference_steps=steps,
                guidance_scale=GUIDANCE, generator=torch.Generator(device).manual_seed(seed), output_type="pt",
                max_sequence_length=226).frames
    return made.transpose(1, 2).float() * 2 - 1


def held_out(count, seed):
    """Scenes of combinations that were never trained, and a caption of each: plain ones and free ones in turn."""
    some = scenes.draw(count, torch.Generator().manual_seed(seed), held_out=True)
    free = captions.of_scenes(some, seed)
    return some, [free[i] if i % 2 else captions.plain(some.names(i)) for i in range(count)]


def preview(pipe, path, tiny):
    """A contact sheet of clips of held-out captions."""
    _, prompts = held_out(4 if tiny else 24, 21)
    with torch.autocast(pipe.transformer.device.type, torch.bfloat16, enabled=not tiny):
        made = clips(pipe, prompts, (32, 9) if tiny else (128, 17), 5, 2 if tiny else STEPS)
    pictures.sheet(path, list(made), 5, 2)
    for prompt in prompts:
        print(f"  {prompt}")
