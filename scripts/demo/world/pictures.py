# SPDX-License-Identifier: Apache-2.0
"""PNG files and contact sheets from clips, with nothing but zlib."""

import struct
import zlib

import torch


def write_png(path, picture):
    """picture: uint8 [H, W, 3] on any device."""
    height, width, _ = picture.shape
    pixels = picture.cpu().reshape(height, -1)
    rows = torch.ones(height, 1 + 3 * width, dtype=torch.uint8)  # filter 1: differences from the pixel to the left
    rows[:, 1:] = pixels
    rows[:, 4:] -= pixels[:, :-3]
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(rows.numpy().tobytes(), 6)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b""))


def to_bytes(clips):
    """[..., 3, T, H, W] in [-1, 1] -> uint8."""
    return ((clips.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def strip(clip, frames):
    """One row of frames, evenly spaced: [3, T, H, W] -> uint8 [H, frames * W, 3]."""
    at = torch.linspace(0, clip.shape[1] - 1, frames).round().long()
    return torch.cat([f.permute(1, 2, 0) for f in to_bytes(clip)[:, at.to(clip.device)].unbind(1)], 1)


def sheet(path, rows, frames=5, columns=1):
    """Writes clips [3, T, H, W] below each other, `columns` strips side by side."""
    strips = [strip(r, frames).cpu() for r in rows]
    while len(strips) % columns:
        strips.append(torch.zeros_like(strips[0]))
    lines = [torch.cat(strips[i:i + columns], 1) for i in range(0, len(strips), columns)]
    write_png(path, torch.cat(lines, 0))
