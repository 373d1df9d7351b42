// SPDX-License-Identifier: Apache-2.0
#include "app/batch/prompts/conditions.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "attention/error.h"
#include "pipelines/core/config.h"

namespace sagelab::batch {
namespace {

using nlohmann::json;

constexpr int kUnit = 16;  // Open-Sora's AE_SPATIAL_COMPRESSION
constexpr double kMostSide = 16384, kMostFrames = 4096;
constexpr const char* kKnown = "known: aspect_ratio, resolution, width, height, num_frames, fps, seed";

[[noreturn]] void bad_value(const std::string& key, const json& value, const std::string& wanted) {
  throw Error(fmt::format("condition {} is {}, not {}", key, shown(value), wanted));
}

// The whole text as a number.
template <typename T>
std::optional<T> number_in(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

int whole(const std::string& key, const json& value, double most) {
  const bool fits = value.is_number_integer() && value.get<double>() >= 1 && value.get<double>() <= most;
  if (!fits) bad_value(key, value, fmt::format("a whole number from 1 to {:.0f}", most));
  return value.get<int>();
}

Ratio ratio_of(const json& value) {
  const auto text = value.is_string() ? value.get<std::string>() : std::string();
  const auto colon = text.find(':');
  if (colon != std::string::npos) {
    const auto width = number_in<double>(text.substr(0, colon)),
               height = number_in<double>(text.substr(colon + 1));
    if (width && height && *width > 0 && *height > 0 && std::isfinite(*width / *height) &&
        std::isfinite(*height / *width))
      return {*width, *height};
  }
  bad_value("aspect_ratio", value, "width:height, as \"16:9\"");
}

double pixels_of(const json& value) {
  std::string text = value.is_string() ? value.get<std::string>() : value.dump();
  const bool square = !text.ends_with('p');
  if (text.ends_with("px")) text.resize(text.size() - 2);
  if (text.ends_with('p')) text.pop_back();
  const auto size = number_in<int>(text);
  if (!size || *size < kUnit || *size > kMostSide)
    bad_value("resolution", value, "like \"256px\" or \"480p\"");
  const double area = double(*size) * *size;
  return square ? area : std::floor(area / 9 * 16);
}

// "2s" and "1x" are 51 frames.
int frames_of(const json& value) {
  if (!value.is_string()) return whole("num_frames", value, kMostFrames);
  const auto text = value.get<std::string>();
  constexpr int kFrames = 51;
  for (const int times : {1, 2, 4, 8, 16}) {
    if (text == fmt::format("{}x", times)) return kFrames * times;
    if (text == fmt::format("{}s", 2 * times)) return kFrames * times;
  }
  const auto frames = number_in<int>(text);
  if (!frames) bad_value("num_frames", value, "a whole number, or one of 2s 4s 8s 16s 32s 1x 2x 4x 8x 16x");
  return whole("num_frames", *frames, kMostFrames);
}

double fps_of(const json& value) {
  if (!value.is_number() || !(value.get<double>() > 0)) bad_value("fps", value, "a number above 0");
  return value.get<double>();
}

uint64_t seed_of(const json& value) {
  const bool negative = value.is_number_integer() && !value.is_number_unsigned() && value.get<int64_t>() < 0;
  if (!value.is_number_integer() || negative) bad_value("seed", value, "a whole number of at least 0");
  return value.get<uint64_t>();
}

void refuse_pictures(const std::string& key) {
  for (const char* name : {"reference_path", "mask_strategy", "ref", "cond_type"})
    if (key == name)
      throw Error(
          fmt::format("condition {} is not supported: references and masks condition on pictures, and "
                      "this program makes videos from text alone",
                      key),
          "remove it from the line, or the line");
}

void read(const std::string& key, const json& value, Conditions& c) {
  refuse_pictures(key);
  if (key == "aspect_ratio")
    c.aspect_ratio = ratio_of(value);
  else if (key == "resolution")
    c.pixels = pixels_of(value);
  else if (key == "width")
    c.width = whole(key, value, kMostSide);
  else if (key == "height")
    c.height = whole(key, value, kMostSide);
  else if (key == "num_frames")
    c.num_frames = frames_of(value);
  else if (key == "fps")
    c.fps = fps_of(value);
  else if (key == "seed")
    c.seed = seed_of(value);
  else
    throw Error(fmt::format("unknown condition {}", key), kKnown);
}

std::string trimmed(const std::string& text) {
  constexpr const char* kSpace = " \t\r\n\v\f";
  const auto first = text.find_first_not_of(kSpace);
  if (first == std::string::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

int on_grid(double side) {
  return int(std::min(std::max(1.0, std::floor(side / kUnit)) * kUnit, kMostSide));
}

}  // namespace

std::pair<std::string, json> split_conditions(const std::string& line) {
  const auto text = trimmed(line);
  for (auto brace = text.find('{'); brace != std::string::npos; brace = text.find('{', brace + 1)) {
    const auto next = text.find_first_not_of(" \t", brace + 1);
    if (next == std::string::npos || (text[next] != '"' && text[next] != '}')) continue;  // a brace in a text
    const auto conditions = json::parse(text.substr(brace), nullptr, false);
    if (!conditions.is_object())
      throw Error(fmt::format("what follows the prompt is no JSON object: {}", text.substr(brace, 80)),
                  "write the conditions as {\"num_frames\": 49} at the end of the line");
    return {trimmed(text.substr(0, brace)), conditions};
  }
  return {text, nullptr};
}

Conditions parse_conditions(const json& json) {
  Conditions conditions;
  for (const auto& [key, value] : json.items()) read(key, value, conditions);
  if ((conditions.width || conditions.height) && (conditions.aspect_ratio || conditions.pixels))
    throw Error("width and height stand beside aspect_ratio or resolution, which set them too",
                "leave two of them out");
  return conditions;
}

std::pair<int, int> open_sora_size(double pixels, Ratio ratio) {
  const bool wide = ratio.width >= ratio.height;
  const double longer = std::max(ratio.width, ratio.height), shorter = std::min(ratio.width, ratio.height);
  const bool short_first = longer * 5 == shorter * 8;  // Open-Sora lists this one upright
  const double turned = short_first ? shorter / longer : longer / shorter;
  const int first = on_grid(std::sqrt(pixels * turned)), second = on_grid(pixels / first);
  return wide != short_first ? std::pair(first, second) : std::pair(second, first);
}

void apply(const Conditions& c, Request& request) {
  if (c.aspect_ratio || c.pixels) {
    const double width = request.width.value(), height = request.height.value();
    const auto [w, h] =
        open_sora_size(c.pixels.value_or(width * height), c.aspect_ratio.value_or(Ratio{width, height}));
    request.width = w, request.height = h;
  }
  if (c.width) request.width = c.width;
  if (c.height) request.height = c.height;
  if (c.num_frames) request.num_frames = c.num_frames;
  if (c.fps) request.fps = c.fps;
  if (c.seed) request.seed = *c.seed;
}

}  // namespace sagelab::batch
