// SPDX-License-Identifier: Apache-2.0
// What LibTorch's kernels refuse, said before they are called. The reasons for CUDA that need no GPU to be
// known are tested everywhere.
#include "attention/aten/sdpa.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "attention/error.h"
#include "attention/recorder.h"
#include "attention/registry.h"
#include "tests/attention/exact.h"

namespace sagelab::attention::test {
namespace {

Problem problem(at::Device device, at::ScalarType dtype) {
  return {2, 4, 4, 100, 100, 64, dtype, device, false};
}

std::string reason(const char* spec, const Problem& p) {
  return make_backend(spec)->unsupported(p);
}

TEST(Sdpa, OnCpu) {
  Problem p = problem(at::kCPU, at::kFloat);
  EXPECT_EQ(reason("sdpa", p), "");
  EXPECT_EQ(reason("sdpa(flash)", p), "");
  EXPECT_EQ(reason("sdpa(math)", p), "");
  EXPECT_EQ(reason("sdpa(cudnn)", p), "it needs a CUDA device, not cpu");
  EXPECT_EQ(reason("sdpa(efficient)", p), "it needs a CUDA device, not cpu");
  EXPECT_EQ(choose_sdpa(p), Sdpa::Kernel::Flash);
  p.causal = true;
  p.kv_len = 120;
  EXPECT_EQ(reason("sdpa(flash)", p),
            "a causal mask over 100 queries and 120 keys: this kernel takes equal lengths only");
  EXPECT_EQ(reason("sdpa", p), "");
  EXPECT_EQ(choose_sdpa(p), Sdpa::Kernel::Math);
}

TEST(Sdpa, OtherDevicesAndDtypes) {
  EXPECT_EQ(reason("sdpa", problem(at::kMPS, at::kFloat)), "it runs on CPU and CUDA, not mps");
  EXPECT_EQ(reason("sdpa(math)", problem(at::kCPU, at::kLong)),
            "it takes fp32, fp64, bf16 and fp16, not Long");
  EXPECT_EQ(reason("reference", problem(at::kCPU, at::kLong)), "it takes floating point, not Long");
}

TEST(Sdpa, OnCudaByShape) {
  const at::Device cuda(at::kCUDA, 0);
  Problem p = problem(cuda, at::kFloat);
  EXPECT_EQ(reason("sdpa(flash)", p), "on CUDA it takes bf16 and fp16, not fp32");
  p = problem(cuda, at::kBFloat16);
  p.head_dim = 260;
  EXPECT_EQ(reason("sdpa(flash)", p), "head dimension 260 is above 256");
  p.head_dim = 20;
  EXPECT_EQ(reason("sdpa(efficient)", p), "head dimension 20 is not a multiple of 8");
  p = problem(cuda, at::kDouble);
  EXPECT_EQ(reason("sdpa(efficient)", p), "it takes fp32, bf16 and fp16, not fp64");
  p = problem(cuda, at::kHalf);
  p.causal = true;
  p.q_len = 7;
  for (const char* spec : {"sdpa(flash)", "sdpa(efficient)"}) {
    EXPECT_EQ(reason(spec, p),
              "a causal mask over 7 queries and 100 keys: this kernel takes equal lengths only");
  }
}

// LibTorch would take another kernel without a word.
TEST(Sdpa, EfficientTakesNoGroupsOfHeads) {
  Problem p = problem(at::Device(at::kCUDA, 0), at::kBFloat16);
  p.kv_heads = 2;
  EXPECT_EQ(reason("sdpa(efficient)", p), "it takes as many heads of k and v as of q, not 2 for 4");
  for (const char* spec : {"sdpa", "sdpa(flash)", "sdpa(math)"}) {
    EXPECT_EQ(reason(spec, p), at::hasCUDA() ? "" : "there is no device cuda:0") << spec;
  }
}

TEST(Sdpa, CudnnIsNotDeterministicToLibTorch) {
  at::Context& context = at::globalContext();
  const Problem p = problem(at::Device(at::kCUDA, 0), at::kBFloat16);
  const std::string before = reason("sdpa(cudnn)", p);
  context.setDeterministicAlgorithms(true, false);
  EXPECT_EQ(reason("sdpa(cudnn)", p),
            "LibTorch is set to deterministic algorithms, and does not count it as one");
  context.setDeterministicAlgorithms(true, true);  // it would only warn
  EXPECT_EQ(reason("sdpa(cudnn)", p), before);
  context.setDeterministicAlgorithms(false, false);
}

TEST(Sdpa, WithoutAGpu) {
  if (at::hasCUDA()) GTEST_SKIP() << "there is a CUDA device";
  const Problem p = problem(at::Device(at::kCUDA, 0), at::kBFloat16);
  for (const char* spec : {"sdpa", "sdpa(flash)", "sdpa(efficient)", "sdpa(math)"}) {
    EXPECT_EQ(reason(spec, p), "there is no device cuda:0") << spec;
  }
  EXPECT_EQ(compute_capability(p.device), 0);
}

TEST(Sdpa, OnThisGpu) {
  if (!at::hasCUDA()) GTEST_SKIP() << "there is no CUDA device";
  const at::Device cuda(at::kCUDA, 0);
  Problem p = problem(cuda, at::kBFloat16);
  const int capability = compute_capability(cuda);
  if (capability < 80) GTEST_SKIP() << "compute capability below 8.0";
  for (const char* spec : {"sdpa", "sdpa(flash)", "sdpa(cudnn)", "sdpa(efficient)", "sdpa(math)"}) {
    EXPECT_EQ(reason(spec, p), "") << spec;
  }
  const bool cudnn_first = capability == 90 || capability == 100 || capability == 103;
  EXPECT_EQ(choose_sdpa(p), cudnn_first ? Sdpa::Kernel::Cudnn : Sdpa::Kernel::Flash);
  p.head_dim = 256;
  EXPECT_EQ(reason("sdpa(cudnn)", p), capability == 90 ? "" : "head dimension 256 is above 128");
  EXPECT_EQ(choose_sdpa(p), capability == 90 ? Sdpa::Kernel::Cudnn : Sdpa::Kernel::Flash);
  p.head_dim = 264;
  EXPECT_EQ(reason("sdpa(cudnn)", p),
            fmt::format("head dimension 264 is above {}", capability == 90 ? 256 : 128));
  p.head_dim = 20;
  EXPECT_EQ(reason("sdpa(cudnn)", p), "head dimension 20 is not a multiple of 8");
  EXPECT_EQ(choose_sdpa(p), Sdpa::Kernel::Flash);  // with its heads padded
  p = problem(cuda, at::kBFloat16);
  p.kv_len = 1;
  EXPECT_EQ(reason("sdpa(cudnn)", p), "");
  p = problem(cuda, at::kFloat);
  EXPECT_EQ(choose_sdpa(p), Sdpa::Kernel::Efficient);
  p.head_dim = 18;
  EXPECT_EQ(reason("sdpa(efficient)", p), "head dimension 18 is not a multiple of 4");
  EXPECT_EQ(choose_sdpa(p), Sdpa::Kernel::Math);
}

// Whatever the kernel, and whatever LibTorch's own would do with it.
TEST(Sdpa, ASingleKeyGivesItsValue) {
  for (const at::Device& device : devices()) {
    for (const char* spec : {"sdpa", "sdpa(flash)", "sdpa(cudnn)", "sdpa(efficient)", "sdpa(math)"}) {
      const int64_t kv_heads = std::string_view(spec) == "sdpa(efficient)" ? 4 : 2;
      const at::Tensor q = normal({2, 9, 4, 64}, 1, at::kBFloat16, device),
                       k = normal({2, 1, kv_heads, 64}, 2, at::kBFloat16, device),
                       v = normal({2, 1, kv_heads, 64}, 3, at::kBFloat16, device);
      const Call call{q, k, v, 0.125, false, true, {}, false, {}};
      if (!reason(spec, problem_of(call)).empty()) continue;
      Recorder recorder;
      const Output result = make_backend(spec)->run(call, recorder);
      ASSERT_EQ(result.out.sizes(), q.sizes());
      for (int64_t head = 0; head < 4; ++head) {
        const int64_t of = head * kv_heads / 4;
        EXPECT_TRUE(result.out.select(2, head).equal(v.select(2, of).expand({2, 9, 64}))) << spec << head;
        const at::Tensor score =
            (q.select(2, head).to(at::kFloat) * k.select(2, of).to(at::kFloat)).sum(-1) * 0.125;
        EXPECT_TRUE(at::allclose(result.lse.select(1, head), score, 1e-5, 1e-5)) << spec << head;
      }
    }
  }
}

TEST(Sdpa, TheChoiceIsRecorded) {
  for (const at::Device& device : devices()) {
    Recorder recorder;
    const at::Tensor x = normal({1, 8, 2, 64}, 1, at::kFloat, device);
    make_backend("sdpa")->run({x, x, x, 0.125, false, false, {}, false, {}}, recorder);
    EXPECT_EQ(recorder.last_served(), device.is_cpu() ? "sdpa(flash)" : "sdpa(efficient)");
  }
}

TEST(Sdpa, GlobalSwitchesAreNeitherReadNorSet) {
  at::Context& context = at::globalContext();
  const bool flash = context.userEnabledFlashSDP();
  context.setSDPUseFlash(false);
  Recorder recorder;
  const at::Tensor x = normal({1, 8, 2, 64}, 1, at::kBFloat16, devices().back());
  make_backend("sdpa(flash)")->run({x, x, x, 0.125, false, false, {}, false, {}}, recorder);
  EXPECT_EQ(recorder.last_served(), "sdpa(flash)");
  EXPECT_FALSE(context.userEnabledFlashSDP());
  context.setSDPUseFlash(flash);
}

std::string complaint(const Call& call) {
  try {
    check_call(call);
  } catch (const c10::Error& e) {
    return e.what_without_backtrace();
  }
  return "none";
}

TEST(Call, WhatDoesNotFitIsNamed) {
  const auto make = [](at::IntArrayRef sizes) { return at::zeros(sizes); };
  Call call{make({2, 5, 4, 64}), make({2, 9, 2, 64}), make({2, 9, 2, 64}), 1, false, false, {}, false, {}};
  EXPECT_EQ(complaint(call), "none");
  Call wrong = call;
  wrong.v = make({2, 8, 2, 64});
  EXPECT_EQ(complaint(wrong), "attention: k [2, 9, 2, 64] and v [2, 8, 2, 64] differ");
  wrong = call;
  wrong.k = wrong.v = make({2, 9, 3, 64});
  EXPECT_EQ(complaint(wrong),
            "attention: heads of q [2, 5, 4, 64] are not a multiple of those of k [2, 9, 3, 64]");
  wrong = call;
  wrong.q = make({2, 5, 64, 4}).transpose(2, 3);
  EXPECT_EQ(complaint(wrong),
            "attention: the head dimension must be contiguous, got strides [1280, 256, 1, 4], "
            "[1152, 128, 64, 1], [1152, 128, 64, 1]");
  wrong = call;
  wrong.q = wrong.q.to(at::kHalf);
  EXPECT_EQ(complaint(wrong), "attention: dtypes differ: Half, Float, Float");
  wrong = call;
  wrong.out = make({2, 5, 4, 32});
  EXPECT_EQ(complaint(wrong), "attention: out [2, 5, 4, 32] does not fit q [2, 5, 4, 64]");
  wrong = call;
  wrong.q.reset();
  EXPECT_EQ(complaint(wrong), "attention: q, k and v must be defined");
}

}  // namespace
}  // namespace sagelab::attention::test
