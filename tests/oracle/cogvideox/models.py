# SPDX-License-Identifier: Apache-2.0
"""Tiny CogVideoX pipelines with every parameter perturbed, so that no branch is multiplied by zero or identity.

Inputs of norms are made small where a spec says so (`*_residual`): otherwise nobody could see a wrong eps.
"""

import math
import pathlib
import tempfile

import torch

import corpus
import text_tokenizers

SENTENCE = "Ein Fuchs läuft über den verschneiten Hügel — façade of ice, 35mm film, 日の出."
# As released: every CogVideoX checkpoint has this schedule, 5B and 1.5 with snr_shift_scale 1.
SCHEDULE = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                num_train_timesteps=1000, prediction_type="v_prediction", rescale_betas_zero_snr=True,
                set_alpha_to_one=True, snr_shift_scale=3.0, steps_offset=0, timestep_spacing="trailing")

TRANSFORMER = dict(num_attention_heads=2, attention_head_dim=32, in_channels=16, out_channels=16, num_layers=2,
                   time_embed_dim=32, text_embed_dim=32, max_text_seq_length=226, sample_height=60, sample_width=90,
                   sample_frames=49)
VAE = dict(block_out_channels=(32, 32, 64, 64), layers_per_block=1, norm_num_groups=16, sample_height=480,
           sample_width=720, scaling_factor=0.7)
T5 = dict(d_model=32, d_ff=64, d_kv=8, num_heads=4, num_layers=2, feed_forward_proj="gated-gelu")
REQUEST = dict(prompt=SENTENCE, negative_prompt="", height=48, width=64, num_frames=9, steps=4, guidance_scale=6.0,
               seed=7, use_dynamic_cfg=False, dynamic_steps=10)

FOUR_UP = ("CogVideoXUpBlock3D",) * 4
FOUR_DOWN = ("CogVideoXDownBlock3D",) * 4

# Per fixture: what differs from the above, and how the pipeline is saved.
SPECS = {
    # The cached sin-cos table, 2B's scaling factor, spiece.model alone as released, an fp16 variant besides.
    "2b": dict(transformer=dict(sample_height=6, sample_width=8, sample_frames=9, attention_head_dim=64),
               vae=dict(scaling_factor=1.15258426), t5=dict(num_layers=3), request=dict(seed=7),
               text_residual=0.01, t5_residual=0.01, save=dict(spiece=True, fp16=True)),
    # A grid taller than the base and crops at halves; VAE tiles of 6x5; shards.
    "5b": dict(transformer=dict(use_rotary_positional_embeddings=True, num_layers=3),
               vae=dict(sample_height=96, sample_width=80), schedule=dict(snr_shift_scale=1.0),
               request=dict(height=64, width=80, negative_prompt="blurry, low quality", seed=11),
               residual=0.02, vae_residual=0.01, save=dict(max_shard_size="150KB")),
    # Nine frames are three latents, padded to four; positions are sliced from a base of 150 x 150.
    "1.5": dict(transformer=dict(use_rotary_positional_embeddings=True, patch_size_t=2, patch_bias=False,
                                 sample_height=300, sample_width=300, sample_frames=81, attention_head_dim=64),
                schedule=dict(snr_shift_scale=1.0),
                request=dict(height=48, width=80, negative_prompt="Text, Wasserzeichen", seed=13), residual=0.1),
    # Eight latents: chunks 2, 2, 2, 2. A sin-cos table made anew, with scales of its own. 61 steps have 62 timesteps.
    "long_even": dict(transformer=dict(spatial_interpolation_scale=1.3, temporal_interpolation_scale=0.8),
                      request=dict(height=32, width=48, num_frames=29, seed=17, dynamic_steps=61)),
    # Seven latents: chunks 3, 2, 2. A crop at 2.5 columns (rounded to 2), tiles of 6x5 in both directions.
    "long_odd": dict(transformer=dict(use_rotary_positional_embeddings=True, sample_height=16, sample_width=22),
                     vae=dict(sample_height=96, sample_width=80), schedule=dict(snr_shift_scale=1.0),
                     request=dict(height=64, width=48, num_frames=25, negative_prompt="grainy", seed=19)),
    # Every size and switch away from its default; patches of 4 x 4, a crop at 2.5 rows. Its max_text_seq_length is not the pipeline's 226, which wins.
    "odd_config": dict(
        transformer=dict(num_attention_heads=3, attention_head_dim=48, in_channels=8, out_channels=8, num_layers=3,
                         time_embed_dim=40, text_embed_dim=48, max_text_seq_length=64, norm_eps=1e-3,
                         norm_elementwise_affine=False, activation_fn="gelu", timestep_activation_fn="gelu",
                         attention_bias=False, patch_bias=False, flip_sin_to_cos=False, freq_shift=1,
                         temporal_compression_ratio=2, patch_size=4, sample_height=40, sample_width=40, sample_frames=9,
                         use_rotary_positional_embeddings=True),
        vae=dict(block_out_channels=(32, 48, 64), down_block_types=FOUR_DOWN[:3], up_block_types=FOUR_UP[:3],
                 latent_channels=8, layers_per_block=2, norm_num_groups=8, norm_eps=1e-3, act_fn="gelu",
                 temporal_compression_ratio=2, scaling_factor=0.9),
        t5=dict(d_model=48, d_ff=80, d_kv=16, num_heads=2, feed_forward_proj="relu", layer_norm_epsilon=1e-5,
                relative_attention_num_buckets=16, relative_attention_max_distance=40),
        schedule=dict(snr_shift_scale=2.0, timestep_spacing="linspace", set_alpha_to_one=False, beta_end=0.015),
        request=dict(height=32, width=64, num_frames=9, guidance_scale=3.5, steps=5, negative_prompt="Regen", seed=23),
        residual=0.1, t5_residual=0.1, vae_residual=0.1),
}


def spec_of(name):
    s = SPECS[name]
    return dict(s, transformer=TRANSFORMER | s["transformer"], vae=VAE | s.get("vae", {}), t5=T5 | s.get("t5", {}),
                schedule=SCHEDULE | s.get("schedule", {}), request=REQUEST | s["request"])


def randn(generator, shape):
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def perturb(module, generator, adaptive=()):
    """Matrices N(0, gain / fan_in), norm weights about 1, biases about 0.2. adaptive: name endings with gain 2."""
    for name, p in module.named_parameters():
        if p.ndim > 1:
            gain = 2.0 if name.endswith(tuple(adaptive)) else 1.0
            p.data = gain * randn(generator, p.shape) / math.sqrt(p[0].numel())
        elif name.endswith("weight"):
            p.data = 1 + 0.2 * randn(generator, p.shape)
        else:
            p.data = 0.2 * randn(generator, p.shape)


def scale(module, factor):
    module.weight.data *= factor
    if getattr(module, "bias", None) is not None:
        module.bias.data *= factor


def make_transformer(spec, generator):
    from diffusers import CogVideoXTransformer3DModel

    model = CogVideoXTransformer3DModel(**spec["transformer"]).eval()
    perturb(model, generator, adaptive=("norm1.linear.weight", "norm2.linear.weight", "norm_out.linear.weight"))
    residual, text = spec.get("residual", 1.0), spec.get("text_residual", 1.0)
    scale(model.patch_embed.proj, residual)
    scale(model.patch_embed.text_proj, residual * text)
    if model.norm_final.weight is not None:
        scale(model.norm_final, max(residual, 0.05))  # the input of norm_out
    d = spec["transformer"]["attention_head_dim"]
    for block in model.transformer_blocks:
        scale(block.attn1.to_out[0], residual)
        scale(block.ff.net[2], residual)
        for norm in (block.attn1.norm_q, block.attn1.norm_k):  # sharper attention: positions matter more
            norm.weight.data *= 1.6
        # One head's queries and another's keys reach their norms with a variance of 1e-5.
        for linear, rows in ((block.attn1.to_q, slice(0, d)), (block.attn1.to_k, slice(-d, None))):
            linear.weight.data[rows] *= 0.003
            if linear.bias is not None:
                linear.bias.data[rows] *= 0.003
    return model


def make_vae(spec, generator):
    from diffusers import AutoencoderKLCogVideoX

    config = {"down_block_types": FOUR_DOWN, "up_block_types": FOUR_UP} | spec["vae"]
    vae = AutoencoderKLCogVideoX(**config).eval()
    perturb(vae, generator)
    residual = spec.get("vae_residual", 1.0)
    for name, module in vae.decoder.named_modules():
        if name.endswith("conv_y"):  # multiplies a normalised tensor, as a norm's weight does
            module.conv.weight.data *= 0.3
            module.conv.bias.data += 1
        elif name == "conv_in" or name.endswith((".conv1", ".conv2")):
            scale(module.conv, residual)
        elif name.endswith((".conv_shortcut", "upsamplers.0.conv")):
            module.bias.data *= residual
    return vae


def make_text_encoder(spec, vocab_size, generator):
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=vocab_size, dropout_rate=0.0, **spec["t5"])
    model = T5EncoderModel(config).eval()
    perturb(model, generator)
    residual = spec.get("t5_residual", 1.0)
    model.shared.weight.data = residual * randn(generator, model.shared.weight.shape)
    model.encoder.embed_tokens.weight = model.shared.weight
    bias = model.encoder.block[0].layer[0].SelfAttention.relative_attention_bias
    bias.weight.data = randn(generator, bias.weight.shape)
    for block in model.encoder.block:
        attention = block.layer[0].SelfAttention
        attention.q.weight.data *= 1.5 / math.sqrt(spec["t5"]["d_kv"])  # T5 itself does not scale the scores
        attention.o.weight.data *= residual
        block.layer[1].DenseReluDense.wo.weight.data *= residual
    return model


def train_spiece():
    return text_tokenizers.train_spiece(1200, corpus.english_lines())


def make_pipeline(name, spiece):
    """A CogVideoXPipeline with the DDIM scheduler; proj_out is scaled so that a prediction's std is about 1."""
    from diffusers import CogVideoXDDIMScheduler, CogVideoXPipeline
    from transformers import T5Tokenizer

    spec = spec_of(name)
    generator = torch.Generator().manual_seed(1000 + list(SPECS).index(name))
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "spiece.model").write_bytes(spiece)
        tokenizer = T5Tokenizer.from_pretrained(folder)
    text_encoder = make_text_encoder(spec, len(tokenizer) + 4, generator)
    transformer, vae = make_transformer(spec, generator), make_vae(spec, generator)
    pipe = CogVideoXPipeline(tokenizer=tokenizer, text_encoder=text_encoder, vae=vae, transformer=transformer,
                             scheduler=CogVideoXDDIMScheduler(**spec["schedule"]))
    pipe.set_progress_bar_config(disable=True)
    return pipe, spec


def save(pipe, spec, spiece, folder):
    """save_pretrained, sharded or with an fp16 variant where the spec says so."""
    import copy

    options = spec.get("save", {})
    pipe.save_pretrained(folder, **({"max_shard_size": options["max_shard_size"]} if "max_shard_size" in options else {}))
    if options.get("fp16"):
        parts = {k: copy.deepcopy(m).half() if isinstance(m, torch.nn.Module) else m for k, m in pipe.components.items()}
        type(pipe)(**parts).save_pretrained(folder, variant="fp16")
    if options.get("spiece"):
        tokenizer = pathlib.Path(folder) / "tokenizer"
        (tokenizer / "tokenizer.json").unlink()
        (tokenizer / "spiece.model").write_bytes(spiece)
