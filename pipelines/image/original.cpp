// SPDX-License-Identifier: Apache-2.0
#include "pipelines/image/original.h"

#include <array>

namespace sagelab {
namespace {

// Blocks are counted from the coarsest here and from the finest there.
constexpr auto kRules = std::to_array<OriginalName>({
    {"post_quant_conv.", "post_quant_conv."},
    {"decoder.conv_in.", "decoder.conv_in."},
    {"decoder.mid_block.resnets.0.", "decoder.mid.block_1."},
    {"decoder.mid_block.resnets.1.", "decoder.mid.block_2."},
    {"decoder.mid_block.attentions.0.group_norm.", "decoder.mid.attn_1.norm."},
    {.ours = "decoder.mid_block.attentions.0.to_q.", .theirs = "decoder.mid.attn_1.q.", .matrix = true},
    {.ours = "decoder.mid_block.attentions.0.to_k.", .theirs = "decoder.mid.attn_1.k.", .matrix = true},
    {.ours = "decoder.mid_block.attentions.0.to_v.", .theirs = "decoder.mid.attn_1.v.", .matrix = true},
    {.ours = "decoder.mid_block.attentions.0.to_out.0.",
     .theirs = "decoder.mid.attn_1.proj_out.",
     .matrix = true},
    {"decoder.up_blocks.0.resnets.*.", "decoder.up.3.block.*."},
    {"decoder.up_blocks.0.upsamplers.0.", "decoder.up.3.upsample."},
    {"decoder.up_blocks.1.resnets.*.conv_shortcut.", "decoder.up.2.block.*.nin_shortcut."},
    {"decoder.up_blocks.1.resnets.*.", "decoder.up.2.block.*."},
    {"decoder.up_blocks.1.upsamplers.0.", "decoder.up.2.upsample."},
    {"decoder.up_blocks.2.resnets.*.conv_shortcut.", "decoder.up.1.block.*.nin_shortcut."},
    {"decoder.up_blocks.2.resnets.*.", "decoder.up.1.block.*."},
    {"decoder.up_blocks.2.upsamplers.0.", "decoder.up.1.upsample."},
    {"decoder.up_blocks.3.resnets.*.conv_shortcut.", "decoder.up.0.block.*.nin_shortcut."},
    {"decoder.up_blocks.3.resnets.*.", "decoder.up.0.block.*."},
    {"decoder.conv_norm_out.", "decoder.norm_out."},
    {"decoder.conv_out.", "decoder.conv_out."},
});
constexpr auto kPrefixes = std::to_array<std::string_view>({"first_stage_model.", "vae."});

}  // namespace

const OriginalNames& original_autoencoder_names() {
  static constexpr OriginalNames kNames{kRules, kPrefixes};
  return kNames;
}

}  // namespace sagelab
