# SPDX-License-Identifier: Apache-2.0
"""Batches of scenes: attributes as indices, and the random numbers that make two scenes of one caption differ."""

import dataclasses

import torch

from demo.world import vocabulary

ATTRIBUTES = list(vocabulary.ATTRIBUTES)
JITTERS = 16


@dataclasses.dataclass
class Scenes:
    """index[attribute]: int64 [B]; jitter [B, JITTERS], uniform in [-1, 1]."""

    index: dict
    jitter: torch.Tensor

    def __len__(self):
        return self.jitter.shape[0]

    def __getitem__(self, rows):
        return Scenes({k: v[rows] for k, v in self.index.items()}, self.jitter[rows])

    def to(self, device):
        return Scenes({k: v.to(device) for k, v in self.index.items()}, self.jitter.to(device))

    def names(self, row):
        """{attribute: name} of one scene."""
        return {k: vocabulary.names(k)[int(v[row])] for k, v in self.index.items()}


def uniform(shape, generator):
    return torch.rand(shape, generator=generator, device=generator.device) * 2 - 1


def draw(count, generator, held_out=False):
    """`count` scenes on the generator's device, all of trained or all of held-out combinations; of any with None."""
    index = {}
    for name, values in vocabulary.ATTRIBUTES.items():
        weights = torch.tensor(vocabulary.WEIGHTS.get(name, [1.0] * len(values)), dtype=torch.float32,
                               device=generator.device)
        index[name] = torch.multinomial(weights, count, replacement=True, generator=generator)
    for _ in range({False: 20, True: 150, None: 0}[held_out]):  # draws again what is of the other kind: odds of 1e-10 remain
        wrong = vocabulary.held_out(index["shape"], index["colour"], index["motion"]) != held_out
        for name in ("shape", "colour", "motion"):
            again = torch.randint(len(vocabulary.ATTRIBUTES[name]), (count,), generator=generator, device=generator.device)
            index[name] = torch.where(wrong, again, index[name])
    return Scenes(index, uniform((count, JITTERS), generator))


@dataclasses.dataclass
class Window:
    """The part of each clip that is rendered: pixel and frame offsets [B] (int64) within clips of `size` [B] pixels square
    and `frames` [B] frames; the part is [depth, height, width]."""

    x: torch.Tensor
    y: torch.Tensor
    t: torch.Tensor
    size: torch.Tensor
    frames: torch.Tensor
    shape: tuple

    def __getitem__(self, rows):
        return Window(self.x[rows], self.y[rows], self.t[rows], self.size[rows], self.frames[rows], self.shape)

    def coordinates(self):
        """x [B,1,1,W], y [B,1,H,1] in [-1, 1] (y up), u [B,T,1,1] in [0, 1], pixel [B,1,1,1]: the size of one."""
        depth, height, width = self.shape
        device = self.x.device
        column = lambda v: v.float().view(-1, 1, 1, 1)
        size = column(self.size)
        x = (column(self.x) + torch.arange(width, device=device).view(1, 1, 1, -1) + 0.5) / size * 2 - 1
        y = 1 - (column(self.y) + torch.arange(height, device=device).view(1, 1, -1, 1) + 0.5) / size * 2
        u = (column(self.t) + torch.arange(depth, device=device).view(1, -1, 1, 1)) / (column(self.frames) - 1)
        return x, y, u, 2 / size


def whole(count, size, frames, device):
    """The window that is the whole clip."""
    zero = torch.zeros(count, dtype=torch.int64, device=device)
    return Window(zero, zero, zero, zero + size, zero + frames, (frames, size, size))
