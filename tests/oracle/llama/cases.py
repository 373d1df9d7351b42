# SPDX-License-Identifier: Apache-2.0
"""Llama tokenizers: the ids that Hugging Face's `tokenizers` gives, and wrong tokenizers.

usage: cases.py OUT_DIR

OUT_DIR/<folder>/          tokenizer folders (vocabulary.py)
OUT_DIR/cases.json         strings; folders: ids by folder and max_length; merges: how many; prompts: in the template, and
                           crop: the rows before them; contractions: {front: letters that end it, as [first, last]};
                           mutants: {folder|what: [[string, ids], ...]}: strings of which a wrong tokenizer gives other ids

The class LlamaTokenizer of transformers 5 is no oracle: it puts a pre-tokenizer of its own in the file's place.
"""

import json
import pathlib
import random
import sys

import vocabulary
from vocabulary import BOS, EOT, EXPRESSION, PAD, corpus
from wrong_tokenizers import MERGES, SIDES, Wrong, byte_level, expression, flags, model, option, tokens

LENGTH, ALL = 351, 12000  # of the template and 256 tokens; and more than any string has


def strings():
    yield from corpus.test_strings()
    # Of what the merges were trained on, so that many of them are used.
    lines = random.Random(5).sample(sorted(set(corpus.lines())), 600)
    yield from (" ".join(lines[i : i + 6]) for i in range(0, len(lines), 6))
    for special in (BOS, EOT, PAD, "<image>", BOS.upper(), "<|begin_of_text", "<| eot_id |>", "<|reserved_special_token_1|>",
                    "<|reserved_special_token_11|>"):
        yield from (special, f"a {special} b", f"a{special}b", f" {special}\n\n {special} ", f"{special}{special}'s{special}1")
    yield from ("it's they're we've I'm you'll he'd don't", "IT'S THEY'RE WE'VE I'M YOU'LL HE'D DON'T", "It'S Re'rE 'vE 'Ll",
                "'sun 'tis 'round 'velvet 'mine 'llama 'dusk 'RE", "'\u017ft '\u017f \u017f'\u017f", "''s \"'s' x'S rock'n'roll l'\u00e9t\u00e9 '' 's",
                "it\u2019s", "x'more x'make x'stone x'street x'reed x'llama X'STONE x'sx x'tis x'rex x'vex x'mx x'llx x'dx X'REX X'LLX 1'Tis!", "1's 2'd !'s \n's 's", "'", "'l", "'r", "'v 'vx 'lx 'rx", "'s1 'll1", "x' s")
    yield from ("1 12 123 1234 12345 123456 1234567", "\u00bd\u00be\u2153\u2154", "v1.2.3-rc4 3rd x2y 2x 12,345.67 $5 \u20ac12345", "\u0661\u0662\u0663\u0664 \u00bd\u00be\u216b\u4e09 \U0001d7d9\U0001d7da\U0001d7db\U0001d7dc")
    yield from ("a\nb", "a\n\nb", "a \n b", "a\r\nb\r\n\r\nc", "a  \r\r  \n\n  b", "\n", " \n", "\n ", "\r", "\t\n\t", "a!\n!\r\n\n?", "a\nfox\rfox", "a\r  b\n  b\r  fox", "!\n a", "...\r\n\r\nb",
                " !\n\n\n!", "a\u2028b\u2029c\x0b\x0cd\x85e", "\n\n\n  \n", "x\n    return\n\ty")
    yield from (" ", "  ", "   a", "a  b", "a   b", "a \t b", "\ta", "\t\ta", "a\u00a0b", "\u00a0\u00a0b", "a\u3000\u3000\u3000b", "a  !", "a \u00a0!", " 1", "  1", "a  ",
                "a \n", " \t ", "  \u2003x", "\u200bx \u200b", "  'sx", "   123", "a  \u0301b")
    yield from ("e\u0301e\u0301 \u1100\u1161\u11a8 \u0958 a\u0301\u0323", "\u0301abc \u0301 1\u0301", "!a ?b #c @d _e -f (g) \u00a1hola! \u201cx\u201d", "a_b a-b a.b a/b", "\u0903\u093f\u0e34")
    yield from ("the foxy fox ran  over SNOW snow, fox", "full  width Full  Width \u00c9t\u00e9 \u00e9t\u00e9, ran fox-fox the\n\n\nthem", "<lora> a[PAD]b [MASK] glass towers  snow  SNOW  x")
    yield from ("a" * 5000, "\u4e00" * 700, "!" * 900, " " * 3000, "\n" * 2000 + " x", "fox " * 349 + "fox", "fox " * 350 + "fox", "'" * 200, "1" * 1000)


_FUZZ = (list("abzSTDMLrevelt") + ["'", "'s", "'LL", "'Re", "\u017f", "\u2019"] + list(" \t\n\r\u00a0\u3000\u2028\x85") + [" ", "  ", "\r\n", "\n\n", " \n"] +
         list("0123456789\u0663\u00bd\u216b") + list("!?.,-_#@<|>\u00bf\u20ac") + ["\u0301", "\u0323", "\u093f", "\u200d", "\ufe0f", "\u200b"] +
         ["\u00e9", "\u00df", "\u0130", "\u4e00", "\u3042", "\uac00", "\u05d0", "\u0928", "\U0001d7d9", "\U00010400"] + [BOS, EOT, "fox", " the"])


def fuzz(count, seed=3):
    """Short and long strings of what the expression turns on, and of any code point at all."""
    rng = random.Random(seed)
    pieces = _FUZZ + corpus.EMOJI
    for i in range(count):
        picked = rng.choices(pieces, k=rng.randrange(1, 30))
        if i % 4 == 0:
            anything = (rng.choice((rng.randrange(1, 0x250), rng.randrange(1, 0x3000), rng.randrange(1, 0x110000))) for _ in picked)
            picked = [chr(c) if not 0xD800 <= c < 0xE000 else p for p, c in zip(picked, anything)]
        yield "".join(picked)


def raw_ids(folder, texts):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation(), tokenizer.no_padding()
    return [encoding.ids for encoding in tokenizer.encode_batch(texts)]


def fast_ids(folder, texts, padded):
    """Of all texts, and padded and cut of so many."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    every = tokenizer(texts, truncation=True, max_length=ALL).input_ids
    some = tokenizer(texts[:padded], truncation=True, max_length=LENGTH, padding="max_length")
    assert [sum(mask) for mask in some.attention_mask] == [min(LENGTH, len(ids)) for ids in every[:padded]]
    return {str(ALL): every, str(LENGTH): some.input_ids}


def replaced(old, new):
    assert old in EXPRESSION
    return expression(lambda e: e.replace(old, new, 1))


def post(change):
    return lambda file, _: file.update(post_processor=change(file["post_processor"]))


def template(single):
    def change(processor):
        processor["processors"][1]["single"] = [
            {"Sequence": {"id": "A", "type_id": 0}} if part == "A" else {"SpecialToken": {"id": part, "type_id": 0}} for part in single]
        return processor
    return post(change)


_ENDINGS = "'s|'t|'re|'ve|'m|'ll|'d"
_SPACE = r"\s*[\r\n]+"
_LETTERS, _OTHERS = r"[^\r\n\p{L}\p{N}]?\p{L}+", r" ?[^\s\p{L}\p{N}]+[\r\n]*"
MUTANTS = {
    "released": {
        "contractions_with_case": replaced("(?i:", "(?:"),
        "no_contractions": replaced(f"(?i:{_ENDINGS})|", ""),
        **{f"contractions_without_{e[1:]}": replaced(_ENDINGS, "|".join(x for x in _ENDINGS.split("|") if x != e))
           for e in _ENDINGS.split("|")},
        "letters_without_prefix": replaced(_LETTERS, r"\p{L}+"),
        "prefix_is_a_space": replaced(_LETTERS, r" ?\p{L}+"),
        "prefix_is_any_space": replaced(_LETTERS, r"\s?\p{L}+"),
        "prefix_may_end_a_line": replaced(_LETTERS, r"[^\p{L}\p{N}]?\p{L}+"),
        "prefix_may_be_cr": replaced(_LETTERS, r"[^\n\p{L}\p{N}]?\p{L}+"),
        "prefix_may_be_a_number": replaced(_LETTERS, r"[^\r\n\p{L}]?\p{L}+"),
        "prefix_of_many": replaced(_LETTERS, r"[^\r\n\p{L}\p{N}]*\p{L}+"),
        "letters_of_ascii": replaced(_LETTERS, r"[^\r\n\p{L}\p{N}]?[a-zA-Z]+"),
        "letters_with_marks": replaced(_LETTERS, r"[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+"),
        "letters_one_by_one": replaced(_LETTERS, r"[^\r\n\p{L}\p{N}]?\p{L}"),
        "numbers_one_by_one": replaced("{1,3}", ""),
        "numbers_by_two": replaced("{1,3}", "{1,2}"),
        "numbers_by_four": replaced("{1,3}", "{1,4}"),
        "numbers_joined": replaced("{1,3}", "+"),
        "numbers_are_digits": replaced(r"\p{N}{1,3}", r"\p{Nd}{1,3}"),
        "numbers_with_a_space": replaced(r"\p{N}{1,3}", r" ?\p{N}{1,3}"),
        "others_without_space": replaced(_OTHERS, _OTHERS[2:]),
        "others_with_any_space": replaced(_OTHERS, r"\s" + _OTHERS[1:]),
        "others_without_line_ends": replaced(_OTHERS, _OTHERS.removesuffix(r"[\r\n]*")),
        "others_with_one_line_end": replaced(_OTHERS, _OTHERS.replace(r"[\r\n]*", r"[\r\n]?")),
        "others_without_cr": replaced(_OTHERS, _OTHERS.replace(r"[\r\n]*", r"\n*")),
        "others_with_spaces_behind": replaced(_OTHERS, _OTHERS.replace(r"[\r\n]*", r"\s*")),
        "others_one_by_one": replaced(_OTHERS, _OTHERS.replace("]+", "]")),
        "no_lines": replaced(_SPACE + "|", ""),
        "lines_without_cr": replaced(_SPACE, r"\s*\n+"),
        "lines_without_space": replaced(_SPACE, r"[\r\n]+"),
        "lines_of_the_first_end": replaced(_SPACE, r"\s*?[\r\n]+"),
        "lines_with_space_behind": replaced(_SPACE, r"\s*[\r\n]+\s*"),
        "no_look_ahead": replaced(r"|\s+(?!\S)", ""),
        "lazy_look_ahead": replaced(r"\s+(?!\S)", r"\s+?(?!\S)"),
        "spaces_before_lines": replaced(_SPACE + r"|\s+(?!\S)", r"\s+(?!\S)|" + _SPACE),
        "letters_before_contractions": expression(lambda e: _LETTERS + "|" + e),
        "of_gpt_2": expression(lambda e: r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"),
        "split_twice": byte_level(use_regex=True),
        "prefix_space": byte_level(add_prefix_space=True),
        "normalized": lambda file, _: file.update(normalizer={"type": "NFC"}),
        "merges_not_ignored": model(ignore_merges=False),
        **MERGES,
        "no_start": template("A"),
        "start_twice": template([BOS, BOS, "A"]),
        "start_behind": template(["A", BOS]),
        "start_of_another_id": option(ids=lambda ids: [ids[0] + 1, *ids[1:]]),
        **SIDES,
        "end_of_turn_not_cut_out": tokens(lambda content: content != EOT),
        "start_not_cut_out": tokens(lambda content: content != BOS),
        "tokens_as_single_words": flags(single_word=True),
        "tokens_take_spaces": flags(rstrip=True),
    },
    "bare": {"merges_ignored": model(ignore_merges=True)},
}


def wrong(folder):
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    return Wrong(json.loads(tokenizer.backend_tokenizer.to_str()), tokenizer.pad_token_id, LENGTH)


def contractions():
    """Which letters the expression takes behind an apostrophe, without regard to case."""
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(EXPRESSION), "isolated")
    everything = [chr(c) for c in range(1, 0x20000) if not 0xD800 <= c < 0xE000 and chr(c) not in "\r\n"]
    found = {}
    for front in ("", "r", "v", "l"):
        found[front] = [ord(c) for i in range(0, len(everything), 4096) for c in _cut(split, front, everything[i : i + 4096])]
    return found


def _cut(split, front, letters):
    pieces = {piece for piece, _ in split.pre_tokenize_str("".join(f"'{front}{c}x\n" for c in letters))}
    return [c for c in letters if f"'{front}{c}" in pieces and c.isalpha()]


def main(out_dir):
    out_dir = pathlib.Path(out_dir)
    folders, vocab, pairs = vocabulary.make_folders(out_dir)
    texts = list(strings())
    first = len(texts)
    texts += fuzz(4000)
    truth = {name: fast_ids(folder, texts, first) for name, folder in folders.items()}
    for name in ("released", "fast", "bare"):
        assert raw_ids(folders[name], texts) == truth[name][str(ALL)], f"{name}: transformers changes ids"
    chat = vocabulary.prompt_template()
    prompts = [chat["template"].format(text) for text in ("", "A red fox.", *corpus.SENTENCES["en"], "fox " * 300)]
    found = {}
    for folder, changes in MUTANTS.items():
        found |= wrong(folders[folder]).told_apart(folder, texts[:first], truth[folder][str(LENGTH)], changes)
    cases = {"strings": texts, "merges": len(pairs), "vocabulary": len(vocab), "folders": truth, "mutants": found,
             "prompts": prompts, "crop": chat["crop_start"], "contractions": contractions()}
    (out_dir / "cases.json").write_text(json.dumps(cases), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
