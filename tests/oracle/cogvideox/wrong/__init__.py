# SPDX-License-Identifier: Apache-2.0
"""The list of mutants: what a plausible slip would compute in place of diffusers' own.

A mutant is a function of (pipe, spec) that returns what to patch: (object, attribute, wrong value) triples.
"""

import contextlib
import functools

import torch

MUTANTS = []  # (name, stage, fixture, function)


def mutant(stage, *fixtures):
    def add(function):
        MUTANTS.extend((function.__name__, stage, fixture, function) for fixture in fixtures)
        return function
    return add


def family(stage, *fixtures, **wrongs):
    """Several mutants of one kind: name=argument of the function."""
    def add(function):
        for name, argument in wrongs.items():
            one = functools.partial(function, argument=argument)
            MUTANTS.extend((name, stage, fixture, one) for fixture in fixtures)
        return function
    return add


def rows(parameter, value):
    return (parameter, "data", value.contiguous())


@contextlib.contextmanager
def patched(triples):
    undo = []
    try:
        for target, attribute, value in triples:
            old = getattr(target, attribute, None)
            own = isinstance(old, torch.nn.Module) or isinstance(target, torch.Tensor) or attribute in vars(target)
            if isinstance(target, type):
                old = vars(target)[attribute]  # a staticmethod stays one
            undo.append((target, attribute, old, own))
            setattr(target, attribute, value)
        yield
    finally:
        for target, attribute, old, own in reversed(undo):
            if own:
                setattr(target, attribute, old)
            else:
                delattr(target, attribute)
