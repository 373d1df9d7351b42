# SPDX-License-Identifier: Apache-2.0
"""What a plausible slip in assembling the pipeline would compute in place of diffusers' own.

A mistake is a function of (pipe, request) that returns patches, (object, attribute, wrong value) triples, or, where the
call itself is wrong, another request. "<mode>.final" stands for the latents after a mode's last step.
"""

import contextlib
import functools

import torch

MISTAKES = []  # (name, key, fixtures, function)
ALL = ("schnell", "dev")


def of(fixture):
    return [(name, key, functools.partial(patched, function)) for name, key, fixtures, function in MISTAKES
            if fixture in fixtures]


def mistake(*keys, fixtures=ALL):
    def add(function):
        for key in keys:
            MISTAKES.append((function.__name__, key, fixtures, function))
        return function
    return add


@contextlib.contextmanager
def patched(function, pipe, request):
    result = function(pipe, request)
    patches, changed = ([], result) if isinstance(result, dict) else (result, request)
    undo = []
    try:
        for target, attribute, value in patches:
            undo.append((target, attribute, attribute in vars(target), getattr(target, attribute)))
            setattr(target, attribute, value)
        yield changed
    finally:
        for target, attribute, own, old in reversed(undo):
            setattr(target, attribute, old) if own else delattr(target, attribute)


def config_of(part, **changes):
    return (part, "_internal_dict", type(part._internal_dict)(dict(part._internal_dict) | changes))


def wrapped(pipe, change):
    """The transformer's forward with other arguments."""
    forward = pipe.transformer.forward
    return [(pipe.transformer, "forward", lambda **kwargs: forward(**change(dict(kwargs))))]


# Text.

@mistake("pooled", fixtures=("schnell",))  # dev's prompt fills every row
@mistake("negative.pooled")
def pools_the_last_row(pipe, _):
    forward = pipe.text_encoder.forward

    def last(*args, **kwargs):
        result = forward(*args, **kwargs)
        result.pooler_output = result.last_hidden_state[:, -1]
        return result
    return [(pipe.text_encoder, "forward", last)]


@mistake("pooled", "negative.pooled")
def pools_the_first_row(pipe, _):
    forward = pipe.text_encoder.forward

    def first(*args, **kwargs):
        result = forward(*args, **kwargs)
        result.pooler_output = result.last_hidden_state[:, 0]
        return result
    return [(pipe.text_encoder, "forward", first)]


@mistake("embeds", fixtures=("schnell",))
@mistake("negative.embeds")
def masks_the_padding(pipe, _):
    forward = pipe.text_encoder_2.forward

    def masked(ids, **kwargs):
        return forward(ids, attention_mask=(ids != 0).long(), **kwargs)
    return [(pipe.text_encoder_2, "forward", masked)]


@mistake("embeds", fixtures=("schnell",))
@mistake("negative.embeds", fixtures=("dev",))
def both_read_the_first_prompt(_, request):
    return request | dict(prompt_2=request["prompt"], negative_prompt_2=request["negative_prompt"])


@mistake("pooled", fixtures=("schnell",))
@mistake("negative.pooled", fixtures=("dev",))
def both_read_the_second_prompt(_, request):
    return request | dict(prompt=request["prompt_2"], negative_prompt=request["negative_prompt_2"])


# Noise.

@mistake("noise")
def noise_of_another_seed(_, request):
    return request | dict(seed=request["seed"] + 1)


@mistake("noise")
def noise_is_not_packed(pipe, _):
    def pack(latents, batch, channels, height, width):
        return latents.reshape(batch, (height // 2) * (width // 2), channels * 4)
    return [(pipe, "_pack_latents", pack)]


@mistake("noise")
def packs_pixels_before_channels(pipe, _):
    def pack(latents, batch, channels, height, width):
        return latents.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(
            batch, (height // 2) * (width // 2), channels * 4)
    return [(pipe, "_pack_latents", pack)]


# The loop.

@mistake("plain.final")
def sigmas_go_to_zero(pipe, request):
    import numpy as np

    steps = request["num_inference_steps"]
    return request | dict(sigmas=np.linspace(1, 0, steps + 1)[:-1] * 0.99)


@mistake("plain.final", "plain.sigmas", fixtures=("dev",))
def shift_does_not_know_the_size(pipe, _):
    return [config_of(pipe.scheduler, base_shift=0.8, max_shift=0.8)]


@mistake("plain.final", "plain.sigmas", fixtures=("dev",))
def shift_of_class_defaults(pipe, _):
    return [config_of(pipe.scheduler, base_image_seq_len=256, max_image_seq_len=4096)]


@mistake("plain.final", "plain.sigmas", fixtures=("dev",))
def static_shift(pipe, _):
    return [config_of(pipe.scheduler, use_dynamic_shifting=False)]


@mistake("plain.final", "plain.sigmas", fixtures=("dev",))
def linear_time_shift(pipe, _):
    return [config_of(pipe.scheduler, time_shift_type="linear")]


@mistake("plain.final", "plain.sigmas", fixtures=("schnell",))
def shift_of_another_model(pipe, _):
    return [(pipe.scheduler, "_shift", 3.0)]


@mistake("plain.final", fixtures=("dev",))
def guidance_is_not_handed_on(pipe, _):
    return wrapped(pipe, lambda k: k | dict(guidance=torch.ones_like(k["guidance"])))


@mistake("plain.final")
def timestep_is_not_divided(pipe, _):
    return wrapped(pipe, lambda k: k | dict(timestep=k["timestep"] * 1000))


@mistake("plain.final")
def timestep_a_tenth_of_a_step_late(pipe, request):
    step = 1 / request["num_inference_steps"]
    return wrapped(pipe, lambda k: k | dict(timestep=k["timestep"] - step / 10))


@mistake("plain.final", fixtures=("dev",))
def rows_and_columns_exchanged(pipe, _):
    return wrapped(pipe, lambda k: k | dict(img_ids=k["img_ids"][:, [0, 2, 1]]))


@mistake("plain.final")
def image_is_further_along_than_text(pipe, _):
    return wrapped(pipe, lambda k: k | dict(img_ids=k["img_ids"] + torch.tensor([1.0, 0, 0])))


@mistake("plain.final")
def text_rows_have_positions(pipe, _):
    def change(k):
        ids = k["txt_ids"].clone()
        ids[:, 2] = torch.arange(len(ids))
        return k | dict(txt_ids=ids)
    return wrapped(pipe, change)


@mistake("plain.final")
def padding_is_dropped(pipe, _):
    def change(k):
        return k | dict(encoder_hidden_states=k["encoder_hidden_states"][:, :-4], txt_ids=k["txt_ids"][:-4])
    return wrapped(pipe, change)


@mistake("plain.final")
def no_pooled_row(pipe, _):
    return wrapped(pipe, lambda k: k | dict(pooled_projections=torch.zeros_like(k["pooled_projections"])))


@mistake("plain.final")
def steps_backwards(pipe, _):
    step = pipe.scheduler.step
    return [(pipe.scheduler, "step", lambda v, t, x, **k: step(-v, t, x, **k))]


# True guidance.

@mistake("guided.final")
def guides_from_the_positive_one(_, request):
    return request | dict(true_cfg_scale=request["true_cfg_scale"] + 1)


@mistake("guided.final")
def does_not_guide(_, request):
    return request | dict(true_cfg_scale=1.0)


@mistake("guided.final")
def exchanges_the_prompts(_, request):
    return request | {k: request[other] for k, other in (
        ("prompt", "negative_prompt"), ("negative_prompt", "prompt"), ("prompt_2", "negative_prompt_2"),
        ("negative_prompt_2", "prompt_2"))}


@mistake("guided.final")
def negative_forward_has_the_positive_pooled_row(pipe, _):
    kept = {}

    def change(k):
        kept.setdefault("pooled", k["pooled_projections"])
        return k | dict(pooled_projections=kept["pooled"])
    return wrapped(pipe, change)


@mistake("guided.final", fixtures=("dev",))
def negative_forward_has_no_guidance(pipe, _):
    calls = []

    def change(k):
        calls.append(1)
        return k if len(calls) % 2 else k | dict(guidance=torch.ones_like(k["guidance"]))
    return wrapped(pipe, change)


# The picture.

@mistake("plain.image")
def scaling_is_multiplied(pipe, _):
    factor = pipe.vae.config.scaling_factor
    return [config_of(pipe.vae, scaling_factor=1 / factor)]


@mistake("plain.image")
def shift_is_left_out(pipe, _):
    return [config_of(pipe.vae, shift_factor=0.0)]


@mistake("plain.image")
def shift_before_scaling(pipe, _):
    return [config_of(pipe.vae, shift_factor=pipe.vae.config.shift_factor / pipe.vae.config.scaling_factor)]


@mistake("plain.image")
def unpacks_pixels_transposed(pipe, _):
    unpack = pipe._unpack_latents

    def swapped(latents, *rest):
        b, n, c = latents.shape
        return unpack(latents.view(b, n, c // 4, 2, 2).transpose(3, 4).reshape(b, n, c), *rest)
    return [(pipe, "_unpack_latents", swapped)]


@mistake("plain.pixels")
def picture_is_not_moved_from_minus_one(pipe, _):
    return [(pipe.image_processor, "denormalize", lambda x: x.clamp(0, 1))]
