# SPDX-License-Identifier: Apache-2.0
"""Stage `tokenizer`: a SentencePiece unigram model of the captions, with T5's special ids, and what reads it."""

import io

import torch

from demo.world import captions, scenes

VOCABULARY = 512  # pieces; T5 adds 100 sentinels behind them
LENGTH = 226  # tokens, as the pipeline pads to
EXTRA_IDS = 100
# Every letter, digit and sign is a piece of its own, so that any text has ids; free English gets these few words whole.
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?'\"()-&/"
WORDS = ("the and of with is are it its this that very slowly quickly toward towards then while through around near far "
         "scene video shot clip view picture frame one two three some many beautiful cinematic high quality").split()


def corpus(count):
    some = scenes.draw(count, torch.Generator().manual_seed(7))
    yield from captions.of_scenes(some, 7)
    for _ in range(count // 100):
        yield " ".join(WORDS)
        yield " ".join(ALPHABET)


def train(folder, count):
    """Writes spiece.model."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=corpus(count), model_writer=model, model_type="unigram", vocab_size=VOCABULARY, pad_id=0,
        eos_id=1, unk_id=2, bos_id=-1, character_coverage=1.0, hard_vocab_limit=False, num_threads=1, minloglevel=2,
        normalization_rule_name="nmt_nfkc")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "spiece.model").write_bytes(model.getvalue())


class Tokenizer:
    """ids of captions as T5Tokenizer gives them: </s> behind, <pad> up to LENGTH."""

    def __init__(self, folder):
        import sentencepiece

        self.model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))

    def __call__(self, texts):
        rows = torch.zeros(len(texts), LENGTH, dtype=torch.int64)
        for row, ids in zip(rows, self.model.encode(list(texts))):
            ids = [*ids[:LENGTH - 1], 1]
            row[:len(ids)] = torch.tensor(ids)
        return rows


def main(options):
    folder = options.out / "tokenizer"
    train(folder, 2000 if options.tiny else 40000)
    model = Tokenizer(folder).model
    longest = max(len(model.encode(t)) for t in corpus(2000))
    print(f"tokenizer: {model.get_piece_size()} pieces; the longest of 2000 captions has {longest} tokens")
    for text in captions.of_scenes(scenes.draw(6, torch.Generator().manual_seed(3)), 3):
        print(f"  {text}\n    {' '.join(model.encode(text, out_type=str))}")
