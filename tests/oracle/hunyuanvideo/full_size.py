# SPDX-License-Identifier: Apache-2.0
"""The released HunyuanVideo at full size without data: configs, names, shapes and dtypes; its tensors are holes.

usage: full_size.py HUNYUANVIDEO_PIPELINES OUT_DIR

  OUT_DIR/model/  with the tokenizers of a tiny folder of pipelines.py
"""

import json
import pathlib
import shutil
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

import tiny  # noqa: E402, before diffusers: it keeps that offline

import pipelines  # noqa: E402
import torch  # noqa: E402
from sparse_folder import write_holes  # noqa: E402

DTYPES = {"transformer": "BF16"}  # the others are F16


def write(folder, model, dtype):
    folder.mkdir(parents=True)
    diffusers = hasattr(model, "save_config")
    model.save_config(folder) if diffusers else model.config.save_pretrained(folder)
    stem = "diffusion_pytorch_model" if diffusers else "model"
    write_holes(folder / f"{stem}.safetensors", {k: (dtype, list(p.shape)) for k, p in model.named_parameters()})


def main(tiny_pipelines, out):
    tiny.settle()
    model, given = out / "model", tiny_pipelines / "clip" / "model"
    shutil.rmtree(out, ignore_errors=True)
    for component, (_, make) in pipelines.released_parts().items():
        with torch.device("meta"):
            write(model / component, make(), DTYPES.get(component, "F16"))
    for tokenizer in ("tokenizer", "tokenizer_2"):
        shutil.copytree(given / tokenizer, model / tokenizer)
    shutil.copy(given / "model_index.json", model)
    scheduler = json.loads((given / "scheduler" / "scheduler_config.json").read_text()) | {"shift": 7.0}
    (model / "scheduler").mkdir()
    (model / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))


if __name__ == "__main__":
    main(*(pathlib.Path(argument) for argument in sys.argv[1:]))
