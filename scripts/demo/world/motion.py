# SPDX-License-Identifier: Apache-2.0
"""Where things are at time u (0 to 1 over the clip, however long it is): the object's pose and the camera."""

import math

import torch

from demo.world import vocabulary

RADIUS = {"medium": 0.49, "small": 0.40, "big": 0.58}
MOTION = {name: i for i, name in enumerate(vocabulary.names("motion"))}
CAMERA = {name: i for i, name in enumerate(vocabulary.names("camera"))}


def pick(index, values):
    """values[index] as [B,1,1,1]."""
    return torch.tensor(values, device=index.device)[index].view(-1, 1, 1, 1)


def is_value(index, value):
    return (index == value).float().view(-1, 1, 1, 1)


def pose(scenes, u):
    """x, y of the centre, radius, squash (height over width) and angle of the object, each [B,T,1,1]."""
    motion = scenes.index["motion"]
    jitter = [scenes.jitter[:, i].view(-1, 1, 1, 1) for i in range(6)]
    on = lambda name: is_value(motion, MOTION[name])
    along = on("glides right") - on("glides left")
    upward = on("rises") - on("sinks")
    reach = (0.36 + 0.05 * jitter[0]) * (2 * u - 1)
    x = along * reach + (1 - along.abs()) * 0.12 * jitter[1]
    y = upward * 0.88 * reach + (1 - upward.abs()) * 0.08 * jitter[2] - 0.02
    y = y + on("hovers") * 0.025 * torch.sin(2 * math.pi * (u + jitter[3]))
    hop = torch.sin(2 * math.pi * u).abs()
    y = y + on("bounces") * (0.32 * hop - 0.2)
    squash = 1 - on("bounces") * 0.14 * torch.exp(-10 * hop)
    scale = 1 + (on("grows") - on("shrinks")) * 0.27 * (2 * u - 1)
    radius = pick(scenes.index["size"], [RADIUS[n] for n in vocabulary.names("size")]) * (1 + 0.05 * jitter[4]) * scale
    angle = 0.1 * jitter[5] + 0 * u
    angle = angle - on("spins") * math.radians(165) * (u - 0.5)
    sway = 0.4 * torch.sin(2 * math.pi * u + (math.pi / 2) * torch.sign(jitter[3]))
    angle = angle + on("swings") * sway
    x, y = x + on("swings") * 0.6 * torch.sin(sway), y + on("swings") * 0.6 * (1 - torch.cos(sway))
    return x, y, radius, squash, angle


class Camera:
    """Maps picture coordinates to those of a layer of the backdrop: near layers move more."""

    def __init__(self, scenes, u):
        camera = scenes.index["camera"]
        on = lambda name: is_value(camera, CAMERA[name])
        self.pan = (on("pans right") - on("pans left")) * 0.42 * (2 * u - 1)
        self.zoom = (on("zooms in") - on("zooms out")) * (2 * u - 1)

    def layer(self, x, y, depth):
        """depth 0: as far as the sky; 1: as near as the object."""
        zoom = torch.exp(-(0.12 + 0.12 * depth) * self.zoom)
        return x * zoom + self.pan * (0.35 + 0.65 * depth), y * zoom

    def object_scale(self):
        return torch.exp(0.1 * self.zoom)
