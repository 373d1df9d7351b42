// SPDX-License-Identifier: Apache-2.0
#include "tests/attention/sage2/gpu/device.h"

#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>

#include <algorithm>

#include "attention/recorder.h"
#include "attention/sage2/twin.h"

namespace sagelab::attention::sage2::test {

std::vector<std::string> entries() {
  std::vector<std::string> all;
  for (const Entry& entry : backends()) {
    if (entry.spec.starts_with("sage2")) all.emplace_back(entry.spec);
  }
  return all;
}

std::vector<std::string> variants() {
  std::vector<std::string> all = entries();
  for (const char* spec :
       {"sage2(v=channel,smooth_v=off,mean=full)", "sage2(v=tile,smooth_v=off,mean=sampled)",
        "sage2(v=channel,smooth_v=sampled)", "sage2(v=tile,smooth_v=full,sum=fp32)", "sage2(mean=off)",
        "sage2(arch=sm80,smooth_v=full,mean=full)", "sage2(arch=sm80,sum=matrix)",
        "sage2(arch=sm89,v=tile,smooth_v=sampled)", "sage2(arch=sm89,sum=matrix,smooth_v=full)",
        "sage2(arch=sm89,pv=fp8half,v=tile,smooth_v=full)", "sage2(qk=int4,smooth_q=off)",
        "sage2(qk=int4,pv=fp8half,v=tile)"}) {
    all.emplace_back(spec);
  }
  return all;
}

std::string name_of_spec(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
}

void OnGpu::SetUp() {
  if (!at::hasCUDA()) GTEST_SKIP() << "there is no CUDA device";
}

void OfSpec::SetUp() {
  OnGpu::SetUp();
  if (IsSkipped()) return;
  backend_ = make_backend(spec());
  settings_ = dynamic_cast<const Sage2&>(*backend_).settings(cuda());
  const std::string reason = backend_->unsupported(problem_of(on_cuda(call_of({1, 1}))));
  if (!reason.empty()) GTEST_SKIP() << spec() << ": " << reason;
}

Output OfSpec::run(const Call& call) const {
  Recorder recorder;
  return backend_->run(call, recorder);
}

Output OfSpec::twin(const Call& call) const {
  const Call wide = widened(call);
  Output result = attend(quantize(wide, settings_), wide, settings_);
  result.out = result.out.to(call.q.scalar_type());
  return result;
}

void OfSpec::expect_as_good_as_the_twin(const Call& call, double bound) const {
  constexpr double kRatio = 1.1;
  // Rounding of what is exact otherwise: of an output to bf16, of a logarithm as the GPU computes it.
  constexpr double kOut = 1e-4, kLse = 2e-5;
  const Output truth = truth_of(call), gpu = run(call), cpu = twin(call);
  const double error = relative_error(gpu.out, truth.out), of_twin = relative_error(cpu.out, truth.out);
  EXPECT_LE(error, bound);
  EXPECT_LE(error, kRatio * of_twin + kOut) << "out, the twin's: " << of_twin;
  if (!call.want_lse) return;
  // Rows without keys are -inf in all of them.
  EXPECT_TRUE(at::isfinite(gpu.lse).equal(at::isfinite(truth.lse)));
  const auto sound = [&](const at::Tensor& lse) { return at::nan_to_num(lse.to(at::kCPU), 0., 0., 0.); };
  const double lse_error = relative_error(sound(gpu.lse), sound(truth.lse)),
               lse_of_twin = relative_error(sound(cpu.lse), sound(truth.lse));
  EXPECT_LE(lse_error, kRatio * lse_of_twin + kLse) << "lse, the twin's: " << lse_of_twin;
}

Call on_cuda(const Call& call, at::ScalarType dtype) {
  Call moved = call;
  for (at::Tensor* x : {&moved.q, &moved.k, &moved.v}) *x = x->to(cuda(), dtype);
  return moved;
}

Call widened(const Call& call) {
  Call wide = call;
  for (at::Tensor* x : {&wide.q, &wide.k, &wide.v}) *x = x->to(at::kCPU, at::kFloat).contiguous();
  wide.out.reset();
  return wide;
}

Output truth_of(const Call& call) {
  Call exact = call;
  for (at::Tensor* x : {&exact.q, &exact.k, &exact.v}) *x = x->to(at::kDouble);
  exact.want_lse = true;
  exact.out.reset();
  return run("reference", exact);
}

Output run(const std::string& spec, const Call& call) {
  Recorder recorder;
  return make_backend(spec)->run(call, recorder);
}

bool all_finite(const at::Tensor& x) {
  return at::isfinite(x).all().item<bool>();
}

bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) return false;
  const auto bytes = [](const at::Tensor& x) { return x.contiguous().view(at::kByte); };
  return a.numel() == 0 || bytes(a).equal(bytes(b));
}

void fill_free_memory(int byte) {
  c10::cuda::device_synchronize();
  c10::cuda::CUDACachingAllocator::emptyCache();
  const auto options = at::TensorOptions().device(cuda()).dtype(at::kByte);
  constexpr int64_t kSmall = int64_t{1} << 19, kLarge = int64_t{1} << 26;  // of the allocator's two pools
  std::vector<at::Tensor> all{at::full({kLarge}, byte, options)};
  for (int i = 0; i < 32; ++i) all.push_back(at::full({kSmall}, byte, options));
}

}  // namespace sagelab::attention::sage2::test
