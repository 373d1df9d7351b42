# SPDX-License-Identifier: Apache-2.0
"""What a plausible slip in assembling FLUX's pipeline would compute in place of diffusers' own (slips.py)."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

import slips  # noqa: E402
from slips import masked, result_of, wrapped  # noqa: E402

mistake = slips.Slips(("schnell", "dev"))
slips.add_common(mistake, dynamic=("dev",), static=("schnell",))


# Text.

@mistake("pooled", fixtures=("schnell",))  # dev's prompt fills every row
@mistake("negative.pooled")
def pools_the_last_row(pipe, _):
    def last(result):
        result.pooler_output = result.last_hidden_state[:, -1]
        return result
    return result_of(pipe.text_encoder, last)


@mistake("pooled", "negative.pooled")
def pools_the_first_row(pipe, _):
    def first(result):
        result.pooler_output = result.last_hidden_state[:, 0]
        return result
    return result_of(pipe.text_encoder, first)


@mistake("embeds", fixtures=("schnell",))
@mistake("negative.embeds")
def masks_the_padding(pipe, _):
    return masked(pipe.text_encoder_2)


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
def unpacks_pixels_transposed(pipe, _):
    unpack = pipe._unpack_latents

    def swapped(latents, *rest):
        b, n, c = latents.shape
        return unpack(latents.view(b, n, c // 4, 2, 2).transpose(3, 4).reshape(b, n, c), *rest)
    return [(pipe, "_unpack_latents", swapped)]
