// SPDX-License-Identifier: Apache-2.0
#include "pipelines/sd3/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "attention/error.h"
#include "pipelines/common/family/family.h"
#include "pipelines/common/folder.h"
#include "pipelines/common/prompts/encoders.h"
#include "pipelines/image/original.h"
#include "pipelines/sd3/original.h"
#include "pipelines/sd3/pipeline.h"
#include "pipelines/text/clip/tokenizer.h"
#include "pipelines/text/original.h"

namespace sagelab::sd3 {
namespace {

const ComponentClasses& classes() {
  static const ComponentClasses kClasses = {{"tokenizer", {"CLIPTokenizer", "CLIPTokenizerFast"}},
                                            {"tokenizer_2", {"CLIPTokenizer", "CLIPTokenizerFast"}},
                                            {"tokenizer_3", {"T5TokenizerFast", "T5Tokenizer", ""}},
                                            {"text_encoder", {"CLIPTextModelWithProjection"}},
                                            {"text_encoder_2", {"CLIPTextModelWithProjection"}},
                                            {"text_encoder_3", {"T5EncoderModel", ""}},
                                            {"transformer", {"SD3Transformer2DModel"}},
                                            {"vae", {"AutoencoderKL"}},
                                            {"scheduler", {std::string(kFlowMatchEulerClass)}}};
  return kClasses;
}

std::optional<T5Config> t5_config(const std::filesystem::path& root) {
  if (class_in(read_json(root / "model_index.json"), "text_encoder_3").empty()) return {};
  return parse_config<T5Config>(root / "text_encoder_3/config.json");
}

void construct_clip(const Weights& w, Config& config) {
  ClipTextEncoder(w, ClipTextConfig(config), ClipTextEncoder::Projection::Text);
}

OriginalNames names_of_transformer(Config& config) {
  return original_names(TransformerConfig(config).layers);
}

std::vector<Component> components_with(bool t5) {
  const auto table = component_table();
  std::vector<Component> all(table.begin(), table.end());
  if (!t5)
    std::erase_if(all, [](const Component& c) { return c.name == std::string_view("text_encoder_3"); });
  return all;
}

bool drops_t5(const Request& request) {
  return std::get<bool>(option_value(request, options(), "drop_t5"));
}

// In bytes; x and image: all rows, and those of the image, at all channels.
struct Sizes {
  int64_t batch = 1, x = 0, image = 0, latents = 0, conditioning = 0;
};

Sizes sizes_of(const Folder& folder, const Geometry& g, const Request& request, const Target& target) {
  const TransformerConfig& c = folder.transformer;
  const auto element = int64_t(c10::elementSize(target.dtype));
  Sizes s;
  s.batch = is_guided(request) ? 2 : 1;
  s.x = s.batch * g.rows() * c.dim() * element;
  s.image = s.batch * g.image_tokens * c.dim() * element;
  s.latents = g.height * g.width * c.in_channels * element;
  s.conditioning = s.batch * (g.text_tokens * c.joint_attention_dim + c.pooled_projection_dim) * element;
  return s;
}

attention::Problem joint_problem(const Folder& folder, const Request& request, const Target& target) {
  return attention_problems(folder, request, target).front();
}

EncoderBytes encoder_bytes(const Folder& folder, const Geometry& g, const Request& request,
                           const Target& target) {
  const Components& parts = folder.components;
  const int64_t rows = folder.clip_length;
  std::vector<EncoderBytes> all = {clip_bytes(parts, "text_encoder", folder.clip_l, rows, target),
                                   clip_bytes(parts, "text_encoder_2", folder.clip_g, rows, target)};
  if (!drops_t5(request))
    all.push_back(t5_bytes(parts, "text_encoder_3", *folder.t5, g.text_tokens - rows, target));
  return peak_of_encoders(all, request);
}

// Note [Peak of a forward]
// In the order of transformer.cpp, in tensors of X = batch * (image + text) * D elements and of the image's
// share of them, I. The largest moment is the joint call: the residual x, the normed input y, with a second
// attention what that will read (I), q, k and v as one, and what the backend makes of them (its result goes
// to y); or the feed-forward: x, y, the hidden rows (4 I).
int64_t base_bytes(const Folder& folder, const Sizes& s) {
  return 5 * s.x + (folder.transformer.dual_attention_layers.empty() ? 0 : s.image);
}

int64_t forward_bytes(const Folder& folder, const Sizes& s, const Request& request, const Target& target) {
  const attention::Problem problem = joint_problem(folder, request, target);
  const int64_t backend =
      folder.transformer.qk_norm ? joint_bytes(request, problem, false) : run_bytes(request, problem);
  // What an 8-bit weight takes: the hidden rows of the image, rounded, have half their size.
  const int64_t narrow = folder.components.narrow_bytes("transformer", target, 2 * s.image);
  return std::max(base_bytes(folder, s) + backend, 2 * s.x + 4 * s.image + narrow) + 2 * s.batch * s.latents;
}

int64_t capture_bytes(const Folder& folder, const Sizes& s, const Request& request, const Target& target) {
  const int64_t captured = captured_bytes(joint_problem(folder, request, target), false, s.x);
  return std::max<int64_t>(0, base_bytes(folder, s) + captured + 2 * s.batch * s.latents -
                                  forward_bytes(folder, s, request, target));
}

// The steps [first, last) in which a part of the blocks runs once more.
std::pair<int, int> skipping_steps(const SkipGuidance& skip, int steps) {
  int first = 0;
  while (first < steps && !skip.at(first, steps)) ++first;
  int last = first;
  while (last < steps && skip.at(last, steps)) ++last;
  return {first, last};
}

// All calls of one forward with so many bytes of x and of the image's share.
void add_calls(Plan& plan, const TransformerConfig& c, const Sizes& s, const SkipGuidance* skipping,
               std::pair<int, int> steps) {
  for (int layer = 0; layer < int(c.layers); ++layer) {
    if (skipping && std::ranges::find(skipping->layers, layer) != skipping->layers.end()) continue;
    const bool last = layer + 1 == int(c.layers);
    plan.calls.push_back({layer, 2 * s.x + (last ? s.image : s.x), steps.first, steps.second});
    if (c.dual(layer)) plan.calls.push_back({layer, 3 * s.image, steps.first, steps.second});
  }
}

}  // namespace

std::span<const Component> component_table() {
  // Kept by older files beside the weights.
  static constexpr std::string_view kClip[] = {"text_model.embeddings.position_ids",
                                               "embeddings.position_ids", "logit_scale"};
  static const Component kTable[] = {
      {"text_encoder", kTransformersStem, construct_clip, kClip, names_always<original_clip_l_names>},
      {"text_encoder_2", kTransformersStem, construct_clip, kClip, names_always<original_clip_g_names>},
      {"text_encoder_3", kTransformersStem, construct<T5Encoder, T5Config>, kT5Unread,
       names_always<original_t5_names>},
      {"transformer", kDiffusersStem, construct<Transformer, TransformerConfig>, {}, names_of_transformer},
      {"vae", kDiffusersStem, construct<AutoencoderKL, AutoencoderKLConfig>, AutoencoderKL::unread_prefixes(),
       names_always<original_autoencoder_names>}};
  return kTable;
}

Folder::Folder(const Request& request)
    : root(checked_root(request, classes())),
      transformer(parse_config<TransformerConfig>(root / "transformer/config.json")),
      vae(parse_config<AutoencoderKLConfig>(root / "vae/config.json")),
      clip_l(parse_config<ClipTextConfig>(root / "text_encoder/config.json")),
      clip_g(parse_config<ClipTextConfig>(root / "text_encoder_2/config.json")),
      t5(t5_config(root)),
      scheduler(parse_config<FlowMatchEulerConfig>(root / "scheduler/scheduler_config.json")),
      clip_length(std::min(clip_l.max_positions, clip_g.max_positions)),
      components(request, components_with(t5.has_value())) {
  // The first tokenizer's limit is that of both, as in diffusers.
  if (const auto limit = clip_model_max_length(root / "tokenizer"))
    clip_length = std::min(clip_length, *limit);
  const int64_t joint = transformer.joint_attention_dim;
  if (t5)
    require_equal(root, {"text_encoder_3 d_model", t5->d_model}, {"transformer joint_attention_dim", joint});
  require_equal(root,
                {"projection_dim of text_encoder and text_encoder_2 together",
                 clip_l.projection_dim + clip_g.projection_dim},
                {"transformer pooled_projection_dim", transformer.pooled_projection_dim});
  if (const int64_t wide = clip_l.hidden_size + clip_g.hidden_size; wide > joint)
    throw Error(
        fmt::format("{}: hidden_size of text_encoder and text_encoder_2 together = {} should be at "
                    "most transformer joint_attention_dim = {}",
                    root.string(), wide, joint));
  require_equal(root, {"vae latent_channels", vae.latent_channels},
                {"transformer in_channels", transformer.in_channels});
  require_equal(root, {"transformer out_channels", transformer.out_channels},
                {"in_channels", transformer.in_channels});
  require_equal(root, {"vae out_channels", vae.out_channels}, {"the colours of a picture", 3});
}

Geometry::Geometry(const Folder& folder, const Request& request)
    : height(request.height.value() / folder.vae.spatial_compression()),
      width(request.width.value() / folder.vae.spatial_compression()),
      text_tokens(folder.clip_length +
                  std::get<int64_t>(option_value(request, options(), "max_sequence_length"))),
      image_tokens((height / folder.transformer.patch_size) * (width / folder.transformer.patch_size)) {}

std::vector<attention::Problem> attention_problems(const Folder& folder, const Request& request,
                                                   const Target& target) {
  const TransformerConfig& c = folder.transformer;
  const Geometry g(folder, request);
  std::vector<attention::Problem> problems;
  const auto add = [&](int64_t batch, int64_t q_len, int64_t kv_len) {
    problems.push_back({batch, c.heads, c.heads, q_len, kv_len, c.head_dim, target.dtype, target.device});
  };
  const auto forward = [&](int64_t batch) {
    add(batch, c.layers > 1 ? g.rows() : g.image_tokens, g.rows());
    if (c.layers > 1) add(batch, g.image_tokens, g.rows());
    if (!c.dual_attention_layers.empty()) add(batch, g.image_tokens, g.image_tokens);
  };
  forward(is_guided(request) ? 2 : 1);
  if (!skip_guidance_of(folder, request).layers.empty()) forward(1);
  return problems;
}

Peaks peak_by_phase(const Folder& folder, const Request& request, int64_t available) {
  const Geometry g(folder, request);
  const Target target = resolve_target(request);
  const Sizes s = sizes_of(folder, g, request, target);
  Needs needs =
      needs_of(folder.components, encoder_bytes(folder, g, request, target), s.conditioning, target);
  needs.denoise += 2 * s.latents + forward_bytes(folder, s, request, target);
  needs.decode +=
      3 * s.latents + decode_peak_bytes(folder.vae, g.decoding(request.vae_tiling == "on"), target);
  return peaks_of(needs, request, available);
}

Plan plan(const Folder& folder, const Request& request) {
  const Geometry g(folder, request);
  const Target target = resolve_target(request);
  const TransformerConfig& c = folder.transformer;
  Plan plan = begin_plan(folder, request);
  plan.text_tokens = g.text_tokens;
  plan.tokens = g.rows();
  const Tokenizers tokenizers(folder);
  for (const Texts& texts : texts_of(request)) {
    const TextTokens tokens = tokenizers(texts);
    plan.prompt_tokens = tokens.t5 ? tokens.t5->length : tokens.clip_l.length;
  }
  plan.flops_per_forward = flops(c, g.image_tokens, g.text_tokens);
  plan.layers = int(c.layers);
  Sizes sizes = sizes_of(folder, g, request, target);
  plan.capture_bytes = capture_bytes(folder, sizes, request, target);
  const SkipGuidance skip = skip_guidance_of(folder, request);
  const auto skipping = skipping_steps(skip, plan.steps);
  plan.forwards = plan.steps * int(sizes.batch) + (skipping.second - skipping.first);
  add_calls(plan, c, sizes, nullptr, {0, plan.steps});
  if (skipping.first < skipping.second) {
    sizes.x /= sizes.batch, sizes.image /= sizes.batch;
    add_calls(plan, c, sizes, &skip, skipping);
  }
  plan.latent_shape = {1, c.in_channels, g.height, g.width};
  if (drops_t5(request))
    std::erase_if(plan.components, [](const Plan::Component& c) { return c.name == "text_encoder_3"; });
  return plan;
}

}  // namespace sagelab::sd3
