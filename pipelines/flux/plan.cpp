// SPDX-License-Identifier: Apache-2.0
#include "pipelines/flux/plan.h"

#include <algorithm>
#include <string_view>

#include "pipelines/common/family/family.h"
#include "pipelines/common/folder.h"
#include "pipelines/common/prompts/encoders.h"
#include "pipelines/flux/original.h"
#include "pipelines/flux/pipeline.h"
#include "pipelines/image/original.h"
#include "pipelines/text/original.h"

namespace sagelab::flux {
namespace {

const ComponentClasses& classes() {
  static const ComponentClasses kClasses = {{"tokenizer", {"CLIPTokenizer", "CLIPTokenizerFast"}},
                                            {"tokenizer_2", {"T5TokenizerFast", "T5Tokenizer"}},
                                            {"text_encoder", {"CLIPTextModel"}},
                                            {"text_encoder_2", {"T5EncoderModel"}},
                                            {"transformer", {"FluxTransformer2DModel"}},
                                            {"vae", {"AutoencoderKL"}},
                                            {"scheduler", {std::string(kFlowMatchEulerClass)}}};
  return kClasses;
}

void construct_clip(const Weights& w, Config& config) {
  ClipTextEncoder(w, ClipTextConfig(config), ClipTextEncoder::Projection::None);
}

struct Sizes {
  int64_t x = 0;  // one tensor of all rows and channels; this and the others in bytes
  int64_t tokens = 0, conditioning = 0, rope = 0;
};

Sizes sizes_of(const Folder& folder, const Geometry& g, const Request& request, const Target& target) {
  const TransformerConfig& c = folder.transformer;
  const auto element = int64_t(c10::elementSize(target.dtype));
  Sizes s;
  s.x = g.rows() * c.dim() * element;
  s.tokens = g.grid.tokens() * c.in_channels * element;
  s.conditioning = (is_guided(request) ? 2 : 1) *
                   (g.text_tokens * c.joint_attention_dim + c.pooled_projection_dim) * element;
  s.rope = g.rows() * c.head_dim * int64_t(sizeof(float));
  return s;
}

// Note [Peak of a forward]
// In the order of transformer.cpp, in tensors of X = (text + image) * D elements. The largest moments are in
// a single block: the residual x, the normed input y, q, k and v as one, what the output projection reads (5
// X) and what the backend takes; or, q, k and v freed, the feed-forward's hidden rows (4 X) before they are
// copied to their place, and what an 8-bit weight takes, whose rounded rows are X of half the size.
int64_t forward_bytes(const Folder& folder, const Sizes& s, const Request& request, const Target& target) {
  const int64_t backend = joint_bytes(request, attention_problems(folder, request, target).front(), true);
  const int64_t narrow = folder.components.narrow_bytes("transformer", target, s.x / 2);
  return std::max(10 * s.x + backend, 11 * s.x + narrow) + 3 * s.tokens;
}

int64_t capture_bytes(const Folder& folder, const Sizes& s, const Request& request, const Target& target) {
  const attention::Problem problem = attention_problems(folder, request, target).front();
  const int64_t captured = 10 * s.x + captured_bytes(problem, true, s.x) + 3 * s.tokens;
  return std::max<int64_t>(0, captured - forward_bytes(folder, s, request, target));
}

}  // namespace

std::span<const Component> component_table() {
  // Kept by older files beside the weights, or of a projection that FLUX does not use.
  static constexpr std::string_view kClip[] = {"text_model.embeddings.position_ids",
                                               "embeddings.position_ids", "text_projection.", "logit_scale"};
  static const Component kTable[] = {
      {"text_encoder", kTransformersStem, construct_clip, kClip, names_always<original_clip_l_names>},
      {"text_encoder_2", kTransformersStem, construct<T5Encoder, T5Config>, kT5Unread,
       names_always<original_t5_names>},
      {"transformer",
       kDiffusersStem,
       construct<Transformer, TransformerConfig>,
       {},
       names_always<original_names>},
      {"vae", kDiffusersStem, construct<AutoencoderKL, AutoencoderKLConfig>, AutoencoderKL::unread_prefixes(),
       names_always<original_autoencoder_names>}};
  return kTable;
}

Folder::Folder(const Request& request)
    : root(checked_root(request, classes())),
      transformer(parse_config<TransformerConfig>(root / "transformer/config.json")),
      vae(parse_config<AutoencoderKLConfig>(root / "vae/config.json")),
      clip(parse_config<ClipTextConfig>(root / "text_encoder/config.json")),
      t5(parse_config<T5Config>(root / "text_encoder_2/config.json")),
      scheduler(parse_config<FlowMatchEulerConfig>(root / "scheduler/scheduler_config.json")),
      components(request, {component_table().begin(), component_table().end()}) {
  require_equal(root, {"text_encoder hidden_size", clip.hidden_size},
                {"transformer pooled_projection_dim", transformer.pooled_projection_dim});
  require_equal(root, {"text_encoder_2 d_model", t5.d_model},
                {"transformer joint_attention_dim", transformer.joint_attention_dim});
  require_equal(root, {"4 x vae latent_channels", 4 * vae.latent_channels},
                {"transformer in_channels", transformer.in_channels});
  require_equal(root, {"transformer out_channels", transformer.out_channels},
                {"in_channels", transformer.in_channels});
  require_equal(root, {"vae out_channels", vae.out_channels}, {"the colours of a picture", 3});
}

Geometry::Geometry(const Folder& folder, const Request& request) {
  const int64_t unit = 2 * folder.vae.spatial_compression();
  grid = {request.height.value() / unit, request.width.value() / unit};
  text_tokens = std::get<int64_t>(option_value(request, options(), "max_sequence_length"));
}

std::vector<attention::Problem> attention_problems(const Folder& folder, const Request& request,
                                                   const Target& target) {
  const TransformerConfig& c = folder.transformer;
  const int64_t rows = Geometry(folder, request).rows();
  return {{1, c.heads, c.heads, rows, rows, c.head_dim, target.dtype, target.device}};
}

Peaks peak_by_phase(const Folder& folder, const Request& request, int64_t available) {
  const Geometry g(folder, request);
  const Target target = resolve_target(request);
  const Sizes s = sizes_of(folder, g, request, target);
  const Components& parts = folder.components;
  const EncoderBytes encoders =
      peak_of_encoders({clip_bytes(parts, "text_encoder", folder.clip, folder.clip.max_positions, target),
                        t5_bytes(parts, "text_encoder_2", folder.t5, g.text_tokens, target)},
                       request);
  Needs needs = needs_of(parts, encoders, s.conditioning, target);
  needs.denoise += s.rope + 2 * s.tokens + forward_bytes(folder, s, request, target);
  needs.decode +=
      3 * s.tokens + decode_peak_bytes(folder.vae, g.decoding(request.vae_tiling == "on"), target);
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
  for (const Texts& texts : texts_of(request)) plan.prompt_tokens = tokenizers(texts).t5.length;
  plan.flops_per_forward = flops(c, g.grid.tokens(), g.text_tokens);
  const int forwards = is_guided(request) ? 2 : 1;
  plan.forwards = plan.steps * forwards;
  plan.layers = int(c.blocks());
  const Sizes sizes = sizes_of(folder, g, request, target);
  for (int i = 0; i < forwards; ++i)
    for (int layer = 0; layer < plan.layers; ++layer) plan.calls.push_back({layer, 3 * sizes.x});
  plan.capture_bytes = capture_bytes(folder, sizes, request, target);
  plan.latent_shape = {1, g.grid.tokens(), c.in_channels};
  return plan;
}

}  // namespace sagelab::flux
