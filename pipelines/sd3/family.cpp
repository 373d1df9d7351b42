// SPDX-License-Identifier: Apache-2.0
// Stable Diffusion 3's line in the table of families: options, defaults, released variants.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>

#include "attention/error.h"
#include "pipelines/common/checks.h"
#include "pipelines/common/family/family.h"
#include "pipelines/common/weights/random_model.h"
#include "pipelines/image/bench.h"
#include "pipelines/image/picture.h"
#include "pipelines/sd3/pipeline.h"

namespace sagelab::sd3 {
namespace {

using Json = nlohmann::json;

// diffusers' __call__ defaults.
constexpr int kSteps = 28;
constexpr double kGuidance = 7;
constexpr int64_t kTextLength = 256, kMostText = 512;

// Those of which the position table has rows.
void check_positions(const Request& r, const Folder& folder) {
  const int64_t most = folder.transformer.pos_embed_max_size * folder.unit();
  for (const auto& [name, side] : {std::pair{"height", *r.height}, {"width", *r.width}})
    if (side > most)
      throw Error(fmt::format("{} is {}, and this model has positions for at most {}", name, side, most));
}

void check_clip_skip(const Request& r, const Folder& folder) {
  const int64_t most = std::min(folder.clip_l.num_layers, folder.clip_g.num_layers) - 1;
  const int64_t skip = std::get<int64_t>(option_value(r, options(), "clip_skip"));
  if (skip > most)
    throw Error(
        fmt::format("clip_skip is {}, and this model's text encoders can skip at most {}", skip, most));
}

Request resolve(const Request& request) {
  Request r = request;
  check_words(r, options());
  const Folder folder(r);
  fill_picture(r, {folder.transformer.sample_size * folder.vae.spatial_compression(), kSteps, kGuidance},
               options());
  if (!folder.t5) r.options["drop_t5"] = true;
  check_numbers(r);
  check_picture(r, folder.unit());
  check_positions(r, folder);
  check_clip_skip(r, folder);
  settle_for(folder, r);
  return r;
}

struct Variant {
  const char* name;
  const char* dtype;  // as released
  Json transformer;
};

const std::vector<Variant>& released() {
  static const auto config = [](int64_t layers, int64_t positions) {
    return Json{{"num_layers", layers},
                {"num_attention_heads", layers},
                {"caption_projection_dim", 64 * layers},
                {"pos_embed_max_size", positions}};
  };
  static const auto normed = [](Json base, const Json& dual) {
    base.update({{"qk_norm", "rms_norm"}, {"dual_attention_layers", dual}});
    return base;
  };
  static const std::vector<Variant> kReleased = {
      {"sd3-medium", "fp16", config(24, 192)},
      {"sd3.5-large", "bf16", normed(config(38, 192), Json::array())},
      {"sd3.5-medium", "bf16", normed(config(24, 384), {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})}};
  return kReleased;
}

const Variant& variant_of(const std::string& name) {
  for (const Variant& v : released())
    if (name == v.name) return v;
  throw Error(fmt::format("no variant \"{}\" of Stable Diffusion 3", name),
              "known: sd3-medium, sd3.5-large (and large-turbo, which is of its shape), sd3.5-medium");
}

// 1024 x 1024, one side of the guidance.
BenchModel bench(const std::string& name, const Target& target) {
  constexpr int64_t kSide = 128, kText = 77 + kTextLength;
  Config config(variant_of(name).transformer, name);
  const TransformerConfig c(config);
  const auto model = random_model<Transformer>(c, target);
  RandomInputs drawn(target);
  const Inputs inputs{drawn({1, c.in_channels, kSide, kSide}), drawn({1, kText, c.joint_attention_dim}),
                      drawn({1, c.pooled_projection_dim}),
                      at::full({1}, 500, at::TensorOptions(at::kFloat).device(target.device))};
  const int64_t image = (kSide / c.patch_size) * (kSide / c.patch_size);

  BenchModel result;
  result.forward = [=](const Forward& forward) { return (*model)(inputs, forward); };
  result.latent_shape = inputs.latents.sizes().vec();
  result.tokens = kText + image;
  result.flops = flops(c, image, kText);
  return result;
}

}  // namespace

const std::vector<Option>& options() {
  static const std::vector<Option> kOptions = {
      {"max_sequence_length",
       kTextLength,
       1,
       double(kMostText),
       {},
       "tokens of T5, padding included; longer prompts are cut"},
      {"prompt_2", std::string(), 0, 0, {}, "what the second CLIP reads; empty: the prompt"},
      {"prompt_3", std::string(), 0, 0, {}, "what T5 reads; empty: the prompt"},
      {"negative_prompt_2",
       std::string(),
       0,
       0,
       {},
       "what the second CLIP reads; empty: the negative prompt"},
      {"negative_prompt_3", std::string(), 0, 0, {}, "what T5 reads; empty: the negative prompt"},
      {"drop_t5",
       false,
       0,
       0,
       {},
       "zeros stand for T5's rows, and T5 is not loaded; always so where the folder has none"},
      {"clip_skip", int64_t(0), 0, 100, {}, "layers of both CLIPs left out before the last, for the prompt"},
      {"skip_guidance_layers",
       std::string(),
       0,
       0,
       {},
       "guides away from what the model makes without these layers, as 7,8,9; empty: no such guidance"},
      {"skip_layer_guidance_scale", 2.8, 0, 100, {}, "how far away from it"},
      {"skip_layer_guidance_start", 0.01, 0, 1, {}, "the share of the steps after which it begins"},
      {"skip_layer_guidance_stop", 0.2, 0, 1, {}, "the share of the steps at which it ends"},
  };
  return kOptions;
}

Family family() {
  Family f = make_family<Folder, StableDiffusion3>(component_table);
  f.name = "sd3";
  f.class_name = "StableDiffusion3Pipeline";
  f.help = "Stable Diffusion 3 and 3.5: text to image";
  f.options = options;
  f.resolve = resolve;
  f.fit = [](const Request& request) { return fit_picture(request, Folder(request).unit()); };
  for (const Variant& variant : released()) f.variants.push_back(variant.name);
  f.variant_dtype = [](const std::string& name) { return std::string(variant_of(name).dtype); };
  f.bench = bench;
  f.bench_vae = [](const std::string&, const Target& target) { return bench_picture_vae(target); };
  return f;
}

}  // namespace sagelab::sd3
