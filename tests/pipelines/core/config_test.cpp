// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/config.h"

#include <gtest/gtest.h>

#include "tests/pipelines/core/files.h"

namespace sagelab::testing {
namespace {

Config config_of(const char* json) {
  return Config(nlohmann::json::parse(json), "config.json");
}

TEST(Config, ReadsValuesAndDefaults) {
  Config c =
      config_of(R"({"i": -3, "d": 1e-5, "whole": 2, "b": true, "s": "silu", "is": [1, 2], "ds": [1, 0.5],
                           "ss": ["a", "b"], "none": null})");
  EXPECT_EQ(c.integer("i", 7), -3);
  EXPECT_EQ(c.number("d", 7), 1e-5);
  EXPECT_EQ(c.number("whole", 7), 2.0);
  EXPECT_EQ(c.boolean("b", false), true);
  EXPECT_EQ(c.text("s", "x"), "silu");
  EXPECT_EQ(c.integers("is", {}), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(c.numbers("ds", {}), (std::vector<double>{1, 0.5}));
  EXPECT_EQ(c.texts("ss", {}), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(c.integer("none", 7), 7);
  EXPECT_EQ(c.integer("absent", 8), 8);
  EXPECT_EQ(c.text("absent", "x"), "x");
  EXPECT_EQ(c.integers("absent", {4}), (std::vector<int64_t>{4}));
  EXPECT_FALSE(c.has("none"));
  EXPECT_FALSE(c.has("absent"));
  EXPECT_TRUE(c.has("i"));
  EXPECT_EQ(c.where(), "config.json");
  c.require_all_read();
}

TEST(Config, RefusesWrongTypes) {
  Config c = config_of(R"({"t": "4", "f": 2.5, "n": 1, "l": [1, "2"], "big": 18446744073709551615})");
  EXPECT_EQ(error_of([&] { c.integer("t", 0); }), "config.json: t = \"4\" should be an integer | ");
  EXPECT_EQ(error_of([&] { c.integer("f", 0); }), "config.json: f = 2.5 should be an integer | ");
  EXPECT_EQ(error_of([&] { c.integer("big", 0); }),
            "config.json: big = 18446744073709551615 should be an integer | ");
  EXPECT_EQ(error_of([&] { c.number("t", 0); }), "config.json: t = \"4\" should be a number | ");
  EXPECT_EQ(error_of([&] { c.boolean("n", false); }), "config.json: n = 1 should be true or false | ");
  EXPECT_EQ(error_of([&] { c.text("n", ""); }), "config.json: n = 1 should be a string | ");
  EXPECT_EQ(error_of([&] { c.integers("l", {}); }),
            "config.json: l = [1,\"2\"] should be a list of integers | ");
  EXPECT_EQ(error_of([&] { c.integers("n", {}); }), "config.json: n = 1 should be a list of integers | ");
  EXPECT_EQ(error_of([&] { c.numbers("l", {}); }),
            "config.json: l = [1,\"2\"] should be a list of numbers | ");
  EXPECT_EQ(error_of([&] { c.texts("l", {}); }), "config.json: l = [1,\"2\"] should be a list of strings | ");
}

TEST(Config, HonoursOneValueAlone) {
  Config c = config_of(R"({"a": true, "b": 1, "c": null, "d": "x"})");
  c.only("a", true);
  c.only("b", 1.0);
  c.only("c", 3);
  c.only("absent", "anything");
  EXPECT_EQ(error_of([&] { c.only("a", false); }), "config.json: a = true is not supported (only false) | ");
  EXPECT_EQ(error_of([&] { c.only("d", nullptr); }),
            "config.json: d = \"x\" is not supported (only null) | ");
}

TEST(Config, NamesTheFirstUnknownKey) {
  Config c = config_of(R"({"_class_name": "X", "known": 1, "dropout": 0.1, "ofs": null, "zeta": 4})");
  c.integer("known", 0);
  c.ignore({"dropout", "absent"});
  const std::string hint = " | nothing here knows what it changes; remove it if it changes nothing";
  EXPECT_EQ(error_of([&] { c.require_all_read(); }), "config.json: unknown key ofs = null" + hint);
  c.only("ofs", nullptr);
  EXPECT_EQ(error_of([&] { c.require_all_read(); }), "config.json: unknown key zeta = 4" + hint);
}

TEST(Config, ReadsMembersOfObjects) {
  Config c = config_of(R"({"rope": {"theta": 500, "type": "default"}, "empty": null, "number": 3})");
  EXPECT_EQ(c.number("rope.theta", 1), 500);
  EXPECT_EQ(c.number("rope.factor", 2), 2);
  EXPECT_EQ(c.number("empty.theta", 3), 3);
  EXPECT_EQ(c.number("absent.theta", 4), 4);
  EXPECT_EQ(error_of([&] { c.number("number.theta", 5); }), "config.json: number = 3 should be an object | ");
  c.integer("number", 0);
  const std::string hint = " | nothing here knows what it changes; remove it if it changes nothing";
  EXPECT_EQ(error_of([&] { c.require_all_read(); }),
            "config.json: unknown key rope.type = \"default\"" + hint);
  c.only("rope.type", "default");
  EXPECT_EQ(error_of([&] { c.require_all_read(); }), "");
}

TEST(Config, KnowsTheClass) {
  EXPECT_EQ(config_of(R"({"_class_name": "A", "architectures": ["B"]})").class_name(), "A");
  EXPECT_EQ(config_of(R"({"architectures": ["B", "C"]})").class_name(), "B");
  EXPECT_EQ(config_of(R"({"architectures": []})").class_name(), "");
  EXPECT_EQ(config_of("{}").class_name(), "");
}

TEST(Config, NamesTheFile) {
  const Folder folder;
  EXPECT_EQ(error_of([&] { Config c(folder / "none.json"); }),
            folder.str() + "/none.json: no such file | point to the folder of a whole diffusers checkpoint");
  EXPECT_EQ(error_of([&] { Config c(folder.path()); }), folder.str() + ": cannot be read: it is a folder | ");
  folder.write("bad.json", "{\n  \"a\": 1,\n}");
  EXPECT_EQ(
      error_of([&] { Config c(folder / "bad.json"); }),
      folder.str() +
          "/bad.json: not valid JSON: parse error at line 3, column 1: syntax error while parsing object key "
          "- "
          "unexpected '}'; expected string literal | the file is damaged or incomplete; download it again");
  folder.write("list.json", "[1]");
  EXPECT_EQ(error_of([&] { Config c(folder / "list.json"); }),
            folder.str() + "/list.json: a JSON object is expected, not array | ");
  folder.write("good.json", "{\"layers\": 4}");
  Config good(folder / "good.json");
  EXPECT_EQ(good.integer("layers", 0), 4);
}

}  // namespace
}  // namespace sagelab::testing
