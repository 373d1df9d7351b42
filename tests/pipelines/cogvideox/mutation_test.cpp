// SPDX-License-Identifier: Apache-2.0
// The parity bounds can tell right from wrong: ours stays within the bound of diffusers' own result, and
// outside it of every result that diffusers gives with one thing wrong (tests/oracle/cogvideox/mutants.py).
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "attention/registry.h"
#include "pipelines/cogvideox/pipeline.h"
#include "tests/support/parity.h"

namespace sagelab::cogvideox {
namespace {

using testing::Dump;

constexpr const char* kStem = "diffusion_pytorch_model";

// How far a picture is from another, in units of what parity allows: 0.1 % of the values, none by more
// than 1.
double picture_distance(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes()) return std::numeric_limits<double>::infinity();
  const at::Tensor off = (a.to(at::kInt) - b.to(at::kInt)).abs();
  const double largest = off.max().item<double>();
  const double share = off.ne(0).to(at::kDouble).mean().item<double>();
  return std::max(share / 0.001, largest > 1 ? largest : 0.0);
}

// One fixture's stages as we compute them, each from the dumped input before it, and each once.
class Ours {
 public:
  Ours(std::filesystem::path folder, const Dump& dump)
      : folder_(std::move(folder)), dump_(dump), spec_(read_json(folder_ / "request.json")) {
    Request r;
    r.model = (folder_ / "model").string();
    r.prompt = spec_["prompt"];
    r.negative_prompt = spec_["negative_prompt"];
    r.height = spec_["height"].get<int>();
    r.width = spec_["width"].get<int>();
    r.num_frames = spec_["num_frames"].get<int>();
    r.steps = spec_["steps"].get<int>();
    r.guidance_scale = spec_["guidance_scale"].get<double>();
    r.seed = spec_["seed"];
    r.device = "cpu";
    r.vae_tiling = "off";
    request_ = family().resolve(r);
    pipeline_ = std::make_unique<CogVideoX>(request_);
  }

  const at::Tensor& stage(const std::string& key) {
    const auto it = stages_.find(key);
    if (it != stages_.end()) return it->second;
    const c10::InferenceMode inference;
    return stages_.emplace(key, compute(key)).first->second;
  }

 private:
  at::Tensor compute(const std::string& key) {
    if (key == "prompt_embeds") return pipeline_->encode(request_, run_).embeds.slice(0, -1);
    if (key == "forward.output") return forward();
    if (key == "vae.sample") return decode(false);
    if (key == "vae.tiled_sample") return decode(true);
    if (key == "frames") return frames();
    return denoise(key);
  }

  at::Tensor forward() {
    Config file(folder_ / "model/transformer/config.json");
    const TransformerConfig config(file);
    const Weights w(open_folder(folder_ / "model/transformer", kStem), {});
    const Transformer transformer(w, config);
    w.require_all_read();
    const at::Tensor latents = dump_["forward.latents"], text = dump_["forward.text"];
    const attention::Rope rope = config.rotary ? rope_table(config, text.size(1), latents.size(1),
                                                            latents.size(3), latents.size(4), at::kCPU)
                                               : attention::Rope{};
    const attention::BackendPtr backend = run_.attention->current();
    return transformer(latents, text, dump_["forward.t"], rope, Forward{*backend, recorder_, {}, {}});
  }

  at::Tensor decode(bool tiled) {
    Config file(folder_ / "model/vae/config.json");
    const Weights w(open_folder(folder_ / "model/vae", kStem), {});
    const VaeDecoder vae(w, VaeConfig(file));
    w.require_all_read(unread_prefixes("vae"));
    return vae.decode(dump_["vae.z"], tiled);
  }

  at::Tensor frames() {
    const Picture picture = to_picture(pipeline_->decode(dump_["ddim.guided.final"], request_, run_));
    return at::tensor(at::ArrayRef<uint8_t>(picture.pixels), at::kByte)
        .view({picture.frames, picture.height, picture.width, 3});
  }

  // "<scheduler>.<mode>.final", through the pipeline's own steps.
  at::Tensor denoise(const std::string& key) {
    const auto dot = key.find('.');
    const std::string mode = key.substr(dot + 1, key.rfind('.') - dot - 1);
    Request r = request_;
    r.options["scheduler"] = key.substr(0, dot);
    r.options["use_dynamic_cfg"] = mode == "dynamic";
    if (mode == "plain") r.guidance_scale = 1;
    if (mode == "dynamic") r.steps = spec_["dynamic_steps"].get<int>();
    auto state = pipeline_->prepare(r, pipeline_->encode(r, run_), run_);
    const attention::BackendPtr backend = run_.attention->current();
    for (int i = 0; i < state->steps; ++i) {
      attention::Site site;
      site.step = i;
      site.steps = state->steps;
      pipeline_->advance(*state, i, pipeline_->predict(*state, i, Forward{*backend, recorder_, site, {}}));
    }
    return state->latents;
  }

  std::filesystem::path folder_;
  const Dump& dump_;
  nlohmann::json spec_;
  Request request_;
  std::unique_ptr<CogVideoX> pipeline_;
  attention::Recorder recorder_;
  RunContext run_{std::make_shared<attention::Selector>(attention::make_backend("sdpa")), recorder_, {}, {}};
  std::map<std::string, at::Tensor> stages_;
};

double bound_of(const Dump& dump, const std::string& stage) {
  if (stage == "frames") return 1;
  if (stage.starts_with("vae.")) return testing::tolerance(dump, stage, 5e-6);
  if (stage.ends_with(".final")) return 1e-5;
  return testing::tolerance(dump, stage, 2e-6);
}

double distance(const std::string& stage, const at::Tensor& ours, const at::Tensor& theirs) {
  return stage == "frames" ? picture_distance(ours, theirs) : testing::relative_l2(ours, theirs);
}

struct Fixture {
  const char* name;
  size_t least;  // mutants: a list that shrinks must be noticed
};

class Mutation : public ::testing::TestWithParam<Fixture> {};

TEST_P(Mutation, EveryMutantFails) {
  const auto folder = testing::fixture("cogvideox", GetParam().name);
  const Dump dump(folder / "dump.safetensors"), mutants(folder / "mutants.safetensors");
  EXPECT_GE(mutants.tensors().size(), GetParam().least);
  Ours ours(folder, dump);
  fmt::print("{:<40} {:<20} {:>10} {:>10} {:>10}\n", "mutant", "stage", "ours", "allowed", "mutant");
  for (const auto& [label, wrong] : mutants.tensors()) {
    const auto bar = label.find('|');
    const std::string mutant = label.substr(0, bar), stage = label.substr(bar + 1);
    const double allowed = bound_of(dump, stage);
    const double right = distance(stage, ours.stage(stage), dump[stage]);
    const double off = distance(stage, ours.stage(stage), wrong);
    fmt::print("{:<40} {:<20} {:>10.1e} {:>10.1e} {:>10.1e}\n", mutant, stage, right, allowed, off);
    EXPECT_LE(right, allowed) << stage;
    EXPECT_GT(off, allowed) << mutant << " is within the bound of " << stage;
  }
}

INSTANTIATE_TEST_SUITE_P(CogVideoX, Mutation,
                         ::testing::Values(Fixture{"2b", 100}, Fixture{"5b", 52}, Fixture{"1.5", 34},
                                           Fixture{"long_even", 15}, Fixture{"long_odd", 14},
                                           Fixture{"odd_config", 68}),
                         [](const auto& info) {
                           std::string name = info.param.name;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

}  // namespace
}  // namespace sagelab::cogvideox
