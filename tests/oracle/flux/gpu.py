# SPDX-License-Identifier: Apache-2.0
"""How far diffusers' FluxPipeline is from its fp32 results when it runs in half precision on a GPU.

usage: gpu.py FIXTURES_DIR OUT_JSON [--dtype bf16|fp16] [--device cuda]
       (FIXTURES_DIR as pipelines.py made it)

Every stage starts from the fp32 values of dump.safetensors before it, rounded to the dtype; e = ||half - fp32|| / ||fp32||.
OUT_JSON: {"device", "torch", "diffusers", "dtype", "errors": {<name>: {<mode>: {<stage>: e}}}}; the stages: pooled, embeds (of the prompt),
latents.I after step I, image, pixels.
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import load_file

MODES = ("plain", "guided")


def far(ours, theirs):
    return ((ours.double().cpu() - theirs.double()).norm() / theirs.double().norm()).item()


def text_stages(pipe, request, device):
    embeds, pooled, _ = pipe.encode_prompt(prompt=request["prompt"], prompt_2=request["prompt_2"], device=device,
                                           max_sequence_length=request["max_sequence_length"])
    return {"pooled": pooled, "embeds": embeds}


def loop_stages(pipe, request, dump, mode, moved):
    out = {}

    def after_step(_pipe, i, _t, values):
        out[f"latents.{i}"] = values["latents"].clone()
        return {}

    given = dict(prompt_embeds=moved("embeds"), pooled_prompt_embeds=moved("pooled"))
    if mode == "guided":
        given |= dict(negative_prompt_embeds=moved("negative.embeds"), true_cfg_scale=request["true_cfg_scale"],
                      negative_pooled_prompt_embeds=moved("negative.pooled"))
    size = {k: request[k] for k in ("height", "width", "num_inference_steps", "guidance_scale", "max_sequence_length")}
    pipe(**given, **size, latents=moved("noise"), output_type="latent", callback_on_step_end=after_step)
    return out


def picture_stages(pipe, request, last):
    z = pipe._unpack_latents(last, request["height"], request["width"], pipe.vae_scale_factor)
    z = z / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
    image = pipe.vae.decode(z, return_dict=False)[0]
    pixels = pipe.image_processor.postprocess(image, output_type="np")
    return {"image": image, "pixels": torch.from_numpy((pixels * 255).round())}


def errors_of(folder, device, dtype):
    from diffusers import FluxPipeline

    request, dump = json.loads((folder / "request.json").read_text()), load_file(folder / "dump.safetensors")
    pipe = FluxPipeline.from_pretrained(folder / "model", torch_dtype=dtype).to(device)
    pipe.set_progress_bar_config(disable=True)

    def moved(key):
        return dump[key].to(device, dtype)

    errors = {}
    for mode in MODES:
        out = loop_stages(pipe, request, dump, mode, moved)
        out |= picture_stages(pipe, request, moved(f"{mode}.latents.{request['num_inference_steps'] - 1}"))
        errors[mode] = {stage: far(value, dump[f"{mode}.{stage}"]) for stage, value in out.items()}
        errors[mode] |= {stage: far(value, dump[stage]) for stage, value in text_stages(pipe, request, device).items()}
    return errors


def main():
    import diffusers

    parser = argparse.ArgumentParser()
    parser.add_argument("fixtures", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--dtype", choices=("bf16", "fp16"), default="bf16")
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device: nothing measured")
        return
    torch.set_grad_enabled(False)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[args.dtype]
    errors = {folder.name: errors_of(folder, args.device, dtype)
              for folder in sorted(args.fixtures.iterdir()) if (folder / "dump.safetensors").exists()}
    device = torch.cuda.get_device_name() if args.device == "cuda" else args.device
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"device": device, "torch": torch.__version__, "diffusers": diffusers.__version__,
                                    "dtype": args.dtype, "errors": errors}, indent=2) + "\n")


if __name__ == "__main__":
    main()
