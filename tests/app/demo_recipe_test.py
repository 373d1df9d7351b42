# SPDX-License-Identifier: Apache-2.0
"""Runs the demo model's whole recipe for a few steps on the CPU, and the program on what comes of it: the folder is one
that sagelab reads, and the report tells of every attribute.

  demo_recipe_test.py --program build/release/bin/sagelab --recipe scripts/train_demo.py"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--recipe", required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        subprocess.run([sys.executable, options.recipe, "all", "--tiny", "--work", folder / "work", "--out", folder / "model"],
                       check=True)
        report = json.loads((folder / "work/check/report.json").read_text())
        for column in ("chance", "rendered", "reconstructed", "generated", "generated_256"):
            for attribute in ("shape", "colour", "motion"):
                assert 0 <= report[column][attribute] <= 1, (column, attribute)
        subprocess.run([options.program, "generate", "--model", folder / "model", "--prompt", "A red ball rises.", "--width", "32",
                        "--height", "32", "--num-frames", "9", "--steps", "2", "--output", f"{folder}/frames/"], check=True)
        frames = sorted((folder / "frames").glob("*.png"))
        assert len(frames) == 9, frames


if __name__ == "__main__":
    main()
