# SPDX-License-Identifier: Apache-2.0
"""What a plausible slip in assembling HunyuanVideo's pipeline would compute in place of diffusers' own (slips.py)."""

import functools
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from diffusers.pipelines.hunyuan_video import pipeline_hunyuan_video  # noqa: E402

import slips  # noqa: E402
from slips import config_of, result_of, wrapped  # noqa: E402

TEMPLATE = pipeline_hunyuan_video.DEFAULT_PROMPT_TEMPLATE
ALL = ("clip", "cut", "picture")
PADDED = ("clip", "picture")  # with room behind the prompt
EMBEDDED = ("clip", "picture")  # whose guidance is an input
mistake = slips.Slips(ALL)


@mistake("noise")
def noise_of_another_seed(_, request):
    return request | dict(seed=request["seed"] + 1)


@mistake("noise")
def noise_is_drawn_in_half(pipe, _):
    draw = pipe.prepare_latents
    return [(pipe, "prepare_latents", lambda *a: draw(*a[:5], torch.bfloat16, *a[6:]).float())]


# Text.

def templated(request, **changes):
    return request | dict(prompt_template=TEMPLATE | changes)


@mistake("plain.final", "guided.final")
def template_is_left_out(_, request):
    return templated(request, template="{}", crop_start=0)


@mistake("plain.final", fixtures=PADDED)
def template_has_no_end(_, request):
    return templated(request, template=TEMPLATE["template"].removesuffix("<|eot_id|>"))


@mistake("plain.final", "guided.final")
def template_is_not_cropped(_, request):
    return templated(request, crop_start=0)


@mistake("plain.final", "guided.final")
def a_row_of_the_template_is_left(_, request):
    return templated(request, crop_start=TEMPLATE["crop_start"] - 1)


@mistake("plain.final")
@mistake("guided.final", fixtures=PADDED)  # or nothing is left of an empty prompt
def a_row_of_the_prompt_is_cropped(_, request):
    return templated(request, crop_start=TEMPLATE["crop_start"] + 1)


def shifted(pipe, by):
    def change(result):
        result.hidden_states = tuple(h.roll(by, 1) for h in result.hidden_states)
        return result
    return result_of(pipe.text_encoder, change)


@mistake("embeds", "negative.embeds")
def rows_are_those_before(pipe, _):
    return shifted(pipe, 1)


def skipping(pipe, layers):
    return [(pipe, "_get_llama_prompt_embeds",
             functools.partial(pipe._get_llama_prompt_embeds, num_hidden_layers_to_skip=layers))]


@mistake("embeds", "negative.embeds")
def a_layer_more(pipe, _):
    return skipping(pipe, 1)


@mistake("embeds", "negative.embeds")
def a_layer_less(pipe, _):
    return skipping(pipe, 3)


@mistake("embeds")
def all_layers_and_the_norm(pipe, _):
    return skipping(pipe, 0)


@mistake("embeds", "negative.embeds")
def skipped_layers_and_the_norm(pipe, _):
    def change(result):
        result.hidden_states = tuple(pipe.text_encoder.norm(h) for h in result.hidden_states)
        return result
    return result_of(pipe.text_encoder, change)


@mistake("plain.final", fixtures=("cut",))
def cut_a_row_late(_, request):
    return request | dict(max_sequence_length=request["max_sequence_length"] + 1)


@mistake("plain.final", fixtures=("cut",))
def cut_a_row_early(_, request):
    return request | dict(max_sequence_length=request["max_sequence_length"] - 1)


@mistake("embeds", fixtures=("cut",))
def prompt_is_cut_before_the_template(pipe, request):
    rows = pipe.tokenizer(request["prompt"], add_special_tokens=False).input_ids
    return request | dict(prompt=pipe.tokenizer.decode(rows[:request["max_sequence_length"] - 1]))


def transformer_with(pipe, change):
    return wrapped(pipe, lambda k: k | dict(encoder_attention_mask=change(k["encoder_attention_mask"])))


@mistake("plain.final", fixtures=PADDED)
@mistake("guided.final")
def padding_is_attended(pipe, _):
    return transformer_with(pipe, torch.ones_like)


@mistake("plain.final")
@mistake("guided.final", fixtures=PADDED)  # or nothing is left of an empty prompt
def end_token_is_dropped(pipe, _):
    return transformer_with(pipe, lambda mask: torch.arange(mask.shape[1])[None] < (mask.sum(1) - 1)[:, None])


@mistake("pooled", fixtures=PADDED)
@mistake("negative.pooled")
def pools_the_last_row(pipe, _):
    def last(result):
        result.pooler_output = result.last_hidden_state[:, -1]
        return result
    return result_of(pipe.text_encoder_2, last)


@mistake("pooled", "negative.pooled")
def pools_the_first_row(pipe, _):
    def first(result):
        result.pooler_output = result.last_hidden_state[:, 0]
        return result
    return result_of(pipe.text_encoder_2, first)


@mistake("pooled", "negative.pooled")
def clip_reads_the_template(pipe, _):
    encode = pipe._get_clip_prompt_embeds
    return [(pipe, "_get_clip_prompt_embeds", lambda prompt, *a, **k: encode(TEMPLATE["template"].format(prompt), *a, **k))]


@mistake("plain.final")
def no_pooled_row(pipe, _):
    return wrapped(pipe, lambda k: k | dict(pooled_projections=torch.zeros_like(k["pooled_projections"])))


# The loop.

@mistake("plain.final", "plain.sigmas")
def sigmas_end_at_zero(_, request):
    return request | dict(sigmas=np.linspace(1, 0, request["num_inference_steps"]))


@mistake("plain.final", "plain.sigmas")
def sigmas_are_the_schedulers_own(pipe, _):
    set_timesteps = pipe.scheduler.set_timesteps

    def own(sigmas, device):
        return set_timesteps(len(sigmas), device=device)
    own.__signature__ = __import__("inspect").signature(set_timesteps)
    return [(pipe.scheduler, "set_timesteps", own)]


@mistake("plain.final", "plain.sigmas")
def shift_of_another_model(pipe, _):
    return [(pipe.scheduler, "_shift", pipe.scheduler._shift + 2)]


@mistake("plain.final")
def timestep_is_divided(pipe, _):
    return wrapped(pipe, lambda k: k | dict(timestep=k["timestep"] / 1000))


@mistake("plain.final")
def timestep_is_whole(pipe, _):
    return wrapped(pipe, lambda k: k | dict(timestep=k["timestep"].floor()))


@mistake("plain.final")
def timestep_is_rounded_from_the_start(pipe, _):
    return wrapped(pipe, lambda k: k | dict(timestep=k["timestep"].bfloat16()))


@mistake("plain.final")
def steps_backwards(pipe, _):
    step = pipe.scheduler.step
    return [(pipe.scheduler, "step", lambda v, t, x, **k: step(-v, t, x, **k))]


# Of the forwards in half precision; the fixtures' first timestep, 1000, is exact there.

@mistake("bf16.temb.1", "bf16.temb.2")
def timestep_does_not_follow_the_latents(pipe, _):
    step, times, calls = pipe.scheduler.step, pipe.scheduler, []

    def change(k):
        calls.append(1)
        return k | dict(timestep=times.timesteps[len(calls) - 1][None])
    return [*wrapped(pipe, change), (pipe.scheduler, "step", step)]


@mistake("bf16.temb.0", "bf16.temb.1", fixtures=EMBEDDED)
def guidance_is_multiplied_before_it_is_rounded(pipe, request):
    exact = torch.tensor([request["guidance_scale"] * 1000.0])
    return wrapped(pipe, lambda k: k | dict(guidance=exact))


# Guidance.

@mistake("plain.final", fixtures=EMBEDDED)
def guidance_is_not_a_thousandfold(pipe, _):
    return wrapped(pipe, lambda k: k | dict(guidance=k["guidance"] / 1000))


@mistake("plain.final", fixtures=EMBEDDED)
def guidance_of_another_scale(_, request):
    return request | dict(guidance_scale=request["guidance_scale"] + 0.5)


@mistake("guided.final")
def guides_from_the_positive_one(_, request):
    return request | dict(true_cfg_scale=request["true_cfg_scale"] + 1)


@mistake("guided.final")
def does_not_guide(_, request):
    return request | dict(true_cfg_scale=1.0)


@mistake("guided.final", fixtures=EMBEDDED)
def guides_by_the_embedded_scale(_, request):
    return request | dict(true_cfg_scale=request["guidance_scale"])


@mistake("guided.final")
def exchanges_the_prompts(_, request):
    return request | dict(prompt=request["negative_prompt"], negative_prompt=request["prompt"])


def second_forward(pipe, change):
    """The negative one of each step; change(its arguments, those of the positive one)."""
    calls = []

    def changed(k):
        calls.append(k)
        return k if len(calls) % 2 else change(k, calls[-2])
    return wrapped(pipe, changed)


@mistake("guided.final")
def negative_forward_has_the_positive_pooled_row(pipe, _):
    return second_forward(pipe, lambda k, first: k | dict(pooled_projections=first["pooled_projections"]))


@mistake("guided.final")
def both_have_the_prompts_mask(pipe, _):
    return second_forward(pipe, lambda k, first: k | dict(encoder_attention_mask=first["encoder_attention_mask"]))


@mistake("guided.final", fixtures=EMBEDDED)
def negative_forward_has_no_guidance(pipe, _):
    return second_forward(pipe, lambda k, _: k | dict(guidance=torch.zeros_like(k["guidance"])))


# Decoding.

@mistake("plain.image", "guided.image")
def scaling_is_multiplied(pipe, _):
    return [config_of(pipe.vae, scaling_factor=1 / pipe.vae.config.scaling_factor)]


@mistake("plain.image")
def scaling_is_left_out(pipe, _):
    return [config_of(pipe.vae, scaling_factor=1.0)]


@mistake("plain.image", fixtures=("clip",))
def time_is_not_cut(pipe, _):
    return [(pipe.vae, "use_framewise_decoding", False)]


@mistake("tiled.image")
def space_is_not_cut(pipe, _):
    return [(pipe.vae, "enable_tiling", lambda: None)]


@mistake("plain.pixels")
def video_is_not_moved_from_minus_one(pipe, _):
    return [(pipe.video_processor, "denormalize", lambda x: x.clamp(0, 1))]
