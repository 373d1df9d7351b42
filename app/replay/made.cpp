// SPDX-License-Identifier: Apache-2.0
#include "app/replay/made.h"

#include <fmt/format.h>

#include <algorithm>

#include "app/system.h"
#include "pipelines/core/files/sha256.h"

namespace sagelab {
namespace {

using nlohmann::json;

std::string shown(const json& value) {
  return value.is_string() ? value.get<std::string>() : value.is_null() ? "none" : value.dump();
}

json names_of(const json& served) {
  json names = json::array();
  for (const auto& [name, calls] : served.items()) names.push_back(name);
  return names;
}

bool has_sage(const json& names) {
  return std::any_of(names.begin(), names.end(),
                     [](const json& name) { return name.get<std::string>().starts_with("sage2"); });
}

json at_or_null(const json& object, const char* key) {
  return object.is_object() && object.contains(key) ? object.at(key) : json();
}

class Differences {
 public:
  Differences(const json& then, const json& now) : then_(then), now_(now) {}

  void values(const std::string& what, const json& then, const json& now) {
    if (then != now) lines_.push_back(fmt::format("{}: {} then, {} now", what, shown(then), shown(now)));
  }
  void of(const char* key, const std::string& what) {
    values(what, at_or_null(then_, key), at_or_null(now_, key));
  }
  void versions() {
    const auto then = at_or_null(then_, "versions"), now = at_or_null(now_, "versions");
    for (const char* key : {"sagelab", "torch", "cuda"})
      values(std::string("version of ") + key, at_or_null(then, key), at_or_null(now, key));
  }
  void attention() {
    const auto served = [](const json& made) {
      return names_of(at_or_null(at_or_null(made, "attention"), "served"));
    };
    const auto then = served(then_), now = served(now_);
    values("attention", then, now);
    // The CPU alone counts threads.
    const bool on_cpu_then = !at_or_null(then_, "threads").is_null(),
               on_cpu_now = !at_or_null(now_, "threads").is_null();
    if (on_cpu_then == on_cpu_now || !has_sage(then) || !has_sage(now)) return;
    lines_.push_back(on_cpu_then ? "sage2 was emulated on the CPU then, and ran on the GPU now"
                                 : "sage2 ran on the GPU then, and is emulated on the CPU now");
  }
  void weights() {
    const auto then = at_or_null(then_, "weights"), now = at_or_null(now_, "weights");
    if (!then.is_object()) return;
    for (const auto& [component, digest] : then.items()) {
      if (at_or_null(now, component.c_str()) == digest) continue;
      lines_.push_back(
          component == "configs"
              ? "the model's configs or tokenizer are not those of then"
              : fmt::format("the weights of {} are not those of then: their headers (names, shapes, "
                            "dtypes, sizes) differ",
                            component));
    }
  }
  void decoded() {
    const auto apart = at_or_null(then_, "decoded");
    if (apart.is_object())
      lines_.push_back(fmt::format("it was denoised on {} in {}, and decoded apart on {} in {}",
                                   shown(at_or_null(apart, "device")), shown(at_or_null(apart, "dtype")),
                                   shown(at_or_null(then_, "device")), shown(at_or_null(then_, "dtype"))));
  }
  std::vector<std::string> lines() && { return std::move(lines_); }

 private:
  const json &then_, &now_;
  std::vector<std::string> lines_;
};

}  // namespace

std::string frames_digest(const Picture& picture) {
  Sha256 sum;
  sum.add(fmt::format("rgb8 {}x{}x{}\n", picture.frames, picture.height, picture.width));
  sum.add(std::span(picture.pixels));
  return sum.hex();
}

json made_of(const Family& family, const Request& request, const Result& result, const json& report) {
  const auto& picture = *result.picture;
  const auto device = resolve_target(request).device;
  json served = json::object(), switches = json::array(), decoded;
  for (const auto& [name, calls] : report.at("attention").at("served").items())
    served[name] = calls.at("calls");
  for (const auto& taken : result.switches) switches.push_back(taken.at());
  if (result.denoised.is_object()) {
    served = result.denoised.value("served", served);
    switches = result.denoised.value("switches", switches);
    const auto first = request_of_latents(result.latents_file);
    if (first.device != request.device || first.dtype != request.dtype)
      decoded = {{"device", first.device}, {"dtype", first.dtype}};
  }
  auto version = versions();
  version.erase("libav");  // it writes what is done by then
  json made{{"frames",
             {{"digest", picture.frames > 0 ? json(frames_digest(picture)) : json()},
              {"count", picture.frames},
              {"width", picture.width},
              {"height", picture.height}}},
            {"versions", version},
            {"device", device_info(device).name},
            {"dtype", request.dtype},
            {"attention", {{"served", served}}},
            {"switches", switches},
            {"weights", model_digests(family, request)}};
  if (device.is_cpu()) made["threads"] = cpu_threads();
  if (!decoded.is_null()) made["decoded"] = decoded;
  return made;
}

std::vector<std::string> differences(const json& then, const json& now) {
  Differences all(then, now);
  all.of("device", "device");
  all.of("threads", "threads of the CPU");
  all.of("dtype", "dtype");
  all.versions();
  all.attention();
  all.of("switches", "switches of attention");
  all.weights();
  all.decoded();
  return std::move(all).lines();
}

}  // namespace sagelab
