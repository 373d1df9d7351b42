# SPDX-License-Identifier: Apache-2.0
"""Tiny T5 encoders, made and run by transformers, with every block's output, half precision runs and mutants.

usage: t5.py OUT_DIR

OUT_DIR/<name>/model/             config.json, model.safetensors
OUT_DIR/<name>/dump.safetensors   ids int64 [2, L], mask bool [2, L], block.N and output [2, L, C], masked.output;
                                  each with a twin in fp64 (.fp64); fp16.* and bf16.*: runs in those dtypes;
                                  mutant.<what>.output: the model with one thing wrong
"""

import copy
import math
import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5EncoderModel
from transformers.activations import ACT2FN
from transformers.models.t5 import modeling_t5

CONFIGS = {
    # More tokens than max_distance on either side; v1.1 as the released encoders.
    "gated": dict(d_model=32, d_ff=56, d_kv=8, num_heads=4, num_layers=3, vocab_size=96, feed_forward_proj="gated-gelu"),
    # The plain form, odd sizes, nothing at its default; inner size is not d_model.
    "plain": dict(d_model=27, d_ff=41, d_kv=6, num_heads=5, num_layers=2, vocab_size=51, feed_forward_proj="relu",
                  relative_attention_num_buckets=21, relative_attention_max_distance=47, layer_norm_epsilon=3e-5),
    # Another gated activation.
    "silu": dict(d_model=24, d_ff=40, d_kv=8, num_heads=2, num_layers=2, vocab_size=40, feed_forward_proj="gated-silu"),
    # Attention that overflows fp16: the residual stream is clamped.
    "overflow": dict(d_model=16, d_ff=24, d_kv=8, num_heads=2, num_layers=2, vocab_size=40, feed_forward_proj="gated-gelu"),
}
LENGTHS = {"gated": 300, "plain": 131, "silu": 140, "overflow": 24}


def make_model(name, generator):
    model = T5EncoderModel(T5Config(**CONFIGS[name], is_encoder_decoder=False)).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if "layer_norm" in key:
                p.copy_(1 + 0.2 * noise)
            elif "relative_attention_bias" in key or "shared" in key or "embed_tokens" in key:
                p.copy_(noise)
            else:
                p.copy_(noise / math.sqrt(p.shape[-1]))
        # Rows of a variance near eps: otherwise no wrong eps could be seen.
        model.shared.weight[::3] *= 1e-3
        if name == "overflow":
            model.encoder.block[0].layer[0].SelfAttention.o.weight *= 60000
    return model


def save_model(name, model, folder):
    model.save_pretrained(folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    embedding = tensors.pop("shared.weight", None)
    if embedding is None:
        embedding = tensors.pop("encoder.embed_tokens.weight")
    tensors.pop("encoder.embed_tokens.weight", None)
    # Files in the wild hold the embedding under either name, or both.
    if name != "plain":
        tensors["shared.weight"] = embedding
    if name in ("plain", "silu"):
        tensors["encoder.embed_tokens.weight"] = embedding.clone()
    save_file(tensors, file, metadata={"format": "pt"})


def run(model, ids, mask=None):
    outputs = {}
    hooks = [
        block.register_forward_hook(lambda _m, _a, out, i=i: outputs.__setitem__(f"block.{i}", out[0].clone()))
        for i, block in enumerate(model.encoder.block)
    ]
    with torch.no_grad():
        outputs["output"] = model(input_ids=ids, attention_mask=mask).last_hidden_state
    for hook in hooks:
        hook.remove()
    return outputs


class Zeros(torch.nn.Module):
    """A T5Block that is given no position bias: without a table of its own it takes zeros."""

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, hidden, mask, position_bias, *args, **kwargs):
        return self.block(hidden, mask, None, *args, **kwargs)


class Mutants:
    def __init__(self, model):
        self.model = model

    def each(self):
        for name in sorted(n for n in dir(self) if n.startswith("make_")):
            mutant = copy.deepcopy(self.model)
            original = modeling_t5.T5Attention.__dict__["_relative_position_bucket"]  # the staticmethod itself
            try:
                if getattr(self, name)(mutant) is not False:
                    yield name.removeprefix("make_"), mutant
            finally:
                modeling_t5.T5Attention._relative_position_bucket = original

    def _norms(self, model):
        return [m for m in model.modules() if isinstance(m, modeling_t5.T5LayerNorm)]

    def _attention(self, model):
        return [m for m in model.modules() if isinstance(m, modeling_t5.T5Attention)]

    def _buckets(self, change):
        original = modeling_t5.T5Attention._relative_position_bucket

        def changed(relative, **kw):
            relative, kw = change(relative, kw)
            return original(relative, **kw)

        modeling_t5.T5Attention._relative_position_bucket = staticmethod(changed)

    def make_eps_x10(self, model):
        for norm in self._norms(model):
            norm.variance_epsilon *= 10

    def make_bucket_count(self, model):
        self._buckets(lambda r, kw: (r, kw | {"num_buckets": kw["num_buckets"] - 2}))

    def make_max_distance(self, model):
        self._buckets(lambda r, kw: (r, kw | {"max_distance": kw["max_distance"] // 2}))

    def make_max_distance_less_1(self, model):
        self._buckets(lambda r, kw: (r, kw | {"max_distance": kw["max_distance"] - 1}))

    def make_distance_of_other_sign(self, model):
        self._buckets(lambda r, kw: (-r, kw))

    def make_causal_buckets(self, model):
        self._buckets(lambda r, kw: (r, kw | {"bidirectional": False}))

    def make_scaled_scores(self, model):
        for attention in self._attention(model):
            attention.scaling = attention.key_value_proj_dim**-0.5

    def make_wrong_activation(self, model):
        wrong = {"gelu_new": "gelu", "relu": "gelu_new", "silu": "gelu_new"}[model.config.dense_act_fn]
        for block in model.encoder.block:
            block.layer[-1].DenseReluDense.act = ACT2FN[wrong]

    def make_gate_swapped(self, model):
        if not model.config.is_gated_act:
            return False
        for block in model.encoder.block:
            ff = block.layer[-1].DenseReluDense
            ff.wi_0, ff.wi_1 = ff.wi_1, ff.wi_0

    def make_bias_in_first_block_only(self, model):
        for i in range(1, len(model.encoder.block)):
            model.encoder.block[i] = Zeros(model.encoder.block[i])

    def make_no_final_norm(self, model):
        model.encoder.final_layer_norm = torch.nn.Identity()

    def make_scaled_embedding(self, model):
        with torch.no_grad():
            model.shared.weight *= math.sqrt(model.config.d_model)

    def make_k_and_v_swapped(self, model):
        for attention in self._attention(model):
            attention.k, attention.v = attention.v, attention.k

    def make_norms_swapped(self, model):
        for block in model.encoder.block:
            block.layer[0].layer_norm, block.layer[1].layer_norm = block.layer[1].layer_norm, block.layer[0].layer_norm


def half_runs(folder, ids, dump):
    for label, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        model = T5EncoderModel.from_pretrained(folder, dtype=dtype).eval()
        wo = model.encoder.block[0].layer[-1].DenseReluDense.wo.weight.dtype
        assert wo == (torch.float32 if dtype == torch.float16 else torch.bfloat16), wo
        for key, value in run(model, ids).items():
            dump[f"{label}.{key}"] = value


def make(name, out_dir):
    generator = torch.Generator().manual_seed(sum(name.encode()))
    model = make_model(name, generator)
    folder = out_dir / name / "model"
    folder.mkdir(parents=True, exist_ok=True)
    save_model(name, model, folder)
    config, length = model.config, LENGTHS[name]
    ids = torch.randint(0, config.vocab_size, (2, length), generator=generator)
    mask = torch.ones(2, length, dtype=torch.bool)
    mask[0, length // 2 :] = False
    mask[1, :] = False  # not one key: a uniform softmax
    dump = {"ids": ids, "mask": mask}
    exact = copy.deepcopy(model).double()
    for suffix, m in (("", model), (".fp64", exact)):
        for key, value in run(m, ids).items():
            dump[key + suffix] = value
        dump["masked.output" + suffix] = run(m, ids, mask.long())["output"]
    half_runs(folder, ids, dump)
    if name != "overflow":
        for what, mutant in Mutants(model).each():
            dump[f"mutant.{what}.output"] = run(mutant, ids)["output"]
    save_file({k: v.contiguous() for k, v in dump.items()}, out_dir / name / "dump.safetensors")


def main(out_dir):
    torch.set_num_threads(1)
    for name in CONFIGS:
        make(name, pathlib.Path(out_dir))


if __name__ == "__main__":
    main(*sys.argv[1:])
