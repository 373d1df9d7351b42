# SPDX-License-Identifier: Apache-2.0
"""What the components of the released FLUX.1 folders hold, as diffusers and transformers count and name it."""

import pictures

PARAMETERS = {  # published totals
    "schnell": 11891178560, "dev": 11901408320, "text_encoder": 123060480, "text_encoder_2": 4762310656, "vae": 83819683}
CLIP = dict(vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
            max_position_embeddings=77, hidden_act="quick_gelu", projection_dim=768, eos_token_id=2)
VAE = pictures.RELEASED_VAE | dict(scaling_factor=0.3611, shift_factor=0.1159)


def components(variant):
    import transformers
    from diffusers import AutoencoderKL, FluxTransformer2DModel

    t5, transformer = pictures.RELEASED_T5, dict(guidance_embeds=variant == "dev")
    return {"text_encoder": (CLIP, lambda: transformers.CLIPTextModel(transformers.CLIPTextConfig(**CLIP))),
            "text_encoder_2": (t5, lambda: transformers.T5EncoderModel(transformers.T5Config(**t5))),
            "transformer": (transformer, lambda: FluxTransformer2DModel(**transformer)),
            "vae": (VAE, lambda: AutoencoderKL(**VAE))}


def names():
    return {variant: pictures.names_of(components(variant), PARAMETERS | {"transformer": PARAMETERS[variant]})
            for variant in ("schnell", "dev")}
