# SPDX-License-Identifier: Apache-2.0
"""What diffusers would give with one thing wrong: the parity tests must tell every such mutant from the truth.

usage: mutants.py FIXTURES_DIR [NAME...]     (FIXTURES_DIR as fixtures.py made it)

Writes FIXTURES_DIR/<name>/mutants.safetensors: "<mutant>|<stage>", where <stage> is the key of dump.safetensors that the
mutant would change. No key repeats, and every mutant differs from the dump.
"""

import contextlib
import os

import fixtures as oracle
import tiny
import torch
from safetensors.torch import load_file, save_file

import wrong
import wrong.attention
import wrong.blocks
import wrong.inputs

PARTS = ("__init__", "attention", "blocks", "inputs")
SCRIPTS = oracle.SCRIPTS + ("mutants.py",) + tuple(f"wrong/{part}.py" for part in PARTS)
NAMES = [name for name, spec in oracle.SPECS.items() if not spec.get("loud")]
VISIBLE = 6e-6  # three times the tightest bound of the parity tests


def load(folder):
    return oracle.flux.FluxTransformer2DModel.from_pretrained(folder / "transformer").eval()


def inputs_of(name, dump):
    spec = oracle.SPECS[name]
    txt_ids, img_ids = oracle.ids_of(spec["text"], spec["height"] // 2, spec["width"] // 2)
    inputs = dict(hidden_states=dump["tokens"], encoder_hidden_states=dump["text"], pooled_projections=dump["pooled"],
                  timestep=dump["t"], img_ids=img_ids, txt_ids=txt_ids)
    return inputs | ({"guidance": dump["guidance"]} if "guidance" in dump else {})


def stage(name, model, dump, key, change=lambda inputs: inputs):
    """One stage from the dumped inputs."""
    from diffusers import FluxPipeline

    spec, shape = oracle.SPECS[name], dump["latents"].shape
    if key == "tokens":
        return FluxPipeline._pack_latents(dump["latents"], *shape)
    if key == "unpacked":
        return FluxPipeline._unpack_latents(dump["output"], 8 * spec["height"], 8 * spec["width"], 8)
    if key == "far.cos":
        return oracle.tables(model, "far", oracle.ids_of(spec["text"], *oracle.FAR))[key]
    inputs = change(inputs_of(name, dump))
    if key == "temb":
        return oracle.temb_of(model, inputs)
    assert key == "output", key
    return oracle.forward(model, inputs)


@contextlib.contextmanager
def patched(triples):
    undo = []
    try:
        for target, attribute, value in triples:
            own = attribute in vars(target) or isinstance(target, torch.Tensor)
            module = isinstance(target, torch.nn.Module) and attribute in target._modules
            old = vars(target)[attribute] if isinstance(target, type) else getattr(target, attribute)
            undo.append((target, attribute, old, own or module))
            setattr(target, attribute, value)
        yield
    finally:
        for target, attribute, old, own in reversed(undo):
            if own:
                setattr(target, attribute, old)
            else:
                delattr(target, attribute)


def make(name, folder):
    model, dump, out = load(folder), load_file(folder / "dump.safetensors"), {}
    stages = {key for _, key, _ in wrong.of(name)}

    def check(when):
        for key in stages:
            away = tiny.far(stage(name, model, dump, key), dump[key])
            assert away < VISIBLE / 6, f"{name}: {key} is {away:.1e} from its dump {when}"

    check("before")
    for mutant, key, function in wrong.of(name):
        label, change, patches = f"{mutant}|{key}", lambda inputs: inputs, function(model)
        if callable(patches):  # it changes what goes in
            change, patches = patches, []
        assert label not in out, f"{name}: {label} twice"
        with patched(patches):
            result = stage(name, model, dump, key, change)
        assert result.shape == dump[key].shape and result.isfinite().all(), f"{name}: {label} {tuple(result.shape)}"
        away = tiny.far(result, dump[key])
        least = 0 if key == "far.cos" else VISIBLE
        assert away > least, f"{name}: {label} is {away:.1e} from the truth: nobody could tell"
        if os.environ.get("VERBOSE"):
            print(f"  {name:13} {label:50} {away:.1e}", flush=True)
        out[label] = result.clone(memory_format=torch.contiguous_format)
    check("after")
    save_file(out, folder / "mutants.safetensors")
    return f"{len(out)} mutants"


if __name__ == "__main__":
    tiny.main(__file__, SCRIPTS, NAMES, make, "mutants.stamp")
