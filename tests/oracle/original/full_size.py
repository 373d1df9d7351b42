# SPDX-License-Identifier: Apache-2.0
"""FLUX.1-dev at full size without data: names, shapes and dtypes of a folder and of a single file in 8 bits.

  full_size.py FLUX_PIPELINES OUT_DIR
  OUT_DIR/model/                  the released folder, bf16; its tensors are holes
  OUT_DIR/transformer.safetensors its transformer under its authors' names, matrices in e4m3, each with a scale
  OUT_DIR/t5.safetensors          its T5, matrices in e4m3
"""
import json
import pathlib
import shutil
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

import original  # noqa: E402
from sparse_folder import write_holes  # noqa: E402

CLASSES = {"transformer": "FluxTransformer2DModel", "vae": "AutoencoderKL"}
STEMS = {"transformer": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}


def eight_bits(tensors, scaled):
    out = {}
    for key, shape in tensors.items():
        out[key] = ("F8_E4M3" if len(shape) == 2 else "BF16", shape)
        if scaled and len(shape) == 2:
            out[key.removesuffix("weight") + "scale_weight"] = ("F32", [])
    return out


def main():
    pipelines, out = map(pathlib.Path, sys.argv[1:3])
    shutil.rmtree(out, ignore_errors=True)
    model = out / "model"
    components = json.loads((pipelines / "names.json").read_text())["dev"]
    for other in ("model_index.json", "tokenizer", "tokenizer_2", "scheduler"):
        source, target = pipelines / "dev" / "model" / other, model / other
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    for name, component in components.items():
        (model / name).mkdir()
        config = component["config"] | ({"_class_name": CLASSES[name]} if name in CLASSES else {})
        (model / name / "config.json").write_text(json.dumps(config))
        write_holes(model / name / f"{STEMS.get(name, 'model')}.safetensors",
                    {key: ("BF16", shape) for key, shape in component["names"].items()})
    ours = {key: torch.empty(shape, device="meta") for key, shape in components["transformer"]["names"].items()}
    theirs = {key: list(tensor.shape) for key, tensor in original.flux_theirs(ours).items()}
    write_holes(out / "transformer.safetensors", eight_bits(theirs, True))
    write_holes(out / "t5.safetensors", eight_bits(components["text_encoder_2"]["names"], False))


if __name__ == "__main__":
    main()
