# SPDX-License-Identifier: Apache-2.0
"""The backdrops: gradients, soft layers and lights, nothing finer than a few pixels of the smallest picture.

Each takes a View and gives r, g, b, each [B,T,H,W], 0 to 1."""

import torch


class View:
    """Coordinates of a group of scenes: x, y of the picture, u, the camera, and jitter [B, n] of its own."""

    def __init__(self, x, y, u, camera, jitter):
        self.x, self.y, self.u, self.camera, self.jitter = x, y, u, camera, jitter

    def at(self, depth):
        return self.camera.layer(self.x, self.y, depth)

    def random(self, i):
        return self.jitter[:, 6 + i].view(-1, 1, 1, 1)


def mix(a, b, t):
    """Channel by channel from a to b; numbers or tensors."""
    return [p + (q - p) * t for p, q in zip(a, b)]


def add(a, colour, t):
    return [p + q * t for p, q in zip(a, colour)]


def hexes(*codes):
    return [[int(c[i:i + 2], 16) / 255 for i in (0, 2, 4)] for c in codes]


def ramp(y, stops):
    """Smooth gradient through (height, colour) pairs, upward."""
    colour = stops[0][1]
    for (low, _), (high, upper) in zip(stops, stops[1:]):
        t = torch.clamp((y - low) / (high - low), 0, 1)
        colour = mix(colour, upper, t * t * (3 - 2 * t))
    return colour


def edge(d, softness=0.02):
    """1 where d is below 0."""
    return torch.sigmoid(-d / softness)


def hill(x, phase, waves):
    """Sum of sines: ((amplitude, frequency), ...)."""
    return sum(a * torch.sin(f * x + (1.7 + i) * phase) for i, (a, f) in enumerate(waves))


def blob(x, y, cx, cy, rx):
    return torch.exp(-(((x - cx) / rx) ** 2 + ((y - cy) / (0.5 * rx)) ** 2))


def disc(x, y, r):
    return edge(torch.hypot(x, y) - r, 0.025)


def studio(v):
    x, y = v.at(0.5)
    tint = 0.5 + 0.5 * v.random(0)
    wall_low, wall_high = (mix(a, b, tint) for a, b in zip(hexes("d9c9bd", "8f8798"), hexes("b9ccd6", "7286a0")))
    colour = ramp(y, [(-0.9, wall_low), (0.9, wall_high)])
    fx, fy = v.at(0.2)
    circle = disc(fx - 0.25 * v.random(1), fy - 0.12, 0.72)
    colour = mix(colour, mix(wall_low, [1, 1, 1], 0.25), 0.55 * circle)
    nx, ny = v.at(0.8)
    floor = edge(ny + 0.62, 0.03)
    return mix(colour, ramp(ny, [(-1.2, mix(wall_low, [1, 1, 1], 0.35)), (-0.6, mix(wall_high, wall_low, 0.35))]), floor)


def sunset_sea(v):
    x, y = v.at(0.0)
    night, rose, amber, gold = hexes("3b2a63", "c2497a", "f58a4b", "ffd27a")
    colour = ramp(y, [(-0.25, gold), (0.1, amber), (0.5, rose), (1.1, night)])
    sun_x = 0.45 * v.random(0)
    r = torch.hypot(x - sun_x, y - 0.02)
    colour = add(colour, [0.35, 0.25, 0.1], torch.exp(-r * 3))
    colour = mix(colour, [1.0, 0.93, 0.7], edge(r - 0.26, 0.02))
    nx, ny = v.at(0.4)
    depth = torch.clamp(-0.22 - ny, min=0)
    sea = ramp(depth, [(0.0, [0.80, 0.42, 0.42]), (0.35, [0.36, 0.24, 0.45]), (0.9, [0.12, 0.11, 0.28])])
    ripple = 0.5 + 0.5 * torch.sin(26 / (0.45 + depth) + 5 * v.random(1) + 2.0 * v.u)
    path = torch.exp(-((nx - sun_x) / (0.16 + 0.35 * depth)) ** 2)
    sea = add(sea, [0.55, 0.35, 0.15], path * (0.35 + 0.65 * ripple) * torch.exp(-1.2 * depth))
    return mix(colour, sea, edge(ny + 0.22, 0.012))


def northern_lights(v):
    x, y = v.at(0.0)
    colour = ramp(y, [(-0.8, [0.10, 0.17, 0.32]), (0.2, [0.05, 0.09, 0.22]), (1.1, [0.03, 0.04, 0.12])])
    bands = (([0.10, 0.75, 0.45], 0.15, 2.1, 0), ([0.12, 0.55, 0.62], 0.42, 1.6, 1.9), ([0.48, 0.20, 0.62], 0.62, 1.2, 3.7))
    for tint, height, frequency, shift in bands:
        line = height + 0.16 * torch.sin(frequency * x + 3 * v.random(0) + shift + 0.5 * v.u)
        above = y - line
        curtain = torch.sigmoid(above / 0.035) * torch.exp(-torch.clamp(above, min=0) / 0.33)
        rays = 0.8 + 0.2 * torch.sin(9 * x + 5 * v.random(1) + shift)
        colour = add(colour, tint, curtain * rays)
    for depth, level, tint in ((0.4, -0.52, [0.13, 0.24, 0.37]), (0.8, -0.74, [0.22, 0.34, 0.50])):
        nx, ny = v.at(depth)
        colour = mix(colour, tint, edge(ny - level - hill(nx, v.random(2) * 3 + depth, ((0.09, 2.3), (0.04, 4.9)))))
    return colour


def meadow(v):
    x, y = v.at(0.0)
    colour = ramp(y, [(-0.4, [0.80, 0.91, 0.97]), (0.3, [0.55, 0.78, 0.95]), (1.1, [0.30, 0.56, 0.88])])
    cx = 0.5 * v.random(0)
    clouds = sum(blob(x, y, cx + dx, dy, r) for dx, dy, r in
                 ((-0.75, 0.55, 0.3), (-0.5, 0.6, 0.34), (-0.28, 0.53, 0.26), (0.5, 0.74, 0.3), (0.75, 0.7, 0.36),
                 (1.3, 0.5, 0.34)))
    colour = mix(colour, [1.0, 1.0, 1.0], torch.clamp(1.3 * clouds, 0, 1) * 0.85)
    layers = ((0.25, -0.22, [0.45, 0.66, 0.52], [0.36, 0.58, 0.44]), (0.55, -0.42, [0.46, 0.70, 0.30], [0.30, 0.55, 0.22]),
              (0.9, -0.66, [0.56, 0.78, 0.30], [0.30, 0.56, 0.16]))
    for depth, level, top, bottom in layers:
        nx, ny = v.at(depth)
        d = ny - level - hill(nx, v.random(1) * 3 + 5 * depth, ((0.10, 1.9), (0.05, 3.7)))
        colour = mix(colour, mix(top, bottom, torch.clamp(-d * 2, 0, 1)), edge(d))
    return colour


def desert(v):
    x, y = v.at(0.0)
    colour = ramp(y, [(-0.3, [0.99, 0.88, 0.72]), (0.3, [0.93, 0.80, 0.72]), (1.1, [0.55, 0.66, 0.82])])
    colour = mix(colour, [1.0, 0.97, 0.86], 0.9 * edge(torch.hypot(x - 0.55 * v.random(0), y - 0.62) - 0.17))
    layers = ((0.2, -0.12, [0.86, 0.64, 0.46]), (0.5, -0.36, [0.87, 0.60, 0.36]), (0.9, -0.62, [0.92, 0.68, 0.42]))
    for i, (depth, level, sand) in enumerate(layers):
        nx, ny = v.at(depth)
        phase = v.random(1) * 3 + 2.1 * i
        crest = level + hill(nx, phase, ((0.13, 1.7), (0.05, 3.1)))
        slope = 0.22 * torch.cos(1.7 * nx + 1.7 * phase) + 0.155 * torch.cos(3.1 * nx + 2.7 * phase)
        shade = torch.sigmoid((slope + 0.5 * torch.clamp(crest - ny, min=0)) * 9)
        lit = mix([0.62 * c for c in sand], sand, 0.25 + 0.75 * shade)
        colour = mix(colour, lit, edge(ny - crest))
    return colour


def underwater(v):
    x, y = v.at(0.0)
    colour = ramp(y, [(-1.0, [0.01, 0.14, 0.27]), (0.0, [0.03, 0.33, 0.48]), (1.1, [0.26, 0.70, 0.76])])
    slant = (x - 0.5 * v.random(0)) / (2.2 - y)
    rays = torch.sigmoid(4 * torch.sin(16 * slant + 4 * v.random(1) + 0.6 * v.u)) * torch.sigmoid(3 * (y + 0.1))
    colour = add(colour, [0.13, 0.20, 0.18], rays)
    nx, ny = v.at(0.8)
    d = ny + 0.74 - hill(nx, v.random(2) * 3, ((0.06, 2.2), (0.03, 4.3)))
    floor = mix([0.36, 0.52, 0.50], [0.10, 0.30, 0.38], torch.clamp(-d * 3, 0, 1))
    colour = mix(colour, floor, edge(d, 0.025))
    bx, by = v.at(0.5)
    for i in range(3):
        cx, cy = (0.25 + 0.55 * v.random(3 + i).abs()) * (-1) ** i * 1.1, -0.55 + 0.55 * i + 0.18 * v.u
        r = torch.hypot(bx - cx, by - cy) / (0.10 + 0.025 * i)
        colour = add(colour, [0.22, 0.34, 0.36], edge(r - 1, 0.12) * (0.15 + 0.85 * torch.clamp(r, 0, 1) ** 3))
    return colour


def snowy_mountains(v):
    x, y = v.at(0.0)
    colour = ramp(y, [(-0.3, [0.93, 0.87, 0.88]), (0.4, [0.66, 0.78, 0.92]), (1.1, [0.36, 0.55, 0.82])])
    layers = ((0.15, 0.02, 0.42, 0.9, [0.55, 0.63, 0.78]), (0.4, -0.22, 0.46, 1.15, [0.36, 0.44, 0.60]))
    for i, (depth, level, height, frequency, rock) in enumerate(layers):
        nx, ny = v.at(depth)
        s = frequency * nx + v.random(0) + 0.45 * i
        tooth = s - torch.floor(s) - 0.5
        fall = torch.sqrt(tooth * tooth + 0.004)
        d = ny - level - height * (0.85 - 2 * fall) - 0.03 * torch.sin(7 * nx)
        cap = torch.sigmoid((ny - level - 0.1 - 0.05 * torch.sin(9 * nx + v.random(1))) / 0.025)
        side = torch.sigmoid(tooth / 0.04)
        face = mix(mix(rock, [0.95, 0.97, 1.0], cap), [0.30, 0.38, 0.58], 0.35 * side)
        colour = mix(colour, face, edge(d))
    nx, ny = v.at(0.8)
    d = ny + 0.6 - hill(nx, v.random(2) * 3, ((0.08, 1.8), (0.03, 4.1)))
    return mix(colour, mix([0.92, 0.95, 1.0], [0.68, 0.77, 0.92], torch.clamp(-d * 2, 0, 1)), edge(d))


def city_lights(v):
    x, y = v.at(0.0)
    colour = ramp(y, [(-1.0, [0.10, 0.07, 0.15]), (-0.1, [0.20, 0.13, 0.27]), (1.1, [0.05, 0.06, 0.16])])
    tints = hexes("ff9d4d", "ffd27a", "ff5f7e", "5fd0ff", "ffb36b", "c48bff", "ffe0a3", "ff7a5c", "7de0d0")
    for i, tint in enumerate(tints * 2):
        bx, by = v.at(0.15 + 0.06 * i)
        cx = -1.5 + 3.0 * ((i * 0.618 + 0.3 * v.random(i % 6)) % 1.0)
        cy = -0.45 + 0.95 * ((i * 0.382 + 0.11) % 1.0) + 0.06 * v.random((i + 3) % 6)
        d = torch.hypot(bx - cx, by - cy) - (0.09 + 0.012 * (i * 5 % 9))
        colour = add(colour, tint, edge(d, 0.02) * (0.30 + 0.04 * (i * 7 % 5)))
    nx, ny = v.at(0.8)
    street = ramp(-ny, [(0.55, [0.24, 0.16, 0.24]), (1.1, [0.07, 0.06, 0.13])])
    for i, tint in enumerate(tints[:5]):
        glow = torch.exp(-((nx - 0.55 * (i - 2) - 0.2 * v.random(i)) / 0.14) ** 2)
        street = add(street, tint, 0.28 * glow)
    return mix(colour, street, edge(ny + 0.62, 0.04))


# By vocabulary index; whether there is ground for a shadow to fall on.
BACKDROPS = [(studio, True), (sunset_sea, True), (northern_lights, True), (meadow, True), (desert, True),
             (underwater, True), (snowy_mountains, True), (city_lights, True)]
