# SPDX-License-Identifier: Apache-2.0
"""Tiny genuine CogVideoX folders with every stage dumped, made by diffusers itself.

usage: fixtures.py OUT_DIR [NAME...]

  OUT_DIR/<name>/model/            what CogVideoXPipeline.save_pretrained writes (2b: spiece.model, as released, and fp16 files
                                   besides; 5b: shards)
  OUT_DIR/<name>/request.json      prompt, negative_prompt, height, width, num_frames, steps, guidance_scale, seed,
                                   use_dynamic_cfg; dynamic_steps: how many steps the dumps of mode "dynamic" have
  OUT_DIR/<name>/dump.safetensors  fp32 on CPU:
    ids, negative_ids                                int64 [1, 226]
    t5.block.N, prompt_embeds, negative_prompt_embeds [1, L, C]; t5.block.N is of the prompt
    noise                                            [1, T, C, h, w], drawn by torch.Generator("cpu").manual_seed(seed)
    forward.latents [2, T, C, h, w], forward.text [2, L, C], forward.t int64 [2]: inputs of one transformer call
    forward.temb, forward.patch_embed, forward.block.N [2, L + V, D] (text first), forward.output
    rope.cos, rope.sin                               [V, head_dim], where rotary
    <ddim|dpm>.<guided|plain|dynamic>.latents.I      after step I, with the frames that padding adds; .final: the last
    vae.z [1, C, T, h, w] (divided by scaling_factor; of ddim.guided), vae.sample, vae.tiled_sample (where tiles differ)
    frames, frames.dpm                               uint8 [F, H, W, 3]: the pipeline's own, guided
    <key>.fp64                                       t5.block.N, prompt_embeds, forward.*, vae.sample: the same in fp64
"""

import json
import os
import pathlib
import shutil
import sys
import time

os.environ.setdefault("TEMPORARILY_DISABLE_PROTOBUF_VERSION_CHECK", "true")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent))

import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import dump as dumping  # noqa: E402
import models  # noqa: E402
import tiny  # noqa: E402

SCRIPTS = ("fixtures.py", "models.py", "dump.py", "../text_tokenizers.py", "../corpus.py")


def stamp(scripts=SCRIPTS):
    """Changes when a script that made a folder does, or a package under it."""
    return tiny.stamp(HERE, scripts)


def check(name, tensors):
    """Parity on a flat, exploded or clipped picture would prove nothing."""
    for key, value in tensors.items():
        assert value.isfinite().all(), f"{name}: {key} is not finite"
    pictures = []
    for key in ("frames", "frames.dpm"):
        frames = tensors[key].float()
        std, clipped = frames.std().item(), ((frames == 0) | (frames == 255)).float().mean().item()
        assert std >= 20, f"{name}: {key} have a standard deviation of {std:.1f} levels"
        assert clipped <= 0.1, f"{name}: {clipped:.1%} of the values of {key} are clipped"
        pictures.append(f"{key} std {std:.1f}, clipped {clipped:.1%}")
    spread = tensors["ddim.guided.final"].std().item()
    assert 0.1 < spread < 30, f"{name}: final latents have a standard deviation of {spread:.2f}"
    return f"{', '.join(pictures)}, latents std {spread:.2f}"


def make(name, folder, spiece):
    pipe, spec = models.make_pipeline(name, spiece)
    dumping.calibrate(pipe, spec)
    tensors = dumping.dump(pipe, spec)
    summary = check(name, tensors)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    models.save(pipe, spec, spiece, folder / "model")
    (folder / "request.json").write_text(json.dumps(spec["request"], ensure_ascii=False, indent=2) + "\n")
    save_file(tensors, folder / "dump.safetensors")
    return summary


def settle():
    """Inference only, reproducible, quiet."""
    import diffusers
    import transformers

    torch.set_grad_enabled(False)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a quarter of the time
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()


def main():
    out, names = pathlib.Path(sys.argv[1]), sys.argv[2:] or list(models.SPECS)
    settle()
    mark, spiece = stamp(), None
    for name in names:
        done = out / name / "stamp"
        if done.exists() and done.read_text() == mark:
            print(f"{name}: up to date")
            continue
        start = time.time()
        spiece = spiece or models.train_spiece()
        summary = make(name, out / name, spiece)
        done.write_text(mark)
        print(f"{name}: {summary}; {time.time() - start:.1f} s", flush=True)


if __name__ == "__main__":
    main()
