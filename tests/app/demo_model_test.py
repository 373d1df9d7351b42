# SPDX-License-Identifier: Apache-2.0
"""The bundled model: its files are as small as promised, diffusers loads them, and from one prompt and seed the program
makes the frames that diffusers makes.

  demo_model_test.py --program build/release/bin/sagelab --model assets/demo"""
import argparse
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["TEMPORARILY_DISABLE_PROTOBUF_VERSION_CHECK"] = "true"  # sentencepiece against protobuf's patch level
os.environ["HF_HUB_OFFLINE"] = "1"

import numpy
import torch
from diffusers import CogVideoXPipeline
from PIL import Image

PROMPT, SEED, STEPS, GUIDANCE = "A big shiny red heart bounces over sand dunes, the camera pans left.", 11, 6, 4.0
MOST_FILE, MOST_ALL = 16 * 2**20, 48 * 2**20


def theirs(model):
    pipe = CogVideoXPipeline.from_pretrained(model, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    video = pipe(PROMPT, height=128, width=128, num_frames=17, num_inference_steps=STEPS, guidance_scale=GUIDANCE,
                 generator=torch.Generator().manual_seed(SEED), output_type="np").frames[0]
    return (video * 255).round().astype(int)


def ours(program, model):
    with tempfile.TemporaryDirectory() as name:
        subprocess.run([program, "generate", "--model", model, "--prompt", PROMPT, "--seed", str(SEED), "--steps", str(STEPS),
                        "--guidance-scale", str(GUIDANCE), "--device", "cpu", "--output", f"{name}/frames/"], check=True)
        files = sorted(pathlib.Path(name, "frames").glob("*.png"))
        return numpy.stack([numpy.asarray(Image.open(f)).astype(int) for f in files])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--model", required=True)
    options = parser.parse_args()
    sizes = [f.stat().st_size for f in pathlib.Path(options.model).rglob("*") if f.is_file()]
    if max(sizes) > MOST_FILE or sum(sizes) > MOST_ALL:
        sys.exit(f"demo_model_test: the largest file has {max(sizes)} bytes, all together {sum(sizes)}")
    a, b = theirs(options.model), ours(options.program, options.model)
    if a.shape != b.shape:
        sys.exit(f"demo_model_test: frames of diffusers {a.shape}, ours {b.shape}")
    difference = abs(a - b)
    print(f"{a.shape[0]} frames: {(difference == 0).mean():.4%} of the values equal, largest difference {difference.max()}")
    if difference.max() > 1 or (difference == 0).mean() < 0.999:
        sys.exit("demo_model_test: these are not the frames that diffusers makes")
    if b.std() < 20:
        sys.exit(f"demo_model_test: the frames are nearly uniform (standard deviation {b.std():.1f})")


if __name__ == "__main__":
    main()
