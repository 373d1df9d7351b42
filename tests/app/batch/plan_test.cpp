// SPDX-License-Identifier: Apache-2.0
#include "app/batch/plan.h"

#include <gmock/gmock.h>

#include "app/failure.h"
#include "tests/app/fake_family.h"
#include "tests/app/support.h"

namespace sagelab::batch {
namespace {

using namespace sagelab::testing;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using Texts = std::vector<std::string>;

class BatchPlan : public ::testing::Test {
 protected:
  BatchPlan() {
    settings_.base.model = "fake";
    settings_.base.attention = "sdpa(math)";
    settings_.folder = "out";
  }
  std::vector<Sample> plan(const std::string& name, const std::string& text) const {
    write_file(folder_ / name, text);
    return plan_samples(read_prompts(folder_ / name).prompts, settings_, family_);
  }
  std::vector<Sample> plan(const std::string& text) const { return plan("p.txt", text); }

  TempFolder folder_;
  Settings settings_;
  Family family_ = fake_family(std::make_shared<FakeHooks>());
};

std::string wrong_use(const std::function<void()>& call) {
  try {
    call();
    return "";
  } catch (const UsageError& e) {
    return e.what();
  }
}

Texts files_of(const std::vector<Sample>& samples) {
  Texts files;
  for (const auto& sample : samples)
    for (const auto& output : sample.outputs) files.push_back(fs::path(output.file).replace_extension());
  return files;
}

TEST(BatchFlags, SpecsAreSplitAtCommasOutsideOfParentheses) {
  EXPECT_EQ(split_specs({"sdpa,sage2"}), (Texts{"sdpa", "sage2"}));
  EXPECT_EQ(split_specs({"check(sdpa,reference), schedule(steps=0-4:sdpa(flash),else:sage2)", "sdpa"}),
            (Texts{"check(sdpa,reference)", "schedule(steps=0-4:sdpa(flash),else:sage2)", "sdpa"}));
  EXPECT_EQ(split_specs({}), Texts{});
  EXPECT_EQ(wrong_use([] { split_specs({"sdpa,sdpa"}); }), "--attention names sdpa twice");
  EXPECT_EQ(wrong_use([] { split_specs({"sdpa,"}); }),
            "--attention: a name is missing beside a comma in sdpa,");
}

TEST(BatchFlags, SeedsAreACountOrAList) {
  EXPECT_EQ(parse_seeds("4").count, 4);
  EXPECT_TRUE(parse_seeds("4").several());
  EXPECT_FALSE(parse_seeds("1").several());
  EXPECT_EQ(parse_seeds("3, 18446744073709551615").list, (std::vector<uint64_t>{3, UINT64_MAX}));
  for (const auto* bad : {"", "0", "-1", "x", "3,", "3,3", "3,-1", "99999999999"})
    EXPECT_NE(wrong_use([&] { parse_seeds(bad); }), "") << bad;
}

TEST(BatchFlags, AShardIsOneOfSeveral) {
  EXPECT_EQ(parse_shard("2/4").index, 2);
  EXPECT_EQ(parse_shard("2/4").count, 4);
  for (const auto* bad : {"", "2", "0/4", "5/4", "2/", "/4", "2/4x", "2/0", "-1/4"})
    EXPECT_NE(wrong_use([&] { parse_shard(bad); }), "") << bad;
}

TEST_F(BatchPlan, EveryPromptIsResolvedAndNamed) {
  settings_.specs = {"sdpa(math)", "reference"};
  settings_.seeds.count = 2;
  settings_.base.seed = 5;
  const auto samples = plan("A fox.\nA cat.\n");
  EXPECT_EQ(files_of(samples),
            (Texts{"sdpa-math/sample_0000-0", "reference/sample_0000-0", "sdpa-math/sample_0000-1",
                   "reference/sample_0000-1", "sdpa-math/sample_0001-0", "reference/sample_0001-0",
                   "sdpa-math/sample_0001-1", "reference/sample_0001-1"}));
  const auto& request = samples[3].outputs[1].request;
  EXPECT_EQ(request.prompt, "A cat.");
  EXPECT_EQ(request.seed, 6u);
  EXPECT_EQ(request.attention, "reference");
  EXPECT_EQ(request.width, 16);
  EXPECT_TRUE(request.output.starts_with("out/reference/sample_0001-1"));
  const auto record = samples[3].record();
  EXPECT_EQ(record.at("index"), 1);
  EXPECT_EQ(record.at("take"), 1);
  EXPECT_EQ(record.at("request").at("steps"), 3);
  EXPECT_FALSE(record.at("request").contains("attention"));
}

TEST_F(BatchPlan, AnImageIsAPng) {
  settings_.base.num_frames = 1;
  EXPECT_EQ(plan("A fox.\n")[0].outputs[0].file, "sample_0000.png");
}

TEST_F(BatchPlan, LimitAndShardsTakeWholePromptsAndKeepTheirNames) {
  settings_.limit = 5;
  const auto samples = plan("a\nb\nc\nd\ne\nf\ng\n");
  Texts all;
  for (const int i : {1, 2})
    for (const auto& name : files_of(of_shard(samples, {i, 2}))) all.push_back(name);
  EXPECT_EQ(all, (Texts{"sample_0000", "sample_0002", "sample_0004", "sample_0001", "sample_0003"}));
  EXPECT_TRUE(of_shard(plan("a\nb\n"), {7, 8}).empty());
}

TEST_F(BatchPlan, ConditionsAreMovedToWhatTheModelMakes) {
  const auto sample =
      plan("A fox. {\"width\": 45, \"height\": 17, \"num_frames\": 3, \"fps\": 12, \"seed\": 9}\n")[0];
  ASSERT_EQ(sample.error, "");
  const auto& request = sample.outputs[0].request;
  EXPECT_EQ(request.width, 48);
  EXPECT_EQ(request.height, 16);
  EXPECT_EQ(request.num_frames, 3);
  EXPECT_EQ(request.fps, 12);
  EXPECT_EQ(request.seed, 9u);
  EXPECT_EQ(sample.seed, 9u);
  EXPECT_EQ(sample.notices, (Texts{"45x17, 3 frames is moved to 48x16, 3 frames"}));
  EXPECT_TRUE(plan("A fox. {\"width\": 48}\n")[0].notices.empty());
}

TEST_F(BatchPlan, ASeedOfItsOwnIsAPromptsFirst) {
  const auto seeds = [&] {
    std::vector<uint64_t> all;
    for (const auto& sample : plan("A fox.\nA cat. {\"seed\": 9}\n")) all.push_back(sample.seed);
    return all;
  };
  settings_.seeds.count = 2;
  EXPECT_EQ(seeds(), (std::vector<uint64_t>{0, 1, 9, 10}));
  settings_.seeds = parse_seeds("3,5");
  EXPECT_EQ(seeds(), (std::vector<uint64_t>{3, 5, 9}));
}

TEST_F(BatchPlan, JsonLinesWinOverFlags) {
  settings_.base.steps = 7;
  settings_.base.fps = 24;
  const auto samples = plan("p.jsonl", R"({"prompt": "A fox.", "steps": 4, "model": "fake", "device": "cpu"}
{"prompt": "A cat.", "steps": "many"}
{"prompt": "A dog.", "model": "another"}
{"prompt": "A hen.", "output": "hen.mp4"}
{"prompt": "A cow.", "width": 999999999}
{"prompt": "A pig.", "width": 17}
{"prompt": "An ox.", "attention": "reference"})");
  ASSERT_EQ(samples.size(), 7u);
  EXPECT_EQ(samples[0].outputs.at(0).request.steps, 4);
  EXPECT_EQ(samples[0].outputs.at(0).request.fps, 24);
  EXPECT_EQ(samples[1].error, "request: \"steps\" is \"many\", not a whole number");
  EXPECT_EQ(samples[2].error, "the request's model is \"another\", and this batch's is \"fake\"");
  EXPECT_THAT(samples[3].error, StartsWith("the request has the key output"));
  EXPECT_EQ(samples[4].error, "width is 999999999, not within 1 to 16384");
  EXPECT_EQ(samples[5].error, "width is not a multiple of 8") << "what a request says is not moved";
  EXPECT_EQ(samples[6].outputs.at(0).request.attention, "reference");
  settings_.specs = {"sdpa(math)"};
  EXPECT_THAT(plan("p.jsonl", R"({"prompt": "An ox.", "attention": "reference"})")[0].error,
              StartsWith("the request has an attention of its own"));
}

TEST_F(BatchPlan, KeysOfARequestThatSayNothingAreNoNames) {
  const auto stored =
      plan("p.jsonl", R"({"prompt": "A fox.", "output": "", "latents": "", "preview": 0})")[0];
  EXPECT_EQ(stored.error, "");
  EXPECT_THAT(plan("p.jsonl", R"({"prompt": "A fox.", "preview": 2})")[0].error,
              StartsWith("the request has the key preview"));
}

// Its video would stand under the name of one backend, made by two.
TEST_F(BatchPlan, ALineDoesNotSwitchAwayFromTheBackendsOfTheBatch) {
  const char* const kLine = R"({"prompt": "A fox.", "attention_at": ["1=reference"]})";
  EXPECT_EQ(plan("p.jsonl", kLine)[0].error, "");
  settings_.specs = {"sdpa(math)", "reference"};
  EXPECT_THAT(plan("p.jsonl", kLine)[0].error, StartsWith("the request has an attention_at of its own"));
  EXPECT_EQ(plan("p.jsonl", R"({"prompt": "A fox.", "attention": "", "attention_at": []})")[0].error, "");
}

TEST_F(BatchPlan, WhatFitsNoPromptIsToldOnce) {
  settings_.base.width = 17;
  EXPECT_THROW(plan("A fox.\n"), Error);
}

TEST_F(BatchPlan, AChangedRequestIsRefusedWithTheDifference) {
  const auto before = plan("A fox.\nA cat.\n");
  Records records;
  for (const auto& sample : before) records[sample.key()] = sample.record();
  check_unchanged(before, records);
  check_unchanged(plan("A fox.\nA cat.\nA dog.\n"), records);  // more is no change
  auto elsewhere = records;
  for (auto& [key, record] : elsewhere) record["request"]["device"] = "cpu:1";
  check_unchanged(before, elsewhere);
  const auto refusal = [&](const std::string& text) {
    const auto now = plan(text);
    return wrong_use([&] { check_unchanged(now, records); });
  };
  EXPECT_EQ(
      refusal("A fox.\nA cow.\n"),
      "this folder holds a batch of other requests; line 2, \"A cow.\": request.prompt was \"A cat.\" and is "
      "\"A cow.\"");
  settings_.base.steps = 9;
  settings_.base.seed = 4;
  EXPECT_THAT(refusal("A fox.\n"),
              HasSubstr("request.seed was 0 and is 4; request.steps was 3 and is 9; seed was 0"));
  settings_.base.steps.reset();
  settings_.base.seed = 0;
  settings_.specs = {"sdpa(math)", "reference"};
  EXPECT_THAT(refusal("A fox.\n"), HasSubstr("outputs.1.attention was not there and is \"reference\""));
}

TEST_F(BatchPlan, ALineThatWentBadIsAChangeOfWhatWasMade) {
  Records records;
  const auto before = plan("A fox.\n")[0];
  records[before.key()] = before.record();
  const auto now = plan("A fox. {\"ref\": \"a.png\"}\n");
  check_unchanged(now, records);  // nothing is made of it
  records[before.key()]["status"] = "done";
  EXPECT_THAT(wrong_use([&] { check_unchanged(now, records); }),
              HasSubstr("it was made of another line, and of this one: condition ref is not supported"));
}

TEST_F(BatchPlan, WhatMemoryChoseIsOneForAllSpecsAndNoChange) {
  int calls = 0;
  family_.resolve = [&, inner = family_.resolve](const Request& request) {
    auto r = inner(request);
    if (r.vae_tiling == "auto") r.vae_tiling = ++calls % 2 ? "off" : "on";
    if (r.offload == "auto") r.offload = "none";
    return r;
  };
  settings_.specs = {"sdpa(math)", "reference"};
  const auto before = plan("A fox.\n");
  EXPECT_EQ(before[0].outputs[0].request.vae_tiling, before[0].outputs[1].request.vae_tiling);
  Records records;
  records[before[0].key()] = before[0].record();
  records[before[0].key()]["request"]["vae_tiling"] =
      before[0].outputs[0].request.vae_tiling == "off" ? "on" : "off";
  EXPECT_EQ(wrong_use([&] { check_unchanged(before, records); }), "");
  settings_.base.vae_tiling = before[0].outputs[0].request.vae_tiling;  // asked for: no matter of memory
  EXPECT_THAT(wrong_use([&] { check_unchanged(plan("A fox.\n"), records); }),
              HasSubstr("request.vae_tiling"));
}

TEST_F(BatchPlan, ShardsAreOfOneBatchWhereverTheyRun) {
  const std::string prompts = "A fox.\nA cat.\n";
  Records records;
  for (const auto& sample : of_shard(plan(prompts), {1, 2})) {
    records[sample.key()] = sample.record();
    records[sample.key()]["request"]["device"] = "cuda:3";
    records[sample.key()]["request"]["model"] = "/mnt/fake";
  }
  EXPECT_EQ(wrong_use([&] { check_shards_agree(plan(prompts), records); }), "");
  settings_.base.steps = 9;
  EXPECT_THAT(wrong_use([&] { check_shards_agree(plan(prompts), records); }),
              HasSubstr("line 1, \"A fox.\": request.steps was 3 and is 9"));
}

}  // namespace
}  // namespace sagelab::batch
