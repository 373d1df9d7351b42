# SPDX-License-Identifier: Apache-2.0
"""Wrong schedules, steps, guidance and noise."""

import functools
import math
import types

import torch

import dump as dumping
from wrong import family, mutant

DDIM, DPM = "ddim.guided.final", "dpm.guided.final"


def schedule(**changes):
    true = dumping.schedulers
    return [(dumping, "schedulers", lambda spec: true({"schedule": spec["schedule"] | changes}))]


WRONG_SCHEDULES = dict(
    snr_shift_of_others=dict(snr_shift_scale=1.5), spacing_leading=dict(timestep_spacing="leading"),
    snr_not_zero=dict(rescale_betas_zero_snr=False), betas_linear=dict(beta_schedule="linear"),
    predicts_sample=dict(prediction_type="sample"), beta_end=dict(beta_end=0.0125), beta_start=dict(beta_start=0.0008))


@family(DDIM, "2b", "odd_config", **WRONG_SCHEDULES)
def ddim_schedule(pipe, spec, argument):
    return schedule(**argument)


@family(DPM, "2b", "odd_config", **WRONG_SCHEDULES)
def dpm_schedule(pipe, spec, argument):
    return schedule(**argument)


@family(DDIM, "2b", spacing_linspace=dict(timestep_spacing="linspace"), last_alpha_not_one=dict(set_alpha_to_one=False))
def ddim_end(pipe, spec, argument):
    return schedule(**argument)


@family(DDIM, "odd_config", spacing_trailing=dict(timestep_spacing="trailing"), last_alpha_one=dict(set_alpha_to_one=True))
def ddim_odd_end(pipe, spec, argument):
    return schedule(**argument)


def stepped(cls, change):
    """cls.step with other arguments: change(self, arguments by name)."""
    import inspect

    true = cls.step
    names = list(inspect.signature(true).parameters)[1:]

    def wrong(self, *args, **k):
        values = dict(zip(names, args)) | k
        change(self, values)
        return true(self, **values)
    return [(cls, "step", functools.wraps(true)(wrong))]


def negate(self, values):
    values["model_output"] = -values["model_output"]


@mutant(DDIM, "2b", "5b", "1.5")
def v_negated(pipe, spec):
    from diffusers import CogVideoXDDIMScheduler

    return stepped(CogVideoXDDIMScheduler, negate)


@mutant(DPM, "2b", "5b", "1.5")
def v_negated(pipe, spec):  # noqa: F811
    from diffusers import CogVideoXDPMScheduler

    return stepped(CogVideoXDPMScheduler, negate)


@mutant(DPM, "2b", "5b", "odd_config")
def first_order_alone(pipe, spec):
    from diffusers import CogVideoXDPMScheduler

    return stepped(CogVideoXDPMScheduler, lambda self, values: values.update(old_pred_original_sample=None))


@mutant(DDIM, "odd_config")
def previous_timestep_of_the_list(pipe, spec):
    """Where the spacing is not num_train_timesteps // steps, the two differ."""
    from diffusers import CogVideoXDDIMScheduler

    true = CogVideoXDDIMScheduler.step

    def wrong(self, model_output, timestep, sample, **k):
        later = self.timesteps[self.timesteps < timestep]
        before = int(later.max()) if len(later) else -1
        keep = self.num_inference_steps
        changed = {**self.config, "num_train_timesteps": int(timestep - before) * keep}
        self._internal_dict = types.SimpleNamespace(**changed)
        try:
            return true(self, model_output, timestep, sample, **k)
        finally:
            self._internal_dict = config
    config = CogVideoXDDIMScheduler(**spec["schedule"]).config
    return [(CogVideoXDDIMScheduler, "step", functools.wraps(true)(wrong))]


def dpm_noise(change):
    from diffusers.schedulers import scheduling_dpm_cogvideox as module

    return [(module, "randn_tensor", functools.partial(change, module.randn_tensor))]


@mutant(DPM, "2b")
def dpm_no_noise(pipe, spec):
    return dpm_noise(lambda true, shape, **k: 0 * true(shape, **k))


@mutant(DPM, "2b", "5b")
def dpm_one_draw_a_step(pipe, spec):
    drawn = {}

    def wrong(self, values):
        drawn.clear()

    def draw(true, shape, **k):
        if not drawn:
            drawn["x"] = true(shape, **k)
        return drawn["x"]
    from diffusers import CogVideoXDPMScheduler

    return stepped(CogVideoXDPMScheduler, wrong) + dpm_noise(draw)


@mutant(DPM, "2b")
def dpm_other_generator(pipe, spec):
    generator = torch.Generator().manual_seed(spec["request"]["seed"])
    return dpm_noise(lambda true, shape, **k: true(shape, **{**k, "generator": generator}))


@family(DPM, "2b", "odd_config", dpm_mult_without_r=lambda m: (*m[:2], 1 + 0 * m[2], 0 * m[3]) if len(m) > 2 else m,
        dpm_mult_r_doubled=lambda m: (*m[:2], 1 + 2 * (m[2] - 1), 2 * m[3]) if len(m) > 2 else m)
def dpm_mult(pipe, spec, argument):
    from diffusers import CogVideoXDPMScheduler

    true = CogVideoXDPMScheduler.get_mult
    return [(CogVideoXDPMScheduler, "get_mult", lambda self, *a: argument(tuple(true(self, *a))))]


# Guidance

@mutant(DDIM, "2b", "5b", "1.5")
def prompt_before_negative(pipe, spec):
    forward = pipe.transformer.forward
    return [(pipe.transformer, "forward", lambda **k: (torch.cat(forward(**k)[0].chunk(2)[::-1]),))]


def guidance(change):
    true = dumping.run_pipeline

    def wrong(pipe, request, *args, **k):
        return true(pipe, request | {"guidance_scale": change(request["guidance_scale"])}, *args, **k)
    return [(dumping, "run_pipeline", wrong)]


@family(DDIM, "2b", "5b", guided_from_the_prompt=lambda g: g + 1, guidance_fixed_at_5=lambda g: 5.0)
def guidance_scale(pipe, spec, argument):
    return guidance(argument)


@mutant("ddim.plain.final", "2b")
def guided_at_one(pipe, spec):
    """No guidance means no negative prompt; here it is looked at, with a scale above 1."""
    return [(dumping, "MODES", {**dumping.MODES, "plain": 1.5})]


def cosine(change):
    """The pipeline's cos(pi x^5) with x^5 replaced by change(x)."""
    from diffusers.pipelines.cogvideo import pipeline_cogvideox as module

    def wrong(angle):
        y = angle / math.pi
        return math.cos(math.pi * change(math.copysign(abs(y) ** 0.2, y)))
    return [(module, "math", types.SimpleNamespace(cos=wrong, pi=math.pi))]


@family("dpm.dynamic.final", "2b", "5b", dynamic_power_4=lambda x: x**4, dynamic_linear=lambda x: x)
def dynamic(pipe, spec, argument):
    return cosine(argument)


@family("ddim.dynamic.final", "2b", dynamic_power_4=lambda x: x**4)
def dynamic_ddim(pipe, spec, argument):
    return cosine(argument)


@mutant("dpm.dynamic.final", "2b")
def dynamic_by_step_index(pipe, spec):
    n, steps = spec["request"]["dynamic_steps"], iter(range(10**6))
    return cosine(lambda x: ((n - next(steps)) / n) ** 5)


@mutant("ddim.dynamic.final", "long_even")
@mutant("dpm.dynamic.final", "long_even")
def dynamic_by_length_of_timesteps(pipe, spec):
    """61 steps have 62 timesteps; the pipeline divides by what was asked for."""
    n = spec["request"]["dynamic_steps"]
    return cosine(lambda x: ((n * x + 1) / (n + 1)) ** 5)


@mutant("ddim.dynamic.final", "2b")
def dynamic_without_one(pipe, spec):
    return [(type(pipe), "guidance_scale", property(lambda self: self._guidance_scale - 1))]


# Noise

@mutant(DDIM, "2b", "1.5")
def noise_channels_before_frames(pipe, spec):
    noise = dumping.noise_of(pipe, spec["request"])
    b, t, c, h, w = noise.shape
    return [(pipe, "prepare_latents", lambda *a, **k: noise.view(b, c, t, h, w).transpose(1, 2).contiguous())]


@mutant(DDIM, "1.5")
def noise_padded_after_drawing(pipe, spec):
    def wrong(*_, **__):
        noise = torch.randn((1, 3, *true.shape[2:]), generator=torch.Generator().manual_seed(spec["request"]["seed"]))
        return torch.cat([noise[:, :1], noise], dim=1)
    true = dumping.noise_of(pipe, spec["request"])
    return [(pipe, "prepare_latents", wrong)]
