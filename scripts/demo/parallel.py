# SPDX-License-Identifier: Apache-2.0
"""Several GPUs: one process each, started by `python3 -m torch.distributed.run --nproc-per-node N`; a step's batch is
divided among them. In a process started alone all of this does nothing."""

import os
import sys

import torch
import torch.distributed

COUNT, RANK = (int(os.environ.get(name, default)) for name, default in (("WORLD_SIZE", 1), ("RANK", 0)))


def begin(device):
    """Joins the others, on a GPU of its own; only the first process prints."""
    if COUNT == 1:
        return
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo")
    if RANK:
        sys.stdout = open(os.devnull, "w")


def end():
    """Waits for the first process, which saves and judges alone."""
    if COUNT > 1:
        torch.distributed.all_reduce(torch.zeros(1))
        torch.distributed.destroy_process_group()
        sys.stdout.flush()
        os._exit(0)  # the interpreter's own ending races with threads of the process group: one run in five aborted


def average(tensor):
    """The mean over all processes, in place."""
    if COUNT > 1:
        torch.distributed.all_reduce(tensor)
        tensor /= COUNT


def agreed(tensor):
    """The first process's values, in place, in all."""
    if COUNT > 1:
        torch.distributed.broadcast(tensor, 0)
    return tensor
