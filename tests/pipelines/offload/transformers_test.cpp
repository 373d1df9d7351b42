// SPDX-License-Identifier: Apache-2.0
// Every family's transformer gives the same bits with its blocks streamed as with all of them on the device.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/pipelines/cogvideox/fixture.h"
#include "tests/pipelines/flux/fixture.h"
#include "tests/pipelines/hunyuanvideo/fixture.h"
#include "tests/pipelines/mochi/fixture.h"
#include "tests/pipelines/sd3/fixture.h"
#include "tests/support/transformer_parity.h"

namespace sagelab {
namespace {

using testing::Observe;

// One forward of a transformer. observe is called after every block, among others.
using Call = std::function<at::Tensor(const std::string& spec, const Observe& observe)>;
using Open = std::function<Call(const Target& target)>;

// open(target) makes a model, inputs(config, target) those of its dump.
template <class OpenModel, class InputsOf>
Open forward_of(const OpenModel& open, const InputsOf& inputs) {
  return [=](const Target& target) -> Call {
    const auto model = std::make_shared<decltype(open(target))>(open(target));
    const auto in = inputs(model->config(), target);
    return [=](const std::string& spec, const Observe& observe) {
      return testing::run(*model, in, observe, spec);
    };
  };
}

Open flux_of(const std::string& name) {
  return forward_of([=](const Target& target) { return flux::open(name, target); },
                    [=](const flux::TransformerConfig& config, const Target& target) {
                      return flux::inputs_of(flux::dump_of(name), config, target);
                    });
}

Open sd3_of(const std::string& name, const std::vector<int64_t>& skip) {
  return forward_of([=](const Target& target) { return sd3::open(name, target); },
                    [=](const sd3::TransformerConfig&, const Target& target) {
                      auto in = sd3::inputs_of(sd3::dump_of(name), target);
                      in.skip = skip;
                      return in;
                    });
}

Open cogvideox_of(const std::string& name) {
  return [name](const Target& target) -> Call {
    using cogvideox::Transformer, cogvideox::TransformerConfig;
    const auto folder = testing::fixture("cogvideox", name);
    const auto model = std::make_shared<Transformer>(
        testing::open_model<Transformer, TransformerConfig>(folder / "model" / "transformer", target));
    const testing::Dump dump(folder / "dump.safetensors");
    const auto moved = [&](const char* key) { return dump[key].to(target.device, target.dtype); };
    const at::Tensor latents = moved("forward.latents"), text = moved("forward.text"),
                     t = dump["forward.t"].to(target.device);
    const cogvideox::Extent extent{text.size(1), latents.size(1), latents.size(3), latents.size(4)};
    const auto rope = cogvideox::rope_table(model->config(), extent, target.device);
    return [=](const std::string& spec, const Observe& observe) {
      const auto backend = attention::make_backend(spec);
      attention::Recorder recorder;
      return (*model)(latents, text, t, rope, Forward{*backend, recorder, {}, {}, observe});
    };
  };
}

Open hunyuanvideo_of(const std::string& name) {
  return forward_of([=](const Target& target) { return hunyuanvideo::open(name, target); },
                    [=](const hunyuanvideo::TransformerConfig& config, const Target& target) {
                      return hunyuanvideo::inputs_of(hunyuanvideo::dump_of(name), config, target);
                    });
}

Open mochi_of(const std::string& name) {
  return forward_of([=](const Target& target) { return mochi::open(name, target); },
                    [=](const mochi::TransformerConfig& config, const Target& target) {
                      return mochi::inputs_of(mochi::dump_of(name), config, target);
                    });
}

struct Model {
  const char* name;
  Open open;
};

void PrintTo(const Model& model, std::ostream* out) {
  *out << model.name;
}

class Streamed : public ::testing::TestWithParam<Model> {
 protected:
  static std::vector<Target> targets() {
    std::vector<Target> all = {{at::kCPU, at::kFloat}};
    if (at::hasCUDA()) all.insert(all.end(), {{{at::kCUDA, 0}, at::kFloat}, {{at::kCUDA, 0}, at::kBFloat16}});
    return all;
  }
  static Target streamed(Target target) {
    target.streamed = true;
    return target;
  }
};

TEST_P(Streamed, TheSameBitsForwardAfterForward) {
  const c10::InferenceMode inference;
  for (const Target& target : targets()) {
    SCOPED_TRACE(fmt::format("{} {}", target.device.str(), toString(target.dtype)));
    const Call held = GetParam().open(target), moving = GetParam().open(streamed(target));
    for (const char* spec : {"sdpa", "reference", "sdpa"})  // attention is switched between forwards
      EXPECT_TRUE(at::equal(moving(spec, {}), held(spec, {}))) << spec;
  }
}

TEST_P(Streamed, AWholeForwardAfterOneThatWasStopped) {
  const c10::InferenceMode inference;
  for (const Target& target : targets()) {
    const Call held = GetParam().open(target), moving = GetParam().open(streamed(target));
    int seen = 0;
    const auto stop = [&](const std::string& name, const at::Tensor&) {
      if (name.starts_with("block.") && ++seen == 1) throw Cancelled();
    };
    EXPECT_THROW(moving("sdpa", stop), Cancelled);
    EXPECT_TRUE(at::equal(moving("sdpa", {}), held("sdpa", {}))) << target.device.str();
  }
}

TEST_P(Streamed, TwoModelsSideBySide) {
  const Call a = GetParam().open({at::kCPU, at::kFloat, true}),
             b = GetParam().open({at::kCPU, at::kFloat, true});
  EXPECT_TRUE(at::equal(a("sdpa", {}), b("sdpa", {})));
}

INSTANTIATE_TEST_SUITE_P(Families, Streamed,
                         ::testing::Values(Model{"flux_schnell", flux_of("schnell")},
                                           Model{"flux_dev", flux_of("dev")}, Model{"sd3", sd3_of("sd3", {})},
                                           Model{"sd3_medium", sd3_of("medium", {})},
                                           Model{"sd3_medium_skipping", sd3_of("medium", {0})},
                                           Model{"hunyuanvideo_clip", hunyuanvideo_of("clip")},
                                           Model{"hunyuanvideo_picture", hunyuanvideo_of("picture")},
                                           Model{"mochi_clip", mochi_of("clip")},
                                           Model{"mochi_default_keys", mochi_of("default_keys")},
                                           Model{"cogvideox_2b", cogvideox_of("2b")},
                                           Model{"cogvideox_5b", cogvideox_of("5b")},
                                           Model{"cogvideox_1_5", cogvideox_of("1.5")}),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace sagelab
