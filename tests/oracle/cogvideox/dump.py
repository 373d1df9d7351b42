# SPDX-License-Identifier: Apache-2.0
"""Every stage of a CogVideoX pipeline, as tensors by name (see fixtures.py for the names)."""

import contextlib
import copy

import torch

SEQUENCE = 226  # the pipeline's own default
MODES = {"guided": None, "plain": 1.0, "dynamic": None}  # the guidance scale where it is not the request's


@contextlib.contextmanager
def double_throughout():
    """The two places that round to fp32 whatever the module's dtype: T5's variance, and RoPE."""
    import diffusers.models.embeddings as embeddings
    from transformers.models.t5.modeling_t5 import T5LayerNorm

    def rotate(x, freqs, **_):
        cos, sin = (f.double() for f in freqs)
        real, imag = x.reshape(*x.shape[:-1], -1, 2).unbind(-1)
        return x * cos + torch.stack([-imag, real], dim=-1).flatten(3) * sin

    def norm(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon))

    kept = embeddings.apply_rotary_emb, T5LayerNorm.forward
    embeddings.apply_rotary_emb, T5LayerNorm.forward = rotate, norm
    try:
        yield
    finally:
        embeddings.apply_rotary_emb, T5LayerNorm.forward = kept


@contextlib.contextmanager
def hooked(pairs):
    handles = [module.register_forward_hook(hook) for module, hook in pairs]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def ids_of(pipe, text):
    return pipe.tokenizer([text], padding="max_length", max_length=SEQUENCE, truncation=True, add_special_tokens=True,
                          return_tensors="pt").input_ids


def t5_stages(encoder, ids, out, suffix=""):
    def keep(i):
        return lambda _m, _in, result: out.__setitem__(f"t5.block.{i}{suffix}", result[0].clone())

    with hooked([(block, keep(i)) for i, block in enumerate(encoder.encoder.block)]):
        return encoder(ids)[0]


def rope_of(pipe, request, frames):
    if not pipe.transformer.config.use_rotary_positional_embeddings:
        return None
    return pipe._prepare_rotary_positional_embeddings(request["height"], request["width"], frames, torch.device("cpu"))


def forward_stages(model, inputs, rope, out, suffix=""):
    def joined(i):
        return lambda _m, _in, r: out.__setitem__(f"forward.block.{i}{suffix}", torch.cat([r[1], r[0]], dim=1))

    def plain(key):
        return lambda _m, _in, r: out.__setitem__(key + suffix, r.clone())

    pairs = [(block, joined(i)) for i, block in enumerate(model.transformer_blocks)]
    pairs += [(model.time_embedding, plain("forward.temb")), (model.patch_embed, plain("forward.patch_embed"))]
    with hooked(pairs):
        out["forward.output" + suffix] = model(*inputs, image_rotary_emb=rope, return_dict=False)[0]
    return out["forward.output" + suffix]


def forward_inputs(pipe, spec, noise, embeds):
    generator = torch.Generator().manual_seed(4321)
    latents = torch.randn((2, *noise.shape[1:]), generator=generator)
    # Row 0 is the prompt, row 1 its rows in another order and disturbed: no two rows of the batch agree.
    text = torch.cat([embeds, embeds.flip(1) + 0.3 * embeds.std() * torch.randn(embeds.shape, generator=generator)])
    return latents, text, torch.tensor([801, 37])


def noise_of(pipe, request):
    frames = (request["num_frames"] - 1) // pipe.vae_scale_factor_temporal + 1
    frames += -frames % (pipe.transformer.config.patch_size_t or 1)
    shape = (1, frames, pipe.transformer.config.in_channels, request["height"] // pipe.vae_scale_factor_spatial,
             request["width"] // pipe.vae_scale_factor_spatial)
    return torch.randn(shape, generator=torch.Generator("cpu").manual_seed(request["seed"]))


def run_pipeline(pipe, request, mode, output_type="latent", steps_out=None):
    """One run of the pipeline itself. steps_out gets the latents after each step."""
    def after_step(_pipe, _i, _t, values):
        if steps_out is not None:
            steps_out.append(values["latents"].clone())
        return values

    return pipe(prompt=request["prompt"], negative_prompt=request["negative_prompt"], height=request["height"],
                width=request["width"], num_frames=request["num_frames"],
                num_inference_steps=request["dynamic_steps"] if mode == "dynamic" else request["steps"],
                guidance_scale=MODES[mode] or request["guidance_scale"],
                use_dynamic_cfg=mode == "dynamic", generator=torch.Generator("cpu").manual_seed(request["seed"]),
                output_type=output_type, callback_on_step_end=after_step).frames


def schedulers(spec):
    from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler

    return {"ddim": CogVideoXDDIMScheduler(**spec["schedule"]), "dpm": CogVideoXDPMScheduler(**spec["schedule"])}


def decode_input(pipe, latents, request):
    """What the pipeline gives to the VAE: the frames that padding added are dropped from the front."""
    wanted = (request["num_frames"] - 1) // pipe.vae_scale_factor_temporal + 1
    return 1 / pipe.vae_scaling_factor_image * latents[:, latents.shape[1] - wanted:].permute(0, 2, 1, 3, 4)


def calibrate(pipe, spec):
    """Prediction std 1; frames that fill the 8-bit range with few values clipped."""
    request, model = spec["request"], pipe.transformer
    noise = noise_of(pipe, request)
    embeds = pipe.text_encoder(ids_of(pipe, request["prompt"]))[0]
    out = model(*forward_inputs(pipe, spec, noise, embeds), image_rotary_emb=rope_of(pipe, request, noise.shape[1]),
                return_dict=False)[0]
    model.proj_out.weight.data /= out.std()
    model.proj_out.bias.data /= out.std()
    conv = pipe.vae.decoder.conv_out.conv
    conv.bias.data.zero_()
    video = pipe.vae.decode(decode_input(pipe, run_pipeline(pipe, request, "guided"), request)).sample
    centre = video.median()
    factor = 0.98 / (video - centre).abs().flatten().kthvalue(int(video.numel() * 0.97)).values
    conv.weight.data *= factor
    conv.bias.data = -centre * factor + 0.02 * torch.tensor([1.0, -2.0, 3.0])


def tiles(vae, z):
    return z.shape[-2] > vae.tile_latent_min_height or z.shape[-1] > vae.tile_latent_min_width


def frames_of(pil_frames):
    import numpy

    return torch.from_numpy(numpy.stack([numpy.asarray(f) for f in pil_frames[0]]))


def dump(pipe, spec):
    """All tensors of one fixture by key."""
    request, out = spec["request"], {}
    out["ids"], out["negative_ids"] = ids_of(pipe, request["prompt"]), ids_of(pipe, request["negative_prompt"])
    out["prompt_embeds"] = t5_stages(pipe.text_encoder, out["ids"], out)
    out["negative_prompt_embeds"] = pipe.text_encoder(out["negative_ids"])[0]
    out["noise"] = noise = noise_of(pipe, request)
    rope = rope_of(pipe, request, noise.shape[1])
    if rope is not None:
        out["rope.cos"], out["rope.sin"] = rope
    inputs = forward_inputs(pipe, spec, noise, out["prompt_embeds"])
    out["forward.latents"], out["forward.text"], out["forward.t"] = inputs
    forward_stages(pipe.transformer, inputs, rope, out)
    for name, scheduler in schedulers(spec).items():
        pipe.scheduler = scheduler
        for mode in MODES:
            steps = []
            kept = run_pipeline(pipe, request, mode, "pil" if mode == "guided" else "latent", steps)
            out.update({f"{name}.{mode}.latents.{i}": x for i, x in enumerate(steps)})
            out[f"{name}.{mode}.final"] = steps[-1]
            if mode == "guided":
                out["frames" if name == "ddim" else "frames.dpm"] = frames_of(kept)
    pipe.scheduler = schedulers(spec)["ddim"]
    out["vae.z"] = z = decode_input(pipe, out["ddim.guided.final"], request).contiguous()
    out["vae.sample"] = pipe.vae.decode(z).sample
    if tiles(pipe.vae, z):
        pipe.vae.enable_tiling()
        out["vae.tiled_sample"] = pipe.vae.decode(z).sample
        pipe.vae.disable_tiling()
    dump_double(pipe, out, inputs, rope)
    return {k: v.clone(memory_format=torch.contiguous_format) for k, v in out.items()}


def dump_double(pipe, out, inputs, rope):
    """The same stages in fp64, from the same fp32 inputs: how exact the oracle itself is."""
    with double_throughout():
        encoder = copy.deepcopy(pipe.text_encoder).double()
        out["prompt_embeds.fp64"] = t5_stages(encoder, out["ids"], out, ".fp64")
        latents, text, t = inputs
        forward_stages(copy.deepcopy(pipe.transformer).double(), (latents.double(), text.double(), t), rope, out, ".fp64")
        out["vae.sample.fp64"] = copy.deepcopy(pipe.vae).double().decode(out["vae.z"].double()).sample
