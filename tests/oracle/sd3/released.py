# SPDX-License-Identifier: Apache-2.0
"""What the components of the released Stable Diffusion 3 folders hold, as diffusers and transformers count and name it."""

import pictures


def clip(width, layers, heads, projection, activation):
    return dict(vocab_size=49408, hidden_size=width, intermediate_size=4 * width, num_hidden_layers=layers,
                num_attention_heads=heads, max_position_embeddings=77, hidden_act=activation, projection_dim=projection,
                eos_token_id=2)


def transformer(heads, positions, **more):
    return dict(num_layers=heads, num_attention_heads=heads, attention_head_dim=64, caption_projection_dim=64 * heads,
                pos_embed_max_size=positions, sample_size=128, patch_size=2, in_channels=16, out_channels=16,
                joint_attention_dim=4096, pooled_projection_dim=2048) | more


TRANSFORMERS = {
    "sd3-medium": transformer(24, 192),
    "sd3.5-large": transformer(38, 192, qk_norm="rms_norm", dual_attention_layers=[]),
    "sd3.5-medium": transformer(24, 384, qk_norm="rms_norm", dual_attention_layers=list(range(13)))}
PARAMETERS = {  # published totals
    "sd3-medium": 2028328000, "sd3.5-large": 8056627520, "sd3.5-medium": 2243171520,
    "text_encoder": 123650304, "text_encoder_2": 694659840, "text_encoder_3": 4762310656, "vae": 83819683}
VAE = pictures.RELEASED_VAE | dict(scaling_factor=1.5305, shift_factor=0.0609)


def components(variant):
    import transformers
    from diffusers import AutoencoderKL, SD3Transformer2DModel
    from transformers import CLIPTextModelWithProjection

    l, g = clip(768, 12, 12, 768, "quick_gelu"), clip(1280, 32, 20, 1280, "gelu")
    made = {name: (config, lambda config=config: CLIPTextModelWithProjection(transformers.CLIPTextConfig(**config)))
            for name, config in (("text_encoder", l), ("text_encoder_2", g))}
    t5 = pictures.RELEASED_T5
    return made | {
        "text_encoder_3": (t5, lambda: transformers.T5EncoderModel(transformers.T5Config(**t5))),
        "transformer": (TRANSFORMERS[variant], lambda: SD3Transformer2DModel(**TRANSFORMERS[variant])),
        "vae": (VAE, lambda: AutoencoderKL(**VAE))}


def names():
    return {variant: pictures.names_of(components(variant), PARAMETERS | {"transformer": PARAMETERS[variant]})
            for variant in TRANSFORMERS}
