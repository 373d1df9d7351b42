// SPDX-License-Identifier: Apache-2.0
// What backends say that a call allocates, beside what it does: on the CPU, where every tensor is counted.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <gtest/gtest.h>

#include "attention/joint.h"
#include "attention/recorder.h"
#include "attention/registry.h"
#include "pipelines/footprint.h"

namespace sagelab {
namespace {

using attention::BackendPtr;
using attention::Segment;

struct Shape {
  int64_t batch, tokens, heads, head_dim;
  at::ScalarType dtype;
  bool rotated;
  at::Device device = at::kCPU;
};

// q, k and v side by side, as a model's one linear gives them; out of its own.
Segment segment_of(const Shape& s) {
  const auto options = at::TensorOptions().dtype(s.dtype).device(s.device);
  const at::Tensor qkv = at::randn({s.batch, s.tokens, 3, s.heads, s.head_dim}, options);
  const attention::Norm norm{attention::Norm::Kind::Layer, at::ones({s.head_dim}, options),
                             at::zeros({s.head_dim}, options), 1e-6};
  Segment segment{qkv.select(2, 0),
                  qkv.select(2, 1),
                  qkv.select(2, 2),
                  norm,
                  norm,
                  {},
                  at::empty({s.batch, s.tokens, s.heads, s.head_dim}, options)};
  const at::Tensor angle = at::rand({s.tokens, s.head_dim / 2}, options.dtype(at::kFloat));
  if (s.rotated) segment.rope = {angle.cos(), angle.sin(), {}, {}};
  return segment;
}

double measured(const BackendPtr& backend, const attention::JointCall& call, at::Device device) {
  const c10::InferenceMode inference;
  attention::Recorder recorder;
  const int64_t before = tensor_bytes(device);
  reset_tensor_peak(device);
  backend->run_joint(call, recorder);
  return double(peak_tensor_bytes(device) - before);
}

// Within a tenth; nothing where it cannot run.
void expect_bytes(const std::string& spec, const Shape& shape) {
  const BackendPtr backend = attention::make_backend(spec);
  const Segment segment = segment_of(shape);
  const attention::JointCall call{{&segment, 1}, .1, {}};
  const attention::Problem problem = attention::problem_of(call);
  if (!backend->unsupported(problem).empty()) return;
  measured(backend, call, shape.device);  // what a library keeps from its first call on
  const double used = measured(backend, call, shape.device),
               said = double(backend->joint_bytes(problem, shape.rotated));
  EXPECT_NEAR(said / used, 1, .1) << spec << ", " << shape.tokens << " tokens, " << shape.dtype << ": "
                                  << int64_t(said) << " for " << int64_t(used);
}

TEST(AttentionBytes, AreThoseOfTheTensors) {
  at::set_num_threads(1);  // ATen's CPU kernels take scratch for each thread
  count_cpu_tensors();
  const Shape shapes[] = {{2, 600, 4, 64, at::kFloat, true},
                          {2, 600, 4, 64, at::kBFloat16, true},
                          {1, 900, 3, 32, at::kFloat, false},
                          {1, 900, 3, 32, at::kHalf, false}};
  for (const char* spec : {"sdpa", "sdpa(math)", "reference", "sage2", "sage2(arch=sm80)", "sage2(qk=int4)",
                           "prefer(sdpa(cudnn),sage2)", "schedule(layers=1:sage2,else:sage2)", "timed(sage2)",
                           "check(sage2,sdpa)", "check(sdpa,sage2,rows=all)"}) {
    for (const Shape& shape : shapes) expect_bytes(spec, shape);
  }
}

TEST(AttentionBytes, AreThoseOfTheTensorsOnCuda) {
  if (!at::hasCUDA()) GTEST_SKIP() << "there is no CUDA device";
  for (const char* spec : {"sdpa(flash)", "sage2", "sage2(qk=int4)", "prefer(sage2,sdpa)"}) {
    for (const int64_t head_dim : {64, 128})
      expect_bytes(spec, {2, 4000, 8, head_dim, at::kBFloat16, true, at::Device(at::kCUDA, 0)});
  }
}

}  // namespace
}  // namespace sagelab
