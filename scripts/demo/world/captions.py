# SPDX-License-Identifier: Apache-2.0
"""Captions of scenes: several grammars, synonyms, any order, attributes left out where they are the usual ones."""

import random

from demo.world import vocabulary

OPENINGS = ("", "", "", "a video of ", "a short clip of ", "we see ")


def phrase(rng, attribute, name):
    """One of the phrases of a value; its name's own phrase half of the time."""
    phrases = vocabulary.ATTRIBUTES[attribute][name]
    return phrases[0] if rng.random() < 0.5 else rng.choice(phrases)


def participle(verb):
    """'moves to the left' -> 'moving to the left'."""
    head, _, rest = verb.partition(" ")
    irregular = {"gets": "getting", "spins": "spinning", "hops": "hopping", "drifts": "drifting", "swings": "swinging"}
    stem = head[:-1]
    if head not in irregular and stem.endswith("e"):
        stem = stem[:-1]
    return f"{irregular.get(head, stem + 'ing')} {rest}".rstrip()


def a(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def mentioned(rng, names, attribute):
    """Whether a caption says it. What differs from the usual is nearly always said; the backdrop mostly."""
    if attribute == "backdrop":
        return rng.random() < 0.93
    usual = vocabulary.names(attribute)[0] == names[attribute]
    return rng.random() < (0.2 if usual else 1.0)


def caption(names, rng):
    """names: {attribute: value name}; rng: random.Random."""
    say = {k: phrase(rng, k, v) for k, v in names.items()}
    said = lambda k: mentioned(rng, names, k)
    adjectives = [say[k] for k in ("size", "finish") if said(k)] + [say["colour"]]
    if rng.random() < 0.1:
        rng.shuffle(adjectives)
    noun = " ".join([*adjectives, say["shape"]])
    place = say["backdrop"] if said("backdrop") else ""
    extras = [say[k] for k in ("light", "camera") if said(k)]
    rng.shuffle(extras)
    style = rng.random()
    if style < 0.15:  # tags
        parts = [noun, participle(say["motion"]), *([place] if place else []), *extras]
        text = ", ".join(parts)
    elif style < 0.35 and place:  # the place first
        text = ", ".join([f"{place}, {a(noun)} {say['motion']}", *extras])
    elif style < 0.55:  # a noun phrase
        text = " ".join(filter(None, [a(noun), participle(say["motion"]), place]))
        text = rng.choice(OPENINGS) + ", ".join([text, *extras])
    elif style < 0.65 and extras:  # light or camera first
        text = ", ".join([extras[0], " ".join(filter(None, [a(noun), say["motion"], place])), *extras[1:]])
    else:
        text = ", ".join([" ".join(filter(None, [a(noun), say["motion"], place])), *extras])
    return finish(text, rng)


def finish(text, rng):
    """Capitals and a full stop come and go."""
    if rng.random() < 0.6:
        text = text[0].upper() + text[1:]
    if rng.random() < 0.5:
        text += "."
    return text.replace(", ", ". ", 1) if rng.random() < 0.05 else text


def plain(names):
    """The caption that a check uses: one sentence, everything that is not usual said by its first phrase."""
    say = {k: vocabulary.ATTRIBUTES[k][v][0] for k, v in names.items()}
    unusual = lambda k: vocabulary.names(k)[0] != names[k]
    noun = " ".join([say[k] for k in ("size", "finish") if unusual(k)] + [say["colour"], say["shape"]])
    extras = [say[k] for k in ("light", "camera") if unusual(k)]
    return ", ".join([f"{a(noun)} {say['motion']} {say['backdrop']}".capitalize(), *extras]) + "."


def of_scenes(scenes, seed):
    """One caption per scene."""
    rng = random.Random(seed)
    columns = {k: v.tolist() for k, v in scenes.index.items()}
    value = {k: vocabulary.names(k) for k in columns}
    return [caption({k: value[k][columns[k][i]] for k in columns}, rng) for i in range(len(scenes))]
