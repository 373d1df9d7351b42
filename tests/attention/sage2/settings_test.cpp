// SPDX-License-Identifier: Apache-2.0
// The grammar of sage2(...): what follows from what, one canonical spec for each choice, and every complaint.
#include <gtest/gtest.h>

#include "attention/error.h"
#include "attention/registry.h"
#include "tests/attention/sage2/inputs.h"

namespace sagelab::attention::sage2::test {
namespace {

TEST(Sage2Settings, WhatIsNotGivenFollows) {
  Settings plain;  // the paper's
  EXPECT_EQ(settings_of("sage2(mean=full,smooth_v=off,v=channel,sum=fp32)"), plain);
  plain.sum = Sum::Matrix, plain.smooth_k = plain.smooth_v = Mean::Sampled, plain.v = VScale::Sampled;
  EXPECT_EQ(settings_of("sage2"), plain);
  EXPECT_EQ(settings_of("sage2(arch=sm80)").smooth_v, Mean::Off);
  EXPECT_EQ(settings_of("sage2(arch=sm80)").v, VScale::Channel);
  EXPECT_EQ(settings_of("sage2(arch=sm89)").v, VScale::Sampled);
  EXPECT_EQ(settings_of("sage2(v=channel)").smooth_v, Mean::Full);
  EXPECT_EQ(settings_of("sage2(pv=fp8half)").v, VScale::Channel);
  EXPECT_EQ(settings_of("sage2(v=tile)", Arch::Sm80).arch, Arch::Sm89);
  EXPECT_EQ(settings_of("sage2", Arch::Sm89).sum, Sum::Fp32);
  EXPECT_EQ(settings_of("sage2", Arch::Sm80).pv, Pv::Fp16);
  EXPECT_EQ(settings_of("sage2", Arch::Sm89).arch, Arch::Sm89);
  EXPECT_EQ(settings_of("sage2(arch=sm80)").pv, Pv::Fp16);
  EXPECT_EQ(settings_of("sage2(pv=fp16)").arch, Arch::Sm80);
  EXPECT_EQ(settings_of("sage2(pv=fp8half)").arch, Arch::Sm89);
  const Settings int4 = settings_of("sage2(qk=int4)");
  EXPECT_TRUE(int4.smooth_q);
  EXPECT_EQ(int4.arch, Arch::Sm89);
  EXPECT_EQ(settings_of("sage2(qk=int4)", Arch::Sm80).arch, Arch::Sm80);
  EXPECT_FALSE(settings_of("sage2(qk=int4,smooth_q=off)").smooth_q);
}

TEST(Sage2Settings, CanonicalSpecs) {
  const std::pair<const char*, const char*> specs[] = {
      {"sage2", "sage2"},
      {"sage2(qk=int8,pv=fp8,mean=sampled,smooth_v=sampled,smooth_q=off,v=sampled,sum=matrix)", "sage2"},
      {"sage2(qk=int8,pv=fp8,mean=full,smooth_v=off,smooth_q=off,v=channel,sum=fp32)",
       "sage2(mean=full,smooth_v=off,v=channel,sum=fp32)"},
      {"sage2(v=channel,smooth_v=full)", "sage2(v=channel)"},
      {"sage2(arch=sm80,pv=fp16)", "sage2(arch=sm80)"},
      {"sage2(pv=fp8half)", "sage2(arch=sm89,pv=fp8half)"},
      {"sage2(qk=int4,arch=sm80)", "sage2(arch=sm80,qk=int4)"},
      {"sage2(qk=int4,smooth_q=on)", "sage2(qk=int4)"},
      {"sage2(sum=matrix,v=tile,smooth_v=off,mean=full)", "sage2(mean=full,smooth_v=off,v=tile)"},
      {"sage2(qk=int4,smooth_q=off,mean=off)", "sage2(qk=int4,mean=off,smooth_q=off)"},
  };
  for (const auto& [text, canonical] : specs) {
    const Settings settings = settings_of(text);
    EXPECT_EQ(to_string(settings), canonical);
    EXPECT_EQ(settings_of(canonical), settings) << text;
  }
  // An arch that was named stays named: elsewhere the plain spec means another.
  EXPECT_EQ(make_backend("sage2(arch=sm90)")->name(), "sage2(arch=sm90)");
  EXPECT_EQ(make_backend("sage2(qk=int4,arch=sm89)")->name(), "sage2(arch=sm89,qk=int4)");
  EXPECT_EQ(make_backend("timed(prefer(sage2(qk=int4),sdpa))")->name(), "timed(prefer(sage2(qk=int4),sdpa))");
}

// Every choice that has a kernel reads back from its own spec, on every machine.
TEST(Sage2Settings, RoundTrip) {
  int count = 0;
  for (const char* arch : {"sm80", "sm89", "sm90"}) {
    for (const char* qk : {"int8", "int4"}) {
      for (const char* rest : {"", ",mean=full", ",mean=off", ",smooth_v=full", ",v=tile", ",v=channel",
                               ",sum=matrix", ",pv=fp8half", ",smooth_q=off", ",smooth_q=on"}) {
        const std::string text = fmt::format("sage2(arch={},qk={}{})", arch, qk, rest);
        BackendPtr backend;
        try {
          backend = make_backend(text);
        } catch (const Error&) {
          continue;
        }
        EXPECT_EQ(make_backend(backend->name())->name(), backend->name());
        for (const Arch native : {Arch::Sm80, Arch::Sm89, Arch::Sm90}) {
          EXPECT_EQ(settings_of(backend->name(), native), settings_of(text)) << backend->name();
        }
        ++count;
      }
    }
  }
  EXPECT_EQ(count, 42);
}

std::pair<std::string, std::string> complaint(const char* text) {
  try {
    make_backend(text);
  } catch (const Error& e) {
    return {e.what(), e.hint()};
  }
  return {};
}

TEST(Sage2Settings, Complaints) {
  const std::array<const char*, 3> cases[] = {
      {"sage2(arch=sm70)", "'arch' cannot be 'sm70',", "arch is one of sm80, sm89, sm90"},
      {"sage2(qk=int2)", "'qk' cannot be 'int2',", "qk is one of int8, int4"},
      {"sage2(arch=sm90,qk=int4)", "arch=sm90 has no qk=int4,",
       "its tensor cores have no INT4: arch=sm89 and arch=sm80 do"},
      {"sage2(arch=sm80,pv=fp8)", "arch=sm80 has no pv=fp8,",
       "sm80 has pv=fp16, sm89 has pv=fp8 and pv=fp8half, sm90 has pv=fp8"},
      {"sage2(smooth_q=on)", "smooth_q=on goes with qk=int4 only,",
       "INT8 does not need it: leave smooth_q out"},
      {"sage2(pv=fp16,v=tile)", "v=tile goes with fp8 only,", "fp16 needs no scales: leave v out"},
      {"sage2(pv=fp8half,v=sampled)", "v=sampled goes with pv=fp8 only,",
       "the range of pv=fp8half leaves it no room: v=channel or v=tile"},
  };
  for (const auto& [text, what, hint] : cases) {
    EXPECT_EQ(complaint(text).first, fmt::format("attention '{}': {} at position 1", text, what));
    EXPECT_EQ(complaint(text).second, hint);
  }
  EXPECT_EQ(complaint("sage2(fast)").first,
            "attention 'sage2(fast)': 'sage2' has no use for 'fast' at position 7");
  EXPECT_EQ(complaint("sage2(fast)").second, "it takes arch, qk, pv, mean, smooth_v, smooth_q, v, sum");
  EXPECT_EQ(complaint("prefer(sage2(mean=half),sdpa)").first,
            "attention 'prefer(sage2(mean=half),sdpa)': 'mean' cannot be 'half', at position 8");
}

TEST(Sage2, WhatItRefuses) {
  const auto reason = [](const char* spec, at::Device device, at::ScalarType dtype, int64_t dim) {
    return make_backend(spec)->unsupported({1, 2, 2, 9, 9, dim, dtype, device, false});
  };
  const at::Device cuda(at::kCUDA, 0);
  EXPECT_EQ(reason("sage2", at::kCPU, at::kFloat, 128), "");
  EXPECT_EQ(reason("sage2", at::kCPU, at::kHalf, 20), "");
  EXPECT_EQ(reason("sage2", at::kCPU, at::kFloat, 136), "head dimension 136 is more than 128");
  EXPECT_EQ(reason("sage2", at::kCPU, at::kDouble, 64), "it takes fp32, bf16 and fp16, not fp64");
  EXPECT_EQ(reason("sage2", at::kMPS, at::kFloat, 64), "it runs on CPU and CUDA, not mps");
  EXPECT_EQ(reason("sage2", cuda, at::kFloat, 64), "on CUDA it takes bf16 and fp16, not fp32");
  EXPECT_EQ(reason("sage2", cuda, at::kHalf, 20), "head dimension 20 is not a multiple of 8 up to 128");
  EXPECT_EQ(make_backend("sage2")->unsupported({70000, 2, 2, 9, 9, 64, at::kHalf, cuda, false}),
            "batch 70000 or 2 heads are more than 65535");
  EXPECT_EQ(make_backend("sage2")->unsupported({1, 2, 2, 9, 20'000'000, 64, at::kHalf, cuda, false}),
            "20000000 keys are more than 16776960");
  EXPECT_EQ(reason("sage2", cuda, at::kHalf, 136), "head dimension 136 is not a multiple of 8 up to 128");
  if (!at::hasCUDA()) {
    EXPECT_NE(reason("sage2", cuda, at::kHalf, 64), "");
  }
}

}  // namespace
}  // namespace sagelab::attention::sage2::test
