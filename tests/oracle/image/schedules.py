# SPDX-License-Identifier: Apache-2.0
"""Schedules and steps of diffusers' FlowMatchEulerDiscreteScheduler, as the pipelines of FLUX and SD3 call it.

usage: schedules.py OUT_DIR

  OUT_DIR/cases.json           [{name, config, steps, sigmas (as the pipeline passes them, or null), mu or null, dtype}]
  OUT_DIR/dump.safetensors     <case>.sigmas [steps + 1], <case>.timesteps [steps], fp32 as they are;
                               <case>.x.I the latents before step I, <case>.v.I its prediction, <case>.x0.I
  OUT_DIR/mutants.safetensors  "<case>|<mutant>": other sigmas, or "<case>|<mutant>|x.1": another first step
"""

import hashlib
import json
import math
import os
import pathlib
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import diffusers  # noqa: E402
import numpy  # noqa: E402
import torch  # noqa: E402
from diffusers import FlowMatchEulerDiscreteScheduler  # noqa: E402
from diffusers.pipelines.flux.pipeline_flux import calculate_shift  # noqa: E402
from diffusers.pipelines.flux.pipeline_flux import retrieve_timesteps  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

SCHNELL = dict(shift=1.0)
DEV = dict(shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256,
           max_image_seq_len=4096)
SD3 = dict(shift=3.0)


def case(name, config, steps, tokens=None, **more):
    """own=True: the scheduler's own sigmas, as SD3; else FLUX's, or sigmas, the list that is given. dtype: float32."""
    own = more.pop("own", False)
    sigmas = None if own else numpy.linspace(1.0, 1 / steps, steps).tolist()
    return dict(name=name, config=config, steps=steps, tokens=tokens) | dict(sigmas=sigmas, dtype="float32") | more


CASES = [case(f"schnell.{n}", SCHNELL, n, 4096) for n in (1, 2, 4, 7)]
CASES += [case(f"dev.{n}.{tokens}", DEV, n, tokens) for n, tokens in
          ((28, 4096), (50, 1024), (13, 3072), (20, 1), (5, 16384), (3, 256))]
CASES += [case(f"sd3.{n}", SD3, n, own=True) for n in (1, 2, 4, 28, 40)]
CASES += [
    case("schnell.bf16", SCHNELL, 4, 4096, dtype="bfloat16"),
    case("dev.bf16", DEV, 6, 2304, dtype="bfloat16"),
    case("sd3.bf16", SD3, 6, own=True, dtype="bfloat16"),
    case("sd3.fp16", SD3, 5, own=True, dtype="float16"),
    case("sd3.dynamic", dict(DEV, max_shift=1.16), 9, 900, own=True),
    case("linear", dict(DEV, time_shift_type="linear"), 11, 700),
    case("terminal", dict(DEV, shift_terminal=0.1), 10, 1500),
    case("terminal.own", dict(SD3, shift_terminal=0.02), 10, own=True),
    case("inverted", dict(shift=1.0, invert_sigmas=True), 8),
    case("inverted.shifted", dict(shift=2.5, invert_sigmas=True), 8, own=True),
    case("trained_on_500", dict(shift=1.7, num_train_timesteps=500), 9, own=True),
    case("given", dict(shift=3.0), 5, sigmas=[1.0, 0.83, 0.5, 0.21, 0.07]),
    case("given.dynamic", DEV, 4, 2000, sigmas=[0.9, 0.7, 0.31, 0.0]),
]


def schedule_of(case, config=None, **over):
    scheduler = FlowMatchEulerDiscreteScheduler(**(config or case["config"]))
    c = scheduler.config
    mu = case["tokens"] and calculate_shift(case["tokens"], c.base_image_seq_len, c.max_image_seq_len, c.base_shift,
                                            c.max_shift)
    call = dict(sigmas=case["sigmas"] and numpy.array(case["sigmas"]), mu=mu) | over
    if call["sigmas"] is None:
        scheduler.set_timesteps(case["steps"], mu=call["mu"])
    else:
        retrieve_timesteps(scheduler, case["steps"], "cpu", **call)
    scheduler.set_begin_index(0)
    return scheduler, mu


def dump(case, out):
    scheduler, mu = schedule_of(case)
    name, dtype = case["name"], getattr(torch, case["dtype"])
    out[f"{name}.sigmas"], out[f"{name}.timesteps"] = scheduler.sigmas, scheduler.timesteps
    generator = torch.Generator().manual_seed(len(out))
    x = torch.randn((2, 5, 7), generator=generator).to(dtype)
    for i, t in enumerate(scheduler.timesteps):
        v = torch.randn(x.shape, generator=generator).to(dtype)
        out[f"{name}.x.{i}"], out[f"{name}.v.{i}"] = x, v
        out[f"{name}.x0.{i}"] = x.float() + (scheduler.sigmas[-1] - scheduler.sigmas[i]) * v.float()
        x = scheduler.step(v, t, x, return_dict=False)[0]
    out[f"{name}.x.{case['steps']}"] = x
    return dict(case, mu=mu)


def mutants(case, out):
    """Schedules that a plausible slip would give."""
    name, config, steps = case["name"], case["config"], case["steps"]
    right = schedule_of(case)[0].sigmas
    base, mu = numpy.array(case["sigmas"] or [], dtype=numpy.float32), schedule_of(case)[1]

    def add(mutant, sigmas):
        sigmas = torch.as_tensor(sigmas, dtype=torch.float32)
        assert sigmas.shape != right.shape or not torch.equal(sigmas, right), f"{name}|{mutant} is no mutant"
        out[f"{name}|{mutant}"] = sigmas.clone()

    add("no_last_zero", right[:-1])
    add("ends_at_the_other", torch.cat([right[:-1], 1 - right[-1:]]))
    if steps == 1:
        return  # sigma 1 alone, which no shift moves
    if not config.get("use_dynamic_shifting"):
        add("shift_plus_a_little", schedule_of(case, dict(config, shift=config["shift"] * 1.01))[0].sigmas)
    if not config.get("use_dynamic_shifting") and config["shift"] != 1:
        add("not_shifted", schedule_of(case, dict(config, shift=1.0))[0].sigmas)
    if case["sigmas"] is None and not config.get("use_dynamic_shifting"):
        train = config.get("num_train_timesteps", 1000)
        linear = numpy.linspace(1, 1 / train, steps)
        once = config["shift"] * linear / (1 + (config["shift"] - 1) * linear)
        if not config.get("shift_terminal") and not config.get("invert_sigmas"):
            add("shifted_once", numpy.append(once, 0))
        add("of_the_pipeline_of_flux", schedule_of(case, sigmas=numpy.linspace(1.0, 1 / steps, steps))[0].sigmas)
    if config.get("use_dynamic_shifting"):
        add("shift_in_place_of_mu", schedule_of(case, dict(config, use_dynamic_shifting=False))[0].sigmas)
        other = "linear" if config.get("time_shift_type") != "linear" else "exponential"
        add("other_time_shift", schedule_of(case, dict(config, time_shift_type=other))[0].sigmas)
        for key, value in (("base_shift", 0.4), ("max_shift", 1.3), ("base_image_seq_len", 300),
                           ("max_image_seq_len", 4000)):
            changed = schedule_of(case, dict(config, **{key: value}))[0].sigmas
            if not torch.equal(changed, right):  # a line that is fixed at one end does not move there
                add(f"other_{key}", changed)
        if other == "linear" and len(base) and not config.get("shift_terminal"):
            odds = 1 / numpy.maximum(base, 1e-9) - 1
            add("mu_not_exponential", numpy.append(mu / (mu + odds), 0))
    if config.get("shift_terminal"):
        add("not_stretched", schedule_of(case, dict(config, shift_terminal=None))[0].sigmas)
    if config.get("invert_sigmas"):
        add("not_inverted", schedule_of(case, dict(config, invert_sigmas=False))[0].sigmas)


def step_mutants(case, dumped, out):
    name = case["name"]
    x, v, sigmas = dumped[f"{name}.x.0"], dumped[f"{name}.v.0"], dumped[f"{name}.sigmas"]
    dt = sigmas[1] - sigmas[0]
    wrong = dict(backwards=x.float() - dt * v, sigma_for_dt=x.float() - sigmas[1] * v)
    if x.dtype != torch.float32:
        wrong["product_in_fp32"] = x.float() + dt * v.float()
        wrong["all_in_half"] = x + dt * v
    for mutant, result in wrong.items():
        result = result.to(v.dtype)
        if not torch.equal(result, dumped[f"{name}.x.1"]):
            out[f"{name}|{mutant}|x.1"] = result


def main():
    folder = pathlib.Path(sys.argv[1])
    mark = hashlib.sha256(pathlib.Path(__file__).read_bytes() + diffusers.__version__.encode()).hexdigest()
    if (folder / "stamp").exists() and (folder / "stamp").read_text() == mark:
        return print("up to date")
    diffusers.utils.logging.set_verbosity_error()
    numpy.seterr(divide="ignore")  # a sigma of 0 is legal: its odds are infinite
    folder.mkdir(parents=True, exist_ok=True)
    dumped, wrong, cases = {}, {}, []
    for item in CASES:
        cases.append(dump(item, dumped))
        mutants(item, wrong)
        step_mutants(item, dumped, wrong)
    for key, value in dumped.items():
        assert value.isfinite().all() and not math.isnan(value.float().sum()), key
    (folder / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")
    for file, tensors in (("dump", dumped), ("mutants", wrong)):
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / f"{file}.safetensors")
    print(f"{len(cases)} schedules, {len(wrong)} mutants")
    (folder / "stamp").write_text(mark)


if __name__ == "__main__":
    main()
