# SPDX-License-Identifier: Apache-2.0
"""A Llama 3 vocabulary in the genuine layout, its merges trained by Hugging Face's `tokenizers`, and folders that hold
it in every form that checkpoints have."""

import itertools
import json
import pathlib
import re
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent))

import corpus  # noqa: E402

BOS, EOT, PAD = "<|begin_of_text|>", "<|eot_id|>", "<pad>"
EXPRESSION = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
              r"|\s+(?!\S)|\s+")
_NAMED = {0: BOS, 1: "<|end_of_text|>", 6: "<|start_header_id|>", 7: "<|end_header_id|>", 9: EOT}


def special_tokens():
    """Llama 3's 256 in their order, and what LLaVA has behind them."""
    reserved = (f"<|reserved_special_token_{i}|>" for i in itertools.count())
    return [_NAMED[i] if i in _NAMED else next(reserved) for i in range(256)] + ["<unk>", "<image>", PAD]


def prompt_template():
    from diffusers.pipelines.hunyuan_video import pipeline_hunyuan_video

    return pipeline_hunyuan_video.DEFAULT_PROMPT_TEMPLATE


def _pre_tokenizer():
    from tokenizers import Regex, pre_tokenizers

    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(EXPRESSION), "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def train(lines, merges):
    """(vocab, merges): 256 bytes and the merges in order. Every word of the prompt template is one token, as in the
    released vocabulary: only so does the number of rows that are cut off mean the template."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _pre_tokenizer()
    template = re.split(r"<\|\w+\|>|\{\}", prompt_template()["template"])
    trainer = trainers.BpeTrainer(vocab_size=256 + merges, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  show_progress=False)
    tokenizer.train_from_iterator(itertools.chain(lines, template * 5000), trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    return trained["vocab"], [tuple(pair) for pair in trained["merges"]]


def make_tokenizer(vocab, merges, ignore_merges=True):
    """As a `tokenizers.Tokenizer`, with the added tokens behind the vocabulary."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, processors

    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = _pre_tokenizer(), decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special_tokens()])
    template = processors.TemplateProcessing(single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1",
                                             special_tokens=[(BOS, tokenizer.token_to_id(BOS))])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), template])
    return tokenizer


# Words with line ends, which the corpus has none of; and such as only a wrong expression takes for a word.
_TELLING = ("!\n", "!\r", "!\r\n", "!\n\n", " \n", "\n\n", "\r\n", "\r\n\r\n", " \n \n", "\n \n", "  \n", "\nfox", "\rfox", "\r ", "\n ",
            "'STONE", "'reed", "'llama", "2x", "\u00bd\u00be\u2153\u2154")


def whole_words(vocab, lines):
    """The vocabulary with words that no merges make: such as only ignore_merges finds."""
    from tokenizers import pre_tokenizers

    symbols = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = sorted({w for line in lines for w in re.findall("[a-z]{9,}", line)} - {w[1:] for w in vocab})
    whole = [symbols.pre_tokenize_str(w)[0][0] for w in (*_TELLING, *(f" {word}" for word in words[:200]))]
    return vocab | {w: len(vocab) + i for i, w in enumerate(w for w in whole if w not in vocab)}


def write(folder, name, value):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(value, ensure_ascii=False, indent=2), encoding="utf-8")


def token(content, **flags):
    return {"content": content, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
            "special": False} | flags


def released(folder, tokenizer):
    """As HunyuanVideo's own repository has it: another class's name, sides and tokens in tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    write(folder, "special_tokens_map.json", {
        "bos_token": token(BOS), "eos_token": token("<|end_of_text|>"), "pad_token": token(PAD), "unk_token": token("<unk>")})
    write(folder, "tokenizer_config.json", {
        "add_bos_token": True, "add_eos_token": False, "add_prefix_space": None, "extra_special_tokens": {},
        "added_tokens_decoder": {str(tokenizer.token_to_id(t)): token(t, special=True) for t in special_tokens()},
        "bos_token": BOS, "clean_up_tokenization_spaces": True, "eos_token": "<|end_of_text|>", "legacy": True,
        "model_input_names": ["input_ids", "attention_mask"], "model_max_length": 1000000000000000019884624838656,
        "pad_token": PAD, "padding_side": "right", "processor_class": "LlavaProcessor", "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>", "use_default_system_prompt": False})


def fast(folder, tokenizer):
    """As transformers saves a PreTrainedTokenizerFast."""
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BOS, eos_token="<|end_of_text|>",
                            pad_token=PAD).save_pretrained(folder)


def bare(folder, tokenizer):
    """Merges as text and without ignore_merges, the template alone, a pad token in the old file alone."""
    file = json.loads(tokenizer.to_str())
    file["model"]["merges"] = [" ".join(pair) for pair in file["model"]["merges"]]
    del file["model"]["ignore_merges"]
    file["post_processor"] = file["post_processor"]["processors"][1]
    write(folder, "tokenizer.json", file)
    write(folder, "special_tokens_map.json", {"pad_token": EOT})


def own_tokens(folder, tokenizer):
    """Added tokens with every flag, in the file and besides; their numbers leave some out, which nobody heeds."""
    tokens = [token("fox", single_word=True), token("Full  Width", normalized=True), token(" ran", lstrip=True, rstrip=True),
              token("\u00c9", normalized=True), token("SNOW", special=True, rstrip=True), token("snow", lstrip=True),
              token("the", single_word=True, rstrip=True)]
    file = json.loads(tokenizer.to_str())
    size = len(file["model"]["vocab"]) + len(file["added_tokens"])
    file["added_tokens"] += [t | {"id": size + 3 * i} for i, t in enumerate(tokens)]
    write(folder, "tokenizer.json", file)
    decoder = {str(tokenizer.token_to_id(t)): token(t, special=True) for t in (BOS, EOT, PAD)}
    decoder |= {str(size + 50): token("glass "), str(size + 40): token("towers", special=True),
                str(size + 15): token("snow", lstrip=True, rstrip=True)}
    write(folder, "tokenizer_config.json", {
        "added_tokens_decoder": decoder, "additional_special_tokens": ["<lora>", "fox"], "bos_token": BOS,
        "mask_token": "[MASK]", "pad_token": PAD, "tokenizer_class": "PreTrainedTokenizerFast"})


def make_folders(out_dir):
    """{name: folder}, vocab, merges."""
    lines = list(corpus.lines())
    vocab, pairs = train(lines, 9000)
    vocab = whole_words(vocab, lines)
    folders = {name: out_dir / name for name in ("released", "fast", "bare", "own_tokens")}
    tokenizer = make_tokenizer(vocab, pairs)
    released(folders["released"], tokenizer)
    fast(folders["fast"], tokenizer)
    bare(folders["bare"], tokenizer)
    own_tokens(folders["own_tokens"], tokenizer)
    return folders, vocab, pairs
