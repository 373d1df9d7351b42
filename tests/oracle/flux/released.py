# SPDX-License-Identifier: Apache-2.0
"""What the components of the released FLUX.1 folders hold, as diffusers and transformers count and name it."""

import torch

PARAMETERS = {"schnell": {"transformer": 11891178560}, "dev": {"transformer": 11901408320}}
SHARED = {"text_encoder": 123060480, "text_encoder_2": 4762310656, "vae": 83819683}  # published totals


def models(variant):
    import transformers
    from diffusers import AutoencoderKL, FluxTransformer2DModel

    clip = dict(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
                max_position_embeddings=77, hidden_act="quick_gelu", projection_dim=768, eos_token_id=2)
    t5 = dict(vocab_size=32128, d_model=4096, d_ff=10240, d_kv=64, num_heads=64, num_layers=24,
              feed_forward_proj="gated-gelu")
    vae = dict(block_out_channels=[128, 256, 512, 512], layers_per_block=2, latent_channels=16, norm_num_groups=32,
               sample_size=1024, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False,
               use_post_quant_conv=False, down_block_types=["DownEncoderBlock2D"] * 4,
               up_block_types=["UpDecoderBlock2D"] * 4)
    transformer = dict(guidance_embeds=variant == "dev")
    with torch.device("meta"):
        return {"text_encoder": (clip, transformers.CLIPTextModel(transformers.CLIPTextConfig(**clip))),
                "text_encoder_2": (t5, transformers.T5EncoderModel(transformers.T5Config(**t5))),
                "transformer": (transformer, FluxTransformer2DModel(**transformer)), "vae": (vae, AutoencoderKL(**vae))}


def names():
    """{variant: {component: {config, names: {key: shape}}}}; of the VAE only what decodes."""
    out = {}
    for variant in PARAMETERS:
        out[variant] = {}
        for component, (config, model) in models(variant).items():
            count = sum(p.numel() for p in model.parameters())
            assert count == (SHARED | PARAMETERS[variant])[component], f"{variant} {component}: {count}"
            prefix = "text_model." if component == "text_encoder" else ""  # as every released file has it
            shapes = {prefix + k: list(p.shape) for k, p in model.named_parameters()}
            if component == "vae":
                shapes = {k: shape for k, shape in shapes.items() if not k.startswith("encoder.")}
            out[variant][component] = dict(config=config, names=shapes)
    return out
