# SPDX-License-Identifier: Apache-2.0
"""Stage `dit`: trains the text encoder and the transformer on latents of the finished autoencoder."""

import copy
import dataclasses
import math
import time

import torch

from demo import checkpoint, parallel, sample, stage, tokenizer
from demo.model import autoencoder, text, transformer
from demo.optimizer import Optimizer
from demo.world import captions, render, scenes

PEAK = 2e-3
VARIANTS = 2  # captions of one clip
UNCONDITIONAL = 0.1  # of the captions are empty
EVERY = 48  # steps between two renewals of a part of the clips: at 24 they took a third of the time


@dataclasses.dataclass
class Size:
    """A size of clips: pixels, frames; clips a step, clips kept, clips at first, clips renewed at a time."""

    pixels: int
    frames: int
    batch: int
    keep: int
    first: int
    renew: int

    def latent(self):
        return 1 + (self.frames - 1) // 4, self.pixels // 8


SIZES = (Size(128, 17, 128, 40000, 10000, 128), Size(128, 33, 48, 8000, 1500, 24), Size(256, 33, 16, 2000, 512, 6))
TINY = (Size(32, 9, 2, 8, 4, 2), Size(32, 17, 2, 8, 4, 2))
ORDER = (0, 2, 0, 1, 0, 2)


def balance(vae, spread):
    """Divides each latent channel by its standard deviation, in the weights: nothing else changes."""
    channels = len(spread)
    with torch.no_grad():
        out = vae.encoder.conv_out.conv
        out.weight[:channels] /= spread.view(-1, 1, 1, 1, 1)
        out.bias[:channels] /= spread
        out.bias[channels:] -= 2 * spread.log()
        for name, module in vae.decoder.named_modules():
            if name == "conv_in" or name.endswith(("conv_y", "conv_b")):
                module.conv.weight *= spread.view(1, -1, 1, 1, 1)


@torch.no_grad()
def encode(vae, clips, block=8_000_000):
    """Means of clips [B, 3, T, H, W] as [B, T, C, h, w]."""
    step = max(1, block // clips[0, 0].numel())
    parts = []
    for some in clips.split(step):
        with torch.autocast(some.device.type, torch.bfloat16, enabled=some.is_cuda):
            parts.append(autoencoder.encode(vae, some.float())[0].float())
    return torch.cat(parts).transpose(1, 2).contiguous()


def spread_of(vae, device, tiny):
    """Standard deviation of each latent channel; 1 where the channel carries nothing."""
    count, pixels, frames = (4, 32, 9) if tiny else (512, 128, 17)
    some = scenes.draw(count, torch.Generator(device).manual_seed(11))
    latents = encode(vae, render.clips(some, scenes.whole(count, pixels, frames, device))[0])
    spread, mean = latents.std((0, 1, 3, 4)), latents.mean((0, 1, 3, 4))
    show = lambda v: " ".join(f"{x:.2f}" for x in v.tolist())
    print(f"latents: std {show(spread)}; mean {show(mean)}", flush=True)
    return torch.where(spread > 0.15, spread, 1.0)


class Clips:
    """Latents and captions of one size, a part of them renewed again and again."""

    def __init__(self, vae, words, size, generator):
        self.vae, self.words, self.size, self.generator = vae, words, size, generator
        frames, side = size.latent()
        self.latents = torch.empty(size.keep, frames, 16, side, side, device=generator.device, dtype=torch.float16)
        self.ids = torch.empty(size.keep, VARIANTS, tokenizer.LENGTH, device=generator.device, dtype=torch.int16)
        self.full, self.at, self.seed = 0, 0, generator.initial_seed()
        self.empty = words([""])[0].to(generator.device)
        for _ in range(-(-size.first // 256)):
            self.add(min(256, size.first))

    @torch.no_grad()
    def add(self, count):
        size, device = self.size, self.generator.device
        some = scenes.draw(count, self.generator)
        latents = encode(self.vae, render.clips(some, scenes.whole(count, size.pixels, size.frames, device))[0])
        self.seed += 1
        text_scenes = some.to("cpu")
        texts = [captions.of_scenes(text_scenes, VARIANTS * self.seed + i) for i in range(VARIANTS)]
        ids = torch.stack([self.words(t) for t in texts], 1).to(device, torch.int16)
        rows = (torch.arange(count, device=device) + self.at) % size.keep
        self.latents[rows], self.ids[rows] = latents.half(), ids
        self.at = (self.at + count) % size.keep
        self.full = min(size.keep, self.full + count)

    def next(self):
        """latents, ids, noise, timesteps: a batch. Timesteps are spread evenly over a distribution that is twice as dense
        in the middle, where shapes are decided, and two thirds as dense at the ends."""
        count, g = self.size.batch, self.generator
        draw = lambda *shape: torch.rand(shape, generator=g, device=g.device)
        rows = (draw(count) * self.full).long()
        ids = self.ids[rows, (draw(count) * VARIANTS).long()].long()
        ids = torch.where((draw(count, 1) < UNCONDITIONAL), self.empty, ids)
        u = (torch.arange(count, device=g.device) + draw(count)) / count
        t = (1000 * (u + torch.sin(2 * math.pi * u) / (4 * math.pi))).long().clamp(0, 999)
        latents = self.latents[rows].float()
        return latents, ids, torch.randn(latents.shape, generator=g, device=g.device), t


class Both(torch.nn.Module):
    """The two models that are trained together, under one set of names."""

    def __init__(self, pieces, device):
        super().__init__()
        self.t5 = text.build(pieces, device)
        self.transformer = transformer.build(device)

    def load(self, tensors):
        missing = self.load_state_dict(tensors, strict=False).missing_keys
        assert all("embed_tokens" in name for name in missing), missing  # tied to `shared`


def steps_of(both, optimizer, data, device):
    """One training step per size."""
    alphas = transformer.scheduler().alphas_cumprod.float().to(device)
    made = []
    for clips in data:
        frames, side = clips.size.latent()
        rope = transformer.rotary(frames, side, side, device)
        loss = lambda *batch, rope=rope: transformer.loss_of((both.t5, both.transformer), rope, alphas, batch)
        made.append(stage.Step(loss, optimizer, clips.next(), whole=False))
    return made


def train(both, average, clock, data):
    device = data[0].generator.device
    if device.type == "cuda" and stage.COMPILE:
        for block in both.transformer.transformer_blocks:
            block.compile(dynamic=False)
    optimizer = Optimizer(both.named_parameters(), transformer.is_matrix)
    steps = steps_of(both, optimizer, data, device)
    clock.start()
    step, shown, losses = 0, time.monotonic(), {}
    while not clock.over():
        optimizer.lr.fill_(checkpoint.rate(clock.fraction(), step, PEAK))
        which = ORDER[step % len(ORDER)] % len(data)
        losses[which] = steps[which](*data[which].next())
        average.update(step)
        step += 1
        if step % EVERY == 0:
            for clips in data:
                clips.add(clips.size.renew)
        if time.monotonic() - shown > 15:
            shown = time.monotonic()
            show = "; ".join(f"{data[i].size.pixels}x{data[i].size.frames} {a.item():.4f} ({b.item():.4f})"
                             for i, (a, b) in sorted(losses.items()))
            print(f"step {step}, {100 * clock.fraction():.1f} %: loss (of the noisier half) {show}", flush=True)
            if not math.isfinite(losses[0][0].item()):
                raise SystemExit("the loss is not finite; lower PEAK")
    return step


def check_agreement(both, words, device):
    """On a perturbed copy of the transformer: a new one's output is zero whatever goes before."""
    ids = words(["a red ball spins over a meadow", ""]).to(device)
    stage.require_agreement("text encoder", lambda: text.agrees(both.t5, ids))
    perturbed = copy.deepcopy(both.transformer)
    with torch.no_grad():
        for p in perturbed.parameters():
            p.add_(0.03 * torch.randn_like(p))
        embeds = text.encode(both.t5, ids)
    latents, t = torch.randn(2, 3, 16, 4, 6, device=device), torch.tensor([10, 900], device=device)
    stage.require_agreement("transformer", lambda: transformer.agrees(perturbed, latents, embeds, t))


def main(options):
    device = options.device
    tensors, state = checkpoint.load(checkpoint.find(options, "dit"), device)
    clock = checkpoint.Clock(options.seconds - (0 if options.tiny else 40), state, options.planned["dit"])
    vae = sample.load_vae(options)
    spread = torch.tensor(state["spread"], device=device) if state else spread_of(vae, device, options.tiny)
    parallel.agreed(spread)
    balance(vae, spread)
    words = tokenizer.Tokenizer(checkpoint.find(options, "tokenizer"))
    torch.manual_seed(2)
    both = Both(words.model.get_piece_size(), device)
    if tensors:
        both.load(tensors)
    check_agreement(both, words, device)
    calls = (state or {}).get("calls", 0)
    average = checkpoint.Average(both, 0.9993)
    count = lambda m: sum(p.numel() for p in m.parameters())
    print(f"dit: {count(both.t5):,} + {count(both.transformer):,} parameters, call {calls + 1}", flush=True)
    begun = time.monotonic()
    shared = [dataclasses.replace(s, batch=max(1, s.batch // parallel.COUNT)) for s in (TINY if options.tiny else SIZES)]
    data = [Clips(vae, words, size, torch.Generator(device).manual_seed(2000 + 100 * calls + i + 10_000 * parallel.RANK))
            for i, size in enumerate(shared)]
    print(f"{sum(c.full for c in data)} clips encoded in {time.monotonic() - begun:.0f} s", flush=True)
    steps = train(both, average, clock, data)
    if parallel.RANK:
        return
    print(f"{steps} steps in {clock.elapsed() - clock.before:.0f} s, {100 * clock.fraction():.0f} % of the plan", flush=True)
    state = clock.state(calls=calls + 1, steps=(state or {}).get("steps", 0) + steps, spread=spread.tolist())
    checkpoint.save(options.out / "dit", average.tensors(), state)
    del data
    average.swap()
    for block in both.transformer.transformer_blocks:
        block._compiled_call_impl = None  # not worth compiling for the preview's shapes
    pipe = sample.pipeline(both.t5, both.transformer, vae, checkpoint.find(options, "tokenizer"))
    sample.preview(pipe, options.out / "dit" / "sheet.png", options.tiny)
