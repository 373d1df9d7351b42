# SPDX-License-Identifier: Apache-2.0
"""How far diffusers' own half-precision forwards are from its fp32 ones, on the fixtures of fixtures.py.

usage: half.py FIXTURES OUT_DIR

  OUT_DIR/<name>.safetensors   bf16.cpu, fp16.cpu and, where there is a GPU, bf16.cuda, fp16.cuda: the output of the call
                               forward.* of the fixture, [2, T, C, h, w]
"""

import os
import pathlib
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402
from diffusers import CogVideoXTransformer3DModel  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402


def outputs(folder):
    dump, out = load_file(folder / "dump.safetensors"), {}
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        rope = tuple(dump[f"rope.{k}"].to(device) for k in ("cos", "sin")) if "rope.cos" in dump else None
        for name, dtype in (("bf16", torch.bfloat16), ("fp16", torch.float16)):
            model = CogVideoXTransformer3DModel.from_pretrained(folder / "model" / "transformer", torch_dtype=dtype)
            inputs = [dump[f"forward.{k}"].to(device) for k in ("latents", "text", "t")]
            latents, text, t = inputs[0].to(dtype), inputs[1].to(dtype), inputs[2]
            result = model.to(device)(latents, text, t, image_rotary_emb=rope, return_dict=False)[0]
            out[f"{name}.{device}"] = result.float().cpu().contiguous()
    return out


def main():
    fixtures, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    torch.set_grad_enabled(False)
    out.mkdir(parents=True, exist_ok=True)
    for dump in sorted(fixtures.glob("*/dump.safetensors")):
        save_file(outputs(dump.parent), out / f"{dump.parent.name}.safetensors")


if __name__ == "__main__":
    main()
