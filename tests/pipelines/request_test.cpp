// SPDX-License-Identifier: Apache-2.0
#include "pipelines/request.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <functional>

#include "attention/error.h"
#include "pipelines/core/utf8.h"

namespace sagelab {
namespace {

using Json = nlohmann::json;

Request full_request() {
  Request r;
  r.model = "models/cog";
  r.prompt = "a fox, \"snow\" \xE6\x97\xA5";
  r.negative_prompt = "blur";
  r.width = 96;
  r.height = 64;
  r.num_frames = 9;
  r.steps = 4;
  r.guidance_scale = 3.5;
  r.seed = 18446744073709551615ULL;
  r.dtype = "bf16";
  r.device = "cuda:1";
  r.variant = "fp16";
  r.weights = {"vae=ae.safetensors"};
  r.attention = "prefer(sdpa(flash),sdpa)";
  r.attention_switch = "call";
  r.attention_at = {"2.1=sdpa", "3=sage2"};
  r.vae_tiling = "on";
  r.offload = "encoders";
  r.fps = 12.5;
  r.preview = 2;
  r.output = "out.mp4";
  r.latents = "out.latents.safetensors";
  r.options = {{"use_dynamic_cfg", true},
               {"max_sequence_length", int64_t(64)},
               {"eta", 1.0},
               {"scheduler", std::string("dpm")}};
  return r;
}

std::string message(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.hint().empty() ? e.what() : std::string(e.what()) + " | " + e.hint();
  }
  return "no error";
}

TEST(Request, GoesToJsonTextAndBack) {
  const Json json = to_json(full_request());
  const Json again = to_json(request_from_json(Json::parse(json.dump())));
  EXPECT_EQ(json, again);
  EXPECT_EQ(json.size(), 23u);
  const Request r = request_from_json(json);
  EXPECT_EQ(r.seed, 18446744073709551615ULL);
  EXPECT_EQ(r.prompt, full_request().prompt);
  EXPECT_EQ(r.attention_at, full_request().attention_at);
  EXPECT_EQ(r.weights, full_request().weights);
  EXPECT_EQ(r.options, full_request().options);  // 1.0 stays a real number, 64 a whole one
  EXPECT_EQ(*r.fps, 12.5);
}

TEST(Request, LeavesOutWhatIsUnset) {
  const Json json = to_json(Request{});
  for (const char* key :
       {"width", "height", "num_frames", "steps", "guidance_scale", "fps", "weights", "attention_at"})
    EXPECT_FALSE(json.contains(key)) << key;
  const Request r = request_from_json(Json::object());
  EXPECT_FALSE(r.width.has_value());
  EXPECT_EQ(r.dtype, "auto");
  EXPECT_FALSE(request_from_json({{"width", nullptr}}).width.has_value());
}

TEST(Request, RefusesWhatItDoesNotKnow) {
  EXPECT_EQ(message([] {
              request_from_json({{"promt", "x"}});
            }),
            "request: unknown key \"promt\" | known keys: model, prompt, negative_prompt, width, height, "
            "num_frames, "
            "steps, guidance_scale, seed, dtype, device, variant, weights, attention, attention_switch, "
            "attention_at, vae_tiling, "
            "offload, "
            "fps, preview, output, latents, options");
  EXPECT_EQ(message([] { request_from_json(Json::array()); }), "request: not a JSON object");
  EXPECT_EQ(message([] {
              request_from_json({{"width", "96"}});
            }),
            "request: \"width\" is \"96\", not a whole number");
  EXPECT_EQ(message([] {
              request_from_json({{"width", 96.5}});
            }),
            "request: \"width\" is 96.5, not a whole number");
  EXPECT_EQ(message([] {
              request_from_json({{"steps", 4294967300}});
            }),
            "request: \"steps\" is 4294967300, not a whole number");
  EXPECT_EQ(message([] {
              request_from_json({{"seed", -1}});
            }),
            "request: \"seed\" is -1, not a whole number of at least 0");
  EXPECT_EQ(message([] {
              request_from_json({{"attention_at", "3=sdpa"}});
            }),
            "request: \"attention_at\" is \"3=sdpa\", not a list of strings");
  EXPECT_EQ(message([] { request_from_json({{"prompt", 3}}); }), "request: \"prompt\" is 3, not a string");
  EXPECT_EQ(message([] {
              request_from_json({{"guidance_scale", "high"}});
            }),
            "request: \"guidance_scale\" is \"high\", not a number");
  EXPECT_EQ(message([] {
              request_from_json({{"options", {{"eta", Json::array()}}}});
            }),
            "request: \"options.eta\" is [], not true, false, a number or a string");
  EXPECT_EQ(message([] { request_from_json({{"options", 1}}); }), "request: \"options\" is 1, not an object");
}

const std::vector<Option>& table() {
  static const std::vector<Option> kTable = {{"dynamic", false, 0, 0, {}, ""},
                                             {"length", int64_t(226), 1, 4096, {}, ""},
                                             {"shift", 3.0, 0.5, 10, {}, ""},
                                             {"scheduler", std::string("auto"), 0, 0, {"auto", "ddim"}, ""}};
  return kTable;
}

TEST(Options, AreCheckedAgainstTheTable) {
  const auto check = [](const char* name, OptionValue value) {
    return message([&] { check_options({{name, value}}, table()); });
  };
  EXPECT_EQ(check("dynamic", true), "no error");
  EXPECT_EQ(check("shift", int64_t(3)), "no error");  // whole for real
  EXPECT_EQ(check("eta", 1.0), "unknown option eta | this model knows: dynamic, length, shift, scheduler");
  EXPECT_EQ(check("dynamic", int64_t(1)), "option dynamic is 1, not true or false");
  EXPECT_EQ(check("length", 2.0), "option length is 2, not a whole number");
  EXPECT_EQ(check("length", int64_t(0)), "option length is 0, not within 1 to 4096");
  EXPECT_EQ(check("shift", 11.0), "option shift is 11, not within 0.5 to 10");
  EXPECT_EQ(check("scheduler", std::string("euler")),
            "option scheduler is \"euler\", not one of: auto, ddim");
  EXPECT_EQ(check("scheduler", false), "option scheduler is false, not text");
}

TEST(Options, TakeTheRequestsValueOrTheDefault) {
  Request r;
  EXPECT_EQ(option_value(r, table(), "length"), OptionValue(int64_t(226)));
  r.options = {{"shift", int64_t(2)}, {"scheduler", std::string("ddim")}};
  EXPECT_EQ(option_value(r, table(), "shift"), OptionValue(2.0));
  EXPECT_EQ(option_value(r, table(), "scheduler"), OptionValue(std::string("ddim")));
}

TEST(Utf8, NamesTheFirstBadByte) {
  const auto check = [](std::string_view text) { return message([&] { check_utf8(text, "prompt"); }); };
  for (const char* good :
       {"", "plain", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\xA6\x8A", "\xED\x9F\xBF", "\xF4\x8F\xBF\xBF"})
    EXPECT_EQ(check(good), "no error") << good;
  const auto bad = [](const char* byte, int at) {
    return fmt::format("the prompt is not UTF-8: byte 0x{} at position {} | convert the text to UTF-8", byte,
                       at);
  };
  EXPECT_EQ(check("caf\xE9 x"), bad("e9", 3));         // Latin-1
  EXPECT_EQ(check("\xC0\x80"), bad("c0", 0));          // overlong
  EXPECT_EQ(check("a\xED\xA0\x80"), bad("ed", 1));     // surrogate
  EXPECT_EQ(check("\xF4\x90\x80\x80"), bad("f4", 0));  // past the last code point
  EXPECT_EQ(check("\xE2\x82"), bad("e2", 0));          // cut short
  EXPECT_EQ(check("\x80"), bad("80", 0));
}

}  // namespace
}  // namespace sagelab
