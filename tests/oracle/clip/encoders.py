# SPDX-License-Identifier: Apache-2.0
"""Tiny CLIP text towers, made and run by transformers, with every layer's output, half precision runs and mutants.

usage: encoders.py OUT_DIR

OUT_DIR/<name>/model/             config.json, model.safetensors
OUT_DIR/<name>/dump.safetensors   ids int64 [B, L]; embeddings, layer.N, last_hidden, pooled [B, C], with projection
                                  embeds [B, P]; each with a twin in fp64 (.fp64); fp16.* and bf16.*: runs in those
                                  dtypes; mutant.<what>|<stage>: the stage with one thing wrong
"""

import copy
import math
import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
from transformers.activations import ACT2FN

# prefix: how the keys are saved: as transformers 5 does, or the other way round.
SPECS = {
    # CLIP-L as FLUX has it: no projection; the end token is told by the legacy rule. No prefix, as transformers 5 saves it.
    "clip_l": dict(hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=3, projection_dim=48,
                   vocab_size=96, max_position_embeddings=77, hidden_act="quick_gelu", eos_token_id=2, bos_token_id=94),
    # bigG as SD3 has it: exact GELU, a projection, pads that are not the end token.
    "big_g": dict(hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4, projection_dim=40,
                  vocab_size=96, max_position_embeddings=77, hidden_act="gelu", eos_token_id=95, bos_token_id=94),
    # Odd sizes, nothing at its default; CLIPTextModel with the prefix, as every released file has it.
    "odd_config": dict(hidden_size=35, intermediate_size=51, num_hidden_layers=2, num_attention_heads=5, projection_dim=19,
                       vocab_size=61, max_position_embeddings=41, hidden_act="gelu_new", layer_norm_eps=3e-4,
                       eos_token_id=7, bos_token_id=60),
    # A projection without the prefix, and the buffer of positions that old versions saved; the legacy rule.
    "bare": dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, projection_dim=24,
                 vocab_size=50, max_position_embeddings=77, hidden_act="quick_gelu", eos_token_id=2, bos_token_id=48),
}
PROJECTED = ("big_g", "bare")
VISIBLE = 2.5e-5  # how far a mutant must be from the truth: more than 10 times the bound of the tests


def make_model(name, generator):
    kind = CLIPTextModelWithProjection if name in PROJECTED else CLIPTextModel
    model = kind(CLIPTextConfig(**SPECS[name])).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.ndim > 1 and "embedding" not in key:
                p.copy_(noise / math.sqrt(p.shape[-1]))
            elif p.ndim > 1:
                p.copy_(noise)
            else:
                p.copy_((0 if key.endswith("bias") else 1) + 0.2 * noise)
        tower = model.text_model if name in PROJECTED else model
        # Rows of a variance near eps: otherwise no wrong eps could be seen. Weak sub-layers keep them small to the end.
        tower.embeddings.token_embedding.weight *= 3e-3
        tower.embeddings.position_embedding.weight *= 3e-3
        for layer in tower.encoder.layers:
            for linear in (layer.self_attn.out_proj, layer.mlp.fc2):
                linear.weight *= 5e-3
                linear.bias *= 5e-3
    return model


def save_model(name, model, folder):
    model.save_pretrained(folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    if name == "odd_config":
        tensors = {"text_model." + key.removeprefix("text_model."): t for key, t in tensors.items()}
    if name == "bare":
        tensors = {key.removeprefix("text_model."): t for key, t in tensors.items()}
        tensors["embeddings.position_ids"] = torch.arange(77)[None]
    save_file(tensors, file, metadata={"format": "pt"})


def make_ids(name, generator):
    """Prompts of several lengths: <start> ... <end> <pad> ...; one fills every position."""
    spec = SPECS[name]
    length = spec["max_position_embeddings"] - (4 if name == "odd_config" else 0)
    legacy = spec["eos_token_id"] == 2
    end = spec["vocab_size"] - 1 if legacy else spec["eos_token_id"]
    pad = 0 if name == "big_g" else end
    words = torch.tensor([i for i in range(1, spec["bos_token_id"]) if i != end])
    ids = torch.full((4, length), pad)
    for row, n in enumerate((0, 5, length // 2, length - 2)):
        ids[row, 0] = spec["bos_token_id"]
        ids[row, 1 : 1 + n] = words[torch.randint(0, len(words), (n,), generator=generator)]
        ids[row, 1 + n] = end
    if not legacy:
        ids[0] = words[0]  # no end token at all: the first position
    return ids


def run(model, ids):
    with torch.no_grad():
        out = model(input_ids=ids, output_hidden_states=True)
    tower = getattr(model, "text_model", model)
    outputs = {"embeddings": out.hidden_states[0], "last_hidden": out.last_hidden_state}
    outputs |= {f"layer.{i}": h for i, h in enumerate(out.hidden_states[1:])}
    assert len(out.hidden_states) == len(tower.encoder.layers) + 1
    if hasattr(out, "text_embeds"):
        with torch.no_grad():
            outputs |= {"embeds": out.text_embeds, "pooled": tower(input_ids=ids).pooler_output}
    else:
        outputs["pooled"] = out.pooler_output
    return outputs


class QuickGelu(torch.nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * torch.sigmoid(self.factor * x)


class Mutants:
    """make_<what>(model, tower): one thing wrong; returns the stage where it shows (pooled, if None), False to skip."""

    def __init__(self, name, model):
        self.name, self.model = name, model

    def each(self):
        for name in sorted(n for n in dir(self) if n.startswith("make_")):
            mutant = copy.deepcopy(self.model)
            stage = getattr(self, name)(mutant, getattr(mutant, "text_model", mutant))
            if stage is not False:
                yield name.removeprefix("make_"), stage or "last_hidden", mutant

    def _eps(self, tower, part):
        for key, norm in tower.named_modules():
            if key.endswith(part):
                norm.eps *= 10

    def make_eps_1_x10(self, _, tower):
        self._eps(tower, "layer_norm1")

    def make_eps_2_x10(self, _, tower):
        self._eps(tower, "layer_norm2")

    def make_final_eps_x10(self, _, tower):
        self._eps(tower, "final_layer_norm")

    def make_eps_of_config_ignored(self, _, tower):
        if self.name != "odd_config":
            return False
        for norm in tower.modules():
            if isinstance(norm, torch.nn.LayerNorm):
                norm.eps = 1e-5

    def make_not_causal(self, _, tower):
        for layer in tower.encoder.layers:
            forward = layer.self_attn.forward
            layer.self_attn.forward = lambda *a, f=forward, **k: f(*a, **(k | {"is_causal": False}))

    def make_pads_masked(self, model, _):
        if self.name == "odd_config":
            return False
        forward = model.forward
        model.forward = lambda input_ids, **k: forward(input_ids, attention_mask=torch.flip(
            (torch.cumsum(torch.flip(input_ids != input_ids[:, -1:], [1]).long(), 1) > 0).long(), [1]) | (
                torch.arange(input_ids.shape[1]) == 0).long(), **k)

    def make_scores_scaled_by_hidden_size(self, _, tower):
        for layer in tower.encoder.layers:
            layer.self_attn.scale = layer.self_attn.embed_dim**-0.5

    def make_scores_unscaled(self, _, tower):
        for layer in tower.encoder.layers:
            layer.self_attn.scale = 1.0

    def _activation(self, tower, wrong):
        if SPECS[self.name]["hidden_act"] == wrong:
            return False
        for layer in tower.encoder.layers:
            layer.mlp.activation_fn = ACT2FN[wrong]

    def make_activation_quick_gelu(self, _, tower):
        return self._activation(tower, "quick_gelu")

    def make_activation_gelu(self, _, tower):
        return self._activation(tower, "gelu")

    def make_activation_gelu_new(self, _, tower):
        return self._activation(tower, "gelu_new")

    def make_quick_gelu_1_7(self, _, tower):
        if SPECS[self.name]["hidden_act"] != "quick_gelu":
            return False
        for layer in tower.encoder.layers:
            layer.mlp.activation_fn = QuickGelu(1.7)

    def make_q_and_k_swapped(self, _, tower):
        for layer in tower.encoder.layers:
            layer.self_attn.q_proj, layer.self_attn.k_proj = layer.self_attn.k_proj, layer.self_attn.q_proj

    def make_k_and_v_swapped(self, _, tower):
        for layer in tower.encoder.layers:
            layer.self_attn.k_proj, layer.self_attn.v_proj = layer.self_attn.v_proj, layer.self_attn.k_proj

    def make_norms_swapped(self, _, tower):
        for layer in tower.encoder.layers:
            layer.layer_norm1, layer.layer_norm2 = layer.layer_norm2, layer.layer_norm1

    def _no_bias(self, linears):
        with torch.no_grad():
            for linear in linears:
                linear.bias.zero_()

    def make_no_v_bias(self, _, tower):
        self._no_bias(layer.self_attn.v_proj for layer in tower.encoder.layers)

    def make_no_q_bias(self, _, tower):
        self._no_bias(layer.self_attn.q_proj for layer in tower.encoder.layers)

    def make_no_out_bias(self, _, tower):
        self._no_bias(layer.self_attn.out_proj for layer in tower.encoder.layers)

    def make_no_fc1_bias(self, _, tower):
        self._no_bias(layer.mlp.fc1 for layer in tower.encoder.layers)

    def make_no_positions(self, _, tower):
        with torch.no_grad():
            tower.embeddings.position_embedding.weight.zero_()

    def make_positions_from_1(self, _, tower):
        table = tower.embeddings.position_embedding.weight
        with torch.no_grad():
            table.copy_(table.roll(-1, 0))

    def make_norm_after_the_sub_layers(self, _, tower):
        def forward(layer, x, attention_mask=None, **kwargs):
            x = layer.layer_norm1(x + layer.self_attn(x, attention_mask, **kwargs)[0])
            return layer.layer_norm2(x + layer.mlp(x))

        for layer in tower.encoder.layers:
            layer.forward = lambda x, mask=None, layer=layer, **k: forward(layer, x, mask, **k)

    def make_no_final_norm(self, _, tower):
        tower.final_layer_norm = torch.nn.Identity()

    def make_one_layer_less(self, _, tower):
        if len(tower.encoder.layers) == 1:
            return False
        tower.encoder.layers = tower.encoder.layers[:-1]

    # The rule of the end token. transformers reads the tower's own number.
    def make_end_rule_of_the_other_kind(self, _, tower):
        if self.name != "odd_config":  # its end token is not the largest
            return False
        tower.eos_token_id = 2
        return "pooled"

    def make_end_is_token_2(self, _, tower):
        if SPECS[self.name]["eos_token_id"] != 2:
            return False
        return self._pooled_at(tower, lambda ids: (ids == 2).int().argmax(-1))

    def _pooled_at(self, tower, position):
        forward = tower.forward

        def wrong(*args, **kwargs):
            out = forward(*args, **kwargs)
            ids = kwargs["input_ids"] if "input_ids" in kwargs else args[0]
            out.pooler_output = out.last_hidden_state[torch.arange(len(ids)), position(ids)]
            return out

        tower.forward = wrong
        return "pooled"

    def make_pooled_at_the_last_position(self, _, tower):
        return self._pooled_at(tower, lambda ids: torch.full((len(ids),), ids.shape[1] - 1))

    def make_pooled_at_the_first_position(self, _, tower):
        return self._pooled_at(tower, lambda ids: torch.zeros(len(ids), dtype=torch.long))

    def make_pooled_before_the_end(self, _, tower):
        end = SPECS[self.name]["eos_token_id"]
        return self._pooled_at(tower, lambda ids: (
            (ids.argmax(-1) if end == 2 else (ids == end).int().argmax(-1)) - 1).clamp_min(0))

    def make_projection_transposed(self, model, _):
        if self.name not in PROJECTED:
            return False
        with torch.no_grad():
            weight = model.text_projection.weight
            weight.copy_(weight.flatten().reshape(weight.shape[::-1]).T.clone())
        return "embeds"

    def make_not_projected(self, model, _):
        if self.name not in PROJECTED:
            return False
        with torch.no_grad():
            weight = model.text_projection.weight
            weight.copy_(torch.eye(*weight.shape))
        return "embeds"


def wrong_hidden(outputs, layers):
    """hidden_states[-2], taken one layer too early, too late, or through the final norm."""
    wrong = {"hidden_of_last_layer": outputs[f"layer.{layers - 1}"], "hidden_after_final_norm": outputs["last_hidden"]}
    if layers > 2:
        wrong["hidden_one_layer_early"] = outputs[f"layer.{layers - 3}"]
    return wrong


def far(a, b):
    if a.shape != b.shape:
        return math.inf
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


def mutants(name, model, ids, truth):
    layers = SPECS[name]["num_hidden_layers"]
    penultimate = truth[f"layer.{layers - 2}"] if layers > 1 else truth["embeddings"]
    found = {f"mutant.{what}|hidden": (value, penultimate) for what, value in wrong_hidden(truth, layers).items()}
    for what, stage, mutant in Mutants(name, model).each():
        with torch.no_grad():
            found[f"mutant.{what}|{stage}"] = run(mutant, ids)[stage], truth[stage]
    if name in PROJECTED:
        with torch.no_grad():
            last = truth[f"layer.{layers - 1}"]
            end = SPECS[name]["eos_token_id"]
            at = ids.argmax(-1) if end == 2 else (ids == end).int().argmax(-1)
            found["mutant.projected_before_the_norm|embeds"] = (
                model.text_projection(last[torch.arange(len(ids)), at]), truth["embeds"])
    for key, (value, right) in found.items():
        away = far(value, right)
        assert away > VISIBLE, f"{name}: {key} is {away:.1e} from the truth: nobody could tell"
    return {key: value for key, (value, _) in found.items()}


def make(name, out_dir):
    generator = torch.Generator().manual_seed(sum(name.encode()))
    model = make_model(name, generator)
    folder = out_dir / name / "model"
    folder.mkdir(parents=True, exist_ok=True)
    save_model(name, model, folder)
    ids = make_ids(name, generator)
    truth = run(model, ids)
    dump = {"ids": ids} | truth
    dump |= {key + ".fp64": value for key, value in run(copy.deepcopy(model).double(), ids).items()}
    for label, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        dump |= {f"{label}.{key}": value for key, value in run(copy.deepcopy(model).to(dtype), ids).items()}
    dump |= mutants(name, model, ids, truth)
    save_file({k: v.contiguous().clone() for k, v in dump.items()}, out_dir / name / "dump.safetensors")


def main(out_dir):
    torch.set_num_threads(1)
    for name in SPECS:
        make(name, pathlib.Path(out_dir))


if __name__ == "__main__":
    main(*sys.argv[1:])
