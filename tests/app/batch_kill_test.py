# SPDX-License-Identifier: Apache-2.0
"""Kills a batch with SIGKILL at random moments, lets it end once, and checks what it left: every file there and whole,
none twice, the manifest exact, nothing beside.

  batch_kill_test.py --program build/release/bin/sagelab --model MODEL_FOLDER --kills 100"""
import argparse
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

FRAMES, WIDTH, HEIGHT, SPECS = 9, 96, 64, ("sdpa", "sage2")
TEXTS = ["A fox in the snow.", "A cat’s nap.", "A dog, running.", "A cow. {\"seed\": 7}", "A hen.", "Two pigs."]


def check(holds, message):
    if not holds:
        sys.exit(f"batch_kill_test: {message}")


def boxes(data, begin, end):
    """(kind, first byte of the content, end) of each box of an MP4; fails where one is cut."""
    while begin < end:
        check(begin + 8 <= end, "a box header is cut")
        size, kind = struct.unpack(">I4s", data[begin:begin + 8])
        check(8 <= size <= end - begin, f"box {kind} has {size} bytes, {end - begin} are left")
        yield kind.decode("latin-1"), begin + 8, begin + size
        begin += size


def find(data, path, begin, end):
    for kind, first, last in boxes(data, begin, end):
        if kind == path[0]:
            return (first, last) if len(path) == 1 else find(data, path[1:], first, last)
    sys.exit(f"batch_kill_test: no box {path[0]}")


def frames_by_index(path):
    """The number of samples that an MP4's index names."""
    with open(path, "rb") as file:
        data = file.read()
    check("mdat" in [kind for kind, _, _ in boxes(data, 0, len(data))], f"{path}: no frames")
    first, _ = find(data, ["moov", "trak", "mdia", "minf", "stbl", "stsz"], 0, len(data))
    return struct.unpack(">I", data[first + 8:first + 12])[0]


def check_video(path):
    check(frames_by_index(path) == FRAMES, f"{path}: {frames_by_index(path)} frames")
    if not shutil.which("ffprobe"):
        return
    wanted = "stream=nb_read_frames,width,height:format_tags=comment"
    out = subprocess.run(["ffprobe", "-v", "error", "-count_frames", "-show_entries", wanted, "-of", "json", path],
                         capture_output=True, text=True)
    check(out.returncode == 0 and not out.stderr, f"{path}: ffprobe says {out.stderr}")
    told = json.loads(out.stdout)
    stream = told["streams"][0]
    size = int(stream["nb_read_frames"]), stream["width"], stream["height"]
    check(size == (FRAMES, WIDTH, HEIGHT), f"{path}: {size}")
    check(json.loads(told["format"]["tags"]["comment"])["num_frames"] == FRAMES, f"{path}: its metadata is another's")


def check_frames(path):  # of a build that writes no MP4
    names = sorted(os.listdir(path))
    check(names == [f"frame_{i:04}.png" for i in range(FRAMES)] + ["request.json"], f"{path}: {names}")


def check_folder(folder):
    with open(os.path.join(folder, "manifest.jsonl"), encoding="utf-8") as file:
        text = file.read()
    check(text.endswith("\n"), "the manifest ends in a torn line")
    records = [json.loads(line) for line in text.splitlines()]
    keys = [(record["index"], record["take"]) for record in records]
    check(len(set(keys)) == len(keys), f"a sample is recorded twice: {sorted(keys)}")
    check(sorted(keys) == [(i, 0) for i in range(len(TEXTS))], f"samples {sorted(keys)}")
    named = set()
    for record in records:
        text = TEXTS[record["index"]].split(" {")[0]
        check(record["status"] == "done" and record["prompt"] == text, f"{record}")
        check([output["attention"] for output in record["outputs"]] == list(SPECS), f"{record}")
        for output in record["outputs"]:
            path = os.path.join(folder, output["file"])
            if os.path.isdir(path):
                check_frames(path)
            else:
                check(os.path.getsize(path) == output["bytes"], f"{path}: not {output['bytes']} bytes")
                check_video(path)
            named.add(output["file"].rstrip("/"))
    check(len(named) == len(TEXTS) * len(SPECS), f"{len(named)} files are named")
    ours = {"manifest.jsonl", "index.html", ".manifest.jsonl.lock", ".folder.lock", *SPECS}
    check(set(os.listdir(folder)) == ours, f"beside the results: {set(os.listdir(folder)) ^ ours}")
    there = {f"{spec}/{name}" for spec in SPECS for name in os.listdir(os.path.join(folder, spec))}
    check(there == named, f"files that the manifest does not name, or lacks: {there ^ named}")
    with open(os.path.join(folder, "index.html"), encoding="utf-8") as file:
        check(f"{len(TEXTS)} samples: {len(TEXTS)} done." in file.read(), "the index does not tell of all")


def kill_often(command, kills, done):
    """Kills `kills` runs; where one ends first, done() says how to begin anew. Returns the
    seconds of a run that was not."""
    begin = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    whole = time.monotonic() - begin
    done()
    killed = 0
    while killed < kills:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(random.uniform(0, whole / 2))  # mostly before the end: what is there is not made again
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        code = process.wait()
        check(code in (0, -signal.SIGKILL), f"a run ended with {code}")
        killed += code != 0
        if code != 0 and killed % 10 == 0:
            print(f"{killed} kills", flush=True)
        if code == 0:
            done()
    return whole


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--program", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--seed", type=int, default=None, help="of the moments; printed, to see a failure again")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
    random.seed(seed)
    print(f"moments of seed {seed}", flush=True)
    rounds = 0
    with tempfile.TemporaryDirectory() as place:
        prompts, folder = os.path.join(place, "prompts.txt"), os.path.join(place, "out")
        with open(prompts, "w", encoding="utf-8") as file:
            file.write("\n".join(TEXTS) + "\n")
        command = [arguments.program, "batch", "--prompts", prompts, "--model", arguments.model, "--output", folder,
                   "--width", str(WIDTH), "--height", str(HEIGHT), "--num-frames", str(FRAMES), "--steps", "2",
                   "--device", "cpu", "--attention", ",".join(SPECS)]

        def done():
            nonlocal rounds
            check_folder(folder)
            shutil.rmtree(folder)
            rounds += 1

        whole = kill_often(command, arguments.kills, done)
        subprocess.run(command, check=True, capture_output=True)
        check_folder(folder)
    print(f"{arguments.kills} kills within {rounds} batches of {whole:.1f} s and one that was left to end: all whole")


if __name__ == "__main__":
    main()
