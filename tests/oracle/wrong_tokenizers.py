# SPDX-License-Identifier: Apache-2.0
"""Tokenizers of Hugging Face's `tokenizers` with one thing wrong, and the strings that tell them from the right one.

A change takes tokenizer.json and the options of the call, and makes them wrong.
"""

import copy
import json


class Wrong:
    """file: tokenizer.json, parsed; pad: the id that texts are padded with."""

    def __init__(self, file, pad, length):
        self.file, self.pad, self.length = copy.deepcopy(file), pad, length
        self.file["truncation"] = self.file["padding"] = None

    def ids(self, texts, change=None):
        from tokenizers import Tokenizer

        file = copy.deepcopy(self.file)
        options = {"cut": "right", "pad": self.pad, "pad_side": "right", "text": lambda text: text, "ids": lambda ids: ids}
        if change:
            change(file, options)
        tokenizer = Tokenizer.from_str(json.dumps(file))
        tokenizer.enable_truncation(self.length, direction=options["cut"])
        tokenizer.enable_padding(length=self.length, pad_id=options["pad"], direction=options["pad_side"])
        found = tokenizer.encode_batch([options["text"](text) for text in texts])
        return [options["ids"](encoding.ids) for encoding in found]

    def told_apart(self, label, texts, right, changes):
        """{label|what: [[string, wrong ids], ...]}: at most three of those that each change is seen by."""
        assert self.ids(texts) == right, f"{label}: the raw tokenizer gives other ids"
        found = {}
        for what, change in changes.items():
            ids = self.ids(texts, change)
            differ = [i for i in range(len(texts)) if ids[i] != right[i]]
            assert differ, f"{label}: {what}: nobody could tell"
            found[f"{label}|{what}"] = [[i, ids[i]] for i in differ[:3]]
        return found


def expression(change):
    """Of the Split that stands first."""
    def apply(file, _):
        pattern = file["pre_tokenizer"]["pretokenizers"][0]["pattern"]
        pattern["Regex"], before = change(pattern["Regex"]), pattern["Regex"]
        assert pattern["Regex"] != before
    return apply


def byte_level(**values):
    """Of the ByteLevel that stands behind it."""
    return lambda file, _: file["pre_tokenizer"]["pretokenizers"][1].update(values)


def model(**values):
    return lambda file, _: file["model"].update(values)


def option(**values):
    return lambda _, options: options.update(values)


def merges(change):
    return lambda file, _: file["model"].update(merges=change(file["model"]["merges"]))


def flags(**values):
    return lambda file, _: [token.update(values) for token in file["added_tokens"]]


def tokens(keep):
    return lambda file, _: file.update(added_tokens=[t for t in file["added_tokens"] if keep(t["content"])])


MERGES = {
    "merges_reversed": merges(lambda m: m[::-1]),
    "first_merge_lost": merges(lambda m: m[1:]),
    "last_1000_merges_lost": merges(lambda m: m[:-1000]),
    "merges_reversed_in_hundreds": merges(lambda m: [x for i in range(0, len(m), 100) for x in m[i : i + 100][::-1]]),
}
SIDES = {
    "cut_from_the_left": option(cut="left"),
    "padded_on_the_left": option(pad_side="left"),
    "padded_with_0": option(pad=0),
}
