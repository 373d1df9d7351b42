# SPDX-License-Identifier: Apache-2.0
"""Small checkpoints and the clock of a stage.

A stage's folder holds `state.json` (elapsed seconds, planned seconds, whatever else) and its averaged weights as fp16 in
`weights-N.safetensors`, each below 15 MiB. The optimizer's moments are not kept: a resumed stage warms up again."""

import json
import math
import pathlib
import time

import torch
from safetensors.torch import load_file, save_file

from demo import parallel

SHARD = 14_500_000  # bytes
REWARM = 200  # steps


def save(folder, tensors, state):
    """Writes the tensors (fp16 where they are floating) and the state into `folder`, replacing what is there."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("weights-*.safetensors"):
        old.unlink()
    shards, size = [{}], 0
    for name, value in tensors.items():
        value = value.detach().to("cpu", torch.float16 if value.is_floating_point() else value.dtype).contiguous()
        if size + value.nbytes > SHARD and shards[-1]:
            shards.append({})
            size = 0
        shards[-1][name] = value.clone()
        size += value.nbytes
    for i, shard in enumerate(shards):
        save_file(shard, folder / f"weights-{i}.safetensors")
    (folder / "state.json").write_text(json.dumps(state, indent=1) + "\n")


def find(options, stage):
    """A stage's folder: what an earlier command left in --out, else what is in --work."""
    made = options.out / stage
    return made if made.exists() else options.work / stage


def load(folder, device):
    """(tensors, state), or (None, None) where the stage has not begun."""
    if not (folder / "state.json").exists():
        return None, None
    tensors = {}
    for file in sorted(folder.glob("weights-*.safetensors")):
        tensors |= {k: v.float() if v.is_floating_point() else v for k, v in load_file(file, device=str(device)).items()}
    return tensors, json.loads((folder / "state.json").read_text())


class Clock:
    """GPU time of a stage in seconds (wall time by the number of GPUs), and the fraction of its plan that is done; only
    time spent training counts."""

    def __init__(self, call_seconds, state, planned_seconds):
        self.end = time.monotonic() + call_seconds
        self.before = (state or {}).get("elapsed", 0.0)
        self.planned = planned_seconds
        self.begun = None
        self.until = 1.0  # the fraction at which this call ends
        self.done = min(1.0, self.before / planned_seconds)

    def start(self):
        self.begun = time.monotonic()

    def elapsed(self):
        return self.before + (parallel.COUNT * (time.monotonic() - self.begun) if self.begun else 0.0)

    def fraction(self):
        """As of the last call of `over`."""
        return self.done

    def over(self):
        """Whether this call's training ends; all processes ask it once a step, and the first one's clock decides."""
        now, late = min(1.0, self.elapsed() / self.planned), time.monotonic() >= self.end
        self.done, late = parallel.agreed(torch.tensor([now, late], dtype=torch.float64)).tolist()
        return bool(late) or self.done >= self.until

    def state(self, **more):
        return {"elapsed": round(self.elapsed(), 1), "planned": self.planned, **more}


def rate(fraction, step, peak, floor=0.02):
    """Learning rate: a cosine over the plan, after a warm-up at the start of every call."""
    cosine = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * fraction))
    return peak * cosine * min(1.0, (step + 1) / REWARM)


class Average:
    """Exponential moving average of a module's parameters, updated every few steps."""

    EVERY = 4

    def __init__(self, module, decay):
        self.names = [n for n, _ in module.named_parameters()]
        self.live = [p for _, p in module.named_parameters()]
        self.mean = [p.detach().clone() for p in self.live]
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, step):
        if step % self.EVERY:
            return
        self.updates += 1
        decay = min(self.decay**self.EVERY, self.updates / (self.updates + 10))
        torch._foreach_lerp_(self.mean, self.live, 1 - decay)

    def tensors(self):
        return dict(zip(self.names, self.mean))

    def swap(self):
        """Exchanges the live weights and the mean, in place; call again to undo."""
        with torch.no_grad():
            for live, mean in zip(self.live, self.mean):
                kept = live.clone()
                live.copy_(mean)
                mean.copy_(kept)
