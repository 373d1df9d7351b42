// SPDX-License-Identifier: Apache-2.0
// FLUX.1's line in the table of families: options, defaults, released variants.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include "attention/error.h"
#include "pipelines/common/checks.h"
#include "pipelines/common/family/family.h"
#include "pipelines/common/weights/random_model.h"
#include "pipelines/flux/pipeline.h"
#include "pipelines/flux/plan.h"
#include "pipelines/image/bench.h"
#include "pipelines/image/picture.h"

namespace sagelab::flux {
namespace {

using Json = nlohmann::json;

// diffusers' __call__ defaults; the size is a constant of its pipeline.
constexpr int kSteps = 28;
constexpr int64_t kSampleSize = 128;
constexpr double kGuidance = 3.5;
constexpr int64_t kTextLength = 512;

int64_t unit_of(const Folder& folder) {
  return 2 * folder.vae.spatial_compression();
}

Request resolve(const Request& request) {
  Request r = request;
  check_words(r, options());
  const Folder folder(r);
  fill_picture(r, {kSampleSize * folder.vae.spatial_compression(), kSteps, kGuidance}, options());
  check_numbers(r);
  check_picture(r, unit_of(folder));
  settle_for(folder, r);
  return r;
}

struct Variant {
  const char* name;
  int64_t text_tokens;
  bool guidance;
};
constexpr Variant kVariants[] = {{"schnell", 256, false}, {"dev", 512, true}};

const Variant& variant_of(const std::string& name) {
  for (const Variant& v : kVariants)
    if (name == v.name) return v;
  throw Error(fmt::format("no variant \"{}\" of FLUX.1", name), "known: schnell, dev");
}

// 1024 x 1024.
BenchModel bench(const std::string& name, const Target& target) {
  constexpr Grid kGrid{64, 64};
  const Variant& variant = variant_of(name);
  Config config(Json{{"guidance_embeds", variant.guidance}}, "FLUX.1-" + name);
  const TransformerConfig c(config);
  const auto model = random_model<Transformer>(c, target);
  RandomInputs drawn(target);
  Inputs inputs;
  inputs.tokens = drawn({1, kGrid.tokens(), c.in_channels});
  inputs.text = drawn({1, variant.text_tokens, c.joint_attention_dim});
  inputs.pooled = drawn({1, c.pooled_projection_dim});
  inputs.t = at::full({1}, 0.5, inputs.tokens.options());
  if (c.guidance_embeds)
    inputs.guidance = at::full({1}, kGuidance, inputs.tokens.options().dtype(at::kFloat));
  inputs.rope = rope_table(c, variant.text_tokens, kGrid, target);

  BenchModel result;
  result.forward = [=](const Forward& forward) { return (*model)(inputs, forward); };
  result.latent_shape = inputs.tokens.sizes().vec();
  result.tokens = variant.text_tokens + kGrid.tokens();
  result.flops = flops(c, kGrid.tokens(), variant.text_tokens);
  return result;
}

}  // namespace

const std::vector<Option>& options() {
  static const std::vector<Option> kOptions = {
      {"max_sequence_length",
       kTextLength,
       1,
       double(kTextLength),
       {},
       "tokens of T5, padding included; longer prompts are cut. schnell was trained on 256"},
      {"true_cfg_scale",
       1.0,
       0,
       100,
       {},
       "above 1 guides by the negative prompt, with a second forward a step; a negative prompt that is not "
       "given counts as an empty one. dev's own guidance is an input"},
      {"prompt_2", std::string(), 0, 0, {}, "what T5 reads; empty: the prompt, which CLIP reads"},
      {"negative_prompt_2", std::string(), 0, 0, {}, "what T5 reads; empty: the negative prompt"},
  };
  return kOptions;
}

Family family() {
  Family f = make_family<Folder, Flux>(component_table);
  f.name = "flux";
  f.class_name = "FluxPipeline";
  f.help = "FLUX.1 schnell and dev: text to image";
  f.options = options;
  f.resolve = resolve;
  f.fit = [](const Request& request) { return fit_picture(request, unit_of(Folder(request))); };
  for (const Variant& variant : kVariants) f.variants.push_back(variant.name);
  f.variant_dtype = [](const std::string&) { return std::string("bf16"); };
  f.bench = bench;
  f.bench_vae = [](const std::string&, const Target& target) { return bench_picture_vae(target); };
  return f;
}

}  // namespace sagelab::flux
