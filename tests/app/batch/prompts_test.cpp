// SPDX-License-Identifier: Apache-2.0
#include "app/batch/prompts/prompts.h"

#include <gmock/gmock.h>

#include "app/batch/prompts/conditions.h"
#include "attention/error.h"
#include "tests/app/support.h"

namespace sagelab::batch {
namespace {

using namespace sagelab::testing;
using nlohmann::json;
using Size = std::pair<int, int>;

class Prompts : public ::testing::Test {
 protected:
  PromptFile read(const std::string& name, const std::string& text) const {
    write_file(folder_ / name, text);
    return read_prompts(folder_ / name);
  }
  std::string failure_of(const std::string& name, const std::string& text) const {
    try {
      read(name, text);
      return "";
    } catch (const Error& e) {
      const std::string what = e.what(), file = (folder_ / name).string() + ": ";
      return what.starts_with(file) ? what.substr(file.size()) : what;
    }
  }
  TempFolder folder_;
};

std::string refusal_of(const json& conditions) {
  try {
    parse_conditions(conditions);
    return "";
  } catch (const Error& e) {
    return e.what();
  }
}

TEST_F(Prompts, ATextHasOneALine) {
  const auto file = read("p.txt",
                         "\xEF\xBB\xBF"
                         "A fox.\n\n  A cat’s nap. \r\n \t\nA sign: {hello}");
  ASSERT_EQ(file.prompts.size(), 3u);
  EXPECT_EQ(file.prompts[0].text, "A fox.");
  EXPECT_EQ(file.prompts[1].text, "A cat’s nap.");
  EXPECT_EQ(file.prompts[2].text, "A sign: {hello}") << "a brace without a key is a text's own";
  EXPECT_EQ(file.prompts[1].index, 1);
  EXPECT_EQ(file.prompts[1].line, 3);
  for (const auto& prompt : file.prompts) EXPECT_EQ(prompt.error, "");
}

TEST_F(Prompts, ConditionsStandBehindTheText) {
  const auto file = read("p.txt", R"(A fox. {"resolution": "480p", "aspect_ratio": "16:9", "seed": 7}
A cat.{"num_frames": "2s", "fps": 12.5})");
  EXPECT_EQ(file.prompts[0].text, "A fox.");
  EXPECT_EQ(file.prompts[0].conditions.at("seed"), 7);
  EXPECT_EQ(file.prompts[1].text, "A cat.");
  EXPECT_EQ(file.prompts[1].conditions.at("fps"), 12.5);
}

TEST_F(Prompts, ABadLineIsAnErrorOfItsOwnPrompt) {
  const auto file = read("p.txt",
                         "A fox.\n"
                         "A cat. {\"seed\": }\n"
                         "A dog. {\"reference_path\": \"dog.png\", \"mask_strategy\": \"0\"}\n"
                         "\xFF\xFE\n"
                         "{\"seed\": 1}\n"
                         "|0| a day |1| a night\n"
                         "A hen.\n");
  const auto error = [&](size_t i) { return file.prompts.at(i).error; };
  ASSERT_EQ(file.prompts.size(), 7u);
  EXPECT_EQ(error(0), "");
  EXPECT_EQ(error(1), "what follows the prompt is no JSON object: {\"seed\": }");
  EXPECT_THAT(error(2),
              ::testing::StartsWith("condition mask_strategy is not supported: references and masks"));
  EXPECT_EQ(error(3), "the line is not UTF-8: byte 0xff at position 0");
  EXPECT_EQ(file.prompts[3].text, "") << "it could be written nowhere";
  EXPECT_EQ(error(4), "the prompt is empty");
  EXPECT_THAT(error(5), ::testing::StartsWith("a prompt for each loop"));
  EXPECT_EQ(error(6), "");
  EXPECT_EQ(file.prompts[6].line, 7);
}

TEST_F(Prompts, ATableHasAColumnOfTexts) {
  const auto one = read("p.csv", "text\n\"A fox, running.\"\nA \"wild\" cat\n\"Two\nlines\"\n");
  ASSERT_EQ(one.prompts.size(), 3u);
  EXPECT_EQ(one.prompts[0].text, "A fox, running.");
  EXPECT_EQ(one.prompts[1].text, "A \"wild\" cat");
  EXPECT_EQ(one.prompts[2].text, "Two\nlines");
  EXPECT_EQ(one.prompts[2].line, 4);
  const auto two =
      read("q.CSV", "path,text,ref,fps\nclips/1.mp4,A fox.,,8\nclips/2.mp4,A cat.,cat.png,8\nx\n,,,\n");
  ASSERT_EQ(two.prompts.size(), 4u);
  EXPECT_EQ(two.prompts[0].path, "clips/1.mp4");
  EXPECT_EQ(two.prompts[0].error, "");
  EXPECT_THAT(two.prompts[1].error, ::testing::StartsWith("condition ref is not supported"));
  EXPECT_EQ(two.prompts[2].error, "the row has 1 fields, and the header has 4");
  EXPECT_EQ(two.prompts[3].error, "the prompt is empty");
  EXPECT_EQ(two.notices, (std::vector<std::string>{"these columns have no effect: fps"}));
}

TEST_F(Prompts, ConditionsInATableAreText) {
  const auto file = read("p.csv", "text\n\"A fox {\"\"seed\"\": 1}\"\n");
  EXPECT_EQ(file.prompts[0].text, "A fox {\"seed\": 1}");
  EXPECT_TRUE(file.prompts[0].conditions.is_null());
}

TEST_F(Prompts, JsonLinesAreRequests) {
  const auto file = read("p.jsonl", R"({"prompt": "A fox.", "steps": 4}

{"prompt": 3}
["A fox."]
{"prompt": "A cat.")");
  ASSERT_EQ(file.prompts.size(), 4u);
  EXPECT_EQ(file.prompts[0].text, "A fox.");
  EXPECT_EQ(file.prompts[0].request.at("steps"), 4);
  EXPECT_EQ(file.prompts[1].error, "the request has no prompt");
  EXPECT_EQ(file.prompts[2].error, "the line is no JSON object");
  EXPECT_EQ(file.prompts[3].error, "the line is no JSON object");
  EXPECT_EQ(file.prompts[3].line, 5);
}

TEST_F(Prompts, AFileThatHoldsNoneIsRefused) {
  EXPECT_EQ(failure_of("p.md", "A fox."), "of no known kind");
  EXPECT_EQ(failure_of("p.txt", "\n \n"), "no prompt is in it");
  EXPECT_EQ(failure_of("p.csv", "caption\nA fox.\n"), "no column is named text");
  EXPECT_EQ(failure_of("p.csv", "text\n\"A fox.\n"), "line 2: the quotes that open here are never closed");
  EXPECT_THROW(read_prompts(folder_ / "missing.txt"), Error);
  EXPECT_THROW(read_prompts(folder_.path()), Error);
}

// What opensora/datasets/aspect.py's get_image_size gives (training=False), as width x height.
TEST(Conditions, SizesAreOpenSoras) {
  const auto size = [](const char* resolution, const char* ratio) {
    const auto c = parse_conditions({{"resolution", resolution}, {"aspect_ratio", ratio}});
    return open_sora_size(*c.pixels, *c.aspect_ratio);
  };
  EXPECT_EQ(size("256px", "16:9"), Size(336, 192));
  EXPECT_EQ(size("256px", "9:16"), Size(192, 336));
  EXPECT_EQ(size("256px", "5:8"), Size(192, 336));
  EXPECT_EQ(size("256px", "1:1"), Size(256, 256));
  EXPECT_EQ(size("768px", "2.39:1"), Size(1184, 496));
  EXPECT_EQ(size("768px", "1:2.39"), Size(496, 1184));
  EXPECT_EQ(size("480p", "16:9"), Size(848, 480));
  EXPECT_EQ(size("480p", "9:16"), Size(480, 848));
  EXPECT_EQ(size("256", "1:1"), Size(256, 256));
}

TEST(Conditions, WhatIsMissingIsTheRequestsOwn) {
  Request r;
  r.width = 640, r.height = 320;
  apply(parse_conditions({{"resolution", 256}}), r);
  EXPECT_EQ(Size(*r.width, *r.height), Size(352, 176)) << "twice as wide as high";
  r.width = 256, r.height = 256;
  apply(parse_conditions({{"aspect_ratio", "16:9"}}), r);
  EXPECT_EQ(Size(*r.width, *r.height), Size(336, 192)) << "as many pixels";
  apply(parse_conditions({{"height", 100}}), r);
  EXPECT_EQ(Size(*r.width, *r.height), Size(336, 100));
}

TEST(Conditions, FramesAreCountedAsOpenSoraDoes) {
  const auto frames = [](const json& value) { return *parse_conditions({{"num_frames", value}}).num_frames; };
  EXPECT_EQ(frames(49), 49);
  EXPECT_EQ(frames("49"), 49);
  EXPECT_EQ(frames("1x"), 51);
  EXPECT_EQ(frames("2s"), 51);
  EXPECT_EQ(frames("4s"), 102);
  EXPECT_EQ(frames("32s"), 816);
  EXPECT_EQ(refusal_of({{"num_frames", "3s"}}),
            "condition num_frames is \"3s\", not a whole number, or one of 2s 4s 8s 16s 32s 1x 2x 4x 8x 16x");
}

TEST(Conditions, BadOnesAreRefusedByName) {
  EXPECT_EQ(refusal_of({{"motion", 3}}), "unknown condition motion");
  EXPECT_EQ(refusal_of({{"aspect_ratio", 0.56}}),
            "condition aspect_ratio is 0.56, not width:height, as \"16:9\"");
  EXPECT_EQ(refusal_of({{"aspect_ratio", "16:0"}}),
            "condition aspect_ratio is \"16:0\", not width:height, as \"16:9\"");
  EXPECT_EQ(refusal_of({{"resolution", "huge"}}),
            "condition resolution is \"huge\", not like \"256px\" or \"480p\"");
  EXPECT_EQ(refusal_of({{"seed", -1}}), "condition seed is -1, not a whole number of at least 0");
  EXPECT_EQ(refusal_of({{"fps", "fast"}}), "condition fps is \"fast\", not a number above 0");
  EXPECT_EQ(refusal_of({{"width", 1e9}}),
            "condition width is 1000000000.0, not a whole number from 1 to 16384");
  EXPECT_EQ(refusal_of({{"width", 64}, {"resolution", "256px"}}),
            "width and height stand beside aspect_ratio or resolution, which set them too");
  for (const auto* key : {"reference_path", "mask_strategy", "ref"})
    EXPECT_THAT(refusal_of({{key, "x"}}), ::testing::HasSubstr(std::string(key) + " is not supported"));
}

}  // namespace
}  // namespace sagelab::batch
