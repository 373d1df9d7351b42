# SPDX-License-Identifier: Apache-2.0
"""safetensors_files.py OUT_DIR: files as the safetensors library and diffusers write them, with their contents.
safetensors_files.py --verify FILE EXPECTED: whether that library reads from FILE what EXPECTED (JSON) says.

Contents are given as {key: {dtype, shape, hex}}, hex being the raw little-endian bytes.
"""

import json
import pathlib
import sys

import torch
from safetensors import safe_open
from safetensors.torch import save_file

NAMES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
         torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.int64: "I64", torch.int32: "I32",
         torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL"}


def contents(tensors):
    def raw(tensor):
        return bytes(tensor.contiguous().flatten().view(torch.uint8).tolist()).hex() if tensor.numel() else ""

    return {key: {"dtype": NAMES[t.dtype], "shape": list(t.shape), "hex": raw(t)} for key, t in tensors.items()}


def every_dtype():
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for dtype, name in NAMES.items():
        if dtype == torch.bool:
            tensors[name] = torch.tensor([[True, False, True]])
        elif dtype.is_floating_point:
            tensors[name] = (torch.randn(3, 5, generator=generator) * 3).to(dtype)
        else:
            low = 0 if dtype == torch.uint8 else torch.iinfo(dtype).min
            tensors[name] = torch.randint(low, torch.iinfo(dtype).max, (2, 3), generator=generator, dtype=dtype)
    tensors["scalar"] = torch.tensor(2.5)
    tensors["empty"] = torch.zeros(0, 4)
    tensors["schlüssel.重み"] = torch.arange(7, dtype=torch.float32)
    return tensors


def sharded(folder):
    """Named and split by save_pretrained: plain shards, and shards of the variant fp16."""
    from diffusers import ConfigMixin, ModelMixin
    from diffusers.configuration_utils import register_to_config

    class Tower(ModelMixin, ConfigMixin):
        @register_to_config
        def __init__(self, layers=6):
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.Linear(16, 16) for _ in range(layers))

    torch.manual_seed(5)
    tower = Tower()
    tower.save_pretrained(folder / "sharded", max_shard_size="3KB")
    (folder / "sharded.json").write_text(json.dumps(contents(tower.state_dict())))
    half = tower.to(torch.float16)
    half.save_pretrained(folder / "sharded", max_shard_size="1KB", variant="fp16")
    half.save_pretrained(folder / "single", variant="fp16")
    (folder / "sharded.fp16.json").write_text(json.dumps(contents(half.state_dict())))


def verify(file, expected):
    with safe_open(file, framework="pt") as opened:
        read = {key: opened.get_tensor(key) for key in opened.keys()}
        metadata = opened.metadata()
    found = {"tensors": contents(read), "metadata": metadata or {}}
    if found != json.loads(pathlib.Path(expected).read_text()):
        sys.exit(f"{file} holds {json.dumps(found)}")


def main():
    if sys.argv[1] == "--verify":
        return verify(sys.argv[2], sys.argv[3])
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    save_file(every_dtype(), folder / "dtypes.safetensors", metadata={"format": "pt", "note": "größer"})
    (folder / "dtypes.json").write_text(json.dumps(contents(every_dtype())))
    sharded(folder)


if __name__ == "__main__":
    main()
