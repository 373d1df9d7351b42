# SPDX-License-Identifier: Apache-2.0
"""Peak GPU memory of diffusers on a model folder: what `sagelab generate --json` stands beside.

memory_diffusers.py FOLDER [--offload none|encoders|layers ...] [--height N] [--width N] [--steps N]
Prints one JSON line per setting: the most bytes that tensors took (torch's max_memory_allocated), the most that its allocator held,
seconds. none: pipe.to("cuda"); encoders: enable_model_cpu_offload(); layers: enable_group_offload(block_level, one block a group,
streams). The folder's weights may be all zeros: memory does not depend on them.
"""

import argparse
import gc
import json
import time

import torch
from diffusers import DiffusionPipeline


def placed(pipe, offload):
    if offload == "none":
        pipe.to("cuda")
    elif offload == "encoders":
        pipe.enable_model_cpu_offload()
    else:
        pipe.enable_group_offload(onload_device=torch.device("cuda"), offload_device=torch.device("cpu"),
                                  offload_type="block_level", num_blocks_per_group=1, use_stream=True)
    return pipe


@torch.inference_mode()
def measure(arguments, offload):
    gc.collect()
    torch.cuda.empty_cache()
    pipe = placed(DiffusionPipeline.from_pretrained(arguments.folder, dtype=torch.bfloat16), offload)
    pipe.set_progress_bar_config(disable=True)
    torch.cuda.reset_peak_memory_stats()
    start = time.time()
    pipe("a fox runs over a hill", height=arguments.height, width=arguments.width, num_inference_steps=arguments.steps)
    return {"program": "diffusers", "offload": offload, "peak_bytes": torch.cuda.max_memory_allocated(),
            "reserved_bytes": torch.cuda.max_memory_reserved(), "seconds": time.time() - start,
            "gpu": torch.cuda.get_device_name()}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--offload", nargs="+", default=["none"], choices=["none", "encoders", "layers"])
    for name, value in (("height", 1024), ("width", 1024), ("steps", 2)):
        parser.add_argument("--" + name, type=int, default=value)
    arguments = parser.parse_args()
    for offload in arguments.offload:
        print(json.dumps(measure(arguments, offload)), flush=True)


if __name__ == "__main__":
    main()
