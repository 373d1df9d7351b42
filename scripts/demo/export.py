# SPDX-License-Identifier: Apache-2.0
"""Stage `export`: the finished model in fp16, as diffusers saves it, in OUT/model."""

import shutil

import torch

from demo import checkpoint, dit, sample, tokenizer

MOST_FILE, MOST_ALL = 16 * 2**20, 48 * 2**20


def assemble(options):
    """The pipeline of the trained parts, fp32."""
    device, folder, words = options.device, checkpoint.find(options, "dit"), checkpoint.find(options, "tokenizer")
    tensors, state = checkpoint.load(folder, device)
    if tensors is None:
        raise SystemExit(f"{folder} holds no transformer: train the stage `dit` first")
    vae = sample.load_vae(options)
    dit.balance(vae, torch.tensor(state["spread"], device=device))
    both = dit.Both(tokenizer.Tokenizer(words).model.get_piece_size(), device)
    both.load(tensors)
    return sample.pipeline(both.t5, both.transformer, vae, words)


def sizes(folder):
    """Prints every file and its size; refuses what is too large to be bundled."""
    files = {f.relative_to(folder): f.stat().st_size for f in sorted(folder.rglob("*")) if f.is_file()}
    for name, size in files.items():
        print(f"  {size:>12,}  {name}")
    total = sum(files.values())
    print(f"  {total:>12,}  in all ({total / 2**20:.2f} MiB)", flush=True)
    if max(files.values()) > MOST_FILE or total > MOST_ALL:
        raise SystemExit("too large: at most 16 MiB a file and 48 MiB in all")


def main(options):
    from diffusers import CogVideoXPipeline

    folder = options.out / "model"
    shutil.rmtree(folder, ignore_errors=True)
    pipe = assemble(options).to(dtype=torch.float16)
    pipe.vae.register_to_config(sample_height=256, sample_width=256)
    pipe.save_pretrained(folder, max_shard_size="15MB")
    # transformers 5 writes tokenizer.json; CogVideoX's own folders have the SentencePiece model that it was made from.
    (folder / "tokenizer" / "tokenizer.json").unlink(missing_ok=True)
    shutil.copyfile(checkpoint.find(options, "tokenizer") / "spiece.model", folder / "tokenizer" / "spiece.model")
    sizes(folder)
    again = CogVideoXPipeline.from_pretrained(str(folder))
    for part in ("transformer", "vae", "text_encoder"):
        mine, theirs = getattr(pipe, part).state_dict(), getattr(again, part).state_dict()
        assert mine.keys() == theirs.keys(), part
        assert all(torch.equal(mine[k].cpu().half(), v.half()) for k, v in theirs.items()), part
    prompt = "A glossy red star spins over a meadow."
    ids = tokenizer.Tokenizer(checkpoint.find(options, "tokenizer"))([prompt])[0]
    assert again.tokenizer(prompt, padding="max_length", max_length=226).input_ids == ids.tolist(), "the tokenizers differ"
    print(f"{folder}: reads back as it was saved")
