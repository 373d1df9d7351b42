// SPDX-License-Identifier: Apache-2.0
#include "pipelines/flux/original.h"

#include <array>

namespace sagelab::flux {
namespace {

// linear1 of a single block holds q, k, v and the feed-forward, four times as wide as each.
constexpr int kLinear1 = 7;

constexpr auto kRules = std::to_array<OriginalName>({
    {"x_embedder.", "img_in."},
    {"context_embedder.", "txt_in."},
    {"time_text_embed.timestep_embedder.linear_1.", "time_in.in_layer."},
    {"time_text_embed.timestep_embedder.linear_2.", "time_in.out_layer."},
    {"time_text_embed.guidance_embedder.linear_1.", "guidance_in.in_layer."},
    {"time_text_embed.guidance_embedder.linear_2.", "guidance_in.out_layer."},
    {"time_text_embed.text_embedder.linear_1.", "vector_in.in_layer."},
    {"time_text_embed.text_embedder.linear_2.", "vector_in.out_layer."},
    {"transformer_blocks.*.norm1.linear.", "double_blocks.*.img_mod.lin."},
    {"transformer_blocks.*.norm1_context.linear.", "double_blocks.*.txt_mod.lin."},
    {"transformer_blocks.*.attn.to_q.", "double_blocks.*.img_attn.qkv.", 0, 1, 3},
    {"transformer_blocks.*.attn.to_k.", "double_blocks.*.img_attn.qkv.", 1, 2, 3},
    {"transformer_blocks.*.attn.to_v.", "double_blocks.*.img_attn.qkv.", 2, 3, 3},
    {"transformer_blocks.*.attn.add_q_proj.", "double_blocks.*.txt_attn.qkv.", 0, 1, 3},
    {"transformer_blocks.*.attn.add_k_proj.", "double_blocks.*.txt_attn.qkv.", 1, 2, 3},
    {"transformer_blocks.*.attn.add_v_proj.", "double_blocks.*.txt_attn.qkv.", 2, 3, 3},
    {"transformer_blocks.*.attn.norm_q.weight", "double_blocks.*.img_attn.norm.query_norm.scale"},
    {"transformer_blocks.*.attn.norm_k.weight", "double_blocks.*.img_attn.norm.key_norm.scale"},
    {"transformer_blocks.*.attn.norm_added_q.weight", "double_blocks.*.txt_attn.norm.query_norm.scale"},
    {"transformer_blocks.*.attn.norm_added_k.weight", "double_blocks.*.txt_attn.norm.key_norm.scale"},
    {"transformer_blocks.*.attn.to_out.0.", "double_blocks.*.img_attn.proj."},
    {"transformer_blocks.*.attn.to_add_out.", "double_blocks.*.txt_attn.proj."},
    {"transformer_blocks.*.ff.net.0.proj.", "double_blocks.*.img_mlp.0."},
    {"transformer_blocks.*.ff.net.2.", "double_blocks.*.img_mlp.2."},
    {"transformer_blocks.*.ff_context.net.0.proj.", "double_blocks.*.txt_mlp.0."},
    {"transformer_blocks.*.ff_context.net.2.", "double_blocks.*.txt_mlp.2."},
    {"single_transformer_blocks.*.norm.linear.", "single_blocks.*.modulation.lin."},
    {"single_transformer_blocks.*.attn.to_q.", "single_blocks.*.linear1.", 0, 1, kLinear1},
    {"single_transformer_blocks.*.attn.to_k.", "single_blocks.*.linear1.", 1, 2, kLinear1},
    {"single_transformer_blocks.*.attn.to_v.", "single_blocks.*.linear1.", 2, 3, kLinear1},
    {"single_transformer_blocks.*.proj_mlp.", "single_blocks.*.linear1.", 3, 7, kLinear1},
    {"single_transformer_blocks.*.attn.norm_q.weight", "single_blocks.*.norm.query_norm.scale"},
    {"single_transformer_blocks.*.attn.norm_k.weight", "single_blocks.*.norm.key_norm.scale"},
    {"single_transformer_blocks.*.proj_out.", "single_blocks.*.linear2."},
    {.ours = "norm_out.linear.", .theirs = "final_layer.adaLN_modulation.1.", .swapped = true},
    {"proj_out.", "final_layer.linear."},
});

}  // namespace

const OriginalNames& original_names() {
  static constexpr OriginalNames kNames{kRules, kOriginalTransformerPrefixes};
  return kNames;
}

}  // namespace sagelab::flux
