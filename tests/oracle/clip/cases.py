# SPDX-License-Identifier: Apache-2.0
"""CLIP tokenizers: the ids that transformers gives, what its parts make of every code point, and wrong tokenizers.

usage: cases.py OUT_DIR

OUT_DIR/<folder>/          tokenizer folders (vocabulary.py)
OUT_DIR/cases.json         strings; folders: ids by folder and max_length; merges: how many;
                           mutants: {folder|what: [[string, ids], ...]}: strings of which a wrong tokenizer gives other ids
OUT_DIR/unicode.json       letters, numbers, spaces as [first, last]; lower: [[from, to], ...]
OUT_DIR/normalized.json    [[text, normalised], ...]
"""

import json
import pathlib
import random
import re
import sys

import vocabulary
from vocabulary import BOS, EOS, corpus
from wrong_tokenizers import MERGES, SIDES, Wrong, byte_level, expression, flags, model, option, tokens

LENGTH = 77


def strings():
    yield from corpus.test_strings()
    # Of what the merges were trained on, so that many of them are used.
    lines = random.Random(5).sample(sorted(set(corpus.lines())), 600)
    yield from (" ".join(lines[i : i + 6]) for i in range(0, len(lines), 6))
    for special in (BOS, EOS, BOS.upper(), "<|EndOfText|>", "<|endoftext", "<| endoftext |>"):
        yield from (special, f"a {special} b", f"a{special}b", f"!{special}!! ?{special}", f"{special}'s{special}1")
    yield from ("!", "wow!", "wow! such!! fox!!!", "!a!b", "a ! b", "?!", "!?", "\u00a1hola!")
    yield from ("it's they're we've I'm you'll he'd don't", "IT'S THEY'RE", "'sun 'tis 'round 'velvet 'mine 'llama 'dusk",
                "''s \"'s' x'S rock'n'roll l'\u00e9t\u00e9 '' 's", "it\u2019s")
    yield from ("1234 12,345.67 3rd x2y \u0661\u0662\u0663 \u00bd\u00be \u216b \u4e09 \U0001d7d9\U0001d7da", "v1.2.3-rc4")
    yield from ("\u03a3\u0395\u039b\u0391\u03a3 \u03a3 \u1e9e STRASSE \u0130\u0130 I\u0131 \u01c5 \u1f88",
                "\u10a0\u13a0\ua7cb\U00010d50\U00016ea0 \u24b6 \u2160")
    yield from ("e\u0301e\u0301 \u1100\u1161\u11a8 \u0958 \u2126 \u212b \u0344", "a\u0301\u0898\u0323 a\u0301\u07fd\u0323 a\u0301\U0001e2ae\u0323")
    yield from ("the foxy fox ran  over SNOW snow, fox", "full  width Full width \u00c9t\u00e9 \u00e9t\u00e9, ran fox-fox",
                "<lora> a[PAD]b [MASK] <LORA>")
    yield from ("z zz quiz q qq \u4e00\u4e8c fuzzy", "a" * 5000, "\u4e00" * 700, "!" * 90, "fox " * 74 + "fox", "fox " * 75 + "fox", "'" * 200)


def transformers_ids(folder, texts):
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder)
    long = tokenizer(texts, truncation=True, max_length=6000).input_ids
    return {"6000": long, "77": tokenizer(texts, truncation=True, max_length=LENGTH, padding="max_length").input_ids}


def wrong(folder):
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder)
    return Wrong(json.loads(tokenizer._tokenizer.to_str()), tokenizer.pad_token_id, LENGTH)


def normalizer(change):
    return lambda file, _: change(file["normalizer"]["normalizers"])


def ends_swapped(file, _):
    post = file["post_processor"]
    post["cls"], post["sep"] = post["sep"], post["cls"]


def padded_with_the_end(file, options):
    options["pad"] = next(t["id"] for t in file["added_tokens"] if t["content"] == EOS)


MUTANTS = {
    "json": {
        "no_nfc": normalizer(lambda steps: steps.pop(0)),
        "nfkc": normalizer(lambda steps: steps[0].update(type="NFKC")),
        "nfd": normalizer(lambda steps: steps[0].update(type="NFD")),
        "no_lower_case": normalizer(lambda steps: steps.pop()),
        "lower_case_with_context": option(text=str.lower),
        "case_folded": option(text=str.casefold),
        "letters_of_ascii": expression(lambda e: e.replace(r"[\p{L}]+", "[a-zA-Z]+")),
        "letters_with_marks": expression(lambda e: e.replace(r"[\p{L}]+", r"[\p{L}\p{M}]+")),
        "letters_one_by_one": expression(lambda e: e.replace(r"[\p{L}]+", r"[\p{L}]")),
        "numbers_joined": expression(lambda e: e.replace(r"|[\p{N}]|", r"|[\p{N}]+|")),
        "numbers_are_digits": expression(lambda e: e.replace(r"\p{N}", r"\p{Nd}")),
        "no_contractions": expression(lambda e: e.replace("'s|'t|'re|'ve|'m|'ll|'d|", "")),
        "contractions_without_d": expression(lambda e: e.replace("'ll|'d|", "'ll|")),
        "others_one_by_one": expression(lambda e: re.sub(r"\+$", "", e)),
        "prefix_space": byte_level(add_prefix_space=True),
        "no_suffix": model(end_of_word_suffix=""),
        **MERGES,
        "no_start": option(ids=lambda ids: ids[1:] + ids[-1:]),
        "ends_swapped": ends_swapped,
        **SIDES,
        "end_lost": option(ids=lambda ids: ids[:-1] + [0]),
        "special_strings_in_the_raw_text_alone": flags(normalized=False),
        "end_not_cut_out": tokens(lambda content: content == BOS),
        "special_strings_as_single_words": flags(single_word=True),
    },
    "plain": {
        "special_strings_no_alternative": expression(lambda e: "'s" + e.split("|'s", 1)[1]),
        "special_strings_whole": byte_level(use_regex=False),
        "special_strings_in_the_normalised_text": flags(normalized=True),
    },
    "json_bang": {
        "bang_not_cut_out": tokens(lambda content: content != "!"),
        "padded_with_the_end": padded_with_the_end,
    },
    "own_tokens": {
        "white_space_kept": normalizer(lambda steps: steps.pop(1)),
        "no_flags": flags(lstrip=False, rstrip=False, single_word=False),
        "all_in_the_raw_text": flags(normalized=False),
    },
    "small": {"unknown_fused": model(fuse_unk=True), "unknown_dropped": model(unk_token=None)},
}


def mutants(folders, texts, truth):
    found = {}
    for folder, changes in MUTANTS.items():
        found |= wrong(folders[folder]).told_apart(folder, texts, truth[folder]["77"], changes)
    return found


def ranges(characters):
    rows = []
    for c in sorted(map(ord, characters)):
        if rows and rows[-1][1] == c - 1:
            rows[-1][1] = c
        else:
            rows.append([c, c])
    return rows


def every_code_point():
    from tokenizers import Regex, normalizers

    everything = [chr(c) for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]
    facts = {}
    for name, pattern in (("letters", r"\p{L}"), ("numbers", r"\p{N}"), ("spaces", r"\s")):
        remove, members = normalizers.Replace(Regex(pattern), ""), set()
        for i in range(0, len(everything), 4096):
            chunk = everything[i : i + 4096]
            members |= set(chunk) - set(remove.normalize_str("".join(chunk)))
        facts[name] = ranges(members)
    lower = ((c, normalizers.Lowercase().normalize_str(c)) for c in everything)
    facts["lower"] = [[ord(c), small] for c, small in lower if small != c]
    return facts


def normalized():
    """Each code point between marks; of the large scripts, a sample."""
    from transformers import CLIPTokenizer

    clip = CLIPTokenizer()._tokenizer.normalizer
    rows = []
    for c in range(1, 0x1FFFF):
        large = 0x3400 <= c < 0xA000 or 0xAC00 <= c < 0xD7A4 or 0xE000 <= c < 0xF900 or 0x17000 <= c < 0x1B000
        if not 0xD800 <= c < 0xE000 and not (large and c % 29):
            text = f"a\u0301{chr(c)}\u0323 {chr(c)}\u11a8"
            rows.append([text, clip.normalize_str(text)])
    return rows


def main(out_dir):
    out_dir = pathlib.Path(out_dir)
    folders, vocab, pairs = vocabulary.make_folders(out_dir)
    texts = list(strings())
    truth = {name: transformers_ids(folder, texts) for name, folder in folders.items()}
    cases = {"strings": texts, "merges": len(pairs), "vocabulary": len(vocab), "folders": truth,
             "mutants": mutants(folders, texts, truth)}
    for name, value in (("cases", cases), ("unicode", every_code_point()), ("normalized", normalized())):
        (out_dir / f"{name}.json").write_text(json.dumps(value), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
