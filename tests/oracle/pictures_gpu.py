# SPDX-License-Identifier: Apache-2.0
"""How far diffusers' pipeline of a family of pictures or videos is from its fp32 results when it runs in half precision on a GPU.

usage: pictures_gpu.py flux|hunyuanvideo|mochi|sd3 FIXTURES_DIR OUT_JSON [--dtype bf16|fp16] [--device cuda]
       (FIXTURES_DIR as the family's pipelines.py made it)

Every stage starts from the fp32 values of dump.safetensors before it, rounded to the dtype; e = ||half - fp32|| / ||fp32||.
OUT_JSON: {"device", "torch", "diffusers", "dtype", "errors": {<kernel>: {<name>: {<mode>: {<stage>: e}}}}}; the kernels:
flash and cudnn, of scaled_dot_product_attention wherever they can serve: both round, each in its own way. The stages: pooled
(where there is one), embeds (of the prompt), latents.I after step I, image, pixels. A family that is conditioned on other
things, or decodes in another way, says how: conditions(moved, guided), decoded(pipe, latents).
"""

import argparse
import importlib
import json
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent


def conditions(moved, guided):
    given = dict(prompt_embeds=moved("embeds"), pooled_prompt_embeds=moved("pooled"))
    if guided:
        given |= dict(negative_prompt_embeds=moved("negative.embeds"),
                      negative_pooled_prompt_embeds=moved("negative.pooled"))
    return given


def loop_stages(pipe, given, conditions, moved, mode):
    """Each step from the fp32 latents before it: a run of its own drifts, and a tiny model doubles its drift in a step,
    or does not, by how the first values were rounded."""
    out = {}

    def after_step(_pipe, i, _t, values):
        out[f"latents.{i}"] = values["latents"].clone()
        return {"latents": moved(f"{mode}.latents.{i}")}

    given = {k: v for k, v in given.items() if "prompt" not in k and k not in ("generator", "clip_skip")}
    pipe(**given, **conditions, latents=moved("noise"), output_type="latent", callback_on_step_end=after_step)
    return out


def picture_stages(pipe, request, last):
    import torch

    if hasattr(pipe, "_unpack_latents"):
        last = pipe._unpack_latents(last, request["height"], request["width"], pipe.vae_scale_factor)
    z = last / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
    image = pipe.vae.decode(z, return_dict=False)[0]
    pixels = pipe.image_processor.postprocess(image, output_type="np")
    return {"image": image, "pixels": torch.from_numpy((pixels * 255).round())}


def errors_of(family, pictures, folder, device, dtype):
    from diffusers import DiffusionPipeline
    from safetensors.torch import load_file

    far = lambda ours, theirs: pictures.tiny.far(ours.cpu(), theirs)  # noqa: E731
    request, dump = json.loads((folder / "request.json").read_text()), load_file(folder / "dump.safetensors")
    index = json.loads((folder / "model" / "model_index.json").read_text())
    absent = {part: None for part, entry in index.items() if entry == [None, None]}
    pipe = DiffusionPipeline.from_pretrained(folder / "model", dtype=dtype, **absent).to(device)
    pipe.set_progress_bar_config(disable=True)

    def moved(key):
        return dump[key].to(device, dtype)

    texts = family.text_stages(pipe, request, False)
    texts = {stage: far(texts[stage], dump[stage]) for stage in ("pooled", "embeds") if stage in texts}
    conditioned = getattr(family, "conditions", conditions)
    errors = {}
    for mode in family.MODES:
        given, last = pictures.arguments(family, request, mode), moved(pictures.last(request, mode))
        out = loop_stages(pipe, given, conditioned(moved, mode != "plain"), moved, mode)
        out |= family.decoded(pipe, last) if hasattr(family, "decoded") else picture_stages(pipe, request, last)
        errors[mode] = texts | {stage: far(value, dump[f"{mode}.{stage}"]) for stage, value in out.items()}
    return errors


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("family", choices=("flux", "hunyuanvideo", "mochi", "sd3"))
    parser.add_argument("fixtures", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--dtype", choices=("bf16", "fp16"), default="bf16")
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    sys.path.insert(0, str(HERE / args.family))
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        print("no CUDA device: nothing measured")
        return
    family, pictures = importlib.import_module("pipelines"), importlib.import_module("pictures")
    import diffusers
    from torch.nn.attention import SDPBackend, sdpa_kernel

    torch.set_grad_enabled(False)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[args.dtype]
    folders = [folder for folder in sorted(args.fixtures.iterdir()) if (folder / "dump.safetensors").exists()]
    errors = {}
    for name, kernel in (("flash", SDPBackend.FLASH_ATTENTION), ("cudnn", SDPBackend.CUDNN_ATTENTION)):
        with sdpa_kernel([kernel, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH], set_priority=True):
            errors[name] = {folder.name: errors_of(family, pictures, folder, args.device, dtype) for folder in folders}
    device = torch.cuda.get_device_name() if args.device == "cuda" else args.device
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"device": device, "torch": torch.__version__, "diffusers": diffusers.__version__,
                                    "dtype": args.dtype, "errors": errors}, indent=2) + "\n")


if __name__ == "__main__":
    main()
