// SPDX-License-Identifier: Apache-2.0
// What outputs say of their making: written, read back, and what is refused.
#include "app/media/stored.h"

#include <gmock/gmock.h>

#include "app/media/output.h"
#include "app/media/png.h"
#include "app/replay/origin.h"
#include "attention/error.h"
#include "tests/app/support.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;
using nlohmann::json;

class Stored : public ::testing::Test {
 protected:
  TempFolder folder_;
  // Quotes, several bytes a character, and a line's end.
  const json all_{{"model", "m"}, {"prompt", "a \"fox\"\n日の出 é"},
                  {"seed", 7},    {"output", "x"},
                  {"preview", 2}, {"made", {{"frames", {{"digest", "d"}}}, {"switches", {"2=sdpa"}}}}};

  std::string write(const std::string& name, int frames, const json& all) const {
    Frames made;
    made.picture = std::make_shared<const Picture>(smooth_clip(frames, 16, 16));
    const auto path = (folder_ / name).string();
    media::Output(path).write(made, {all.dump(), "parameters"});
    return path;
  }
  template <typename F>
  std::string error(F&& body) const {
    try {
      body();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }
  std::string origin_error(const json& all) const {
    write_file(folder_ / "r.json", all.dump());
    const auto text = error([&] { origins_of(folder_ / "r.json"); });
    const auto name = (folder_ / "r.json").string() + ": ";
    return text.starts_with(name) ? text.substr(name.size()) : text;
  }
};

TEST_F(Stored, EveryKindOfOutputSaysTheSame) {
  std::vector<std::string> files{write("a.png", 1, all_), write("f/", 2, all_)};
#ifdef SAGELAB_FFMPEG
  files.push_back(write("a.mp4", 3, all_));
#endif
  files.push_back((folder_ / "f/request.json").string());
  for (const auto& file : files) {
    EXPECT_EQ(json::parse(media::stored_text(file)), all_) << file;
    const auto origins = origins_of(file);
    ASSERT_EQ(origins.size(), 1u);
    const auto& origin = origins[0];
    EXPECT_EQ(origin.request.prompt, all_.at("prompt").get<std::string>());
    EXPECT_EQ(origin.request.attention_at, std::vector<std::string>{"2=sdpa"});
    EXPECT_EQ(origin.request.output, "") << "its own";
    EXPECT_EQ(origin.request.preview, 0);
    EXPECT_EQ(origin.made, all_.at("made"));
  }
}

TEST_F(Stored, ANameDoesNotMatter) {
  fs::rename(write("a.png", 1, all_), folder_ / "a.bin");
  EXPECT_EQ(json::parse(media::stored_text(folder_ / "a.bin")), all_);
}

TEST_F(Stored, WhatIsNotOursIsRefused) {
  const auto refused = [&](const std::string& name, const std::string& bytes) {
    write_file(folder_ / name, bytes);
    const auto text = error([&] { media::stored_text(folder_ / name); });
    return text.substr(text.rfind(name));
  };
  EXPECT_EQ(refused("a.txt", "hello"), "a.txt: is no MP4, PNG or JSON");
  EXPECT_EQ(refused("empty", ""), "empty: is no MP4, PNG or JSON");
  const auto clip = smooth_clip(1, 16, 16);
  const auto plain = media::encode_png(clip.frame(0), 16, 16, {});
  EXPECT_EQ(refused("a.png", plain), "a.png: this PNG does not say how it was made");
  EXPECT_EQ(refused("b.png", plain.substr(0, plain.size() - 5)), "b.png: is no whole PNG");
  auto damaged = plain;
  damaged[20] = char(damaged[20] ^ 1);
  EXPECT_EQ(refused("c.png", damaged), "c.png: is no whole PNG");
#ifdef SAGELAB_FFMPEG
  EXPECT_THAT(refused("a.mp4", std::string("\0\0\0\x18"
                                           "ftypisom",
                                           12)),
              ::testing::StartsWith("a.mp4: cannot be read"));
#endif
  EXPECT_EQ(error([&] { media::stored_text(folder_ / "none"); }),
            (folder_ / "none").string() + ": cannot be read: No such file or directory");
}

TEST_F(Stored, WhatSaysTooLittleIsRefused) {
  EXPECT_EQ(origin_error(all_), "no error");
  EXPECT_EQ(origin_error({{"a", 1}}), "does not say how frames were made");
  auto older = all_;
  older.erase("made");
  EXPECT_EQ(origin_error(older), "holds no digest of its frames");
  auto damaged = all_;
  damaged["made"]["switches"] = 3;
  EXPECT_EQ(origin_error(damaged), "what it says of its making is damaged");
  damaged = all_;
  damaged["sed"] = 3;
  EXPECT_EQ(origin_error(damaged), "request: unknown key \"sed\"");
  EXPECT_EQ(origin_error({{"kind", "sagelab compare"}, {"request", json::object()}}),
            "is drawn from several runs");
  write_file(folder_ / "r.json", "{\"model\": ");
  EXPECT_EQ(error([&] { origins_of(folder_ / "r.json"); }),
            (folder_ / "r.json").string() + ": what it says of its making is no JSON");
}

TEST_F(Stored, AReportHoldsTheRunOrSeveral) {
  auto request = all_;
  request.erase("made");
  const json report{{"request", request}, {"made", all_.at("made")}, {"steps", json::array()}};
  write_file(folder_ / "r.json", report.dump());
  EXPECT_EQ(origins_of(folder_ / "r.json").at(0).request.seed, 7u);
  const json comparison{
      {"kind", "sagelab compare"},
      {"runs", {{{"label", "a"}, {"report", report}}, {{"label", "b"}, {"report", report}}}}};
  write_file(folder_ / "r.json", comparison.dump());
  const auto origins = origins_of(folder_ / "r.json");
  ASSERT_EQ(origins.size(), 2u);
  EXPECT_EQ(origins[1].label, "b");
}

}  // namespace
}  // namespace sagelab
