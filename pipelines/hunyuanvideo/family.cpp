// SPDX-License-Identifier: Apache-2.0
// HunyuanVideo's line in the table of families: options, defaults, the released model.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include "attention/error.h"
#include "pipelines/common/checks.h"
#include "pipelines/common/family/family.h"
#include "pipelines/common/weights/random_model.h"
#include "pipelines/hunyuanvideo/pipeline.h"
#include "pipelines/hunyuanvideo/vae/bench.h"

namespace sagelab::hunyuanvideo {
namespace {

// diffusers' __call__ defaults, and the rate at which the model was trained.
constexpr VideoDefaults kDefaults = {720, 1280, 129, 50, 6, 24};
constexpr int64_t kTextLength = 256;
constexpr const char* kVariant = "13b";

Request resolve(const Request& request) {
  Request r = request;
  check_words(r, options());
  const Folder folder(r);
  fill_video(r, kDefaults, options());
  check_numbers(r);
  check_video(r, folder.units());
  settle_for(folder, r);
  return r;
}

// The released transformer at its default size: 129 frames of 1280 x 720.
BenchModel bench(const std::string& name, const Target& target) {
  constexpr int64_t kFrames = (kDefaults.frames - 1) / 4 + 1, kHeight = kDefaults.height / 8,
                    kWidth = kDefaults.width / 8;
  if (name != kVariant)
    throw Error(fmt::format("no variant \"{}\" of HunyuanVideo", name), fmt::format("known: {}", kVariant));
  Config config(nlohmann::json::object(), "HunyuanVideo");
  const TransformerConfig c(config);
  const auto model = random_model<Transformer>(c, target);
  RandomInputs drawn(target);
  const auto all = [&](double value) {
    return at::full({1}, value, at::TensorOptions(at::kFloat).device(target.device));
  };
  Inputs in{drawn({1, c.in_channels, kFrames, kHeight, kWidth}),
            drawn({1, kTextLength, c.text_embed_dim}),
            at::full({1}, kTextLength, at::kLong),
            drawn({1, c.pooled_projection_dim}),
            all(500),
            all(kDefaults.guidance_scale),
            {}};
  const Grid grid = grid_of(c, in.latents);
  in.rope = rope_table(c, grid, kTextLength, target.device);

  BenchModel result;
  result.forward = [=](const Forward& forward) { return (*model)(in, forward); };
  result.latent_shape = in.latents.sizes().vec();
  result.tokens = grid.tokens() + kTextLength;
  result.flops = flops(c, grid.tokens(), kTextLength);
  return result;
}

}  // namespace

const std::vector<Option>& options() {
  static const std::vector<Option> kOptions = {
      {"max_sequence_length", kTextLength, 1, 4096, {}, "tokens of Llama; longer prompts are cut"},
      {"true_cfg_scale",
       1.0,
       0,
       100,
       {},
       "above 1 guides by the negative prompt, with a second forward a step; a negative prompt that is not "
       "given counts as an empty one. The model's own guidance is an input"}};
  return kOptions;
}

Family family() {
  Family f = make_family<Folder, HunyuanVideo>(component_table);
  f.name = "hunyuanvideo";
  f.class_name = "HunyuanVideoPipeline";
  f.help = "HunyuanVideo: text to video";
  f.options = options;
  f.resolve = resolve;
  f.fit = [](const Request& request) { return fit_video(request, Folder(request).units()); };
  f.variants = {kVariant};
  f.variant_dtype = [](const std::string&) { return std::string("bf16"); };
  f.bench = bench;
  f.bench_vae = [](const std::string&, const Target& target) { return bench_vae(target); };
  return f;
}

}  // namespace sagelab::hunyuanvideo
