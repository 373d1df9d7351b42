# SPDX-License-Identifier: Apache-2.0
"""A CLIP vocabulary in the genuine layout, its merges trained by Hugging Face's `tokenizers`, and folders that hold it
in every form that released checkpoints have."""

import json
import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

import corpus  # noqa: E402

BOS, EOS = "<|startoftext|>", "<|endoftext|>"


def byte_symbols():
    """GPT-2's alphabet in CLIP's order: printable bytes first, "!" being number 0."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def train(lines, merges):
    """(vocab, merges): 256 bytes, the same with </w>, the merges in order, the two special tokens."""
    from tokenizers import Tokenizer, models, trainers
    from transformers import CLIPTokenizer

    clip = CLIPTokenizer()._tokenizer
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", continuing_subword_prefix=""))
    tokenizer.normalizer, tokenizer.pre_tokenizer = clip.normalizer, clip.pre_tokenizer
    # Symbols named in front have fixed numbers, which decide between pairs of one count: otherwise those that end a
    # word would be numbered in the order of a hash map, another one in every process.
    symbols = byte_symbols() + [s + "</w>" for s in byte_symbols()]
    trainer = trainers.BpeTrainer(vocab_size=len(symbols) + merges, special_tokens=symbols, initial_alphabet=byte_symbols(),
                                  end_of_word_suffix="</w>", show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    pairs = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]][:merges]
    tokens = symbols + [a + b for a, b in pairs]
    # Two ways to one token count once.
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    for token in (BOS, EOS):
        vocab[token] = len(vocab)
    return vocab, pairs


def write(folder, name, value):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(value, ensure_ascii=False, indent=2), encoding="utf-8")


def write_files(folder, vocab, merges):
    """vocab.json and merges.txt as `tokenizers` writes them."""
    from tokenizers import models

    folder.mkdir(parents=True, exist_ok=True)
    models.BPE(vocab=vocab, merges=merges, end_of_word_suffix="</w>").save(str(folder))
    assert (folder / "merges.txt").read_text(encoding="utf-8").startswith("#version: 0.2")


def token(content, **flags):
    return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False} | flags


def released(folder, vocab, pad):
    """What stands beside vocab.json and merges.txt in SD3's and FLUX's own repositories."""
    decoder = {str(vocab[t]): token(t, special=True) for t in (BOS, EOS)}
    if pad != EOS:
        decoder[str(vocab[pad])] = token(pad, special=True, normalized=False)
    write(folder, "special_tokens_map.json",
          {"bos_token": token(BOS), "eos_token": token(EOS), "pad_token": pad, "unk_token": token(EOS)})
    write(folder, "tokenizer_config.json", {
        "add_prefix_space": False, "added_tokens_decoder": decoder, "bos_token": BOS, "clean_up_tokenization_spaces": True,
        "do_lower_case": True, "eos_token": EOS, "errors": "replace", "model_max_length": 77, "pad_token": pad,
        "tokenizer_class": "CLIPTokenizer", "unk_token": EOS})


def legacy(folder, pad):
    """The first repositories: no added_tokens_decoder, tokens with flags in tokenizer_config.json."""
    typed = {"__type": "AddedToken"}
    write(folder, "special_tokens_map.json",
          {"bos_token": token(BOS), "eos_token": token(EOS), "pad_token": pad, "unk_token": token(EOS)})
    write(folder, "tokenizer_config.json", {
        "add_prefix_space": False, "bos_token": typed | token(BOS), "do_lower_case": True, "eos_token": typed | token(EOS),
        "errors": "replace", "model_max_length": 77, "name_or_path": "openai/clip-vit-large-patch14", "pad_token": pad,
        "special_tokens_map_file": "./special_tokens_map.json", "tokenizer_class": "CLIPTokenizer",
        "unk_token": typed | token(EOS)})


def version_4(folder, saved):
    """tokenizer.json as transformers 4 converted it: merges as text, an expression without the special strings."""
    file = json.loads((saved / "tokenizer.json").read_text(encoding="utf-8"))
    file["model"]["merges"] = [" ".join(pair) for pair in file["model"]["merges"]]
    file["added_tokens"] = [t | {"normalized": False} for t in file["added_tokens"]]
    split = file["pre_tokenizer"]["pretokenizers"][0]["pattern"]
    split["Regex"] = split["Regex"].removeprefix(r"<\|startoftext\|>|<\|endoftext\|>|")
    assert split["Regex"].startswith("'s|")
    write(folder, "tokenizer.json", file)
    write(folder, "tokenizer_config.json", {
        "bos_token": BOS, "eos_token": EOS, "extra_special_tokens": {}, "pad_token": EOS, "unk_token": EOS,
        "model_max_length": 77})


def own_tokens(folder, vocab):
    """Added tokens with every flag, among them some that are not in the vocabulary, and another pad token."""
    tokens = [token("fox", single_word=True, normalized=False), token("Full  Width"), token(" ran", lstrip=True, rstrip=True),
              token("\u00c9"), token("SNOW", special=True, rstrip=True, normalized=False),
              token("snow", lstrip=True, normalized=False), token("[PAD]", special=True, normalized=False)]
    decoder = {str(len(vocab) + i): t for i, t in enumerate(tokens)}
    write(folder, "tokenizer_config.json", {
        "added_tokens_decoder": {str(vocab[t]): token(t, special=True, normalized=False) for t in (BOS, EOS)} | decoder,
        "bos_token": BOS, "eos_token": EOS, "pad_token": "[PAD]", "mask_token": "[MASK]", "model_max_length": 77,
        "additional_special_tokens": ["<lora>", "fox"]})


def small(folder, vocab, merges):
    """A vocabulary without some bytes: what has no symbol is the unknown token."""
    missing = set(byte_symbols()[200:]) | {"z", "q</w>"}
    kept = [t for t in vocab if t in (BOS, EOS) or not missing & {*t, t}]
    ids = {t: i for i, t in enumerate(kept)}
    write_files(folder, ids, [(a, b) for a, b in merges if a in ids and b in ids and a + b in ids])


def make_folders(out_dir):
    """{name: folder}, vocab, merges."""
    from transformers import CLIPTokenizer

    vocab, merges = train(corpus.lines(), 9000)
    names = ("plain", "files", "files_bang", "legacy", "legacy_bang", "json", "json_bang", "version_4", "own_tokens", "small")
    folders = {name: out_dir / name for name in names}
    for name in ("plain", "files", "files_bang", "legacy", "legacy_bang", "own_tokens"):
        write_files(folders[name], vocab, merges)
    for suffix, pad in (("", EOS), ("_bang", "!")):
        released(folders["files" + suffix], vocab, pad)
        legacy(folders["legacy" + suffix], pad)
        CLIPTokenizer.from_pretrained(folders["files" + suffix]).save_pretrained(folders["json" + suffix])
        assert not (folders["json" + suffix] / "vocab.json").exists()
    version_4(folders["version_4"], folders["json"])
    own_tokens(folders["own_tokens"], vocab)
    small(folders["small"], vocab, merges)
    return folders, vocab, merges
