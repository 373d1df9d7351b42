// SPDX-License-Identifier: Apache-2.0
#include "pipelines/sd3/original.h"

#include <fmt/format.h>

#include <array>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace sagelab::sd3 {
namespace {

constexpr auto kRules = std::to_array<OriginalName>({
    {"pos_embed.pos_embed", "pos_embed"},
    {"pos_embed.proj.", "x_embedder.proj."},
    {"context_embedder.", "context_embedder."},
    {"time_text_embed.timestep_embedder.linear_1.", "t_embedder.mlp.0."},
    {"time_text_embed.timestep_embedder.linear_2.", "t_embedder.mlp.2."},
    {"time_text_embed.text_embedder.linear_1.", "y_embedder.mlp.0."},
    {"time_text_embed.text_embedder.linear_2.", "y_embedder.mlp.2."},
    {"transformer_blocks.*.norm1.linear.", "joint_blocks.*.x_block.adaLN_modulation.1."},
    {"transformer_blocks.*.norm1_context.linear.", "joint_blocks.*.context_block.adaLN_modulation.1."},
    {"transformer_blocks.*.attn.to_q.", "joint_blocks.*.x_block.attn.qkv.", 0, 1, 3},
    {"transformer_blocks.*.attn.to_k.", "joint_blocks.*.x_block.attn.qkv.", 1, 2, 3},
    {"transformer_blocks.*.attn.to_v.", "joint_blocks.*.x_block.attn.qkv.", 2, 3, 3},
    {"transformer_blocks.*.attn.add_q_proj.", "joint_blocks.*.context_block.attn.qkv.", 0, 1, 3},
    {"transformer_blocks.*.attn.add_k_proj.", "joint_blocks.*.context_block.attn.qkv.", 1, 2, 3},
    {"transformer_blocks.*.attn.add_v_proj.", "joint_blocks.*.context_block.attn.qkv.", 2, 3, 3},
    {"transformer_blocks.*.attn.norm_q.", "joint_blocks.*.x_block.attn.ln_q."},
    {"transformer_blocks.*.attn.norm_k.", "joint_blocks.*.x_block.attn.ln_k."},
    {"transformer_blocks.*.attn.norm_added_q.", "joint_blocks.*.context_block.attn.ln_q."},
    {"transformer_blocks.*.attn.norm_added_k.", "joint_blocks.*.context_block.attn.ln_k."},
    {"transformer_blocks.*.attn.to_out.0.", "joint_blocks.*.x_block.attn.proj."},
    {"transformer_blocks.*.attn.to_add_out.", "joint_blocks.*.context_block.attn.proj."},
    {"transformer_blocks.*.attn2.to_q.", "joint_blocks.*.x_block.attn2.qkv.", 0, 1, 3},
    {"transformer_blocks.*.attn2.to_k.", "joint_blocks.*.x_block.attn2.qkv.", 1, 2, 3},
    {"transformer_blocks.*.attn2.to_v.", "joint_blocks.*.x_block.attn2.qkv.", 2, 3, 3},
    {"transformer_blocks.*.attn2.norm_q.", "joint_blocks.*.x_block.attn2.ln_q."},
    {"transformer_blocks.*.attn2.norm_k.", "joint_blocks.*.x_block.attn2.ln_k."},
    {"transformer_blocks.*.attn2.to_out.0.", "joint_blocks.*.x_block.attn2.proj."},
    {"transformer_blocks.*.ff.net.0.proj.", "joint_blocks.*.x_block.mlp.fc1."},
    {"transformer_blocks.*.ff.net.2.", "joint_blocks.*.x_block.mlp.fc2."},
    {"transformer_blocks.*.ff_context.net.0.proj.", "joint_blocks.*.context_block.mlp.fc1."},
    {"transformer_blocks.*.ff_context.net.2.", "joint_blocks.*.context_block.mlp.fc2."},
    {.ours = "norm_out.linear.", .theirs = "final_layer.adaLN_modulation.1.", .swapped = true},
    {"proj_out.", "final_layer.linear."},
});
constexpr auto kPrefixes = std::to_array<std::string_view>({"model.diffusion_model."});

// The rules of a model with so many layers, and what they are views of.
struct Names {
  explicit Names(int64_t layers)
      : ours(fmt::format("transformer_blocks.{}.norm1_context.linear.", layers - 1)),
        theirs(fmt::format("joint_blocks.{}.context_block.adaLN_modulation.1.", layers - 1)),
        rules{{.ours = ours, .theirs = theirs, .swapped = true}} {
    rules.insert(rules.end(), kRules.begin(), kRules.end());
    all = {rules, kPrefixes};
  }
  Names(const Names&) = delete;
  Names& operator=(const Names&) = delete;
  std::string ours, theirs;
  std::vector<OriginalName> rules;
  OriginalNames all;
};

}  // namespace

const OriginalNames& original_names(int64_t layers) {
  static std::mutex mutex;
  static std::map<int64_t, Names> known;
  const std::lock_guard lock(mutex);
  return known.try_emplace(layers, layers).first->second.all;
}

}  // namespace sagelab::sd3
