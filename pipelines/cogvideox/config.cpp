// SPDX-License-Identifier: Apache-2.0
#include "pipelines/cogvideox/config.h"

#include <fmt/format.h>

#include <cmath>
#include <map>

#include "attention/error.h"

namespace sagelab::cogvideox {
namespace {

// Far beyond any model; products of a few of them fit 64 bits.
constexpr int64_t kMostHeads = 256, kMostHeadDim = 1024, kMostLayers = 1000, kMostRatio = 64,
                  kMostWidth = 65536;
constexpr size_t kMostBlocks = 8;

double positive_number(Config& config, const std::string& key, double fallback) {
  const double value = config.number(key, fallback);
  if (!(value > 0)) throw Error(fmt::format("{}: {} = {} should be above 0", config.where(), key, value));
  return value;
}

// diffusers' get_activation, without "mish", which no released model uses.
Activation pointwise(Config& config, const std::string& key) {
  const std::string name = config.text(key, "silu");
  static const std::map<std::string, Activation> kKnown = {{"gelu", Activation::Gelu},
                                                           {"relu", Activation::Relu},
                                                           {"silu", Activation::Silu},
                                                           {"swish", Activation::Silu}};
  const auto it = kKnown.find(name);
  if (it == kKnown.end())
    throw Error(fmt::format("{}: {} = \"{}\" is not supported (only gelu, relu, silu, swish)", config.where(),
                            key, name));
  return it->second;
}

struct FeedForward {
  Activation activation;
  bool gated;
};

// diffusers' FeedForward: the name fixes the activation and whether the first linear is doubled.
FeedForward feed_forward(Config& config, const std::string& key) {
  const std::string name = config.text(key, "gelu-approximate");
  static const std::map<std::string, FeedForward> kKnown = {
      {"gelu", {Activation::Gelu, false}},  {"gelu-approximate", {Activation::GeluTanh, false}},
      {"geglu", {Activation::Gelu, true}},  {"geglu-approximate", {Activation::QuickGelu, false}},
      {"swiglu", {Activation::Silu, true}}, {"linear-silu", {Activation::Silu, false}}};
  const auto it = kKnown.find(name);
  if (it == kKnown.end())
    throw Error(
        fmt::format("{}: {} = \"{}\" is not supported (only geglu, geglu-approximate, gelu, "
                    "gelu-approximate, linear-silu, swiglu)",
                    config.where(), key, name));
  return it->second;
}

// Three axes share a head (or the table's width): a quarter for time, three eighths each for height and
// width, in pairs.
void check_position_kind(const TransformerConfig& c, const std::string& where) {
  const int64_t width = c.rotary ? c.head_dim : c.dim();
  if (width % 16)
    throw Error(fmt::format("{}: {} = {} should be a multiple of 16 for its positions", where,
                            c.rotary ? "attention_head_dim" : "num_attention_heads * attention_head_dim",
                            width));
  if (c.learned_positions && !c.rotary)
    throw Error(where +
                ": use_learned_positional_embeddings = true is not supported (only with "
                "use_rotary_positional_embeddings = true)");
  if (c.patch_size_t && (!c.rotary || c.learned_positions))
    throw Error(
        fmt::format("{}: patch_size_t = {} is not supported (only with use_rotary_positional_embeddings = "
                    "true and use_learned_positional_embeddings = false)",
                    where, c.patch_size_t));
}

void only_blocks(Config& config, const std::string& key, const std::string& name, size_t count) {
  const std::vector<std::string> supported(count, name);
  if (config.texts(key, supported) != supported)
    throw Error(
        fmt::format("{}: {} is not supported (only {} times \"{}\", one for each of block_out_channels)",
                    config.where(), key, count, name));
}

}  // namespace

TransformerConfig::TransformerConfig(Config& config) {
  heads = config.size("num_attention_heads", heads, kMostHeads);
  head_dim = config.size("attention_head_dim", head_dim, kMostHeadDim);
  in_channels = config.size("in_channels", in_channels, kMostWidth);
  out_channels = config.size("out_channels", out_channels, kMostWidth);
  layers = config.size("num_layers", layers, kMostLayers);
  patch_size = config.size("patch_size", patch_size, kMostRatio);
  if (config.has("patch_size_t"))
    patch_size_t = config.size("patch_size_t", 1, kMostRatio);
  else
    config.ignore({"patch_size_t"});
  patch_bias = config.boolean("patch_bias", patch_bias);
  sample_height = config.size("sample_height", sample_height, kMostWidth);
  sample_width = config.size("sample_width", sample_width, kMostWidth);
  sample_frames = config.size("sample_frames", sample_frames, kMostWidth);
  rotary = config.boolean("use_rotary_positional_embeddings", rotary);
  learned_positions = config.boolean("use_learned_positional_embeddings", learned_positions);
  time_embed_dim = config.size("time_embed_dim", time_embed_dim, kMostWidth);
  text_embed_dim = config.size("text_embed_dim", text_embed_dim, kMostWidth);
  max_text_seq_length = config.size("max_text_seq_length", max_text_seq_length, kMostWidth);
  temporal_compression_ratio =
      config.size("temporal_compression_ratio", temporal_compression_ratio, kMostRatio);
  spatial_interpolation_scale =
      positive_number(config, "spatial_interpolation_scale", spatial_interpolation_scale);
  temporal_interpolation_scale =
      positive_number(config, "temporal_interpolation_scale", temporal_interpolation_scale);
  norm_affine = config.boolean("norm_elementwise_affine", norm_affine);
  norm_eps = positive_number(config, "norm_eps", norm_eps);
  const FeedForward ff = feed_forward(config, "activation_fn");
  activation = ff.activation;
  gated_ff = ff.gated;
  timestep_activation = pointwise(config, "timestep_activation_fn");
  attention_bias = config.boolean("attention_bias", attention_bias);
  flip_sin_to_cos = config.boolean("flip_sin_to_cos", flip_sin_to_cos);
  freq_shift = config.number("freq_shift", freq_shift);
  config.only("ofs_embed_dim", nullptr);
  config.ignore({"dropout"});
  config.require_all_read();
  check_position_kind(*this, config.where());
}

VaeConfig::VaeConfig(Config& config) {
  in_channels = config.size("in_channels", in_channels, kMostWidth);
  out_channels = config.size("out_channels", out_channels, kMostWidth);
  latent_channels = config.size("latent_channels", latent_channels, kMostWidth);
  block_out_channels = config.integers("block_out_channels", block_out_channels);
  layers_per_block = config.size("layers_per_block", layers_per_block, kMostLayers);
  norm_num_groups = config.size("norm_num_groups", norm_num_groups, kMostWidth);
  if (block_out_channels.empty())
    throw Error(config.where() + ": block_out_channels = [] should not be empty");
  if (block_out_channels.size() > kMostBlocks)
    throw Error(fmt::format("{}: block_out_channels has {} entries, and should have at most {}",
                            config.where(), block_out_channels.size(), kMostBlocks));
  for (const int64_t channels : block_out_channels)
    if (channels > kMostWidth)
      throw Error(fmt::format("{}: block_out_channels holds {}, which should be at most {}", config.where(),
                              channels, kMostWidth));
    else if (channels < 1 || channels % norm_num_groups)
      throw Error(
          fmt::format("{}: block_out_channels holds {}, which is not a multiple of norm_num_groups = {}",
                      config.where(), channels, norm_num_groups));
  only_blocks(config, "down_block_types", "CogVideoXDownBlock3D", block_out_channels.size());
  only_blocks(config, "up_block_types", "CogVideoXUpBlock3D", block_out_channels.size());
  const double ratio = config.number("temporal_compression_ratio", double(temporal_compression_ratio));
  if (!(ratio >= 1 && ratio <= 64 && std::exp2(std::floor(std::log2(ratio))) == ratio))
    throw Error(
        fmt::format("{}: temporal_compression_ratio = {} should be a power of two", config.where(), ratio));
  temporal_compression_ratio = int64_t(ratio);
  norm_eps = positive_number(config, "norm_eps", norm_eps);
  sample_height = config.size("sample_height", sample_height, kMostWidth);
  sample_width = config.size("sample_width", sample_width, kMostWidth);
  scaling_factor = positive_number(config, "scaling_factor", scaling_factor);
  activation = pointwise(config, "act_fn");
  config.only("use_quant_conv", false);
  config.only("use_post_quant_conv", false);
  config.only("shift_factor", nullptr);
  config.only("latents_mean", nullptr);
  config.only("latents_std", nullptr);
  // Neither is read by text-to-video: one belongs to other pipelines, the other to image-to-video.
  config.ignore({"force_upcast", "invert_scale_latents"});
  config.require_all_read();
}

}  // namespace sagelab::cogvideox
