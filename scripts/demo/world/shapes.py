# SPDX-License-Identifier: Apache-2.0
"""Signed distances of the objects, in units of about their radius, and the normals of their inflated surfaces.

All take x, y of any one shape (y up) and give tensors of that shape; negative is inside."""

import math

import torch

SLOPE_STEP = 0.05  # creases of the surface are as soft as this
SIN60 = math.sqrt(3) / 2


def ball(x, y):
    return torch.hypot(x, y) - 0.95


def cube(x, y):
    """A cube seen along its diagonal: a rounded hexagon, one corner up."""
    x, y = x.abs(), y.abs()
    return smooth_max(x, 0.5 * x + SIN60 * y, 0.16) - 0.84


def star(x, y):
    """Five points, rounded."""
    inner, rounding = 0.5, 0.13
    c, s = math.cos(math.pi / 5), math.sin(math.pi / 5)
    x = x.abs()
    for a, b in ((c, -s), (-c, -s)):
        d = 2 * torch.clamp(a * x + b * y, min=0)
        x, y = x - d * a, y - d * b
    radius = 1.04 - rounding
    x, y = x.abs(), y - radius
    bx, by = inner * s, inner * c - 1
    h = torch.clamp((x * bx + y * by) / (bx * bx + by * by), 0, radius)
    return torch.hypot(x - bx * h, y - by * h) * torch.sign(y * bx - x * by) - rounding


def heart(x, y):
    x, y = x.abs() * 0.62, y * 0.62 + 0.54
    lobe = torch.hypot(x - 0.25, y - 0.75) - math.sqrt(2) / 4
    t = 0.5 * torch.clamp(x + y, min=0)
    tip = torch.minimum(torch.hypot(x, y - 1), torch.hypot(x - t, y - t)) * torch.sign(x - y)
    return (torch.where(x + y > 1, lobe, tip) - 0.04) / 0.62


def ring(x, y):
    return (torch.hypot(x, y) - 0.66).abs() - 0.33


def flower(x, y):
    """Five petals, smoothly joined in the middle."""
    sector = 2 * math.pi / 5
    angle = torch.atan2(x, y)
    angle = angle - sector * torch.round(angle / sector)
    r = torch.hypot(x, y)
    px, py = (r * torch.sin(angle)).abs(), r * torch.cos(angle)
    petal = torch.hypot(px, py - 0.58) - 0.42
    return smooth_min(petal, r - 0.5, 0.1)


def moon(x, y):
    x = x + 0.12
    inside = smooth_max(torch.hypot(x, y) - 0.98, 0.68 - torch.hypot(x - 0.52, y - 0.1), 0.12)
    # In the bite the distance grows towards its middle, where the horns are farthest: no halo drawn around nothing.
    return torch.where(inside > 0, inside * 1.6, inside)


def drop(x, y):
    """A round belly below, a tip above."""
    x, y = x.abs(), y + 0.36
    low, high, reach = 0.64, 0.08, 1.2
    b = (low - high) / reach
    a = math.sqrt(1 - b * b)
    k = -b * x + a * y
    belly, tip = torch.hypot(x, y) - low, torch.hypot(x, y - reach) - high
    return torch.where(k < 0, belly, torch.where(k > a * reach, tip, a * x + b * y - low))


def smooth_min(a, b, k):
    h = torch.clamp(k - (a - b).abs(), min=0) / k
    return torch.minimum(a, b) - 0.25 * k * h * h


def smooth_max(a, b, k):
    return -smooth_min(-a, -b, k)


# By vocabulary index: the distance and how far in from the edge the surface goes on rising.
SHAPES = [(ball, 0.95), (cube, 0.22), (star, 0.5), (heart, 0.62), (ring, 0.33), (flower, 0.42), (moon, 0.42), (drop, 0.64)]


def cube_faces(x, y):
    """Normals of the three faces that are seen, softened along the edges."""
    faces = ((0.0, 0.8, 0.6), (-0.69, -0.4, 0.6), (0.69, -0.4, 0.6))
    weights = torch.softmax(torch.stack([16 * (a * x + b * y) for a, b, _ in faces]), 0)
    return [sum(w * f[i] for w, f in zip(weights, faces)) for i in range(3)]


def surface(index, x, y):
    """Distance and normal (nx, ny, nz) of shape `index` at x, y. Outside the normal is that of the edge."""
    distance, rise = SHAPES[index]
    d, e = distance(x, y), SLOPE_STEP
    gx = (distance(x + e, y) - distance(x - e, y)) / (2 * e)
    gy = (distance(x, y + e) - distance(x, y - e)) / (2 * e)
    steep = 1 - torch.clamp(-d / rise, 0, 1)
    if distance is cube:
        steep = 0.6 * steep * steep
        fx, fy, fz = cube_faces(x, y)
        nx, ny, nz = fx + gx * steep, fy + gy * steep, fz
    else:
        nx, ny, nz = gx * steep, gy * steep, torch.sqrt(torch.clamp(1 - steep * steep, min=0.0025))
    length = torch.rsqrt(nx * nx + ny * ny + nz * nz)
    return d, nx * length, ny * length, nz * length


def pattern(index, x, y):
    """How much lighter the object is painted at x, y, 0 to 1; what makes a round thing's turning visible."""
    distance = SHAPES[index][0]
    if distance is ball:
        return torch.sigmoid((0.24 - (y + 0.25 * x * x - 0.1).abs()) * 30)
    if distance is ring:
        return torch.sigmoid((torch.cos(3 * torch.atan2(y, x)) - 0.45) * 7)
    if distance is flower:
        return torch.sigmoid((0.27 - torch.hypot(x, y)) * 30)
    return torch.zeros_like(x)
