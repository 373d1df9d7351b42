# SPDX-License-Identifier: Apache-2.0
"""The list of mutants: what a plausible slip would compute in place of diffusers' own.

A mutant is a function of the model that returns what to patch, (object, attribute, wrong value) triples, or a function of
the inputs that returns wrong ones.
"""

import functools

MUTANTS = []  # (name, stage, fixtures, function)
ALL = ("schnell", "dev", "odd_config", "default_axes")
GUIDED = ALL[1:]
SEVERAL_HEADS = ALL[:3]
SMALL = ("schnell", "dev")  # their rows are small: an eps shows


def of(fixture):
    return [(name, stage, function) for name, stage, fixtures, function in MUTANTS if fixture in fixtures]


def mutant(stage, fixtures=ALL):
    def add(function):
        MUTANTS.append((function.__name__, stage, fixtures, function))
        return function
    return add


def family(stage, fixtures=ALL, **wrongs):
    """Several mutants of one kind: name=argument of the function."""
    def add(function):
        for name, argument in wrongs.items():
            MUTANTS.append((name, stage, fixtures, functools.partial(function, argument=argument)))
        return function
    return add


def data(parameter, value):
    return (parameter, "data", value.contiguous())


def doubles(model, path):
    return [functools.reduce(getattr, path.split("."), b) for b in model.transformer_blocks]


def singles(model, path):
    return [functools.reduce(getattr, path.split("."), b) for b in model.single_transformer_blocks]
