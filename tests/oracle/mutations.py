# SPDX-License-Identifier: Apache-2.0
"""Mutants that any transformer has: (label, change) where change spoils a copy of the model."""

import torch


def reordered(linear, order):
    """The chunks that a linear's rows are made of, in another order."""
    for p in (linear.weight, linear.bias):
        chunks = p.data.chunk(len(order))
        p.data = torch.cat([chunks[i] for i in order])


def exchanged(count, i, j):
    order = list(range(count))
    order[i], order[j] = order[j], order[i]
    return order


def exchanges(label, path, count):
    """Each two neighbours among a linear's chunks."""
    for i in range(count - 1):
        yield f"{label}.chunks_{i}_{i + 1}", lambda m, i=i: reordered(m.get_submodule(path), exchanged(count, i, i + 1))


def nudges(model, deaf, unread=()):
    """Every weight, one at a time, off by a hundredth, and every bias by half; but those biases that nothing feels."""
    for name, module in model.named_modules():
        if name in unread:
            continue
        for kind, factor in (("weight", 1.01), ("bias", 1.5)):
            if getattr(module, kind, None) is None or (kind == "bias" and deaf(name)):
                continue
            yield f"{name}.{kind}", lambda m, name=name, kind=kind, factor=factor: getattr(
                m.get_submodule(name), kind).data.mul_(factor)


def eps_tenfold(model, unread=()):
    for name, module in model.named_modules():
        if hasattr(module, "eps") and name not in unread:
            yield f"{name}.eps", lambda m, name=name: setattr(m.get_submodule(name), "eps", 10 * m.get_submodule(name).eps)


def replaced(path, make):
    """Another module in a module's place."""
    def change(model):
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, make())
    return change


def zeroed(path):
    def change(model):
        for p in model.get_submodule(path).parameters():
            p.data.zero_()
    return change
