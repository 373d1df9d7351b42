# SPDX-License-Identifier: Apache-2.0
"""What the makers of tiny transformers whose texts have padding share: half precision, folders, released shapes."""

import copy
import json
import shutil

import tiny
import torch
from safetensors.torch import save_file


def half_outputs(model, inputs, forward, cast):
    """bf16.cpu, fp16.cpu, and of a GPU where there is one. cast(inputs, device, dtype)."""
    out = {}
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
            half = copy.deepcopy(model).to(device, dtype)
            out[f"{name}.{device}"] = forward(half, cast(inputs, device, dtype)).float().cpu()
    return out


def check_visible(name, wrong, right, visible):
    """wrong: {"<mutant>|<key>": value}. What is compared bit by bit, "far.<key>", may be as near as it likes."""
    near = []
    for label, value in wrong.items():
        key = label.split("|")[1]
        away, least = tiny.far(value, right[key]), 0 if key.startswith("far.") else visible
        if value.shape != right[key].shape or not away > least:
            near.append(f"{label}: {away:.1e}")
    assert not near, f"{name}: nobody could tell {', '.join(near)}"


def save(folder, model, omit, files):
    """omit: keys that the config leaves out. files: {stem: tensors}, "dump" and "mutants" among them. Returns what to say."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    model.save_pretrained(folder / "transformer")
    file = folder / "transformer" / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({k: v for k, v in config.items() if k not in omit}, indent=2))
    for stem, tensors in files.items():
        save_file(tiny.tidy(tensors), folder / f"{stem}.safetensors")
    dump, truth = files["dump"], files["dump"]["output.fp64"]
    return f"{len(files['mutants'])} mutants, bf16 {tiny.far(dump['bf16.cpu'], truth):.1e}, " \
           f"fp32 {tiny.far(dump['output'], truth):.1e}"


def released(kind, parameters):
    """{key: shape} of the class defaults, whose parameters are so many."""
    with torch.device("meta"):
        model = kind()
    assert sum(p.numel() for p in model.parameters()) == parameters
    return {k: list(v.shape) for k, v in model.state_dict().items()}
