# SPDX-License-Identifier: Apache-2.0
"""What diffusers would give with one thing wrong: the parity tests must tell every such mutant from the truth.

usage: mutants.py FIXTURES_DIR [NAME...]     (FIXTURES_DIR as fixtures.py made it)

Writes FIXTURES_DIR/<name>/mutants.safetensors: "<mutant>|<stage>", where <stage> is the key of dump.safetensors that the
mutant would change. No key repeats, and every mutant differs from the dump.
"""

import os
import pathlib
import sys
import time

os.environ.setdefault("TEMPORARILY_DISABLE_PROTOBUF_VERSION_CHECK", "true")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

import json  # noqa: E402

import torch  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

import dump as dumping  # noqa: E402
import fixtures as oracle  # noqa: E402
import models  # noqa: E402
import wrong.sampling  # noqa: E402, F401
import wrong.text  # noqa: E402, F401
import wrong.transformer  # noqa: E402, F401
import wrong.vae  # noqa: E402, F401
from wrong import MUTANTS, patched  # noqa: E402

PARTS = ("__init__", "sampling", "text", "transformer", "vae")
SCRIPTS = oracle.SCRIPTS + ("mutants.py",) + tuple(f"wrong/{part}.py" for part in PARTS)

VISIBLE = 4e-6  # the tightest bound of the parity tests, twice


def load(folder):
    from diffusers import CogVideoXPipeline

    pipe = CogVideoXPipeline.from_pretrained(folder / "model", dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    for part in (pipe.text_encoder, pipe.transformer, pipe.vae):
        part.eval()
    return pipe


def stage(pipe, spec, dump, key):
    """One stage from the dumped input before it."""
    request = spec["request"]
    if key == "prompt_embeds":
        return pipe.text_encoder(dump["ids"])[0]
    if key == "forward.output":
        inputs = dump["forward.latents"], dump["forward.text"], dump["forward.t"]
        rope = dumping.rope_of(pipe, request, dump["noise"].shape[1])
        return pipe.transformer(*inputs, image_rotary_emb=rope, return_dict=False)[0]
    if key.endswith(".final"):
        scheduler, mode, _ = key.split(".")
        pipe.scheduler, steps = dumping.schedulers(spec)[scheduler], []
        dumping.run_pipeline(pipe, request, mode, steps_out=steps)
        return steps[-1]
    if key == "frames":
        video = pipe.vae.decode(dumping.decode_input(pipe, dump["ddim.guided.final"], request)).sample
        return dumping.frames_of(pipe.video_processor.postprocess_video(video, output_type="pil"))
    if key == "vae.tiled_sample":
        pipe.vae.enable_tiling()
        out = pipe.vae.decode(dump["vae.z"]).sample
        pipe.vae.disable_tiling()
        return out
    assert key == "vae.sample", key
    return pipe.vae.decode(dump["vae.z"]).sample


def far(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def make(name, folder):
    pipe, spec, dump = load(folder), models.spec_of(name), load_file(folder / "dump.safetensors")
    assert spec["request"] == json.loads((folder / "request.json").read_text())
    wanted = [(m, key, f) for m, key, fixture, f in MUTANTS if fixture == name]
    for key in {key for _, key, _ in wanted}:
        away = far(stage(pipe, spec, dump, key), dump[key])
        assert away < 1e-7, f"{name}: {key} itself comes out {away:.1e} from its dump"
    out = {}
    for mutant, key, function in wanted:
        with patched(function(pipe, spec)):
            wrong = stage(pipe, spec, dump, key)
        label = f"{mutant}|{key}"
        assert label not in out, f"{name}: {label} twice"
        assert wrong.shape == dump[key].shape and wrong.isfinite().all(), f"{name}: {label} {tuple(wrong.shape)}"
        away = far(wrong, dump[key])
        assert away > VISIBLE, f"{name}: {label} is {away:.1e} from the truth: nobody could tell"
        if os.environ.get("VERBOSE"):
            print(f"  {name:10} {label:50} {away:.1e}", flush=True)
        out[label] = wrong.clone(memory_format=torch.contiguous_format)
    for key in {key for _, key, _ in wanted}:
        assert far(stage(pipe, spec, dump, key), dump[key]) < 1e-7, f"{name}: a patch of {key} was not undone"
    save_file(out, folder / "mutants.safetensors")
    return len(out)


def main():
    out, names = pathlib.Path(sys.argv[1]), sys.argv[2:] or list(models.SPECS)
    oracle.settle()
    mark = oracle.stamp(SCRIPTS)
    for name in names:
        done, start = out / name / "mutants.stamp", time.time()
        if done.exists() and done.read_text() == mark:
            print(f"{name}: up to date")
            continue
        print(f"{name}: {make(name, out / name)} mutants; {time.time() - start:.1f} s", flush=True)
        done.write_text(mark)


if __name__ == "__main__":
    main()
