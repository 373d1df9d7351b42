// SPDX-License-Identifier: Apache-2.0
// CogVideoX's line in the table of families: options, defaults, released variants.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <cmath>

#include "attention/error.h"
#include "pipelines/cogvideox/pipeline.h"
#include "pipelines/cogvideox/plan.h"
#include "pipelines/cogvideox/vae/bench.h"
#include "pipelines/common/checks.h"
#include "pipelines/common/family/family.h"
#include "pipelines/common/weights/random_model.h"

namespace sagelab::cogvideox {
namespace {

using Json = nlohmann::json;

// diffusers' __call__ defaults.
constexpr int kSteps = 50;
constexpr double kGuidance = 6;
constexpr int64_t kTextLength = 226;

void fill_defaults(Request& r, const Folder& folder) {
  const int unit = int(folder.vae.spatial_compression());
  if (!r.height) r.height = int(folder.transformer.sample_height) * unit;
  if (!r.width) r.width = int(folder.transformer.sample_width) * unit;
  if (!r.num_frames) r.num_frames = int(folder.transformer.sample_frames);
  if (!r.steps) r.steps = kSteps;
  if (!r.guidance_scale) r.guidance_scale = kGuidance;
  if (!r.fps) r.fps = folder.transformer.patch_size_t ? 16 : 8;  // 1.5 was trained at twice the rate
  fill_options(r, options());
}

void check_sizes(const Request& r, const Folder& folder) {
  const TransformerConfig& c = folder.transformer;
  const int64_t unit = folder.vae.spatial_compression() * c.patch_size;
  check_multiple("height", *r.height, unit);
  check_multiple("width", *r.width, unit);
  check_frames(*r.num_frames, folder.vae.temporal_compression_ratio);
  const Geometry g(folder, r);
  check_positions(c, g.extent());
}

Request resolve(const Request& request) {
  Request r = request;
  check_words(r, options());
  const Folder folder(r);
  fill_defaults(r, folder);
  check_numbers(r);
  check_sizes(r, folder);
  settle_for(folder, r);
  return r;
}

Request fit(const Request& request) {
  const Folder folder(request);
  const int unit = int(folder.vae.spatial_compression() * folder.transformer.patch_size);
  const int ratio = int(folder.vae.temporal_compression_ratio);
  Request r = request;
  if (r.width) r.width = nearest_multiple(*r.width, unit);
  if (r.height) r.height = nearest_multiple(*r.height, unit);
  if (r.num_frames) r.num_frames = nearest_frames(*r.num_frames, ratio);
  return r;
}

struct Variant {
  const char* name;
  const char* dtype;  // as released
  int height, width, num_frames;
  Json transformer;
};

const std::vector<Variant>& released() {
  static const Json kRotary = {
      {"use_rotary_positional_embeddings", true}, {"num_attention_heads", 48}, {"num_layers", 42}};
  static const auto with = [](Json base, const Json& more) {
    base.update(more);
    return base;
  };
  static const std::vector<Variant> kReleased = {{"2b", "fp16", 480, 720, 49, Json::object()},
                                                 {"5b", "bf16", 480, 720, 49, kRotary},
                                                 {"1.5", "bf16", 768, 1360, 81,
                                                  with(kRotary, {{"patch_size_t", 2},
                                                                 {"sample_height", 300},
                                                                 {"sample_width", 300},
                                                                 {"sample_frames", 81},
                                                                 {"patch_bias", false}})}};
  return kReleased;
}

const Variant& variant_of(const std::string& name) {
  for (const Variant& v : released())
    if (name == v.name) return v;
  throw Error(fmt::format("no variant \"{}\" of CogVideoX", name), "known: 2b, 5b, 1.5");
}

constexpr int64_t kVaeSpatial = 8, kVaeTemporal = 4;

BenchModel bench(const std::string& name, const Target& target) {
  constexpr int64_t kBatch = 2;
  const Variant& variant = variant_of(name);
  Config config(variant.transformer, "CogVideoX " + name);
  const TransformerConfig c(config);
  const auto model = random_model<Transformer>(c, target);
  const int64_t latent_frames = (variant.num_frames - 1) / kVaeTemporal + 1, pt = c.temporal_patch();
  const int64_t frames = (latent_frames + pt - 1) / pt * pt;
  const int64_t h = variant.height / kVaeSpatial, width = variant.width / kVaeSpatial;

  RandomInputs drawn(target);
  const at::Tensor latents = drawn({kBatch, frames, c.in_channels, h, width});
  const at::Tensor text = drawn({kBatch, kTextLength, c.text_embed_dim});
  const at::Tensor t = at::full({kBatch}, int64_t(500), latents.options().dtype(at::kLong));
  const attention::Rope rope =
      c.rotary ? rope_table(c, {kTextLength, frames, h, width}, target.device) : attention::Rope{};

  BenchModel result;
  result.forward = [=](const Forward& forward) { return (*model)(latents, text, t, rope, forward); };
  result.latent_shape = latents.sizes().vec();
  result.tokens = kTextLength + frames / pt * (h / c.patch_size) * (width / c.patch_size);
  result.flops = double(kBatch) * flops(c, {kTextLength, frames, h, width});
  return result;
}

}  // namespace

const std::vector<Option>& options() {
  static const std::vector<Option> kOptions = {
      {"use_dynamic_cfg",
       false,
       0,
       0,
       {},
       "guidance that grows over the steps; the model cards advise it with dpm"},
      {"max_sequence_length",
       kTextLength,
       1,
       4096,
       {},
       "text tokens, padding included; longer prompts are cut"},
      {"scheduler",
       std::string("auto"),
       0,
       0,
       {"auto", "ddim", "dpm"},
       "auto: the one that the model folder names"},
  };
  return kOptions;
}

Family family() {
  Family f = make_family<Folder, CogVideoX>(component_table);
  f.name = "cogvideox";
  f.class_name = "CogVideoXPipeline";
  f.help = "CogVideoX 2B, 5B and 1.5: text to video";
  f.options = options;
  f.resolve = resolve;
  f.fit = fit;
  for (const Variant& variant : released()) f.variants.push_back(variant.name);
  f.variant_dtype = [](const std::string& name) { return std::string(variant_of(name).dtype); };
  f.bench = bench;
  f.bench_vae = [](const std::string& name, const Target& target) {
    const Variant& v = variant_of(name);
    return bench_vae({(v.num_frames - 1) / kVaeTemporal + 1, v.height / kVaeSpatial, v.width / kVaeSpatial},
                     target);
  };
  return f;
}

}  // namespace sagelab::cogvideox
