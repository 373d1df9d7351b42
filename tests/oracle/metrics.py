# SPDX-License-Identifier: Apache-2.0
"""PSNR and SSIM of pairs of pictures by scikit-image, and by definitions that are not ours.

metrics.py OUT_DIR writes metrics.safetensors: for each case <name>.a and <name>.b (uint8 [H, W, 3]), <name>.expected
(float64 [PSNR, SSIM]), and <name>.psnr.<mutant> and <name>.ssim.<mutant> (float64 [1]).
"""
import pathlib
import sys

import numpy
import torch
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

OURS = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1, data_range=255)
SSIM_MUTANTS = {
    "uniform": dict(gaussian_weights=False),
    "sigma": dict(sigma=1.6),
    "sample_covariance": dict(use_sample_covariance=True),
    "range": dict(data_range=256),
    "k1": dict(K1=0.0101),
    "k2": dict(K2=0.0303),
}


def smooth(rng, height, width):
    """Colours that change slowly, with edges."""
    picture = gaussian_filter(rng.normal(size=(height, width, 3)), (4, 4, 0))
    picture = 128 + 100 * picture / numpy.abs(picture).max()
    picture[height // 3:height // 2, width // 4:width // 2] += 60
    return picture


def to_bytes(picture):
    return numpy.clip(numpy.round(picture), 0, 255).astype(numpy.uint8)


def cases(rng):
    a = smooth(rng, 48, 64)
    yield "faint_noise", to_bytes(a), to_bytes(a + rng.normal(size=a.shape) * 1.5)
    yield "strong_noise", to_bytes(a), to_bytes(a + rng.normal(size=a.shape) * 40)
    yield "blurred", to_bytes(a), to_bytes(gaussian_filter(a, (2, 2, 0)))
    yield "brighter", to_bytes(a), to_bytes(a * 1.2 + 10)
    yield "dark", to_bytes(a * 0.02), to_bytes(a * 0.02 + rng.integers(0, 2, a.shape))
    yield "one_channel", to_bytes(a), to_bytes(a + [0, 25, 0])
    yield "one_pixel", to_bytes(a), to_bytes(numpy.where(numpy.indices(a.shape).sum(0) == 60, 255, a))
    b = smooth(rng, 23, 37)
    yield "odd_sides", to_bytes(b), to_bytes(b[:, ::-1])
    c = smooth(rng, 11, 11)
    yield "one_window", to_bytes(c), to_bytes(c + rng.normal(size=c.shape) * 9)
    yield "unrelated", to_bytes(rng.uniform(0, 255, (32, 32, 3))), to_bytes(rng.uniform(0, 255, (32, 32, 3)))


def bordered(a, b):
    return structural_similarity(a, b, full=True, **OURS)[1].mean()


def grey(a, b):
    one = lambda x: x.astype(numpy.float64).mean(-1)
    return structural_similarity(one(a), one(b), **{**OURS, "channel_axis": None})


def main(folder):
    tensors = {}
    for name, a, b in cases(numpy.random.default_rng(5)):
        def keep(key, *values):
            tensors[f"{name}.{key}"] = torch.tensor(values, dtype=torch.float64)

        tensors[f"{name}.a"], tensors[f"{name}.b"] = torch.from_numpy(a.copy()), torch.from_numpy(b.copy())
        keep("expected", peak_signal_noise_ratio(a, b, data_range=255), structural_similarity(a, b, **OURS))
        keep("psnr.range", peak_signal_noise_ratio(a, b, data_range=256))
        channels = [peak_signal_noise_ratio(a[..., c], b[..., c], data_range=255) for c in range(3)
                    if (a[..., c] != b[..., c]).any()]
        keep("psnr.mean_of_channels", float(numpy.mean(channels)))
        for mutant, change in SSIM_MUTANTS.items():
            if mutant == "sigma" and min(a.shape[:2]) < 13:  # its window is larger
                continue
            keep(f"ssim.{mutant}", structural_similarity(a, b, **{**OURS, **change}))
        keep("ssim.borders", bordered(a, b))
        keep("ssim.grey", grey(a, b))
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "metrics.safetensors")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
