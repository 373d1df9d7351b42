# SPDX-License-Identifier: Apache-2.0
"""Latents of every step of diffusers' two CogVideoX schedulers on seeded random predictions.

samplers.py OUT_DIR writes cases.json (a list of {name, config, steps, dtype, shape, predictions}, for
mutants also mutant) and samplers.safetensors: predictions [64, shape] of each shape, <name> [steps, ...] latents after each step, timesteps of every
possible step count. A mutant is the same case run through a scheduler with one fault.
"""
import inspect
import itertools
import json
import pathlib
import sys

import torch
from diffusers.schedulers import scheduling_ddim_cogvideox, scheduling_dpm_cogvideox
from safetensors.torch import save_file

MODULES = {"ddim": scheduling_ddim_cogvideox, "dpm": scheduling_dpm_cogvideox}
CLASSES = {"ddim": "CogVideoXDDIMScheduler", "dpm": "CogVideoXDPMScheduler"}
SHAPES = [[2, 3, 5, 7], [1, 1, 3, 3], [1, 3, 4, 5, 3]]
STEPS = [1, 2, 3, 7, 50]
SPACINGS = ["linspace", "leading", "trailing"]
SEED = 11

PREVIOUS = "prev_timestep = timestep - self.config.num_train_timesteps // self.num_inference_steps"
NEXT = """following = self.timesteps[self.timesteps < timestep]
        prev_timestep = following[0] if len(following) else torch.tensor(-1)"""
SECOND_DRAW = """            noise = randn_tensor(
                sample.shape,
                generator=generator,
                device=sample.device,
                dtype=sample.dtype,
            )
"""
# name: (schedulers, changed config, (text, replacement) in the scheduler's source)
MUTANTS = {
    "beta_start": (("ddim", "dpm"), {"beta_start": 0.0008501}, None),
    "beta_end": (("ddim", "dpm"), {"beta_end": 0.01201}, None),
    "snr_shift": (("ddim", "dpm"), {"snr_shift_scale": 3.001}, None),
    "no_zero_snr": (("ddim", "dpm"), {"rescale_betas_zero_snr": False}, None),
    "zero_snr_first": (("ddim", "dpm"), {}, ("alphas_bar_sqrt *= alphas_bar_sqrt_0 /", "alphas_bar_sqrt *= 1.00001 * alphas_bar_sqrt_0 /")),
    "spacing": (("ddim", "dpm"), {"timestep_spacing": "leading"}, None),
    "prediction": (("ddim", "dpm"), {"prediction_type": "sample"}, None),
    "betas": (("ddim", "dpm"), {"beta_schedule": "linear"}, None),
    "trailing_off_by_one": (("ddim", "dpm"), {}, ("timesteps -= 1", "timesteps -= 2")),
    "next_timestep": (("ddim", "dpm"), {}, (PREVIOUS, NEXT)),
    "final_alpha": (("ddim", "dpm"), {"set_alpha_to_one": False}, None),
    "noise_sign": (("dpm",), {}, ("mult_noise = ", "mult_noise = -1 * ")),
    "one_draw": (("dpm",), {}, (SECOND_DRAW, "")),
    "first_order": (("dpm",), {}, ("old_pred_original_sample is None or", "True or")),
    "second_order_weight": (("dpm",), {}, ("1 / (2 * r)\n            return", "1 / (2.001 * r)\n            return")),
}


def scheduler_class(name, edit=None):
    if edit is None:
        return getattr(MODULES[name], CLASSES[name])
    source = inspect.getsource(MODULES[name]).replace("from ..", "from diffusers.")
    source = source.replace("from .scheduling_utils", "from diffusers.schedulers.scheduling_utils")
    assert source.count(edit[0]) >= 1, (name, edit[0])
    scope = {"__name__": "mutant"}
    exec(compile(source.replace(*edit), "mutant", "exec"), scope)
    return scope[CLASSES[name]]


def run(case, predictions, edit=None, changes={}):
    """The loop of CogVideoXPipeline around the scheduler."""
    kind = "dpm" if case["config"]["_class_name"] == CLASSES["dpm"] else "ddim"
    config = {k: v for k, v in {**case["config"], **changes}.items() if k != "_class_name"}
    scheduler = scheduler_class(kind, edit)(**config)
    scheduler.set_timesteps(case["steps"])
    assert len(scheduler.timesteps) == case.get("timesteps", case["steps"]), case
    dtype = getattr(torch, case["dtype"])
    generator = torch.Generator("cpu").manual_seed(SEED)
    latents = torch.randn(case["shape"], generator=generator, dtype=dtype)
    old, out = None, []
    for i, t in enumerate(scheduler.timesteps):
        v = predictions[i]
        if kind == "ddim":
            latents = scheduler.step(v, t, latents, generator=generator, return_dict=False)[0]
        else:
            back = scheduler.timesteps[i - 1] if i > 0 else None
            latents, old = scheduler.step(v, old, t, back, latents, generator=generator, return_dict=False)
        latents = latents.to(dtype)
        out.append(latents)
    return torch.stack(out)


def make_cases():
    cases = []
    released = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    product = itertools.product(CLASSES, STEPS, SPACINGS, [1.0, 3.0], ["epsilon", "sample", "v_prediction"], [True, False],
                                [True, False], ["float32", "bfloat16", "float16"])
    for n, (kind, steps, spacing, snr, prediction, zero_snr, alpha_one, dtype) in enumerate(product):
        # The first of these timesteps has alpha 0, by which epsilon divides.
        if prediction == "epsilon" and zero_snr and (spacing == "trailing" or (spacing == "linspace" and steps > 1)):
            continue
        config = dict(_class_name=CLASSES[kind], **released, snr_shift_scale=snr, prediction_type=prediction,
                      rescale_betas_zero_snr=zero_snr, set_alpha_to_one=alpha_one, timestep_spacing=spacing)
        cases.append(dict(name=f"{kind}.{n}", config=config, steps=steps, dtype=dtype, shape=SHAPES[n % len(SHAPES)]))
    other = [{}, {"steps_offset": 1, "prediction_type": "v_prediction"}, {"beta_schedule": "linear"},
             {"beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing"},
             {"num_train_timesteps": 333, "timestep_spacing": "trailing", "prediction_type": "v_prediction"},
             {"beta_start": 0.0001, "beta_end": 0.02, "snr_shift_scale": 2.5, "prediction_type": "sample"}]
    for kind, (n, config), dtype in itertools.product(CLASSES, enumerate(other), ["float32", "bfloat16"]):
        cases.append(dict(name=f"{kind}.other.{n}.{dtype}", config=dict(_class_name=CLASSES[kind], **config), steps=9,
                          dtype=dtype, shape=SHAPES[0]))
        if n == 0:  # floating error gives 61 trailing steps a 62nd timestep: -1, the last of the table
            config = dict(timestep_spacing="trailing", prediction_type="v_prediction", rescale_betas_zero_snr=True)
            cases.append(dict(name=f"{kind}.one_more.{dtype}", config=dict(_class_name=CLASSES[kind], **config), steps=61,
                              dtype=dtype, shape=SHAPES[0], timesteps=62))
    return cases


def make_mutants():
    config = dict(snr_shift_scale=3.0, prediction_type="v_prediction", rescale_betas_zero_snr=True,
                  timestep_spacing="trailing")
    out = []
    for name, (kinds, changes, edit) in MUTANTS.items():
        for kind in kinds:
            # 7 steps of 1000 // 7 do not reach the final alpha; 50 steps do not tell the step's length from the spacing's.
            case = dict(name=f"{kind}.mutant.{name}", mutant=name, config=dict(_class_name=CLASSES[kind], **config),
                        steps=50 if name == "final_alpha" else 7, dtype="float32", shape=SHAPES[0])
            out.append((case, changes, edit))
    return out


def all_timesteps():
    """For each spacing the timesteps of 1, 2, ... 1000 steps, one after another, and how many each has."""
    out = {}
    for spacing in SPACINGS:
        scheduler = scheduler_class("ddim")(timestep_spacing=spacing)
        lists = []
        for steps in range(1, 1001):
            scheduler.set_timesteps(steps)
            lists.append(scheduler.timesteps.to(torch.int32))
        out[f"timesteps.{spacing}"] = torch.cat(lists)
        out[f"lengths.{spacing}"] = torch.tensor([len(t) for t in lists], dtype=torch.int32)
    return out


def main(out_dir):
    out_dir.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    tensors = all_timesteps()
    generator = torch.Generator("cpu").manual_seed(5)
    for n, shape in enumerate(SHAPES):
        tensors[f"predictions.{n}"] = torch.randn([64, *shape], generator=generator)
    cases = make_cases()
    for case in cases:
        tensors[case["name"]] = run(case, tensors[f"predictions.{SHAPES.index(case['shape'])}"])
    for case, changes, edit in make_mutants():
        cases.append(case)
        tensors[case["name"]] = run(case, tensors["predictions.0"], edit, changes)
    for case in cases:
        case["predictions"] = f"predictions.{SHAPES.index(case['shape'])}"
    save_file(tensors, out_dir / "samplers.safetensors")
    (out_dir / "cases.json").write_text(json.dumps(cases))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
