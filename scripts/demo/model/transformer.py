# SPDX-License-Identifier: Apache-2.0
"""The transformer and its schedule: diffusers' CogVideoX with rotary positions, v-prediction, zero terminal SNR."""

import torch

from demo import tokenizer
from demo.model import text

CONFIG = dict(num_attention_heads=6, attention_head_dim=64, num_layers=7, in_channels=16, out_channels=16, patch_size=2,
              time_embed_dim=64, text_embed_dim=text.CONFIG["d_model"], max_text_seq_length=tokenizer.LENGTH,
              sample_height=16, sample_width=16, sample_frames=17, temporal_compression_ratio=4,
              use_rotary_positional_embeddings=True)
SCHEDULE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing", clip_sample=False,
                set_alpha_to_one=True, snr_shift_scale=1.0, steps_offset=0)


def build(device):
    """A new model whose blocks begin as the identity."""
    from diffusers import CogVideoXTransformer3DModel

    model = CogVideoXTransformer3DModel(**CONFIG)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith(("norm1.linear.weight", "norm2.linear.weight", "norm_out.linear.weight", "proj_out.weight")):
                p.zero_()
            elif name.endswith(("linear.bias", "proj_out.bias")) and "norm" in name or name == "proj_out.bias":
                p.zero_()
    return model.to(device)


def scheduler():
    from diffusers import CogVideoXDDIMScheduler

    return CogVideoXDDIMScheduler(**SCHEDULE)


def rotary(frames, height, width, device):
    """cos and sin of latents [frames, height, width], as the pipeline makes them."""
    from diffusers.models.embeddings import get_3d_rotary_pos_embed
    from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

    p = CONFIG["patch_size"]
    grid = (height // p, width // p)
    crops = get_resize_crop_region_for_grid(grid, CONFIG["sample_width"] // p, CONFIG["sample_height"] // p)
    return get_3d_rotary_pos_embed(embed_dim=CONFIG["attention_head_dim"], crops_coords=crops, grid_size=grid,
                                   temporal_size=frames, device=device)


def predict(model, latents, embeds, t, rope):
    """CogVideoXTransformer3DModel's forward; every block is given tensors laid out alike, so that they compile once."""
    frames, _, height, width = latents.shape[1:]
    p, words = CONFIG["patch_size"], embeds.shape[1]
    emb = model.time_embedding(model.time_proj(t))
    x = model.patch_embed(embeds, latents)
    embeds, x = x[:, :words].contiguous(), x[:, words:].contiguous()
    for block in model.transformer_blocks:
        x, embeds = block(x, embeds, emb, image_rotary_emb=rope)
        x, embeds = x.contiguous(), embeds.contiguous()
    x = model.proj_out(model.norm_out(model.norm_final(x), temb=emb))
    x = x.reshape(-1, frames, height // p, width // p, CONFIG["out_channels"], p, p)
    return x.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)


@torch.no_grad()
def agrees(model, latents, embeds, t):
    """Largest difference of predict from diffusers' own forward."""
    rope = rotary(latents.shape[1], *latents.shape[3:], latents.device)
    theirs = model(latents, embeds, t, image_rotary_emb=rope, return_dict=False)[0]
    return (predict(model, latents, embeds, t, rope) - theirs).abs().max().item()


def loss_of(models, rope, alphas, batch):
    """models: (T5, transformer); batch: latents [B, T, C, h, w], ids [B, L], noise, timesteps [B].

    Mean squared error of the predicted velocity, and its share at the noisier half, which decides what is drawn."""
    latents, ids, noise, t = batch
    t5, model = models
    a = alphas[t].view(-1, 1, 1, 1, 1)
    signal, spread = a.sqrt(), (1 - a).sqrt()
    noisy, velocity = signal * latents + spread * noise, signal * noise - spread * latents
    with torch.autocast(latents.device.type, torch.bfloat16, enabled=latents.is_cuda):
        embeds = text.encode(t5, ids)
        made = predict(model, noisy, embeds, t, rope)
    error = (made.float() - velocity).square().mean((1, 2, 3, 4))
    late = (t >= 500).float()
    return error.mean(), (error.detach() * late).sum() / late.sum().clamp(min=1)


def is_matrix(name, p):
    """Hidden matrices; embeddings, patches, outputs and positions are left to Adam."""
    if "embed" in name or "shared" in name or "relative" in name or name.endswith("proj_out.weight"):
        return False
    return p.ndim == 2
