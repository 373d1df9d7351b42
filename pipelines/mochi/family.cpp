// SPDX-License-Identifier: Apache-2.0
// Mochi's line in the table of families: options, defaults, the released model.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include "attention/error.h"
#include "pipelines/common/checks.h"
#include "pipelines/common/family/family.h"
#include "pipelines/common/weights/random_model.h"
#include "pipelines/mochi/pipeline.h"
#include "pipelines/mochi/vae/bench.h"

namespace sagelab::mochi {
namespace {

// diffusers' __call__ defaults, and the rate at which the model was trained.
constexpr int kHeight = 480, kWidth = 848, kFrames = 19, kSteps = 64;
constexpr double kGuidance = 4.5, kFps = 30;
constexpr int64_t kTextLength = 256;
constexpr const char* kVariant = "1-preview";

Request resolve(const Request& request) {
  Request r = request;
  check_words(r, options());
  const Folder folder(r);
  fill_video(r, {kHeight, kWidth, kFrames, kSteps, kGuidance, kFps}, options());
  check_numbers(r);
  check_video(r, folder.units());
  settle_for(folder, r);
  return r;
}

// One side of the guidance at 163 frames of 848 x 480: what its authors made it for.
BenchModel bench(const std::string& name, const Target& target) {
  constexpr int64_t kLatentFrames = (163 - 1) / 6 + 1, kLatentHeight = kHeight / 8, kLatentWidth = kWidth / 8;
  if (name != kVariant)
    throw Error(fmt::format("no variant \"{}\" of Mochi", name), fmt::format("known: {}", kVariant));
  Config config(nlohmann::json::object(), "Mochi");
  const TransformerConfig c(config);
  const auto model = random_model<Transformer>(c, target);
  RandomInputs drawn(target);
  Inputs in{drawn({1, c.in_channels, kLatentFrames, kLatentHeight, kLatentWidth}),
            drawn({1, kTextLength, c.text_embed_dim}),
            at::full({1}, kTextLength, at::kLong),
            at::full({1}, 500, at::TensorOptions(at::kFloat).device(target.device)),
            {}};
  const Grid grid = grid_of(c, in.latents);
  in.positions = positions_of(grid, target.device);

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
      {"max_sequence_length", kTextLength, 1, 4096, {}, "text tokens; longer prompts are cut"}};
  return kOptions;
}

Family family() {
  Family f = make_family<Folder, Mochi>(component_table);
  f.name = "mochi";
  f.class_name = "MochiPipeline";
  f.help = "Mochi 1: text to video";
  f.options = options;
  f.resolve = resolve;
  f.fit = [](const Request& request) { return fit_video(request, Folder(request).units()); };
  f.variants = {kVariant};
  f.variant_dtype = [](const std::string&) { return std::string("bf16"); };
  f.bench = bench;
  f.bench_vae = [](const std::string&, const Target& target) { return bench_vae(target); };
  return f;
}

}  // namespace sagelab::mochi
