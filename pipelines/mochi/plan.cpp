// SPDX-License-Identifier: Apache-2.0
#include "pipelines/mochi/plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "attention/error.h"
#include "pipelines/common/family/family.h"
#include "pipelines/common/folder.h"
#include "pipelines/common/joint/blocks.h"
#include "pipelines/common/prompts/encoders.h"
#include "pipelines/mochi/pipeline.h"
#include "pipelines/text/original.h"

namespace sagelab::mochi {
namespace {

constexpr const char* kForceZeros = "force_zeros_for_empty_prompt";

const ComponentClasses& classes() {
  static const ComponentClasses kClasses = {{"tokenizer", {"T5TokenizerFast", "T5Tokenizer"}},
                                            {"text_encoder", {"T5EncoderModel"}},
                                            {"transformer", {"MochiTransformer3DModel"}},
                                            {"vae", {"AutoencoderKLMochi"}},
                                            {"scheduler", {std::string(kFlowMatchEulerClass)}}};
  return kClasses;
}

// Looked at before any config: what is wrong with the whole comes first.
nlohmann::json index_of(const std::filesystem::path& root) {
  return checked_index(root / "model_index.json", classes(), {kForceZeros});
}

// diffusers' class default: false.
bool forces_zeros(const std::filesystem::path& root) {
  const nlohmann::json index = index_of(root);
  const auto found = index.find(kForceZeros);
  if (found == index.end() || found->is_null()) return false;
  if (!found->is_boolean())
    throw Error(fmt::format("{}: {} = {} should be true or false", (root / "model_index.json").string(),
                            kForceZeros, shown(*found)));
  return found->get<bool>();
}

// video and rows: those of the video, and all, at all channels.
struct Bytes {
  int64_t video = 0, text = 0, rows = 0, latents = 0, conditioning = 0, positions = 0;
};

Bytes bytes_of(const Folder& folder, const VideoSizes& g, const Request& request, const Target& target) {
  const TransformerConfig& c = folder.transformer;
  const auto element = int64_t(c10::elementSize(target.dtype));
  Bytes s;
  s.video = g.grid.tokens() * c.dim() * element;
  s.text = g.text_tokens * c.text_dim * element;
  s.rows = g.rows() * c.dim() * element;
  s.latents = c10::multiply_integers(g.latents()) * element;
  s.conditioning = (is_guided(request) ? 2 : 1) * g.text_tokens * c.text_embed_dim * element;
  s.positions = g.grid.tokens() * 3 * int64_t(sizeof(float));
  return s;
}

attention::Problem joint_problem(const Folder& folder, const Request& request, const Target& target) {
  return attention_problems(folder, request, target).front();
}

// Note [Peak of a forward]
// In the order of transformer.cpp. The largest moment is the joint call: the residual rows of both streams,
// the normed rows, of which the video's are in the buffer that the result goes to, q, k and v as one, and
// what the backend makes of them; or the feed-forward: both streams twice, and hidden rows of the video, so
// many as there are at once, twice as wide as ff_dim.
int64_t base_bytes(const Bytes& s) {
  return s.video + 2 * s.text + 4 * s.rows;
}

int64_t forward_bytes(const Folder& folder, const Bytes& s, const Request& request, const Target& target) {
  const TransformerConfig& c = folder.transformer;
  const int64_t backend = joint_bytes(request, joint_problem(folder, request, target), true);
  const auto element = int64_t(c10::elementSize(target.dtype));
  const int64_t at_once = std::min(s.video, kFeedForwardRows * c.dim() * element);
  const int64_t hidden = at_once / c.dim() * c.ff_dim(c.dim());
  const int64_t narrow = folder.components.narrow_bytes("transformer", target, hidden / element);
  return std::max(base_bytes(s) + backend, 2 * (s.video + s.text + hidden) + narrow);
}

int64_t capture_bytes(const Folder& folder, const Bytes& s, const Request& request, const Target& target) {
  const int64_t captured = captured_bytes(joint_problem(folder, request, target), true, s.rows);
  return std::max<int64_t>(0, base_bytes(s) + captured - forward_bytes(folder, s, request, target));
}

}  // namespace

std::span<const Component> component_table() {
  // Of the others, files with the authors' own names are not read.
  static const Component kTable[] = {
      {"text_encoder", kTransformersStem, construct<T5Encoder, T5Config>, kT5Unread,
       names_always<original_t5_names>},
      {"transformer", kDiffusersStem, construct<Transformer, TransformerConfig>},
      {"vae", kDiffusersStem, construct<VaeDecoder, VaeConfig>, VaeDecoder::unread_prefixes()}};
  return kTable;
}

Folder::Folder(const Request& request)
    : root(request.model),
      force_zeros_for_empty_prompt(forces_zeros(root)),
      transformer(parse_config<TransformerConfig>(root / "transformer/config.json")),
      vae(parse_config<VaeConfig>(root / "vae/config.json")),
      text(parse_config<T5Config>(root / "text_encoder/config.json")),
      scheduler(parse_config<FlowMatchEulerConfig>(root / "scheduler/scheduler_config.json")),
      components(request, {component_table().begin(), component_table().end()}) {
  // diffusers' pipeline has them in its code, whatever the autoencoder's config says.
  constexpr int64_t kSpatial = 8, kTemporal = 6;
  require_equal(root, {"vae's pixels to a latent's side", vae.spatial_compression()},
                {"the pipeline's", kSpatial});
  require_equal(root, {"vae's frames to a latent", vae.temporal_compression()},
                {"the pipeline's", kTemporal});
  require_equal(root, {"text_encoder d_model", text.d_model},
                {"transformer text_embed_dim", transformer.text_embed_dim});
  require_equal(root, {"vae latent_channels", vae.latent_channels},
                {"transformer in_channels", transformer.in_channels});
  require_equal(root, {"transformer out_channels", transformer.out_channels},
                {"in_channels", transformer.in_channels});
  require_equal(root, {"vae out_channels", vae.out_channels}, {"the colours of a picture", 3});
}

VideoSizes sizes_of(const Folder& folder, const Request& request) {
  const int64_t text = std::get<int64_t>(option_value(request, options(), "max_sequence_length"));
  return video_sizes(request,
                     {folder.transformer.in_channels, folder.vae.spatial_compression(),
                      folder.vae.temporal_compression(), folder.transformer.patch_size},
                     text);
}

Decoding decoding_of(const VideoSizes& sizes, const Request& request) {
  Decoding d;
  d.frames = sizes.frames, d.height = sizes.height, d.width = sizes.width;
  d.tiled = request.vae_tiling == "on";
  return d;
}

std::vector<attention::Problem> attention_problems(const Folder& folder, const Request& request,
                                                   const Target& target) {
  const TransformerConfig& c = folder.transformer;
  const VideoSizes g = sizes_of(folder, request);
  const int64_t video = g.grid.tokens();
  const auto problem = [&](int64_t q_len, int64_t kv_len) {
    return attention::Problem{1, c.heads, c.heads, q_len, kv_len, c.head_dim, target.dtype, target.device};
  };
  std::vector<attention::Problem> problems;
  if (c.layers > 1) problems.push_back(problem(g.rows(), g.rows()));
  problems.push_back(problem(video, g.rows()));
  const auto is_empty = [](const Text& text) { return text.first.empty(); };
  if (folder.force_zeros_for_empty_prompt && std::ranges::any_of(texts_of(request), is_empty))
    problems.push_back(problem(video, video));
  return problems;
}

Peaks peak_by_phase(const Folder& folder, const Request& request, int64_t available) {
  const VideoSizes g = sizes_of(folder, request);
  const Target target = resolve_target(request);
  const Bytes s = bytes_of(folder, g, request, target);
  const Components& parts = folder.components;
  Needs needs = needs_of(parts, t5_bytes(parts, "text_encoder", folder.text, g.text_tokens, target),
                         s.conditioning, target);
  needs.denoise += s.positions + 2 * s.latents + forward_bytes(folder, s, request, target);
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
  const TextTokenizer tokenizer(folder);
  for (const Text& text : texts_of(request)) plan.prompt_tokens = tokenizer(text).length;
  plan.flops_per_forward = flops(c, g.grid.tokens(), g.text_tokens);
  const int forwards = is_guided(request) ? 2 : 1;
  plan.forwards = plan.steps * forwards;
  plan.layers = int(c.layers);
  const Bytes bytes = bytes_of(folder, g, request, target);
  for (int i = 0; i < forwards; ++i)
    for (int layer = 0; layer < plan.layers; ++layer)
      plan.calls.push_back({layer, 2 * bytes.rows + (layer + 1 < plan.layers ? bytes.rows : bytes.video)});
  plan.capture_bytes = capture_bytes(folder, bytes, request, target);
  plan.latent_shape = g.latents();
  return plan;
}

}  // namespace sagelab::mochi
