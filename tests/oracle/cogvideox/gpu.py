# SPDX-License-Identifier: Apache-2.0
"""How far diffusers itself is from its fp32 results when it runs in half precision on a GPU.

usage: gpu.py FIXTURES_DIR OUT_JSON [--dtype bf16|fp16] [--device cuda] [NAME...]
       (FIXTURES_DIR as fixtures.py made it; needs torch, transformers, safetensors and diffusers, no tokenizer)

Every stage starts from the fp32 input in dump.safetensors, rounded to the dtype, and is compared with the fp32 result there:
||half - fp32|| / ||fp32||. The loop starts from the dumped noise, rounded: noise drawn in bf16 would be other noise.
OUT_JSON: {"device", "torch", "diffusers", "dtype", "errors": {<name>: {<stage>: {"half": e, "fp32": e}}}}; "fp32" is the same stage
in fp32 on the device (TF32 off): how well the reference itself can be had there.
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import load_file

NAMES = ("2b", "5b", "1.5", "long_even", "long_odd", "odd_config")


def far(ours, theirs):
    return ((ours.double().cpu() - theirs.double()).norm() / theirs.double().norm()).item()


def load(folder, device, dtype):
    """The pipeline without its text half: the loop takes embeddings."""
    from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel

    model = folder / "model"
    transformer = CogVideoXTransformer3DModel.from_pretrained(model / "transformer", dtype=dtype).to(device).eval()
    vae = AutoencoderKLCogVideoX.from_pretrained(model / "vae", dtype=dtype).to(device).eval()
    pipe = CogVideoXPipeline(tokenizer=None, text_encoder=None, vae=vae, transformer=transformer,
                             scheduler=CogVideoXDDIMScheduler.from_pretrained(model / "scheduler"))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def text_stage(folder, dump, device, dtype, out):
    from transformers import T5EncoderModel

    encoder = T5EncoderModel.from_pretrained(folder / "model" / "text_encoder", dtype=dtype).to(device).eval()
    out["prompt_embeds"] = encoder(dump["ids"].to(device))[0]


def forward_stage(pipe, request, dump, device, dtype, out):
    handles = [block.register_forward_hook(
        lambda _m, _in, r, i=i: out.__setitem__(f"forward.block.{i}", torch.cat([r[1], r[0]], dim=1)))
        for i, block in enumerate(pipe.transformer.transformer_blocks)]
    rope = None
    if pipe.transformer.config.use_rotary_positional_embeddings:
        frames = dump["noise"].shape[1]
        rope = pipe._prepare_rotary_positional_embeddings(request["height"], request["width"], frames, device)
    out["forward.output"] = pipe.transformer(
        dump["forward.latents"].to(device, dtype), dump["forward.text"].to(device, dtype), dump["forward.t"].to(device),
        image_rotary_emb=rope, return_dict=False)[0]
    for handle in handles:
        handle.remove()


def loop_stage(pipe, request, dump, device, dtype, out):
    def after_step(_pipe, i, _t, values):
        out[f"ddim.guided.latents.{i}"] = values["latents"].clone()
        return values

    pipe(prompt_embeds=dump["prompt_embeds"].to(device, dtype),
         negative_prompt_embeds=dump["negative_prompt_embeds"].to(device, dtype), height=request["height"],
         width=request["width"], num_frames=request["num_frames"], num_inference_steps=request["steps"],
         guidance_scale=request["guidance_scale"], latents=dump["noise"].to(device, dtype), output_type="latent",
         callback_on_step_end=after_step)


def stages(folder, request, dump, device, dtype):
    out, pipe = {}, load(folder, device, dtype)
    text_stage(folder, dump, device, dtype, out)
    forward_stage(pipe, request, dump, device, dtype, out)
    loop_stage(pipe, request, dump, device, dtype, out)
    out["vae.sample"] = video = pipe.vae.decode(dump["vae.z"].to(device, dtype)).sample
    pixels = pipe.video_processor.postprocess_video(video, output_type="np")[0]
    out["frames"] = torch.from_numpy((pixels * 255).round())
    return {key: far(value, dump[key]) for key, value in out.items()}


def main():
    import diffusers

    parser = argparse.ArgumentParser()
    parser.add_argument("fixtures", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--dtype", choices=("bf16", "fp16"), default="bf16")
    parser.add_argument("--device", default="cuda")
    args = parser.parse_intermixed_args()
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print("no CUDA device: nothing measured")
        return
    torch.set_grad_enabled(False)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device, dtype = torch.device(args.device), {"bf16": torch.bfloat16, "fp16": torch.float16}[args.dtype]
    errors = {}
    for name in args.names:
        folder = args.fixtures / name
        request, dump = json.loads((folder / "request.json").read_text()), load_file(folder / "dump.safetensors")
        half, full = (stages(folder, request, dump, device, d) for d in (dtype, torch.float32))
        errors[name] = {stage: {"half": half[stage], "fp32": full[stage]} for stage in half}
        for stage, e in errors[name].items():
            print(f"{name:10} {stage:24} {args.dtype} {e['half']:.3e}   fp32 {e['fp32']:.1e}", flush=True)
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    args.out.write_text(json.dumps({"device": device_name, "torch": torch.__version__, "diffusers": diffusers.__version__,
                                    "dtype": args.dtype, "errors": errors}, indent=2) + "\n")


if __name__ == "__main__":
    main()
