# SPDX-License-Identifier: Apache-2.0
"""Renders scenes to clips: an inflated object with highlight and shadow before a moving backdrop, on any device."""

import torch

from demo.world import backdrops, motion, shapes, vocabulary

PAINT = {"red": "e0182d", "orange": "fb7a0c", "yellow": "fbd313", "green": "17a83c", "blue": "1c55e8",
         "purple": "7b2cc4", "pink": "ff86c6", "white": "f4f4f4"}
# Direction to the light, its colour and strength, the fill light's colour, and how dark the picture's rim gets.
LIGHT = {"daylight": ((-0.50, 0.62, 0.60), (1.00, 1.00, 0.98), (0.62, 0.66, 0.72), 0.10),
         "golden light": ((0.66, 0.42, 0.62), (1.09, 0.98, 0.80), (0.62, 0.56, 0.50), 0.16),
         "moonlight": ((-0.30, 0.72, 0.62), (0.82, 0.87, 1.00), (0.46, 0.50, 0.62), 0.28),
         "spotlight": ((0.05, 0.80, 0.60), (1.12, 1.10, 1.04), (0.44, 0.44, 0.48), 0.75),
         "neon light": ((0.10, 0.45, 0.88), (0.92, 0.92, 0.98), (0.54, 0.52, 0.62), 0.35)}
# The backdrop under each light.
GRADE = {"daylight": (1.0, 1.0, 1.0), "golden light": (1.06, 0.95, 0.74), "moonlight": (0.46, 0.56, 0.80),
         "spotlight": (0.78, 0.78, 0.80), "neon light": (0.58, 0.52, 0.74)}
GLOSS = {"glossy": 1.0, "matte": 0.08, "glowing": 0.35}
BLOCK = 24_000_000  # pixels rendered at once on an accelerator


def table(values, attribute, index):
    """One row of `values` per scene, as channels of [B,1,1,1]."""
    rows = torch.tensor([values[n] for n in vocabulary.names(attribute)], device=index.device)[index]
    return [c.view(-1, 1, 1, 1) for c in rows.unbind(1)]


def group_by(index, count, function):
    """function(value, rows) for each value that occurs; puts the channels it gives back in order."""
    result = None
    for value in range(count):
        rows = (index == value).nonzero()[:, 0]
        if len(rows) == 0:
            continue
        channels = function(value, rows)
        if result is None:
            result = [torch.empty((len(index), *c.shape[1:]), device=c.device) for c in channels]
        for whole, part in zip(result, channels):
            whole[rows] = part
    return result


def paint_backdrop(scenes, x, y, u):
    def draw(value, rows):
        some = scenes[rows]
        view = backdrops.View(x[rows], y[rows], u[rows], motion.Camera(some, u[rows]), some.jitter)
        shape = torch.broadcast_shapes(view.x.shape, view.y.shape, view.u.shape)
        return [c.expand(shape) for c in backdrops.BACKDROPS[value][0](view)]

    return group_by(scenes.index["backdrop"], len(backdrops.BACKDROPS), draw)


def object_surface(scenes, x, y, u):
    """Distance to the object in picture units, its normal, its pattern, its centre and radius."""
    cx, cy, radius, squash, angle = motion.pose(scenes, u)
    radius = radius * motion.Camera(scenes, u).object_scale()
    px, py = (x - cx) / radius, (y - cy) / (radius * squash)
    c, s = torch.cos(angle), torch.sin(angle)
    px, py = c * px + s * py, c * py - s * px

    def draw(value, rows):
        return [*shapes.surface(value, px[rows], py[rows]), shapes.pattern(value, px[rows], py[rows])]

    d, nx, ny, nz, light = group_by(scenes.index["shape"], len(shapes.SHAPES), draw)
    return d * radius, (c * nx - s * ny, s * nx + c * ny, nz), light, (cx, cy, radius)


def shade(scenes, normal, light_paint, height):
    """The object's colour; height: where on the object, -1 to 1."""
    index = scenes.index
    paint = table({n: backdrops.hexes(h)[0] for n, h in PAINT.items()}, "colour", index["colour"])
    paint = backdrops.mix(paint, pale_of(paint), 0.62 * light_paint)
    to_light = table({n: v[0] for n, v in LIGHT.items()}, "light", index["light"])
    key = table({n: v[1] for n, v in LIGHT.items()}, "light", index["light"])
    fill = table({n: v[2] for n, v in LIGHT.items()}, "light", index["light"])
    gloss = motion.pick(index["finish"], [GLOSS[n] for n in vocabulary.names("finish")])
    glow = motion.is_value(index["finish"], vocabulary.names("finish").index("glowing"))
    neon = motion.is_value(index["light"], vocabulary.names("light").index("neon light"))
    nx, ny, nz = normal
    facing = nx * to_light[0] + ny * to_light[1] + nz * to_light[2]
    wrap = torch.clamp(0.42 + 0.58 * facing, 0, 1) ** 1.4
    # The highlight of a broad softbox: the light seen in the mirror direction.
    mirror = torch.clamp(2 * facing * nz - to_light[2], 0, 1)
    highlight = gloss * (0.75 * torch.sigmoid((mirror - 0.93) * 55) + 0.22 * mirror ** 6)
    rim = torch.clamp(1 - nz, 0, 1) ** 2.5
    ambient = 0.62 + 0.28 * ny + 0.1 * height
    colour = []
    for i in range(3):
        lit = paint[i] * (key[i] * (0.92 * wrap + 0.10) + 0.42 * fill[i] * ambient)
        lit = lit * (1 - 0.6 * glow) + glow * paint[i] * (0.66 + 0.42 * nz)
        lit = lit + rim * (0.10 + 0.16 * gloss) * fill[i] + highlight * key[i]
        sides = (torch.clamp(-nx, 0, 1) * (1.0, 0.15, 0.62)[i] + torch.clamp(nx, 0, 1) * (0.05, 0.75, 1.0)[i])
        colour.append(lit + neon * 0.75 * rim ** 0.7 * sides)
    return colour


def pale_of(paint):
    """What patterns are painted in: near white, or on white a grey blue."""
    white = (torch.minimum(torch.minimum(paint[0], paint[1]), paint[2]) > 0.9).float()
    return [1.0 - white * w for w in (0.45, 0.35, 0.2)]


def ground_shadow(scenes, x, y, place):
    """Darkening of the ground under the object; softer and fainter the higher it hangs."""
    cx, cy, radius = place
    grounded = motion.pick(scenes.index["backdrop"], [float(g) for _, g in backdrops.BACKDROPS])
    height = torch.clamp(cy - radius + 0.86, min=0)
    spread = radius * (0.85 + 0.35 * height)
    r = torch.sqrt(((x - cx) / spread) ** 2 + ((y + 0.84) / (0.22 * spread)) ** 2)
    return grounded * (0.42 / (1 + 2.2 * height)) * torch.sigmoid((1 - r) * 3.2)


def compose(scenes, window):
    """[B, 3, T, H, W] in [-1, 1] and the object's coverage [B, T, H, W]."""
    x, y, u, pixel = window.coordinates()
    index = scenes.index
    grade = table(GRADE, "light", index["light"])
    vignette = motion.pick(index["light"], [LIGHT[n][3] for n in vocabulary.names("light")])
    glow = motion.is_value(index["finish"], vocabulary.names("finish").index("glowing"))
    paint = table({n: backdrops.hexes(h)[0] for n, h in PAINT.items()}, "colour", index["colour"])
    back = paint_backdrop(scenes, x, y, u)
    d, normal, light_paint, place = object_surface(scenes, x, y, u)
    outside = torch.clamp(d, min=0)
    shadow = (1 - ground_shadow(scenes, x, y, place)) * (1 - 0.24 * (1 - glow) * torch.exp(-outside / 0.09))
    rim = 1 - vignette * torch.clamp((torch.hypot(x, y + 0.05) - 0.45) / 1.0, 0, 1) ** 1.5
    halo = glow * (0.55 * torch.exp(-outside / 0.13) + 0.18 * torch.exp(-outside / 0.4))
    front = shade(scenes, normal, light_paint, torch.clamp((y - place[1]) / place[2], -1, 1))
    cover = torch.clamp(0.5 - d / (1.6 * pixel), 0, 1)
    picture = []
    for i in range(3):
        behind = back[i] * grade[i] * shadow * rim
        behind = behind + halo * paint[i] * (1.15 - behind)
        picture.append(behind + (front[i] - behind) * cover)
    return torch.stack([torch.clamp(p, 0, 1) for p in picture], 1) * 2 - 1, cover


@torch.no_grad()
def clips(scenes, window, dtype=torch.float32):
    """As compose, in blocks small enough for the device's memory."""
    depth, height, width = window.shape
    step = max(1, BLOCK // (depth * height * width))
    parts = []
    for begin in range(0, len(scenes), step):
        clip, cover = compose(scenes[begin:begin + step], window[begin:begin + step])
        parts.append((clip.to(dtype), cover.to(dtype)))
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])
