# SPDX-License-Identifier: Apache-2.0
"""Trains the bundled demo model, a CogVideoX of our own, on clips that it renders itself.

train_demo.py STAGE [--work DIR] [--out DIR] [--minutes M] [--tiny]

STAGE, in this order; each goes on from the checkpoint in --out or else --work, leaves its own in --out (default: --work)
and is run until it says that its plan is done:
  tokenizer  trains SentencePiece on captions (no GPU)
  vae        the autoencoder; prints PSNR on held-out clips, draws vae/sheet.png
  dit        the text encoder and the transformer on its latents
  reader     the network that tells object, colour and motion of a clip
  export     the finished model as diffusers saves it, in --out/model
  check      generates held-out captions and reads them: check/report.json, check/report.md, check/sheet.png
  all        every stage with its planned minutes, then the model copied to --out: the whole recipe
--minutes limits one call. --tiny runs the same code for a few steps on the CPU.
vae and dit use several GPUs when started by `python3 -m torch.distributed.run --nproc-per-node N scripts/train_demo.py`.
A stage's random numbers depend on how often it was called alone, so the recipe is repeatable but for GPU arithmetic and
the speed of the machine: training ends by the clock."""

import argparse
import importlib
import os
import pathlib
import sys

os.environ.setdefault("TEMPORARILY_DISABLE_PROTOBUF_VERSION_CHECK", "true")  # sentencepiece against protobuf's patch level
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.dont_write_bytecode = True

# GPU minutes of training (compiling and judging come on top).
PLANNED = {"vae": 8, "dit": 16, "reader": 2}
STAGES = ("tokenizer", "vae", "dit", "reader", "export", "check")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=[*STAGES, "all"])
    parser.add_argument("--work", type=pathlib.Path, default=pathlib.Path("build/demo"))
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--minutes", type=float, help="wall limit of this call")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    options.out = options.out or options.work
    return options


def main():
    options = parse()
    import torch

    from demo import parallel, stage

    options.device = torch.device("cuda" if torch.cuda.is_available() and not options.tiny else "cpu")
    if options.device.type == "cpu" and not options.tiny and options.stage in PLANNED:
        raise SystemExit("training wants a CUDA GPU; --tiny tries the code on the CPU")
    options.planned = {name: 6 if options.tiny else 60 * minutes for name, minutes in PLANNED.items()}
    options.seconds = 60 * options.minutes if options.minutes else 24 * 3600
    stage.settle(options.device)
    parallel.begin(options.device)
    if options.stage == "all":
        importlib.import_module("demo.recipe").main(options)
    else:
        importlib.import_module(f"demo.{options.stage}").main(options)
    parallel.end()


if __name__ == "__main__":
    main()
