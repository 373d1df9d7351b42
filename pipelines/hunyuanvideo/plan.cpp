// SPDX-License-Identifier: Apache-2.0
#include "pipelines/hunyuanvideo/plan.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <string_view>

#include "pipelines/common/family/family.h"
#include "pipelines/common/folder.h"
#include "pipelines/common/prompts/encoders.h"
#include "pipelines/common/text_memory.h"
#include "pipelines/hunyuanvideo/pipeline.h"
#include "pipelines/text/original.h"

namespace sagelab::hunyuanvideo {
namespace {

const ComponentClasses& classes() {
  static const ComponentClasses kClasses = {
      {"tokenizer", {"LlamaTokenizerFast", "LlamaTokenizer", "PreTrainedTokenizerFast", "TokenizersBackend"}},
      {"tokenizer_2", {"CLIPTokenizer", "CLIPTokenizerFast"}},
      {"text_encoder", {"LlamaModel"}},
      {"text_encoder_2", {"CLIPTextModel"}},
      {"transformer", {"HunyuanVideoTransformer3DModel"}},
      {"vae", {"AutoencoderKLHunyuanVideo"}},
      {"scheduler", {std::string(kFlowMatchEulerClass)}}};
  return kClasses;
}

void construct_llama(const Weights& w, Config& config) {
  LlamaEncoder(w, LlamaConfig(config), kSkippedLayers);
}

void construct_clip(const Weights& w, Config& config) {
  ClipTextEncoder(w, ClipTextConfig(config), ClipTextEncoder::Projection::None);
}

// The layers that are left out, under either form's names.
std::vector<std::string> unread_of_llama(Config& config) {
  const LlamaEncoder encoder(Weights(shape_source(), {at::kMeta, at::kFloat}), LlamaConfig(config),
                             kSkippedLayers);
  std::vector<std::string> all;
  for (const std::string_view prefix : encoder.ignored())
    for (const char* body : {"", "model."}) all.push_back(body + std::string(prefix));
  return all;
}

struct Bytes {
  int64_t x = 0;  // one tensor of all rows and channels
  int64_t text = 0, latents = 0, conditioning = 0, rope = 0;
};

Bytes bytes_of(const Folder& folder, const VideoSizes& g, const Request& request, const Target& target) {
  const TransformerConfig& c = folder.transformer;
  const auto element = int64_t(c10::elementSize(target.dtype));
  Bytes s;
  s.x = g.rows() * c.dim() * element;
  s.text = g.text_tokens * c.dim() * element;
  s.latents = c10::multiply_integers(g.latents()) * element;
  s.conditioning =
      (is_guided(request) ? 2 : 1) * (g.text_tokens * c.text_embed_dim + c.pooled_projection_dim) * element;
  s.rope = g.rows() * c.head_dim * int64_t(sizeof(float));
  return s;
}

attention::Problem joint_problem(const Folder& folder, const Request& request, const Target& target) {
  return attention_problems(folder, request, target).front();
}

// Note [Peak of a forward]
// In the order of common/joint/stack.cpp, in tensors of X = (video + text) * D elements. The largest moments
// are in a single block: the residual x, the normed input y, q, k and v as one, what the output projection
// reads (5 X) and what the backend takes; or, q, k and v freed, the feed-forward's hidden rows (4 X) before
// they are copied to their place, and what an 8-bit weight takes, whose rounded rows are X of half the size.
int64_t forward_bytes(const Folder& folder, const Bytes& s, const Request& request, const Target& target) {
  const int64_t backend = joint_bytes(request, joint_problem(folder, request, target), true);
  const int64_t narrow = folder.components.narrow_bytes("transformer", target, s.x / 2);
  return std::max(10 * s.x + backend, 11 * s.x + narrow) + 3 * s.latents;
}

int64_t capture_bytes(const Folder& folder, const Bytes& s, const Request& request, const Target& target) {
  const attention::Problem problem = joint_problem(folder, request, target);
  const int64_t captured = 10 * s.x + captured_bytes(problem, true, s.x) + 3 * s.latents;
  return std::max<int64_t>(0, captured - forward_bytes(folder, s, request, target));
}

EncoderBytes llama_bytes(const Folder& folder, int64_t rows, const Target& target) {
  const Components& parts = folder.components;
  return {parts.bytes("text_encoder", target),
          llama_encode_bytes(folder.llama, rows, target) +
              parts.narrow_bytes("text_encoder", target, rows * folder.llama.intermediate_size)};
}

}  // namespace

std::span<const Component> component_table() {
  // Kept by older files beside the weights, or of a projection that HunyuanVideo does not use.
  static constexpr std::string_view kClip[] = {"text_model.embeddings.position_ids",
                                               "embeddings.position_ids", "text_projection.", "logit_scale"};
  // Of the others, files with the authors' own names are not read.
  static const Component kTable[] = {
      {"text_encoder", kTransformersStem, construct_llama, {}, nullptr, unread_of_llama},
      {"text_encoder_2", kTransformersStem, construct_clip, kClip, names_always<original_clip_l_names>},
      {"transformer", kDiffusersStem, construct<Transformer, TransformerConfig>},
      {"vae", kDiffusersStem, construct<VaeDecoder, VaeConfig>, VaeDecoder::unread_prefixes()}};
  return kTable;
}

Folder::Folder(const Request& request)
    : root(checked_root(request, classes())),
      transformer(parse_config<TransformerConfig>(root / "transformer/config.json")),
      vae(parse_config<VaeConfig>(root / "vae/config.json")),
      llama(parse_config<LlamaConfig>(root / "text_encoder/config.json")),
      clip(parse_config<ClipTextConfig>(root / "text_encoder_2/config.json")),
      scheduler(parse_config<FlowMatchEulerConfig>(root / "scheduler/scheduler_config.json")),
      components(request, {component_table().begin(), component_table().end()}) {
  require_equal(root, {"text_encoder hidden_size", llama.hidden_size},
                {"transformer text_embed_dim", transformer.text_embed_dim});
  require_equal(root, {"text_encoder_2 hidden_size", clip.hidden_size},
                {"transformer pooled_projection_dim", transformer.pooled_projection_dim});
  require_equal(root, {"vae latent_channels", vae.latent_channels},
                {"transformer in_channels", transformer.in_channels});
  require_equal(root, {"transformer out_channels", transformer.out_channels},
                {"in_channels", transformer.in_channels});
  require_equal(root, {"vae out_channels", vae.out_channels}, {"the colours of a picture", 3});
  // The first frame is a latent of its own, so that few numbers of frames would give whole patches.
  require_equal(root, {"transformer patch_size_t", transformer.patch_size_t}, {"the pipeline's", 1});
}

// diffusers' pipeline takes multiples of 16 alone, whatever the model's patches are.
VideoUnits Folder::units() const {
  return {std::lcm<int64_t>(16, vae.spatial_compression * transformer.patch_size), vae.temporal_compression};
}

// diffusers' pipeline has 77 in its code, whatever the encoder's config says.
int64_t Folder::clip_rows() const {
  return std::min<int64_t>(77, clip.max_positions);
}

VideoSizes sizes_of(const Folder& folder, const Request& request) {
  const int64_t text = std::get<int64_t>(option_value(request, options(), "max_sequence_length"));
  return video_sizes(request,
                     {folder.transformer.in_channels, folder.vae.spatial_compression,
                      folder.vae.temporal_compression, folder.transformer.patch_size},
                     text);
}

Decoding decoding_of(const VideoSizes& sizes, const Request& request) {
  return {sizes.frames, sizes.height, sizes.width, request.vae_tiling == "on"};
}

std::vector<attention::Problem> attention_problems(const Folder& folder, const Request& request,
                                                   const Target& target) {
  const TransformerConfig& c = folder.transformer;
  const VideoSizes g = sizes_of(folder, request);
  const auto problem = [&](int64_t rows) {
    return attention::Problem{1, c.heads, c.heads, rows, rows, c.head_dim, target.dtype, target.device};
  };
  std::vector<attention::Problem> problems = {problem(g.rows()), problem(g.text_tokens)};
  // Of an empty text the end of turn is left: a single key.
  const auto is_empty = [](const Text& text) { return text.first.empty(); };
  if (g.text_tokens > 1 && std::ranges::any_of(texts_of(request), is_empty)) problems.push_back(problem(1));
  return problems;
}

Peaks peak_by_phase(const Folder& folder, const Request& request, int64_t available) {
  const VideoSizes g = sizes_of(folder, request);
  const Target target = resolve_target(request);
  const Bytes s = bytes_of(folder, g, request, target);
  const Components& parts = folder.components;
  const EncoderBytes encoders =
      peak_of_encoders({llama_bytes(folder, kTemplateRows + g.text_tokens, target),
                        clip_bytes(parts, "text_encoder_2", folder.clip, folder.clip_rows(), target)},
                       request);
  Needs needs = needs_of(parts, encoders, s.conditioning, target);
  needs.denoise += s.rope + 2 * s.latents + forward_bytes(folder, s, request, target);
  needs.decode += 3 * s.latents + decode_peak_bytes(folder.vae, decoding_of(g, request), target);
  return peaks_of(needs, request, available);
}

Plan plan(const Folder& folder, const Request& request) {
  const VideoSizes g = sizes_of(folder, request);
  const Target target = resolve_target(request);
  const TransformerConfig& c = folder.transformer;
  Plan plan = begin_plan(folder, request);
  plan.text_tokens = g.text_tokens;
  plan.tokens = g.rows();
  const Tokenizers tokenizers(folder);
  for (const Text& text : texts_of(request)) plan.prompt_tokens = tokenizers(text).rows();
  plan.flops_per_forward = flops(c, g.grid.tokens(), g.text_tokens);
  const int forwards = is_guided(request) ? 2 : 1;
  plan.forwards = plan.steps * forwards;
  plan.layers = int(c.blocks());
  const Bytes bytes = bytes_of(folder, g, request, target);
  for (int i = 0; i < forwards; ++i)
    for (int layer = 0; layer < plan.layers; ++layer)
      plan.calls.push_back({layer, 3 * (layer < c.refiner_layers ? bytes.text : bytes.x)});
  plan.capture_bytes = capture_bytes(folder, bytes, request, target);
  plan.latent_shape = g.latents();
  return plan;
}

}  // namespace sagelab::hunyuanvideo
