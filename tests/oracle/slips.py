# SPDX-License-Identifier: Apache-2.0
"""What a plausible slip in assembling a picture pipeline would compute in place of diffusers' own.

A mistake is a function of (pipe, request) that returns patches, (object, attribute, wrong value) triples, or, where the
call itself is wrong, another request. "<mode>.final" stands for the latents after a mode's last step.
"""

import contextlib
import functools

import torch


class Slips:
    def __init__(self, fixtures):
        self.all, self.fixtures = [], fixtures  # of (name, key, fixtures, function)

    def of(self, fixture):
        return [(name, key, functools.partial(patched, function)) for name, key, fixtures, function in self.all
                if fixture in fixtures]

    def __call__(self, *keys, fixtures=None):
        def add(function):
            for key in keys:
                self.all.append((function.__name__, key, fixtures or self.fixtures, function))
            return function
        return add


@contextlib.contextmanager
def patched(function, pipe, request):
    result = function(pipe, request)
    patches, changed = ([], result) if isinstance(result, dict) else (result, request)
    undo = []
    try:
        for target, attribute, value in patches:
            own = attribute in vars(target) or attribute in vars(target).get("_modules", ())
            undo.append((target, attribute, own, getattr(target, attribute)))
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


def result_of(part, change):
    """A part's forward with another result."""
    forward = part.forward
    return [(part, "forward", lambda *args, **kwargs: change(forward(*args, **kwargs)))]


def masked(encoder):
    """An encoder that does not see padding."""
    forward = encoder.forward
    return [(encoder, "forward", lambda ids, **kwargs: forward(ids, attention_mask=(ids != 0).long(), **kwargs))]


def add_common(mistake, dynamic, static):
    """Those of every picture pipeline. dynamic: the fixtures whose shift knows the size; static: the others."""
    add_picture(mistake)

    @mistake("noise")
    def noise_of_another_seed(_, request):
        return request | dict(seed=request["seed"] + 1)

    @mistake("plain.final", "plain.sigmas", fixtures=dynamic)
    def shift_does_not_know_the_size(pipe, _):
        return [config_of(pipe.scheduler, base_shift=0.8, max_shift=0.8)]

    @mistake("plain.final", "plain.sigmas", fixtures=dynamic)
    def shift_of_class_defaults(pipe, _):
        return [config_of(pipe.scheduler, base_image_seq_len=256, max_image_seq_len=4096)]

    @mistake("plain.final", "plain.sigmas", fixtures=dynamic)
    def static_shift(pipe, _):
        return [config_of(pipe.scheduler, use_dynamic_shifting=False)]

    @mistake("plain.final", "plain.sigmas", fixtures=dynamic)
    def linear_time_shift(pipe, _):
        return [config_of(pipe.scheduler, time_shift_type="linear")]

    @mistake("plain.final", "plain.sigmas", fixtures=static)
    def shift_of_another_model(pipe, _):
        return [(pipe.scheduler, "_shift", pipe.scheduler._shift + 2)]

    @mistake("plain.final")
    def no_pooled_row(pipe, _):
        return wrapped(pipe, lambda k: k | dict(pooled_projections=torch.zeros_like(k["pooled_projections"])))

    @mistake("plain.final")
    def steps_backwards(pipe, _):
        step = pipe.scheduler.step
        return [(pipe.scheduler, "step", lambda v, t, x, **k: step(-v, t, x, **k))]


def add_picture(mistake):
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

    @mistake("plain.pixels")
    def picture_is_not_moved_from_minus_one(pipe, _):
        return [(pipe.image_processor, "denormalize", lambda x: x.clamp(0, 1))]
