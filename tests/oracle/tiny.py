# SPDX-License-Identifier: Apache-2.0
"""What the makers of tiny models share: perturbed parameters, stamps, distances."""

import hashlib
import importlib.metadata
import math
import os
import pathlib
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402

PACKAGES = ("torch", "diffusers", "transformers", "tokenizers", "sentencepiece", "safetensors")


def stamp(here, scripts):
    """Changes when a script that made a folder does, or a package under it, and where there is a GPU."""
    digest = hashlib.sha256()
    for script in ("../tiny.py", *scripts):
        digest.update((here / script).read_bytes())
    for package in PACKAGES:
        digest.update(f"{package}={importlib.metadata.version(package)}".encode())
    digest.update(f"cuda={torch.cuda.is_available()}".encode())
    return digest.hexdigest()


def settle():
    import diffusers

    diffusers.utils.logging.set_verbosity_error()
    torch.set_grad_enabled(False)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a quarter of the time


def make_each(out, names, mark, make, file="stamp"):
    """make(name, folder) for each whose stamp is another one; it returns what to say."""
    for name in names:
        done, start = out / name / file, time.time()
        if done.exists() and done.read_text() == mark:
            print(f"{name}: up to date")
            continue
        print(f"{name}: {make(name, out / name)}; {time.time() - start:.1f} s", flush=True)
        done.write_text(mark)


def main(script, scripts, names, make, file="stamp"):
    """script.py OUT_DIR [NAME...]; its __file__, and the scripts that its results depend on. Returns OUT_DIR."""
    out = pathlib.Path(sys.argv[1])
    settle()
    make_each(out, sys.argv[2:] or list(names), stamp(pathlib.Path(script).resolve().parent, scripts), make, file)
    return out


def randn(generator, *shape):
    return torch.randn(shape, generator=generator)


def scale(module, factor, rows=slice(None)):
    module.weight.data[rows] *= factor
    module.bias.data[rows] *= factor


def perturb(model, generator):
    """Matrices N(0, gain / fan_in), norm weights about 1.6, biases about 0.2."""
    for name, p in model.named_parameters():
        if p.ndim > 1:
            gain = 2.0 if "norm" in name else 1.0
            p.data = gain * randn(generator, *p.shape) / math.sqrt(p[0].numel())
        elif name.endswith("weight"):
            p.data = 1.6 + 0.3 * randn(generator, *p.shape)
        else:
            p.data = 0.2 * randn(generator, *p.shape)


def tidy(tensors):
    """As safetensors take them."""
    for key, value in tensors.items():
        assert value.isfinite().all(), key
    return {k: v.clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}


def far(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()
