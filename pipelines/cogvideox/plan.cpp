// SPDX-License-Identifier: Apache-2.0
// What a run will take, from headers and configs alone.
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <algorithm>

#include "attention/error.h"
#include "pipelines/cogvideox/pipeline.h"
#include "pipelines/cogvideox/sampler.h"
#include "pipelines/footprint.h"

namespace sagelab::cogvideox {
namespace {

const char* stem_of(const std::string& component) {
  return component == "text_encoder" ? "model" : "diffusion_pytorch_model";
}

int64_t numel(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (const int64_t size : shape) n *= size;
  return n;
}

// The second name of T5's embedding is no parameter of its own.
bool is_tied_copy(const std::string& key) {
  return key == "encoder.embed_tokens.weight";
}

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

// Note [Peak of a forward]
// Counted in tensors of X = batch * (text + video) * D elements, in the order of transformer.cpp. The largest
// moment is the joint call: the residual x, the normed input y, q, k and v as one, and what the gather makes
// of them:
// - one pass on CUDA: q and k, then attention's output                                       5 + 2 + 1
// - elsewhere in fp32: q done, k in the making (normed, two halves rotated, their stack)      5 + 1 + 3 with
// RoPE;
//   its contiguous copy and the norm's output without                                        5 + 1 + 2
// - elsewhere in half precision the same in fp32, with the copy that widens                   5 + 1 + 8, or 5
// + 1 + 4 A gated feed-forward needs 13: x, y, the doubled hidden rows, the product.
double forward_tensors(const TransformerConfig& c, const Target& target) {
  const bool half = target.dtype != at::kFloat;
  double joint = 8;
  if (target.device.is_cpu()) joint = half ? (c.rotary ? 14 : 10) : (c.rotary ? 9 : 8);
  return std::max(joint, c.gated_ff ? 13.0 : 6.0);
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

int64_t forward_bytes(const Folder& folder, const Sizes& s, const Target& target) {
  const TransformerConfig& c = folder.transformer;
  const double x = double(s.batch * s.rows * c.dim() * s.element);
  const double lse = double(s.batch * s.rows * c.heads * 4);
  double scratch = 0;
  if (target.device.is_cpu()) {  // LibTorch's flash on CPU: a tile of scores, fp32, per thread
    const int64_t q = s.rows >= 768 ? 256 : s.rows >= 192 ? 64 : 32, kv = std::min<int64_t>(512, s.rows);
    scratch = double(at::get_num_threads()) * double(q) * double(kv + 2 + c.head_dim) * 4;
  }
  return int64_t(forward_tensors(c, target) * x + lse + scratch) + 2 * s.latents;
}

// Scores of one prompt, in fp32 on CPU: the math path holds them, their softmax and the bias at once.
int64_t encode_bytes(const Folder& folder, const Geometry& g, const Sizes& s) {
  const T5Config& c = folder.text;
  const int64_t rows = g.text_tokens, scores = c.num_heads * rows * rows * s.element;
  const int64_t inner = c.num_heads * c.d_kv;
  const int64_t attention = 3 * scores + rows * (4 * inner + 3 * c.d_model) * s.element;
  const int64_t ff = scores + rows * ((c.gated ? 4 : 2) * c.d_ff + 3 * c.d_model) * s.element;
  return std::max(attention, ff);
}

}  // namespace

std::vector<std::pair<std::string, std::vector<int64_t>>> requested_names(const std::string& component,
                                                                          Config config) {
  const Weights w(shape_source([](std::string_view key) { return !is_tied_copy(std::string(key)); }),
                  {at::kMeta, at::kFloat});
  construct(component, w, config);
  return w.requested();
}

int64_t component_bytes(const Folder& folder, const std::string& component, at::ScalarType dtype) {
  int64_t bytes = 0;
  for (const auto& [key, shape] : requested_names(component, config_of(folder, component))) {
    // T5 in fp16 keeps these in fp32: their sums overflow.
    const bool wide = component == "text_encoder" && dtype == at::kHalf && key.ends_with(".wo.weight");
    bytes += numel(shape) * int64_t(wide ? sizeof(float) : c10::elementSize(dtype));
  }
  return bytes;
}

std::vector<std::pair<std::string, int64_t>> peak_by_phase(const Folder& folder, const Request& request) {
  const Geometry g(folder, request);
  const Target target = resolve_target(request);
  const Sizes s = sizes_of(folder, g, request, target);
  const int64_t t5 = component_bytes(folder, "text_encoder", target.dtype);
  const int64_t transformer = component_bytes(folder, "transformer", target.dtype);
  const int64_t vae = component_bytes(folder, "vae", target.dtype);
  const int64_t kept = request.offload == "none" ? t5 : 0;
  const int64_t encode = t5 + s.embeds + encode_bytes(folder, g, s);
  const int64_t denoise =
      kept + transformer + s.embeds + s.rope + 2 * s.latents + forward_bytes(folder, s, target);
  const int64_t decode = vae + s.embeds + 2 * s.latents +
                         decode_peak_bytes(folder.vae, g.decoded_frames(), g.height, g.width,
                                           request.vae_tiling == "on", s.element);
  // The transformer stays for the next run unless the decoding needs its room.
  const bool stays = request.offload == "none" || decode + transformer <= memory_for_tensors(target.device);
  return {{"encode", encode}, {"denoise", denoise}, {"decode", decode + kept + (stays ? transformer : 0)}};
}

Plan plan(const Folder& folder, const Request& request) {
  const Geometry g(folder, request);
  const Target target = resolve_target(request);
  Plan plan;
  plan.text_tokens = g.text_tokens;
  plan.tokens = g.text_tokens + g.video_tokens;
  plan.prompt_tokens =
      open_t5_tokenizer(folder.root / "tokenizer")->encode(request.prompt, g.text_tokens).length;
  plan.flops_per_forward = flops(folder.transformer, g.text_tokens, g.frames, g.height, g.width);
  const std::string scheduler = std::get<std::string>(option_value(request, options(), "scheduler"));
  const auto sampler =
      make_sampler(folder.root / "scheduler", scheduler == "auto" ? "" : scheduler, request.steps.value());
  plan.forwards = int(sampler->timesteps().size()) * (is_guided(request) ? 2 : 1);
  plan.latent_shape = {1, g.frames, folder.transformer.in_channels, g.height, g.width};
  for (const char* name : {"text_encoder", "transformer", "vae"}) {
    Plan::Component component;
    component.name = name;
    for (const TensorInfo& tensor : list_folder(folder.root / name, stem_of(name), folder.variant)) {
      if (!is_tied_copy(tensor.key)) component.parameters += numel(tensor.shape);
      component.file_bytes += tensor.bytes;
    }
    component.bytes = component_bytes(folder, name, target.dtype);
    plan.components.push_back(component);
  }
  plan.peak_by_phase = peak_by_phase(folder, request);
  return plan;
}

}  // namespace sagelab::cogvideox
