# SPDX-License-Identifier: Apache-2.0
"""Stage `reader`: a network that tells the attributes of a clip; it judges the model and is no part of it.

It is trained on rendered clips of all combinations, blurred, tinted and with noise, and never sees a generated one."""

import math
import time

import torch
import torch.nn.functional as F

from demo import checkpoint, stage
from demo.optimizer import Optimizer
from demo.world import render, scenes, vocabulary

FRAMES, SIDE = 9, 64  # what it looks at, of any clip
BATCH, POOL, PEAK = 256, 2048, 1.5e-3
CHECKED = ("shape", "colour", "motion")


class Reader(torch.nn.Module):
    """[B, 3, 9, 64, 64] in [-1, 1] -> {attribute: logits}. Coordinates are channels: where things are matters."""

    def __init__(self):
        super().__init__()
        widths = (5, 32, 64, 128, 192, 256)
        self.down = torch.nn.ModuleList(torch.nn.Conv3d(a, b, (1, 3, 3), (1, 2, 2), (0, 1, 1))
                                        for a, b in zip(widths, widths[1:]))
        self.mix = torch.nn.ModuleList(torch.nn.Conv3d(b, b, 3, padding=1) for b in widths[2:])
        self.norms = torch.nn.ModuleList(torch.nn.GroupNorm(8, b) for b in widths[1:])
        self.joint = torch.nn.Linear(widths[-1] * FRAMES * 4, 256)
        self.heads = torch.nn.ModuleDict({k: torch.nn.Linear(256, len(v)) for k, v in vocabulary.ATTRIBUTES.items()})

    def forward(self, clips):
        at = torch.linspace(-1, 1, SIDE, device=clips.device)
        shape = (len(clips), 1, FRAMES, SIDE, SIDE)
        x = torch.cat([clips, at.view(1, 1, 1, 1, -1).expand(shape), at.view(1, 1, 1, -1, 1).expand(shape)], 1)
        for i, (down, norm) in enumerate(zip(self.down, self.norms)):
            x = F.silu(norm(down(x)))
            if i:
                x = x + F.silu(self.mix[i - 1](x))
        x = F.silu(self.joint(x.flatten(1)))
        return {k: head(x) for k, head in self.heads.items()}


def look(clips):
    """Clips of any size and length [B, 3, T, H, W] -> [B, 3, 9, 64, 64]."""
    at = torch.linspace(0, clips.shape[2] - 1, FRAMES).round().long().to(clips.device)
    x = clips[:, :, at].transpose(1, 2).flatten(0, 1).float()
    return F.interpolate(x, (SIDE, SIDE), mode="area").unflatten(0, (-1, FRAMES)).transpose(1, 2).contiguous()


def rendered(count, generator, held_out=None):
    """(looked-at clips, scenes), a block at a time."""
    some = scenes.draw(count, generator, held_out)
    parts = []
    for begin in range(0, count, 256):
        part = some[begin:begin + 256]
        parts.append(look(render.clips(part, scenes.whole(len(part), 128, FRAMES, generator.device))[0]))
    return torch.cat(parts), some


def blemish(clips, generator):
    """What an autoencoder and a sampler may do to a clip: blur, tint, noise, each to a random degree."""
    draw = lambda *shape: torch.rand(shape, generator=generator, device=clips.device)
    count = len(clips)
    flat = clips.transpose(1, 2).flatten(0, 1)
    soft = F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), mode="replicate"), 3, 1)
    softer = F.avg_pool2d(F.pad(soft, (1, 1, 1, 1), mode="replicate"), 3, 1)
    soft, softer = (s.unflatten(0, (count, -1)).transpose(1, 2) for s in (soft, softer))
    amount = draw(count, 1, 1, 1, 1) * 2
    x = clips + (soft - clips) * amount.clamp(max=1) + (softer - soft) * (amount - 1).clamp(min=0)
    x = x * (1 + 0.1 * (draw(count, 3, 1, 1, 1) - 0.5)) + 0.1 * (draw(count, 3, 1, 1, 1) - 0.5)
    return x + 0.06 * draw(count, 1, 1, 1, 1) * torch.randn(x.shape, generator=generator, device=x.device)


def loss_of(model, clips, targets):
    with torch.autocast(clips.device.type, torch.bfloat16, enabled=clips.is_cuda):
        logits = model(clips)
    losses = [(3.0 if k in CHECKED else 0.5) * F.cross_entropy(v.float(), targets[:, i], label_smoothing=0.02)
              for i, (k, v) in enumerate(logits.items())]
    right = [(logits[k].argmax(1) == targets[:, scenes.ATTRIBUTES.index(k)]).float().mean() for k in CHECKED]
    return sum(losses), torch.stack(right)


@torch.no_grad()
def read(model, clips):
    """{attribute: index [B]} of clips of any size."""
    parts = [model(look(c)) for c in clips.split(64)]
    return {k: torch.cat([p[k] for p in parts]).argmax(1) for k in vocabulary.ATTRIBUTES}


@torch.no_grad()
def score(model, count, seed, held_out):
    """{attribute: share read right} on rendered clips that were not trained on."""
    clips, some = rendered(count, torch.Generator(next(model.parameters()).device).manual_seed(seed), held_out)
    logits = [model(c) for c in clips.split(256)]
    return {k: (torch.cat([p[k] for p in logits]).argmax(1) == some.index[k]).float().mean().item()
            for k in vocabulary.ATTRIBUTES}


def load(options):
    folder, device = checkpoint.find(options, "reader"), options.device
    tensors, _ = checkpoint.load(folder, device)
    if tensors is None:
        raise SystemExit(f"{folder} holds no reader: train the stage `reader` first")
    model = Reader().to(device)
    model.load_state_dict(tensors)
    return model.eval()


def is_matrix(name, p):
    return p.ndim >= 2 and "heads" not in name and p.shape[1] >= 16


def train(model, average, clock, options, seed):
    batch, pool = (4, 8) if options.tiny else (BATCH, POOL)
    generator = torch.Generator(options.device).manual_seed(seed)
    optimizer = Optimizer(model.named_parameters(), is_matrix)
    run, step, shown = None, 0, time.monotonic()
    while not clock.over():
        if step % (pool // batch) == 0:
            clips, some = rendered(pool, generator)
            targets = torch.stack([some.index[k] for k in scenes.ATTRIBUTES], 1)
        rows = slice(step % (pool // batch) * batch, (step % (pool // batch) + 1) * batch)
        seen = blemish(clips[rows], generator)
        if run is None:
            run = stage.Step(lambda *inputs: loss_of(model, *inputs), optimizer, (seen, targets[rows]), whole=False)
            clock.start()
        optimizer.lr.fill_(checkpoint.rate(clock.fraction(), step, PEAK))
        loss, right = run(seen, targets[rows])
        average.update(step)
        step += 1
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            shares = ", ".join(f"{k} {100 * r:.1f} %" for k, r in zip(CHECKED, right.tolist()))
            print(f"step {step}, {100 * clock.fraction():.1f} %: loss {loss.item():.3f}; {shares}", flush=True)
            if not math.isfinite(loss.item()):
                raise SystemExit("the loss is not finite; lower PEAK")
    return step


def main(options):
    tensors, state = checkpoint.load(checkpoint.find(options, "reader"), options.device)
    clock = checkpoint.Clock(options.seconds - (0 if options.tiny else 15), state, options.planned["reader"])
    torch.manual_seed(3)
    model = Reader().to(options.device)
    if tensors:
        model.load_state_dict(tensors)
    average = checkpoint.Average(model, 0.998)
    calls = (state or {}).get("calls", 0)
    print(f"reader: {sum(p.numel() for p in model.parameters()):,} parameters, call {calls + 1}", flush=True)
    steps = train(model, average, clock, options, 3000 + calls)
    average.swap()
    scores = score(model, 8 if options.tiny else 4096, 31, True)
    print(f"{steps} steps, {100 * clock.fraction():.0f} % of the plan; on rendered clips of held-out combinations: " +
          ", ".join(f"{k} {100 * v:.2f} %" for k, v in scores.items()), flush=True)
    average.swap()
    checkpoint.save(options.out / "reader", average.tensors(), clock.state(calls=calls + 1, scores=scores))
