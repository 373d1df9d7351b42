// SPDX-License-Identifier: Apache-2.0
#include "attention/spec.h"

#include <gtest/gtest.h>

#include <random>

#include "attention/error.h"
#include "attention/registry.h"

namespace sagelab::attention {
namespace {

// "what | hint" of the error that making a backend gives, or "made NAME".
std::string outcome(std::string_view text) {
  try {
    return fmt::format("made {}", make_backend(text)->name());
  } catch (const Error& e) {
    return fmt::format("{} | {}", e.what(), e.hint());
  }
}

TEST(Spec, NamesMakeThemselvesAgain) {
  for (const char* text :
       {"sdpa", "sdpa(flash)", "sdpa(cudnn)", "sdpa(efficient)", "sdpa(math)", "reference",
        "prefer(sdpa(flash),sdpa)", "timed(prefer(sdpa(cudnn),sdpa(flash),reference))", "unfused(sdpa(math))",
        "check(sdpa,reference)", "check(sdpa,reference,rows=all)", "check(sdpa,reference,rows=32,seed=9)",
        "schedule(steps=0-4:sdpa,layers=0+last:sdpa(math),else:reference)",
        "schedule(steps=0-4+7+9-last:timed(sdpa),else:check(sdpa,reference))", "schedule(else:sdpa)"}) {
    EXPECT_EQ(make_backend(text)->name(), text);
  }
}

TEST(Spec, OtherSpellingsOfTheSame) {
  EXPECT_EQ(make_backend(" prefer ( sdpa( flash ) ,\tsdpa ) ")->name(), "prefer(sdpa(flash),sdpa)");
  EXPECT_EQ(make_backend("sdpa(auto)")->name(), "sdpa");
  EXPECT_EQ(make_backend("check(rows=256,seed=0,sdpa,reference)")->name(), "check(sdpa,reference)");
}

TEST(Spec, TreeHasPositions) {
  const Spec spec = parse_spec("schedule(steps=0-4:sdpa(flash), else:x)");
  ASSERT_EQ(spec.arguments.size(), 2u);
  EXPECT_EQ(spec.arguments[0].key, "steps");
  EXPECT_EQ(spec.arguments[0].condition, "0-4");
  EXPECT_EQ(to_string(spec.arguments[0].value), "sdpa(flash)");
  EXPECT_EQ(spec.arguments[0].position, 10u);
  EXPECT_EQ(spec.arguments[0].value.position, 20u);
  EXPECT_EQ(spec.arguments[1].key, "");
  EXPECT_EQ(spec.arguments[1].condition, "else");
  EXPECT_EQ(spec.arguments[1].position, 33u);
}

TEST(Spec, SyntaxErrorsNameThePosition) {
  EXPECT_EQ(outcome(""), "attention '': expected a backend's name, found end at position 1 | ");
  EXPECT_EQ(outcome("  "), "attention '  ': expected a backend's name, found end at position 3 | ");
  EXPECT_EQ(outcome("sdpa(fla"), "attention 'sdpa(fla': expected ',' or ')', found end at position 9 | ");
  EXPECT_EQ(outcome("sdpa()"), "attention 'sdpa()': expected an argument, found ')' at position 6 | ");
  EXPECT_EQ(outcome("sdpa(flash,)"),
            "attention 'sdpa(flash,)': expected an argument, found ')' at position 12 | ");
  EXPECT_EQ(outcome("sdpa)"), "attention 'sdpa)': unexpected ')' at position 5 | ");
  EXPECT_EQ(outcome("sdpa reference"), "attention 'sdpa reference': unexpected 'r' at position 6 | ");
  EXPECT_EQ(outcome("sdpa(x=)"), "attention 'sdpa(x=)': expected a value, found ')' at position 8 | ");
  EXPECT_EQ(outcome("sdpa(x:)"),
            "attention 'sdpa(x:)': expected a backend's name, found ')' at position 8 | ");
  EXPECT_EQ(outcome("sdpa(a=b=c)"),
            "attention 'sdpa(a=b=c)': expected ',' or ')', found '=' at position 9 | ");
  EXPECT_EQ(outcome("sd\xc3\xa4pa"), "attention 'sd\xc3\xa4pa': unexpected byte 0xc3 at position 3 | ");
  EXPECT_EQ(outcome("check(sdpa,sdpa,rows=1,rows=2)"),
            "attention 'check(sdpa,sdpa,rows=1,rows=2)': 'rows' is given twice, again at position 24 | ");
}

TEST(Spec, WhatNobodyReadsIsAnError) {
  EXPECT_EQ(outcome("sage9"),
            "attention 'sage9': there is no backend 'sage9' at position 1 | "
            "there are sdpa, sage2, reference, prefer, check, timed, schedule");
  EXPECT_EQ(outcome("prefer(sdpa,sage9)"),
            "attention 'prefer(sdpa,sage9)': there is no backend 'sage9' at position 13 | "
            "there are sdpa, sage2, reference, prefer, check, timed, schedule");
  EXPECT_EQ(outcome("sdpa(fast)"),
            "attention 'sdpa(fast)': sdpa has no kernel 'fast' at position 6 | "
            "it has auto, flash, cudnn, efficient, math");
  EXPECT_EQ(outcome("sdpa(kernel=flash)"),
            "attention 'sdpa(kernel=flash)': 'sdpa' has no use for 'kernel=flash' at "
            "position 6 | it takes one of auto, flash, cudnn, efficient, math");
  EXPECT_EQ(outcome("sdpa(flash,math)"),
            "attention 'sdpa(flash,math)': 'sdpa' has no use for 'math' at position 12 | "
            "it takes one of auto, flash, cudnn, efficient, math");
  EXPECT_EQ(
      outcome("reference(fp32)"),
      "attention 'reference(fp32)': 'reference' has no use for 'fp32' at position 11 | it takes no argument");
  EXPECT_EQ(
      outcome("timed(sdpa,sdpa)"),
      "attention 'timed(sdpa,sdpa)': 'timed' has no use for 'sdpa' at position 12 | it takes one backend");
  EXPECT_EQ(outcome("timed"), "attention 'timed': timed needs a backend at position 1 | ");
  EXPECT_EQ(outcome("unfused"), "attention 'unfused': unfused needs a backend at position 1 | ");
  EXPECT_EQ(outcome("unfused(sdpa,sdpa)"),
            "attention 'unfused(sdpa,sdpa)': 'unfused' has no use for 'sdpa' at position 14 | "
            "it takes one backend");
  EXPECT_EQ(outcome("prefer(sdpa)"),
            "attention 'prefer(sdpa)': prefer needs two backends or more at position 1 | ");
  EXPECT_EQ(outcome("check(sdpa)"), "attention 'check(sdpa)': check needs two backends at position 1 | ");
  EXPECT_EQ(outcome("check(sdpa,sdpa,rows=some)"),
            "attention 'check(sdpa,sdpa,rows=some)': 'rows' takes a whole number "
            "from 1 on, not 'some', at position 17 | ");
  EXPECT_EQ(outcome("check(sdpa,sdpa,rows=0)"),
            "attention 'check(sdpa,sdpa,rows=0)': 'rows' takes a whole number from 1 on, not '0', at "
            "position 17 | ");
  EXPECT_EQ(outcome("check(sdpa,sdpa,step=1)"),
            "attention 'check(sdpa,sdpa,step=1)': 'check' has no use for 'step=1' at "
            "position 17 | it takes two backends, rows=N or rows=all, and seed=N");
}

TEST(Spec, Schedules) {
  EXPECT_EQ(outcome("schedule(steps=0:sdpa)"),
            "attention 'schedule(steps=0:sdpa)': schedule needs a last rule else:backend at position 1 | ");
  EXPECT_EQ(
      outcome("schedule(else:sdpa,steps=0:sdpa)"),
      "attention 'schedule(else:sdpa,steps=0:sdpa)': nothing can follow the rule else at position 20 | ");
  EXPECT_EQ(
      outcome("schedule(heads=0:sdpa,else:sdpa)"),
      "attention 'schedule(heads=0:sdpa,else:sdpa)': schedule has no rule 'heads=0:sdpa' at position 10 | "
      "its rules are steps=A-B:backend, layers=A+B:backend and else:backend");
  for (const char* range :
       {"4-0", "-4", "4-", "+1", "1+", "1++2", "a", "1.5", "last-0", "1-2-3", "99999999999"}) {
    const std::string text = fmt::format("schedule(steps={}:sdpa,else:sdpa)", range);
    EXPECT_EQ(outcome(text), fmt::format("attention '{}': '{}' is no range of steps at position 10 | "
                                         "write 3, 0-4, 0+2-5 or last",
                                         text, range));
  }
}

TEST(Spec, DepthIsBounded) {
  std::string text = "sdpa";
  for (int i = 0; i < 15; ++i) text = fmt::format("timed({})", text);
  EXPECT_EQ(outcome(text), fmt::format("made {}", text));
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "timed(";
  EXPECT_THROW(make_backend(deep), Error);
}

// Mutated and random specs either make a backend that makes itself again, or an Error; nothing else comes
// out.
TEST(Spec, AnyTextIsMadeOrRefused) {
  const std::vector<std::string> seeds{
      "schedule(steps=0-4:sdpa,layers=0+last:sdpa(math),else:check(sdpa,reference))",
      "check(timed(sdpa(flash)),prefer(sdpa,reference),rows=all,seed=7)"};
  const std::string alphabet = "(),=:+- sdpa0last\xff\t\n";
  std::mt19937 random(5);
  int made = 0, refused = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string text = seeds[random() % seeds.size()];
    for (unsigned edits = 1 + random() % 3; edits > 0; --edits) {
      const size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text.erase(at, 1 + random() % 3);
          break;
        case 1:
          text.insert(at, 1, alphabet[random() % alphabet.size()]);
          break;
        default:
          text[at] = alphabet[random() % alphabet.size()];
      }
      if (text.empty()) text.push_back('(');
    }
    try {
      const std::string name = make_backend(text)->name();
      EXPECT_EQ(make_backend(name)->name(), name);
      ++made;
    } catch (const Error& e) {
      EXPECT_EQ(std::string(e.what()).rfind("attention '", 0), 0u);
      EXPECT_NE(std::string(e.what()).find(" at position "), std::string::npos) << e.what();
      ++refused;
    }
  }
  EXPECT_GT(made, 100);
  EXPECT_GT(refused, 10000);
}

TEST(Registry, EveryEntryMakesItself) {
  for (const Entry& e : backends()) {
    EXPECT_EQ(make_backend(e.spec)->name(), e.spec);
    EXPECT_FALSE(e.help.empty());
  }
}

TEST(Registry, Defaults) {
  EXPECT_EQ(default_spec(at::Device(at::kCPU)), "sdpa");
  EXPECT_EQ(default_spec(at::Device(at::kCUDA, 0)), "prefer(sage2,sdpa)");
  for (const at::Device device : {at::Device(at::kCPU), at::Device(at::kCUDA, 0)}) {
    EXPECT_EQ(make_backend(default_spec(device))->name(), default_spec(device));
  }
}

}  // namespace
}  // namespace sagelab::attention
