# SPDX-License-Identifier: Apache-2.0
"""sparse_folder.py OUT_DIR [VARIANT...]: full-size pipeline folders of released variants that take no disk space.

OUT_DIR/VARIANT for each. Keys and shapes come from the diffusers and transformers classes on the meta device, built from configs/VARIANT; the
safetensors headers are whole and the tensors are holes (zeros). Files are split as released. keys.json holds
{component: {key: shape}} of the classes. With --keys-only it is written beside the configs and there are no weights.
"""

import argparse
import json
import pathlib
import shutil
import struct

import torch

CONFIGS = pathlib.Path(__file__).parent / "configs"
# dtype of the released files, bytes of a transformer shard at most; T5 is split at 5 GB everywhere.
VARIANTS = {
    "cogvideox_2b": ("F16", 10_000_000_000),
    "cogvideox_5b": ("BF16", 10_000_000_000),
    "cogvideox_1.5": ("BF16", 5_000_000_000),
}
BYTES = {"F16": 2, "BF16": 2, "F8_E4M3": 1, "F32": 4}
STEMS = {"transformer": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


def build(component, config):
    import diffusers
    import transformers

    with torch.device("meta"):
        if component == "text_encoder":
            cls = getattr(transformers, config["architectures"][0])
            return cls(transformers.T5Config(**{k: v for k, v in config.items() if k != "architectures"}))
        return getattr(diffusers, config["_class_name"]).from_config(config)


def shapes(model):
    """What save_pretrained writes: tied tensors once, under the first of their names."""
    seen, found = set(), {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            found[name] = list(tensor.shape)
    return found


def write_holes(path, tensors):
    """tensors: {key: (dtype, shape)}"""
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for key, (dtype, shape) in tensors.items():
        end = at + BYTES[dtype] * torch.Size(shape).numel()
        header[key] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + at)
    return at


def split(tensors, most):
    """Greedy in the class's order, as huggingface_hub splits."""
    parts, size = [{}], 0
    for key, shape in tensors.items():
        bytes_ = 2 * torch.Size(shape).numel()
        if parts[-1] and size + bytes_ > most:
            parts.append({})
            size = 0
        parts[-1][key] = shape
        size += bytes_
    return parts


def write_component(folder, stem, tensors, dtype, most):
    parts = [{key: (dtype, shape) for key, shape in part.items()} for part in split(tensors, most)]
    if len(parts) == 1:
        write_holes(folder / f"{stem}.safetensors", parts[0])
        return
    total, weight_map = 0, {}
    for i, part in enumerate(parts):
        name = f"{stem}-{i + 1:05d}-of-{len(parts):05d}.safetensors"
        total += write_holes(folder / name, part)
        weight_map |= {key: name for key in part}
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index, indent=2))


def write_variant(variant, folder, keys_only, tokenizer):
    dtype, most = VARIANTS[variant]
    keys = {}
    for component in STEMS:
        config = json.loads((CONFIGS / variant / component / "config.json").read_text())
        keys[component] = shapes(build(component, config))
    shutil.copytree(CONFIGS / variant, folder, dirs_exist_ok=True)
    (folder / "keys.json").write_text(json.dumps(keys))
    if keys_only:
        return
    for component, stem in STEMS.items():
        write_component(folder / component, stem, keys[component], dtype,
                        5_000_000_000 if component == "text_encoder" else most)
    shutil.copytree(tokenizer, folder / "tokenizer", dirs_exist_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out_dir", type=pathlib.Path)
    parser.add_argument("variants", nargs="*", metavar="VARIANT", help=", ".join(VARIANTS))
    parser.add_argument("--keys-only", action="store_true")
    parser.add_argument("--tokenizer", type=pathlib.Path, help="a tokenizer folder to copy; else one is trained")
    args = parser.parse_args()
    unknown = set(args.variants) - set(VARIANTS)
    if unknown:
        parser.error(f"unknown variant {', '.join(sorted(unknown))}")
    tokenizer = args.tokenizer
    if not tokenizer and not args.keys_only:
        from text_tokenizers import train_tokenizer

        tokenizer = args.out_dir / "tokenizer"
        train_tokenizer(tokenizer)
    for variant in args.variants or VARIANTS:
        write_variant(variant, args.out_dir / variant, args.keys_only, tokenizer)


if __name__ == "__main__":
    main()
