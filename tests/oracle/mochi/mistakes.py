# SPDX-License-Identifier: Apache-2.0
"""What a plausible slip in assembling Mochi's pipeline would compute in place of diffusers' own (slips.py)."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

import slips  # noqa: E402
from slips import config_of, wrapped  # noqa: E402

mistake = slips.Slips(("empty", "cut", "picture"))
PADDED, SCALED = ("empty", "picture"), ("empty", "picture")  # those with room behind the prompt; with means and deviations


@mistake("noise")
def noise_of_another_seed(_, request):
    return request | dict(seed=request["seed"] + 1)


# Text.

@mistake("embeds", fixtures=PADDED)
@mistake("negative.embeds", fixtures=("cut", "picture"))
def t5_sees_the_padding(pipe, _):
    forward = pipe.text_encoder.forward
    return [(pipe.text_encoder, "forward", lambda ids, **_: forward(ids))]


def transformer_with(pipe, change):
    return wrapped(pipe, lambda k: k | dict(encoder_attention_mask=change(k["encoder_attention_mask"])))


@mistake("plain.final", fixtures=PADDED)
@mistake("guided.final", fixtures=("empty", "cut", "picture"))
def padding_is_attended(pipe, _):
    return transformer_with(pipe, torch.ones_like)


@mistake("plain.final", "guided.final")
def end_token_is_dropped(pipe, _):
    return transformer_with(pipe, lambda mask: torch.arange(mask.shape[1])[None] < (mask.sum(1) - 1)[:, None])


@mistake("guided.final")
def both_have_the_prompts_mask(pipe, _):
    return transformer_with(pipe, lambda mask: mask[-1:].expand_as(mask))


@mistake("guided.final", fixtures=("empty", "cut"))
def empty_prompt_the_other_way(pipe, _):
    return [config_of(pipe, force_zeros_for_empty_prompt=not pipe.config.force_zeros_for_empty_prompt)]


# The loop.

def scheduled(change):
    from diffusers.pipelines.mochi import pipeline_mochi

    kept = pipeline_mochi.linear_quadratic_schedule
    return [(pipeline_mochi, "linear_quadratic_schedule", lambda steps, threshold: change(kept, steps, threshold))]


@mistake("plain.final", "plain.sigmas")
def straight_schedule(_pipe, _):
    return scheduled(lambda _kept, steps, _threshold: [1 - i / steps for i in range(steps)])


@mistake("plain.final", "plain.sigmas")
def another_threshold(_pipe, _):
    return scheduled(lambda kept, steps, _threshold: kept(steps, 0.02))


@mistake("plain.final", "plain.sigmas")
def one_linear_step_more(_pipe, _):
    return scheduled(lambda kept, steps, threshold: kept(steps, threshold, steps // 2 + 1))


@mistake("plain.final", "plain.sigmas")
def sigmas_are_not_inverted(pipe, _):
    return [config_of(pipe.scheduler, invert_sigmas=False)]


@mistake("plain.final", "plain.sigmas")
def shift_of_another_model(pipe, _):
    return [(pipe.scheduler, "_shift", 3.0)]


@mistake("plain.final")
def timestep_is_divided(pipe, _):
    return wrapped(pipe, lambda k: k | dict(timestep=k["timestep"] / 1000))


@mistake("plain.final")
def timestep_is_whole(pipe, _):
    return wrapped(pipe, lambda k: k | dict(timestep=k["timestep"].floor()))


@mistake("plain.final")
def time_runs_backwards(pipe, _):
    return wrapped(pipe, lambda k: k | dict(timestep=1000 - k["timestep"]))


@mistake("plain.final")
def steps_backwards(pipe, _):
    step = pipe.scheduler.step
    return [(pipe.scheduler, "step", lambda v, t, x, **k: step(-v, t, x, **k))]


# Guidance.

@mistake("guided.final")
def guides_from_the_positive_one(_, request):
    return request | dict(guidance_scale=request["guidance_scale"] + 1)


@mistake("guided.final")
def does_not_guide(_, request):
    return request | dict(guidance_scale=1.0)


@mistake("guided.final")
def exchanges_the_prompts(_, request):
    return request | dict(prompt=request["negative_prompt"], negative_prompt=request["prompt"])


# Decoding.

@mistake("plain.image", fixtures=("cut",))
def scaling_is_multiplied(pipe, _):
    return [config_of(pipe.vae, scaling_factor=1 / pipe.vae.config.scaling_factor)]


@mistake("plain.image", fixtures=SCALED)
def means_are_left_out(pipe, _):
    return [config_of(pipe.vae, latents_mean=[0.0] * 12)]


@mistake("plain.image", fixtures=SCALED)
def deviations_are_left_out(pipe, _):
    return [config_of(pipe.vae, latents_std=[1.0] * 12)]


@mistake("plain.image", fixtures=SCALED)
def means_before_deviations(pipe, _):
    c = pipe.vae.config
    return [config_of(pipe.vae, latents_mean=[m * s / c.scaling_factor for m, s in zip(c.latents_mean, c.latents_std)])]


@mistake("plain.image", fixtures=SCALED)
def means_and_deviations_exchanged(pipe, _):
    c = pipe.vae.config
    return [config_of(pipe.vae, latents_mean=c.latents_std, latents_std=c.latents_mean)]


@mistake("plain.pixels")
def video_is_not_moved_from_minus_one(pipe, _):
    return [(pipe.video_processor, "denormalize", lambda x: x.clamp(0, 1))]
