// SPDX-License-Identifier: Apache-2.0
#include "pipelines/cogvideox/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "attention/error.h"
#include "attention/joint.h"
#include "pipelines/cogvideox/pipeline.h"
#include "pipelines/common/outlook.h"
#include "pipelines/common/text_memory.h"
#include "pipelines/footprint.h"
#include "pipelines/text/original.h"

namespace sagelab::cogvideox {
namespace {

const char* stem_of(const std::string& component) {
  return component == "text_encoder" ? "model" : "diffusion_pytorch_model";
}

// Of what its authors call the others there are no files about.
OriginalNames names_of(const std::string& component) {
  return component == "text_encoder" ? original_t5_names() : OriginalNames{};
}

// T5's embedding has two names; files carry either or both.
constexpr const char* kEmbedding = "shared.weight";
constexpr const char* kTiedEmbedding = "encoder.embed_tokens.weight";

}  // namespace

std::shared_ptr<WeightSource> open_component(const Folder& folder, const std::string& name,
                                             LoadProgress progress) {
  return folder.files.open(name, stem_of(name), names_of(name), std::move(progress));
}

std::span<const std::string_view> unread_prefixes(const std::string& component) {
  static constexpr std::array<std::string_view, 1> kTextEncoder = {"encoder.embed_tokens."},
                                                   kVae = {"encoder."};
  if (component == "text_encoder") return kTextEncoder;
  if (component == "vae") return kVae;
  return {};
}

namespace {

void construct(const std::string& component, const Weights& w, Config& config) {
  if (component == "transformer")
    Transformer(w, TransformerConfig(config));
  else if (component == "vae")
    VaeDecoder(w, VaeConfig(config));
  else if (component == "text_encoder")
    T5Encoder(w, T5Config(config));
  else
    throw Error(fmt::format("CogVideoX has no component \"{}\"", component),
                "known: text_encoder, transformer, vae");
}

Config config_of(const Folder& folder, const std::string& component) {
  return Config(folder.root / component / "config.json");
}

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
// them (its result goes to y); or a gated feed-forward: x, y, the doubled hidden rows, the product.
int64_t forward_bytes(const Folder& folder, const Sizes& s, const Request& request, const Target& target) {
  const TransformerConfig& c = folder.transformer;
  const int64_t x = s.batch * s.rows * c.dim() * s.element;
  const attention::Problem problem = attention_problem(folder, request, target);
  const int64_t most = joint_bytes(request, problem, c.rotary);
  return std::max(5 * x + most, (c.gated_ff ? 13 : 6) * x) + 2 * s.latents;
}

// What a captured call adds to it: before it is served, q and k are gathered, and v is laid out for its file.
int64_t capture_bytes(const Folder& folder, const Sizes& s, const Request& request, const Target& target) {
  const int64_t x = s.batch * s.rows * folder.transformer.dim() * s.element;
  const attention::GatherBytes gathered =
      attention::gather_bytes(attention_problem(folder, request, target), folder.transformer.rotary);
  const int64_t captured = 5 * x + std::max(gathered.peak, gathered.kept + x) + 2 * s.latents;
  return std::max<int64_t>(0, captured - forward_bytes(folder, s, request, target));
}

}  // namespace

std::vector<std::pair<std::string, std::vector<int64_t>>> requested_names(const std::string& component,
                                                                          Config config) {
  const Weights w(shape_source([](std::string_view key) { return key != kTiedEmbedding; }),
                  {at::kMeta, at::kFloat});
  construct(component, w, config);
  return w.requested();
}

int64_t component_bytes(const Folder& folder, const std::string& component, const Target& target) {
  const Weights w(open_component(folder, component), {at::kMeta, target.dtype, target.streamed});
  Config config = config_of(folder, component);
  construct(component, w, config);
  return w.bytes();
}

attention::Problem attention_problem(const Folder& folder, const Request& request, const Target& target) {
  const TransformerConfig& c = folder.transformer;
  const Geometry g(folder, request);
  attention::Problem problem;
  problem.batch = is_guided(request) ? 2 : 1;
  problem.heads = problem.kv_heads = c.heads;
  problem.q_len = problem.kv_len = g.text_tokens + g.video_tokens;
  problem.head_dim = c.head_dim;
  problem.dtype = target.dtype;
  problem.device = target.device;
  return problem;
}

std::vector<std::pair<std::string, int64_t>> peak_by_phase(const Folder& folder, const Request& request,
                                                           int64_t available) {
  const Geometry g(folder, request);
  const Target target = resolve_target(request);
  const Sizes s = sizes_of(folder, g, request, target);
  const int64_t t5 = component_bytes(folder, "text_encoder", target);
  const int64_t transformer = component_bytes(folder, "transformer", target);
  const int64_t vae = component_bytes(folder, "vae", target);
  const int64_t kept = request.offload == "none" ? t5 : 0;
  const int64_t encode = t5 + s.embeds + t5_encode_bytes(folder.text, g.text_tokens, target);
  const int64_t denoise =
      kept + transformer + s.embeds + s.rope + 2 * s.latents + forward_bytes(folder, s, request, target);
  const int64_t decode = vae + s.embeds + 2 * s.latents +
                         decode_peak_bytes(folder.vae, g.decoding(request.vae_tiling == "on"), target);
  // The transformer stays for the next run unless the decoding needs its room.
  const bool stays = request.offload == "none" || decode + transformer <= available;
  return {{"encode", encode}, {"denoise", denoise}, {"decode", decode + kept + (stays ? transformer : 0)}};
}

void check_weights(const Folder& folder) {
  for (const char* name : {"text_encoder", "transformer", "vae"}) {
    const Weights w(open_component(folder, name), {at::kMeta, at::kFloat});
    Config config = config_of(folder, name);
    construct(name, w, config);
    w.require_all_read(unread_prefixes(name));
  }
}

Plan plan(const Folder& folder, const Request& request) {
  check_weights(folder);
  const Geometry g(folder, request);
  const Target target = resolve_target(request);
  Plan plan;
  plan.text_tokens = g.text_tokens;
  plan.tokens = g.text_tokens + g.video_tokens;
  const auto tokenizer = open_t5_tokenizer(folder.root / "tokenizer");
  plan.prompt_tokens = tokens_of(folder, *tokenizer, request.prompt, g.text_tokens).length;
  if (is_guided(request)) tokens_of(folder, *tokenizer, request.negative_prompt, g.text_tokens);
  plan.flops_per_forward = flops(folder.transformer, g.extent());
  plan.steps = int(sampler_of(folder, request)->timesteps().size());
  plan.forwards = plan.steps * (is_guided(request) ? 2 : 1);
  plan.layers = int(folder.transformer.layers);
  const Sizes sizes = sizes_of(folder, g, request, target);
  const int64_t qkv_bytes = 3 * sizes.batch * sizes.rows * folder.transformer.dim() * sizes.element;
  for (int layer = 0; layer < plan.layers; ++layer) plan.calls.push_back({layer, qkv_bytes});
  plan.problems = {attention_problem(folder, request, target)};
  plan.capture_bytes = capture_bytes(folder, sizes, request, target);
  plan.latent_shape = {1, g.frames, folder.transformer.in_channels, g.height, g.width};
  for (const char* name : {"text_encoder", "transformer", "vae"}) {
    const auto files = folder.files.list(name, stem_of(name), names_of(name));
    const bool tied =
        std::any_of(files.begin(), files.end(), [](const TensorInfo& t) { return t.key == kEmbedding; });
    plan.components.push_back(component_of(name, files, component_bytes(folder, name, target),
                                           tied ? kTiedEmbedding : std::string_view()));
  }
  plan.peak_by_phase = peak_by_phase(folder, request, memory_for_tensors(target.device));
  return plan;
}

}  // namespace sagelab::cogvideox
