# SPDX-License-Identifier: Apache-2.0
"""Stage `all`: the whole recipe on one machine, from nothing to the bundled folder."""

import copy
import importlib
import json
import shutil


def fraction(options, stage):
    """Of a stage's plan that is done."""
    file = options.work / stage / "state.json"
    return json.loads(file.read_text())["elapsed"] / options.planned[stage] if file.exists() else 0.0


def main(options):
    """Everything is made in --work; --out receives the model alone."""
    inner = copy.copy(options)
    inner.out = options.work
    for name in ("tokenizer", "vae", "dit", "reader", "export", "check"):
        stage = importlib.import_module(f"demo.{name}")
        if name not in options.planned:
            stage.main(inner)
            continue
        while fraction(options, name) < 0.995:
            stage.main(inner)
    if options.out != options.work:
        shutil.rmtree(options.out, ignore_errors=True)
        shutil.copytree(options.work / "model", options.out)
        print(f"the model is in {options.out}, its report in {options.work / 'check'}")
