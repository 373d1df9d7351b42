# SPDX-License-Identifier: Apache-2.0
"""What a plausible slip in assembling Stable Diffusion 3's pipeline would compute in place of diffusers' own (slips.py)."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

import slips  # noqa: E402
from slips import masked, result_of, wrapped  # noqa: E402

mistake = slips.Slips(("sd3", "large", "medium"))
DYNAMIC, WITH_T5 = ("medium",), ("large", "medium")
slips.add_common(mistake, dynamic=DYNAMIC, static=("sd3", "large"))


# Text.

@mistake("clip_l", "negative.clip_l", fixtures=("sd3", "large"))
def one_layer_late(pipe, _):
    def change(result):
        result.hidden_states = (*result.hidden_states[1:], result.last_hidden_state)
        return result
    return result_of(pipe.text_encoder, change)


@mistake("clip_g", "negative.clip_g")
def one_layer_early(pipe, _):
    def change(result):
        result.hidden_states = result.hidden_states[:-1]
        return result
    return result_of(pipe.text_encoder_2, change)


@mistake("clip_l", "negative.clip_g")
def with_the_final_norm(pipe, _):
    def normed(encoder):
        def change(result):
            result.hidden_states = tuple(encoder.text_model.final_layer_norm(x) for x in result.hidden_states)
            return result
        return result_of(encoder, change)
    return normed(pipe.text_encoder) + normed(pipe.text_encoder_2)


@mistake("clip_l", "clip_g", fixtures=("medium",))
def does_not_skip_layers(_, request):
    return request | dict(clip_skip=None)


@mistake("negative.clip_l", "negative.clip_g", fixtures=("medium",))
def skips_layers_of_the_negative_prompt(pipe, request):
    get = pipe._get_clip_prompt_embeds

    def skipping(*args, **kwargs):
        return get(*args, **(kwargs | dict(clip_skip=request["clip_skip"])))
    return [(pipe, "_get_clip_prompt_embeds", skipping)]


def gelu_of(encoder, name):
    from transformers.activations import ACT2FN

    return [(layer.mlp, "activation_fn", ACT2FN[name]) for layer in encoder.text_model.encoder.layers]


@mistake("clip_l", "pooled")
def gelu_of_the_second_in_the_first(pipe, _):
    return gelu_of(pipe.text_encoder, "gelu")


@mistake("clip_g", "pooled")
def gelu_of_the_first_in_the_second(pipe, _):
    return gelu_of(pipe.text_encoder_2, "quick_gelu")


@mistake("clip_g", fixtures=("sd3", "medium"))  # large's prompts fill every row
@mistake("negative.clip_g")
def second_pads_as_the_first(pipe, _):
    return [(pipe, "tokenizer_2", pipe.tokenizer)]


def with_pooled(pipe, change):
    return [patch for encoder in (pipe.text_encoder, pipe.text_encoder_2)
            for patch in result_of(encoder, lambda result, encoder=encoder: change(encoder, result))]


@mistake("pooled", fixtures=("sd3", "medium"))
@mistake("negative.pooled")
def pools_the_last_row(pipe, _):
    def last(encoder, result):
        result.text_embeds = encoder.text_projection(result.last_hidden_state[:, -1])
        return result
    return with_pooled(pipe, last)


@mistake("pooled", "negative.pooled")
def pools_the_first_row(pipe, _):
    def first(encoder, result):
        result.text_embeds = encoder.text_projection(result.last_hidden_state[:, 0])
        return result
    return with_pooled(pipe, first)


def encoding(pipe, change):
    """encode_prompt with other rows: change(embeds, pooled)."""
    encode = pipe.encode_prompt

    def changed(*args, **kwargs):
        embeds, negative, pooled, negative_pooled = encode(*args, **kwargs)
        both = [change(e, p) if e is not None else (e, p) for e, p in ((embeds, pooled), (negative, negative_pooled))]
        return both[0][0], both[1][0], both[0][1], both[1][1]
    return [(pipe, "encode_prompt", changed)]


def widths(pipe):
    return [encoder.config.hidden_size for encoder in (pipe.text_encoder, pipe.text_encoder_2)]


@mistake("embeds", "negative.embeds")
def second_clip_first(pipe, _):
    l, g = widths(pipe)

    def change(embeds, pooled):
        clip = torch.cat([embeds[..., l:l + g], embeds[..., :l], embeds[..., l + g:]], -1)
        return torch.cat([clip[:, :77], embeds[:, 77:]], 1), pooled
    return encoding(pipe, change)


@mistake("pooled", "negative.pooled")
def second_pooled_first(pipe, _):
    l = pipe.text_encoder.config.projection_dim
    return encoding(pipe, lambda embeds, pooled: (embeds, torch.cat([pooled[:, l:], pooled[:, :l]], -1)))


@mistake("embeds")
def zeros_in_front_of_the_clips(pipe, _):
    wide = sum(widths(pipe))

    def change(embeds, pooled):
        clip = embeds[:, :77]
        return torch.cat([torch.cat([clip[..., wide:], clip[..., :wide]], -1), embeds[:, 77:]], 1), pooled
    return encoding(pipe, change)


@mistake("embeds", "negative.embeds")
def t5_first(pipe, _):
    return encoding(pipe, lambda embeds, pooled: (torch.cat([embeds[:, 77:], embeds[:, :77]], 1), pooled))


@mistake("t5", fixtures=("medium",))
@mistake("negative.t5", fixtures=WITH_T5)
def masks_the_padding(pipe, _):
    return masked(pipe.text_encoder_3)


@mistake("clip_g", fixtures=("medium",))
@mistake("negative.clip_g", "negative.t5", fixtures=("medium",))
@mistake("t5", fixtures=("medium",))
def all_read_the_first_prompt(_, request):
    return request | {f"{side}prompt_{i}": request[f"{side}prompt"] for side in ("", "negative_") for i in (2, 3)}


@mistake("clip_g", "t5", "negative.clip_g", "negative.t5", fixtures=("medium",))
def exchanges_the_second_and_the_third(_, request):
    return request | {f"{side}prompt_{i}": request[f"{side}prompt_{5 - i}"] for side in ("", "negative_") for i in (2, 3)}


# The loop.

@mistake("plain.final", "plain.sigmas")
def sigmas_of_another_family(pipe, request):
    import numpy as np

    steps = request["num_inference_steps"]
    return request | dict(sigmas=np.linspace(1, 1 / steps, steps))


@mistake("plain.final", "plain.sigmas", fixtures=("sd3", "large"))
def shifts_once(pipe, _):
    return [(pipe.scheduler, "sigma_min", 1 / 1000)]


@mistake("plain.final")
def timestep_is_divided(pipe, _):
    return wrapped(pipe, lambda k: k | dict(timestep=k["timestep"] / 1000))


@mistake("plain.final")
def timestep_is_whole(pipe, _):
    return wrapped(pipe, lambda k: k | dict(timestep=k["timestep"].floor()))


@mistake("plain.final")
def clip_rows_are_dropped(pipe, _):
    return wrapped(pipe, lambda k: k | dict(encoder_hidden_states=k["encoder_hidden_states"][:, 77:]))


@mistake("plain.final")
def t5_rows_are_dropped(pipe, _):
    return wrapped(pipe, lambda k: k | dict(encoder_hidden_states=k["encoder_hidden_states"][:, :77]))


# Guidance.

@mistake("guided.final")
def guides_from_the_positive_one(_, request):
    return request | dict(guidance_scale=request["guidance_scale"] + 1)


@mistake("guided.final")
def does_not_guide(_, request):
    return request | dict(guidance_scale=1.0)


@mistake("guided.final")
def exchanges_the_prompts(_, request):
    return request | {f"{side}prompt{i}": request[f"{other}prompt{i}"]
                      for side, other in (("", "negative_"), ("negative_", "")) for i in ("", "_2", "_3")}


@mistake("guided.final")
def both_have_the_positive_pooled_row(pipe, _):
    return wrapped(pipe, lambda k: k | dict(pooled_projections=k["pooled_projections"][-1:].expand(2, -1)))


# Skip-layer guidance.

@mistake("skipped.final")
def skips_nothing(_, request):
    return request | dict(skip_guidance_layers=None)


@mistake("skipped.final")
def skips_one_layer_less(_, request):
    return request | dict(skip_guidance_layers=request["skip_guidance_layers"][1:])


@mistake("skipped.final")
def skips_the_next_layer(_, request):
    return request | dict(skip_guidance_layers=[i + 1 for i in request["skip_guidance_layers"]])


@mistake("skipped.final")
def begins_a_step_early(_, request):
    return request | dict(skip_layer_guidance_start=-0.01)


@mistake("skipped.final")
def ends_a_step_late(_, request):
    step = 1 / request["num_inference_steps"]
    return request | dict(skip_layer_guidance_stop=request["skip_layer_guidance_stop"] + step)


@mistake("skipped.final")
def skip_scale_is_the_guidance_scale(_, request):
    return request | dict(skip_layer_guidance_scale=request["guidance_scale"])


@mistake("skipped.final")
def skips_with_the_negative_prompt(pipe, request):
    kept = {}

    def change(k):
        if "skip_layers" not in k:
            kept.update(embeds=k["encoder_hidden_states"][:1], pooled=k["pooled_projections"][:1])
            return k
        return k | dict(encoder_hidden_states=kept["embeds"], pooled_projections=kept["pooled"])
    return wrapped(pipe, change)


@mistake("skipped.final")
def skips_in_both_forwards(pipe, request):
    return wrapped(pipe, lambda k: k | dict(skip_layers=request["skip_guidance_layers"]))
