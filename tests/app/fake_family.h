// SPDX-License-Identifier: Apache-2.0
// A family of no weights: each step can be made to wait or to fail. It attends for real, so that backends
// show.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <memory>

#include "pipelines/registry.h"
#include "tests/support/no_sampler.h"

namespace sagelab::testing {

// One small call through the backend of a forward, so that it shows in reports.
inline void attend(const Forward& forward) {
  const auto q = at::ones({1, 3, 2, 8});
  const attention::Call call{.q = q,
                             .k = q,
                             .v = q,
                             .scale = 1,
                             .causal = false,
                             .want_lse = false,
                             .site = forward.site,
                             .out = {}};
  forward.attention.run(call, forward.recorder);
}

struct FakeHooks {
  std::function<void(int)> step = [](int) {};  // in predict, with the step's index
  std::function<void()> decode = [] {}, preview = [] {};
  int64_t latents = 4;  // values of a frame
  std::atomic<int> opened = 0;
  std::vector<Request> expected;  // by the latest job
};

class FakePipeline final : public Pipeline {
 public:
  explicit FakePipeline(std::shared_ptr<FakeHooks> hooks) : hooks_(std::move(hooks)) {}

  Conditioning encode(const Request& request, const RunContext& run) override {
    if (request.prompt.size() > 100) run.notice("the prompt is cut");
    return {.embeds = at::zeros({1, 2, 4}), .pooled = {}, .lengths = {}};
  }
  std::unique_ptr<State> prepare(const Request& request, Conditioning conditioning,
                                 const RunContext&) override {
    auto state = std::make_unique<State>();
    state->latents = at::full({1, *request.num_frames, hooks_->latents}, 0.25);
    state->conditioning = std::move(conditioning);
    state->sampler = std::make_unique<NoSampler>();
    state->steps = *request.steps;
    return state;
  }
  at::Tensor predict(const State& state, int i, const Forward& forward) override {
    hooks_->step(i);
    attend(forward);
    return state.latents;
  }
  void advance(State&, int, const at::Tensor&) override {}
  at::Tensor preview(const State&, const at::Tensor&) override {
    hooks_->preview();
    return at::zeros({1, 3, 4, 4});
  }
  void expect(std::vector<Request> requests) override { hooks_->expected = std::move(requests); }
  at::Tensor decode(const at::Tensor& latents, const Request& request, const RunContext&) override {
    hooks_->decode();
    return at::full({latents.size(1), 3, *request.height, *request.width}, 0.5);
  }

 private:
  std::shared_ptr<FakeHooks> hooks_;
};

inline Family fake_family(std::shared_ptr<FakeHooks> hooks) {
  Family family;
  family.name = "fake";
  family.class_name = "FakePipeline";
  family.options = []() -> const std::vector<Option>& {
    static const std::vector<Option> kNone;
    return kNone;
  };
  family.resolve = [](const Request& request) {
    Request r = request;
    r.device = "cpu";
    r.dtype = "fp32";
    r.width = r.width.value_or(16);
    r.height = r.height.value_or(16);
    r.num_frames = r.num_frames.value_or(2);
    r.steps = r.steps.value_or(3);
    r.fps = r.fps.value_or(8);
    if (*r.width % 8) throw Error("width is not a multiple of 8", "nearest: 16");
    return r;
  };
  family.fit = [](const Request& request) {
    Request r = request;
    for (auto* side : {&r.width, &r.height})
      if (*side) *side = std::max(1, (**side + 3) / 8) * 8;
    return r;
  };
  family.plan = [](const Request&) {
    Plan plan;
    plan.peak_by_phase = {{"denoise", 1000}};
    return plan;
  };
  family.open = [hooks](const Request&, const RunContext&) {
    hooks->opened += 1;
    return std::make_unique<FakePipeline>(hooks);
  };
  return family;
}

}  // namespace sagelab::testing
