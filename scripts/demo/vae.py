# SPDX-License-Identifier: Apache-2.0
"""Stage `vae`: trains the autoencoder on crops around the objects, then on larger windows."""

import dataclasses
import math
import time

import torch
import torch.nn.functional as F

from demo import checkpoint, parallel, stage
from demo.model import autoencoder
from demo.optimizer import Optimizer
from demo.world import motion, pictures, render, scenes

MOVING = 3.0  # weight of the object and its surroundings, on top of 1


@dataclasses.dataclass
class Phase:
    """Windows of one shape: batch, frames, pixels; how many are rendered at once; peak learning rate; what a nat costs."""

    batch: int
    frames: int
    pixels: int
    pool: int
    peak: float
    kl: float


# Up to which part of the plan: small crops, then whole clips while information has its price: a decoder that needs every
# latent to within 0.5 % (1e-4: 42 dB, 5 nats a latent) shows each error of the transformer; with 2 nats noise of that size
# is lost on it. One call trains one phase.
PHASES = ((0.45, Phase(64, 9, 48, 2048, 3e-3, 1e-4)), (1.00, Phase(6, 17, 128, 192, 3e-3, 8e-3)))
TINY = ((1.00, Phase(2, 9, 32, 8, 2e-3, 1e-4)),)
NEARLY = 0.02  # of the plan: too little for a call of its own


def windows(some, phase, generator):
    """Mostly about the edge of the object, of clips of both sizes that the model is meant for."""
    count, device = len(some), generator.device
    draw = lambda: torch.rand(count, generator=generator, device=device)
    large = draw() < 0.3
    size = torch.where(large, 256, 128)
    frames = torch.where(large ^ (draw() < 0.2), 33, 17)
    first = (draw() * (frames - phase.frames + 1)).long()
    u = (first + phase.frames // 2) / (frames - 1)
    x, y, radius, _, _ = (p.reshape(-1) for p in motion.pose(some, u.view(-1, 1, 1, 1)))
    angle, reach = draw() * 2 * math.pi, radius * (0.5 + 0.7 * draw())
    near = draw() < 0.75
    at = lambda centre, offset, sign: torch.where(near, sign * (centre + reach * offset) + 1, 2 * draw()) * size / 2
    corner = lambda c: (c - phase.pixels / 2).clamp(min=0).minimum(size - phase.pixels).long()
    return scenes.Window(corner(at(x, torch.cos(angle), 1)), corner(at(y, torch.sin(angle), -1)), first, size, frames,
                         (phase.frames, phase.pixels, phase.pixels))


class Pool:
    """Rendered windows, made anew whenever they are used up."""

    def __init__(self, phase, generator):
        self.phase, self.generator, self.at = phase, generator, phase.pool

    def next(self):
        if self.at + self.phase.batch > self.phase.pool:
            some = scenes.draw(self.phase.pool, self.generator)
            self.clips, self.cover = render.clips(some, windows(some, self.phase, self.generator), torch.float16)
            self.at = 0
        rows = slice(self.at, self.at + self.phase.batch)
        self.at += self.phase.batch
        return self.clips[rows].float(), self.cover[rows].float()


def smooth(e):
    """About e^2 / 0.1 for small errors and |e| for large ones."""
    return torch.sqrt(e * e + 0.0025) - 0.05


def loss_of(vae, kl_weight, clip, cover, noise):
    """Training loss, and the batch's squared error (for its PSNR) and nats a latent."""
    with torch.autocast(clip.device.type, torch.bfloat16, enabled=clip.is_cuda):
        mean, log_variance = autoencoder.encode(vae, clip)
        mean, log_variance = mean.float(), log_variance.float()
        z = mean + torch.exp(0.5 * log_variance) * noise
        out = autoencoder.decode(vae, z)
    e = out.float() - clip
    weight = 1 + MOVING * F.max_pool3d(cover.unsqueeze(1), (1, 9, 9), 1, (0, 4, 4))
    weight = weight / weight.mean()
    loss = (weight * smooth(e)).mean() + 2 * (weight * e * e).mean()
    loss = loss + 0.5 * sum(e.diff(dim=d).abs().mean() for d in (2, 3, 4))
    coarse = e
    for _ in range(2):
        coarse = F.avg_pool3d(coarse, (1, 2, 2))
        loss = loss + 0.5 * coarse.abs().mean()
    kl = 0.5 * (mean * mean + log_variance.exp() - 1 - log_variance).mean()
    return loss + kl_weight * kl, torch.stack([(e.detach() ** 2).mean(), kl.detach()])


def is_matrix(name, p):
    return p.ndim >= 4 and p.shape[0] >= 16 and p.shape[1] >= 16 and "conv_y" not in name and "conv_b" not in name


def psnr(a, b):
    """Per clip, of 8-bit pictures."""
    difference = pictures.to_bytes(a).float() - pictures.to_bytes(b).float()
    return 10 * torch.log10(255**2 / difference.square().flatten(1).mean(1).clamp(min=1e-3))


@torch.no_grad()
def judge(vae, count, size, frames):
    """Held-out whole clips through diffusers' own chunked encode and decode: (clips, reconstructions, PSNRs)."""
    device = next(vae.parameters()).device
    some = scenes.draw(count, torch.Generator(device).manual_seed(99), held_out=True)
    clips, _ = render.clips(some, scenes.whole(count, size, frames, device))
    made = torch.cat([vae.decode(vae.encode(c).latent_dist.mode()).sample for c in clips.split(4)])
    return clips, made, psnr(clips, made)


def report(vae, average, out, tiny):
    """PSNR of the averaged weights, printed, and a contact sheet: originals above reconstructions."""
    average.swap()
    rows, numbers = [], {}
    for count, size, frames in ((2, 32, 9),) if tiny else ((64, 128, 17), (6, 256, 33)):
        clips, made, values = judge(vae, count, size, frames)
        numbers[f"psnr_{size}x{size}x{frames}"] = round(values.mean().item(), 2)
        print(f"PSNR {size}x{size}x{frames}: mean {values.mean():.2f} dB, worst {values.min():.2f}, best "
              f"{values.max():.2f} over {count} held-out clips", flush=True)
        if not rows:
            rows = [c for i in range(0, min(count, 16), 2) for c in (clips[i], clips[i + 1], made[i], made[i + 1])]
    pictures.sheet(out / "sheet.png", rows, 5, 2)
    average.swap()
    return numbers


def lay_out(vae, phase):
    """Puts the weights into the memory format that is faster here."""
    widths = autoencoder.CONFIG["block_out_channels"]
    layout = stage.faster_layout([(phase.batch, widths[i], phase.frames, phase.pixels >> i, phase.pixels >> i)
                                  for i in range(3)])
    for p in vae.parameters():
        if p.ndim == 5:
            p.data = p.data.contiguous(memory_format=layout)
        elif p.ndim == 4 and layout == torch.channels_last_3d:
            p.data = p.data.contiguous(memory_format=torch.channels_last)


def train(vae, average, clock, phase, seed):
    """Steps until the clock is over; returns how many."""
    device = next(vae.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    optimizer = Optimizer(vae.named_parameters(), is_matrix)
    pool = Pool(phase, generator)
    clip, cover = pool.next()
    if vae.encoder.conv_in.conv.weight.is_contiguous(memory_format=torch.channels_last_3d):
        clip = clip.contiguous(memory_format=torch.channels_last_3d)
    latent = (phase.batch, 16, 1 + (phase.frames - 1) // 4, phase.pixels // 8, phase.pixels // 8)
    run = stage.Step(lambda *inputs: loss_of(vae, phase.kl, *inputs), optimizer, (clip, cover, torch.zeros(latent, device=device)))
    clock.start()
    step, shown = 0, time.monotonic()
    while not clock.over():
        optimizer.lr.fill_(checkpoint.rate(clock.fraction(), step, phase.peak))
        noise = torch.randn(latent, generator=generator, device=device)
        loss, more = run(*pool.next(), noise)
        average.update(step)
        step += 1
        if time.monotonic() - shown > 10:
            shown = time.monotonic()
            error, nats = more.tolist()
            print(f"step {step}, {100 * clock.fraction():.1f} %: loss {loss.item():.4f}, PSNR of the windows "
                  f"{10 * math.log10(4 / error):.2f}, {nats:.2f} nats a latent", flush=True)
            if not math.isfinite(loss.item()):
                raise SystemExit("the loss is not finite; lower Phase.peak")
    return step


def main(options):
    device = options.device
    tensors, state = checkpoint.load(checkpoint.find(options, "vae"), device)
    clock = checkpoint.Clock(options.seconds - (0 if options.tiny else 30), state, options.planned["vae"])
    torch.manual_seed(1)
    vae = autoencoder.build(device)
    if tensors:
        vae.load_state_dict(tensors)
    calls = (state or {}).get("calls", 0)
    phases = TINY if options.tiny else PHASES
    clock.until, phase = next((p for p in phases if clock.fraction() < p[0] - NEARLY), phases[-1])
    phase = dataclasses.replace(phase, batch=max(1, phase.batch // parallel.COUNT), pool=phase.pool // parallel.COUNT)
    sample = torch.rand(2, 3, 9, 32, 48, device=device) * 2 - 1
    stage.require_agreement("autoencoder", lambda: autoencoder.agrees(vae, sample))
    lay_out(vae, phase)
    average = checkpoint.Average(vae, 0.999)
    print(f"vae: {sum(p.numel() for p in vae.parameters()):,} parameters, call {calls + 1}, {phase}", flush=True)
    begun = time.monotonic()
    steps = train(vae, average, clock, phase, 1000 + calls + 100 * parallel.RANK)
    if parallel.RANK:
        return
    print(f"{steps} steps in {clock.elapsed() - clock.before:.0f} s after {clock.begun - begun:.0f} s of preparation; "
          f"{100 * clock.fraction():.0f} % of the plan is done", flush=True)
    history = (state or {}).get("steps", 0) + steps
    state = clock.state(calls=calls + 1, steps=history)
    checkpoint.save(options.out / "vae", average.tensors(), state)
    state |= report(vae, average, options.out / "vae", options.tiny)
    checkpoint.save(options.out / "vae", average.tensors(), state)
