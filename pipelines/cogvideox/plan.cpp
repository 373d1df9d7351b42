// SPDX-License-Identifier: Apache-2.0
#include "pipelines/cogvideox/plan.h"

#include <algorithm>
#include <string_view>

#include "pipelines/cogvideox/pipeline.h"
#include "pipelines/common/family/family.h"
#include "pipelines/common/prompts/encoders.h"
#include "pipelines/text/original.h"

namespace sagelab::cogvideox {
namespace {

struct Sizes {
  int64_t batch, element, rows;
  int64_t latents, embeds, rope;  // bytes
};

Sizes sizes_of(const Folder& folder, const Geometry& g, const Request& request, const Target& target) {
  const TransformerConfig& c = folder.transformer;
  Sizes s{};
  s.batch = is_guided(request) ? 2 : 1;
  s.element = int64_t(c10::elementSize(target.dtype));
  s.rows = g.text_tokens + g.video_tokens;
  s.latents = g.frames * c.in_channels * g.height * g.width * s.element;
  s.embeds = s.batch * g.text_tokens * c.text_embed_dim * s.element;
  s.rope = c.rotary ? s.rows * c.head_dim * 4 : 0;
  return s;
}

// Note [Peak of a forward]
// In the order of transformer.cpp, in tensors of X = batch * (text + video) * D elements. The largest moment
// is the joint call: the residual x, the normed input y, q, k and v as one, and what the backend makes of
// them (its result goes to y); or a gated feed-forward: x, y, the doubled hidden rows, the product, and what
// an 8-bit weight takes, whose rounded hidden rows are 4 X of half the size.
int64_t forward_bytes(const Folder& folder, const Sizes& s, const Request& request, const Target& target) {
  const TransformerConfig& c = folder.transformer;
  const int64_t x = s.batch * s.rows * c.dim() * s.element;
  const attention::Problem problem = attention_problems(folder, request, target).front();
  const int64_t most = joint_bytes(request, problem, c.rotary);
  const int64_t narrow = folder.components.narrow_bytes("transformer", target, 2 * x);
  return std::max(5 * x + most, (c.gated_ff ? 13 : 6) * x + narrow) + 2 * s.latents;
}

int64_t capture_bytes(const Folder& folder, const Sizes& s, const Request& request, const Target& target) {
  const int64_t x = s.batch * s.rows * folder.transformer.dim() * s.element;
  const attention::Problem problem = attention_problems(folder, request, target).front();
  const int64_t captured = 5 * x + captured_bytes(problem, folder.transformer.rotary, x) + 2 * s.latents;
  return std::max<int64_t>(0, captured - forward_bytes(folder, s, request, target));
}

}  // namespace

std::span<const Component> component_table() {
  static constexpr std::string_view kVaeUnread[] = {"encoder."};
  // Of what its authors call the others there are no files about.
  static const Component kTable[] = {
      {"text_encoder", kTransformersStem, construct<T5Encoder, T5Config>, kT5Unread,
       names_always<original_t5_names>},
      {"transformer", kDiffusersStem, construct<Transformer, TransformerConfig>},
      {"vae", kDiffusersStem, construct<VaeDecoder, VaeConfig>, kVaeUnread}};
  return kTable;
}

std::vector<attention::Problem> attention_problems(const Folder& folder, const Request& request,
                                                   const Target& target) {
  const TransformerConfig& c = folder.transformer;
  const Geometry g(folder, request);
  const int64_t batch = is_guided(request) ? 2 : 1, rows = g.text_tokens + g.video_tokens;
  return {{batch, c.heads, c.heads, rows, rows, c.head_dim, target.dtype, target.device}};
}

Peaks peak_by_phase(const Folder& folder, const Request& request, int64_t available) {
  const Geometry g(folder, request);
  const Target target = resolve_target(request);
  const Sizes s = sizes_of(folder, g, request, target);
  const Components& parts = folder.components;
  Needs needs =
      needs_of(parts, t5_bytes(parts, "text_encoder", folder.text, g.text_tokens, target), s.embeds, target);
  needs.denoise += s.rope + 2 * s.latents + forward_bytes(folder, s, request, target);
  needs.decode +=
      2 * s.latents + decode_peak_bytes(folder.vae, g.decoding(request.vae_tiling == "on"), target);
  return peaks_of(needs, request, available);
}

Plan plan(const Folder& folder, const Request& request) {
  const Geometry g(folder, request);
  const Target target = resolve_target(request);
  Plan plan = begin_plan(folder, request);
  plan.text_tokens = g.text_tokens;
  plan.tokens = g.text_tokens + g.video_tokens;
  const auto tokenizer = open_t5_tokenizer(folder.root / "tokenizer");
  plan.prompt_tokens = tokens_of(folder, *tokenizer, request.prompt, g.text_tokens).length;
  if (is_guided(request)) tokens_of(folder, *tokenizer, request.negative_prompt, g.text_tokens);
  plan.flops_per_forward = flops(folder.transformer, g.extent());
  plan.forwards = plan.steps * (is_guided(request) ? 2 : 1);
  plan.layers = int(folder.transformer.layers);
  const Sizes sizes = sizes_of(folder, g, request, target);
  const int64_t qkv_bytes = 3 * sizes.batch * sizes.rows * folder.transformer.dim() * sizes.element;
  for (int layer = 0; layer < plan.layers; ++layer) plan.calls.push_back({layer, qkv_bytes});
  plan.capture_bytes = capture_bytes(folder, sizes, request, target);
  plan.latent_shape = {1, g.frames, folder.transformer.in_channels, g.height, g.width};
  return plan;
}

}  // namespace sagelab::cogvideox
