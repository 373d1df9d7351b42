# SPDX-License-Identifier: Apache-2.0
"""Tiny Llama models, made and run by transformers on padded texts, with every hidden state, half precision and mutants.

usage: encoders.py OUT_DIR

OUT_DIR/<name>/model/             config.json, model.safetensors
OUT_DIR/<name>/dump.safetensors   ids int64 [B, L], lengths int64 [B]; hidden.N [sum(lengths), C]: transformers' list of
                                  hidden states, rows of pads left out, the texts one behind the other; each with a twin in
                                  fp64 (.fp64); fp16.* and bf16.*: runs in those dtypes; mutant.<what>|<stage>: the stage
                                  with one thing wrong; bf16.alone.hidden.N and bf16.mutant.<what>|<stage>: the first text,
                                  where only rounding tells
OUT_DIR/names.json                (key, shape) of the released model
"""

import contextlib
import copy
import json
import math
import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaModel
from transformers.activations import ACT2FN
from transformers.models.llama import modeling_llama

RELEASED = dict(hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=8,
                vocab_size=128320, rms_norm_eps=1e-5, max_position_embeddings=8192)
SPECS = {
    # As HunyuanVideo's: grouped heads, the large base, an odd vocabulary. Saved as transformers 5 does.
    "grouped": dict(hidden_size=48, intermediate_size=88, num_hidden_layers=5, num_attention_heads=4, num_key_value_heads=2,
                    vocab_size=101, rms_norm_eps=1e-5, rope_theta=500000.0),
    # Everything at its default, as transformers 4 wrote a whole language model.
    "old": dict(hidden_size=36, intermediate_size=56, num_hidden_layers=4, num_attention_heads=3, vocab_size=64),
    # One key for all heads, which are wider than the states.
    "single_key": dict(hidden_size=35, intermediate_size=51, num_hidden_layers=4, num_attention_heads=5, num_key_value_heads=1,
                       head_dim=10, vocab_size=77, rms_norm_eps=3e-4, hidden_act="gelu", rope_theta=777.0),
}
LENGTHS = (37, 20, 1)
VISIBLE = 2.5e-5  # how far a mutant must be from the truth: more than 10 times the bound of the tests


def make_model(name, generator):
    spec = dict(SPECS[name])
    theta = spec.pop("rope_theta", 10000.0)
    model = LlamaModel(LlamaConfig(**spec, rope_parameters={"rope_theta": theta, "rope_type": "default"})).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            p.copy_(1 + 0.2 * noise if p.ndim == 1 else noise if "embed" in key else noise / math.sqrt(p.shape[-1]))
        # Rows of a variance near eps: otherwise no wrong eps could be seen. Weak sub-layers keep them small to the end.
        model.embed_tokens.weight *= 3e-3
        for layer in model.layers:
            layer.self_attn.o_proj.weight *= 5e-3
            layer.mlp.down_proj.weight *= 5e-3
    return model


def in_half(model, dtype):
    """As from_pretrained loads it: the frequencies, which `to` would round, stay in fp32."""
    half = copy.deepcopy(model).to(dtype)
    half.rotary_emb.inv_freq = model.rotary_emb.inv_freq.clone()
    return half


def save_model(name, model, folder):
    model.save_pretrained(folder)
    if name != "old":
        return
    tensors = {"model." + key: t for key, t in load_file(folder / "model.safetensors").items()}
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    for i in range(SPECS[name]["num_hidden_layers"]):
        tensors[f"model.layers.{i}.self_attn.rotary_emb.inv_freq"] = model.rotary_emb.inv_freq.clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = dict(SPECS[name], architectures=["LlamaForCausalLM"], attention_bias=False, attention_dropout=0.0, bos_token_id=1,
                  eos_token_id=2, initializer_range=0.02, model_type="llama", pretraining_tp=1, rope_scaling=None,
                  rope_theta=10000.0, tie_word_embeddings=False, torch_dtype="float16", transformers_version="4.40.0", use_cache=True)
    (folder / "config.json").write_text(json.dumps(config))


def run(model, ids, lengths):
    # One text alone needs no mask: then the same kernel of attention serves it as serves us.
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long() if len(ids) > 1 else None
    with torch.no_grad():
        states = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states
    assert len(states) == len(model.layers) + 1
    return {f"hidden.{i}": torch.cat([rows[:n] for rows, n in zip(h, lengths)]) for i, h in enumerate(states)}


@contextlib.contextmanager
def instead(attribute, function):
    """Of the module of transformers."""
    original = getattr(modeling_llama, attribute)
    setattr(modeling_llama, attribute, function)
    try:
        yield
    finally:
        setattr(modeling_llama, attribute, original)


def rotating(change_q=None, change_k=None, rotate=modeling_llama.rotate_half):
    def apply(q, k, cos, sin, unsqueeze_dim=1):
        cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
        return (q if change_q == "none" else q * cos + rotate(q) * sin), (k if change_k == "none" else k * cos + rotate(k) * sin)
    return instead("apply_rotary_pos_emb", apply)


def adjacent(x):
    return torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)


class Mutants:
    """make_<what>(model): one thing wrong; may return a context to run it in, or False to skip."""

    def __init__(self, name, model):
        self.name, self.model = name, model

    each_of = None  # all

    def each(self, ids, lengths):
        for name in self.each_of or sorted(n for n in dir(self) if n.startswith("make_")):
            mutant = copy.deepcopy(self.model)
            context = getattr(self, name)(mutant)
            if context is not False:
                with context or contextlib.nullcontext():
                    yield name.removeprefix("make_"), run(mutant, ids, lengths)

    def _eps(self, model, part):
        for key, norm in model.named_modules():
            if key.endswith(part):
                norm.variance_epsilon *= 10

    def make_eps_1_x10(self, model):
        self._eps(model, "input_layernorm")

    def make_eps_2_x10(self, model):
        self._eps(model, "post_attention_layernorm")

    def make_final_eps_x10(self, model):
        for key, norm in model.named_modules():
            if key == "norm":
                norm.variance_epsilon *= 10

    def _theta(self, model, theta):
        d = 2 * len(model.rotary_emb.inv_freq)
        model.rotary_emb.inv_freq = theta ** (-torch.arange(0, d, 2) / d)

    def make_theta_of_another_default(self, model):
        self._theta(model, 500000.0 if self.name == "old" else 10000.0)

    def make_theta_x_1_1(self, model):
        self._theta(model, 1.1 * SPECS[self.name].get("rope_theta", 10000.0))

    def make_pairs_side_by_side(self, _):
        return rotating(rotate=adjacent)

    def make_rotated_backwards(self, _):
        return rotating(rotate=lambda x: -modeling_llama.rotate_half(x))

    def make_q_not_rotated(self, _):
        return rotating(change_q="none")

    def make_k_not_rotated(self, _):
        return rotating(change_k="none")

    def make_no_positions(self, _):
        return rotating("none", "none")

    def make_keys_repeated_in_turn(self, model):
        groups = model.layers[0].self_attn.num_key_value_groups
        heads = model.config.num_attention_heads
        if groups == 1 or groups == heads:
            return False
        # The same weights for the queries of (key 0, 1, ..., 0, 1, ...) in the place of (0, 0, ..., 1, 1, ...).
        with torch.no_grad():
            for layer in model.layers:
                attention = layer.self_attn
                order = torch.arange(heads).view(groups, -1).T.flatten()
                q, o = attention.q_proj.weight, attention.o_proj.weight
                q.copy_(q.unflatten(0, (heads, -1))[order].flatten(0, 1))
                o.copy_(o.unflatten(1, (heads, -1))[:, order].flatten(1, 2))

    def make_not_causal(self, model):
        return instead("create_causal_mask", lambda attention_mask, **_: attention_mask[:, None, None, :].bool())

    def _activation(self, model, wrong):
        if model.config.hidden_act == wrong:
            return False
        for layer in model.layers:
            layer.mlp.act_fn = ACT2FN[wrong]

    def make_activation_gelu(self, model):
        return self._activation(model, "gelu")

    def make_activation_silu(self, model):
        return self._activation(model, "silu")

    def make_gate_and_up_swapped(self, model):
        for layer in model.layers:
            layer.mlp.gate_proj, layer.mlp.up_proj = layer.mlp.up_proj, layer.mlp.gate_proj

    def make_k_and_v_swapped(self, model):
        for layer in model.layers:
            layer.self_attn.k_proj, layer.self_attn.v_proj = layer.self_attn.v_proj, layer.self_attn.k_proj

    def make_norms_swapped(self, model):
        for layer in model.layers:
            layer.input_layernorm, layer.post_attention_layernorm = layer.post_attention_layernorm, layer.input_layernorm

    def make_scores_unscaled(self, model):
        for layer in model.layers:
            layer.self_attn.scaling = 1.0

    def make_scores_scaled_by_hidden_size(self, model):
        for layer in model.layers:
            layer.self_attn.scaling = model.config.hidden_size**-0.5

    def make_norm_of_the_mean_removed(self, model):
        for layer in model.layers:
            norm = layer.input_layernorm
            norm.forward = lambda x, norm=norm: modeling_llama.LlamaRMSNorm.forward(norm, x - x.mean(-1, keepdim=True))

    def make_no_final_norm(self, model):
        model.norm = torch.nn.Identity()

    def make_scaled_embedding(self, model):
        with torch.no_grad():
            model.embed_tokens.weight *= math.sqrt(model.config.hidden_size)


class RoundedElsewhere(Mutants):
    """What a run in bf16 alone tells. Those of Mutants are none of these."""

    each_of = ("make_norm_weight_before_the_cast", "make_norm_in_half_precision", "make_rotation_in_fp32")

    def make_norm_weight_before_the_cast(self, model):
        for norm in model.modules():
            if isinstance(norm, modeling_llama.LlamaRMSNorm):
                norm.forward = lambda x, norm=norm: (
                    norm.weight.float() * x.float() * torch.rsqrt(x.float().square().mean(-1, True) + norm.variance_epsilon)).to(x.dtype)

    def make_norm_in_half_precision(self, model):
        for norm in model.modules():
            if isinstance(norm, modeling_llama.LlamaRMSNorm):
                norm.forward = lambda x, norm=norm: norm.weight * (x * torch.rsqrt(x.square().mean(-1, True) + norm.variance_epsilon))

    def make_rotation_in_fp32(self, model):
        def apply(q, k, cos, sin, unsqueeze_dim=1):
            cos, sin = self.cos.unsqueeze(unsqueeze_dim), self.sin.unsqueeze(unsqueeze_dim)
            return tuple((x.float() * cos + modeling_llama.rotate_half(x.float()) * sin).to(x.dtype) for x in (q, k))

        length = max(LENGTHS)
        self.cos, self.sin = model.rotary_emb(torch.zeros(1), torch.arange(length)[None])
        return instead("apply_rotary_pos_emb", apply)


def named_mutants(mutants, ids, lengths, stage):
    return {f"mutant.{what}|hidden.{stage}": states[f"hidden.{stage}"] for what, states in mutants.each(ids, lengths)}


def wrong_layers(model, states):
    """hidden_states[-3], one layer early or late, or through the final norm."""
    n = len(model.layers)
    with torch.no_grad():
        normed = model.norm(states[f"hidden.{n - 2}"])
    return {f"mutant.{what}|hidden.{n - 2}": value for what, value in (
        ("one_layer_early", states[f"hidden.{n - 3}"]), ("one_layer_late", states[f"hidden.{n - 1}"]),
        ("last", states[f"hidden.{n}"]), ("after_the_final_norm", normed))}


def far(a, b):
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def make(name, out_dir):
    generator = torch.Generator().manual_seed(sum(name.encode()))
    model = make_model(name, generator)
    folder = out_dir / name / "model"
    folder.mkdir(parents=True, exist_ok=True)
    save_model(name, model, folder)
    lengths = torch.tensor(LENGTHS)
    ids = torch.randint(0, model.config.vocab_size, (len(LENGTHS), max(LENGTHS)), generator=generator)
    truth = run(model, ids, lengths)
    dump = {"ids": ids, "lengths": lengths} | truth
    dump |= {key + ".fp64": value for key, value in run(copy.deepcopy(model).double(), ids, lengths).items()}
    for label, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        dump |= {f"{label}.{key}": value for key, value in run(in_half(model, dtype), ids, lengths).items()}
    found = named_mutants(Mutants(name, model), ids, lengths, len(model.layers)) | wrong_layers(model, truth)
    for key, value in found.items():
        away = far(value, truth[key.split("|")[1]])
        assert away > VISIBLE, f"{name}: {key} is {away:.1e} from the truth: nobody could tell"
    rounded = RoundedElsewhere(name, in_half(model, torch.bfloat16))
    dump |= found | {f"bf16.{key}": value for key, value in named_mutants(rounded, ids[:1], lengths[:1], 1).items()}
    dump |= {f"bf16.alone.{key}": value for key, value in run(rounded.model, ids[:1], lengths[:1]).items()}
    save_file({k: v.contiguous().clone() for k, v in dump.items()}, out_dir / name / "dump.safetensors")


def main(out_dir):
    torch.set_num_threads(1)
    out_dir = pathlib.Path(out_dir)
    for name in SPECS:
        make(name, out_dir)
    with torch.device("meta"):
        released = LlamaModel(LlamaConfig(**RELEASED))
    names = {key: list(p.shape) for key, p in released.named_parameters()}
    (out_dir / "names.json").write_text(json.dumps({"config": RELEASED, "names": names}))


if __name__ == "__main__":
    main(*sys.argv[1:])
