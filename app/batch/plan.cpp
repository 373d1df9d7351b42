// SPDX-License-Identifier: Apache-2.0
#include "app/batch/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "app/batch/prompts/conditions.h"
#include "app/batch/store/difference.h"
#include "app/failure.h"
#include "app/media/output.h"
#include "app/options.h"
#include "pipelines/core/config.h"

namespace sagelab::batch {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

template <typename T>
T number_of(std::string_view text, const char* flag, const char* wanted) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size())
    throw UsageError(fmt::format("{}: {} is {}", flag, text.empty() ? "nothing" : text, wanted));
  return value;
}

// At the commas outside of parentheses.
std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (const char c : text) {
    depth += (c == '(') - (c == ')');
    if (c == ',' && depth <= 0)
      parts.emplace_back();
    else if (c != ' ' || depth > 0)
      parts.back() += c;
  }
  return parts;
}

std::string ending_of(const Request& resolved) {
  if (resolved.num_frames == 1) return ".png";
  return media::can_write_mp4(resolved.width.value(), resolved.height.value()) ? ".mp4" : "/";
}

// A line's own keys over the flags; what a whole batch shares cannot be another for one line.
Request merged(const json& own, const Settings& settings, const Request& resolved) {
  const json nothing = to_json(Request());
  for (const char* key : {"output", "latents", "preview"})
    if (own.contains(key) && own.at(key) != nothing.at(key))
      throw Error(fmt::format("the request has the key {}, and a batch names its files itself", key),
                  "remove it from the line");
  const json base = to_json(settings.base), known = to_json(resolved);
  for (const char* key : {"model", "device", "dtype", "variant", "weights", "offload"}) {
    const auto in = [&](const json& request) { return request.value(key, json::array()); };  // none: left out
    if (own.contains(key) && in(own) != in(base) && in(own) != in(known))
      throw Error(fmt::format("the request's {} is {}, and this batch's is {}", key, shown(in(own)),
                              shown(in(known))),
                  "give it a batch of its own");
  }
  for (const char* key : {"attention", "attention_at"})
    if (own.contains(key) && !own.at(key).empty() && own.at(key) != "" && !settings.specs.empty())
      throw Error(
          fmt::format("the request has an {} of its own, and --attention names those of the batch", key),
          "leave one of the two out");
  json all = base;
  for (const auto& [key, value] : own.items()) {
    if (key == "options" && value.is_object())
      all[key].update(value);
    else
      all[key] = value;
  }
  return request_from_json(all);
}

std::string moved(const Request& from, const Request& to) {
  const auto size = [](const Request& r) {
    return fmt::format("{}x{}, {} frames", r.width.value(), r.height.value(), r.num_frames.value());
  };
  return size(from) == size(to) ? "" : fmt::format("{} is moved to {}", size(from), size(to));
}

class Planner {
 public:
  Planner(const Settings& settings, const Family& family) : settings_(settings), family_(family) {
    // What no prompt could be made with is told once, and before the first.
    for (const auto& spec : specs_of(settings.base)) {
      auto request = settings.base;
      request.attention = spec;
      resolved_ = family.resolve(request);
    }
  }

  // stem: the prompt's name.
  std::vector<Sample> samples(const Prompt& prompt, const std::string& stem) const {
    Sample first;
    first.prompt = prompt;
    first.seed = settings_.seeds.list.empty() ? settings_.base.seed : settings_.seeds.list.front();
    try {
      if (!prompt.error.empty()) throw Error(prompt.error, prompt.hint);
      const auto request = request_of(prompt, first.notices);
      std::vector<Sample> all;
      for (const auto seed : seeds_of(prompt, request)) {
        auto sample = first;
        sample.take = int(all.size());
        sample.seed = seed;
        add_outputs(sample, request, stem);
        all.push_back(std::move(sample));
      }
      return all;
    } catch (const Error& e) {
      first.error = e.what();
      first.hint = e.hint();
      return {first};
    }
  }

 private:
  std::vector<std::string> specs_of(const Request& request) const {
    return settings_.specs.empty() ? std::vector{request.attention} : settings_.specs;
  }

  Request request_of(const Prompt& prompt, std::vector<std::string>& notices) const {
    auto request = settings_.base;
    if (prompt.request.is_object()) request = merged(prompt.request, settings_, resolved_);
    request.prompt = prompt.text;
    if (prompt.conditions.is_object()) {
      const auto wanted = with_conditions(prompt, request);
      request = family_.fit ? family_.fit(wanted) : wanted;
      if (const auto text = moved(wanted, request); !text.empty()) notices.push_back(text);
    }
    check_request(request);
    return request;
  }

  Request with_conditions(const Prompt& prompt, Request request) const {
    request.width = request.width.value_or(resolved_.width.value());
    request.height = request.height.value_or(resolved_.height.value());
    request.num_frames = request.num_frames.value_or(resolved_.num_frames.value());
    apply(parse_conditions(prompt.conditions), request);
    return request;
  }

  std::vector<uint64_t> seeds_of(const Prompt& prompt, const Request& request) const {
    const auto& seeds = settings_.seeds;
    const bool own = (prompt.conditions.is_object() && prompt.conditions.contains("seed")) ||
                     (prompt.request.is_object() && prompt.request.contains("seed"));
    if (!seeds.list.empty()) return own ? std::vector{request.seed} : seeds.list;
    std::vector<uint64_t> all;
    for (int i = 0; i < seeds.count; ++i) all.push_back(request.seed + uint64_t(i));
    return all;
  }

  void add_outputs(Sample& sample, Request request, const std::string& stem) const {
    const auto specs = specs_of(request);
    const auto folders = folders_of(specs);
    request.seed = sample.seed;
    if (request.vae_tiling == "auto") sample.chosen.emplace_back("vae_tiling");
    if (request.offload == "auto") sample.chosen.emplace_back("offload");
    for (size_t i = 0; i < specs.size(); ++i) {
      request.attention = specs[i];
      Output output{family_.resolve(request), {}};
      // What is chosen by the memory that there is, is chosen once: the specs differ in attention alone.
      request.vae_tiling = output.request.vae_tiling;
      request.offload = output.request.offload;
      const auto name = name_of(stem, settings_.name_by, sample.take, settings_.seeds.several());
      output.file = folders[i] + name + ending_of(output.request);
      output.request.output = (settings_.folder / output.file).string();
      sample.outputs.push_back(std::move(output));
    }
  }

  const Settings& settings_;
  const Family& family_;
  Request resolved_;  // the base
};

using Keys = std::vector<std::string>;

// What of two records must agree for the files of one to be those of the other: which of a machine's GPUs it
// is makes no difference, nor do the request's keys that are left out.
json essence(const json& record, const Keys& left_out) {
  json essence{{"seed", record.at("seed")}, {"request", record.at("request")}, {"outputs", json::array()}};
  auto& device = essence["request"]["device"];
  device = device.get<std::string>().substr(0, device.get<std::string>().find(':'));
  for (const auto& key : left_out) essence["request"].erase(key);
  for (const auto& output : record.at("outputs"))
    essence["outputs"].push_back({{"attention", output.at("attention")}, {"file", output.at("file")}});
  return essence;
}

// Empty where the sample is as it was, or where nothing was made of it.
std::string change_of(const Sample& sample, const json& before, const Keys& left_out) {
  if (before.at("request").is_null()) return "";
  const auto now = sample.record();
  if (!now.at("request").is_null()) return difference(essence(before, left_out), essence(now, left_out));
  return before.at("status") == "done" ? "it was made of another line, and of this one: " + sample.error : "";
}

void refuse_changes(const std::vector<Sample>& samples, const Records& records, const Keys& left_out) {
  for (const auto& sample : samples) {
    const auto at = records.find(sample.key());
    if (at == records.end()) continue;
    // The memory of the moment chose these.
    auto keys = left_out;
    keys.insert(keys.end(), sample.chosen.begin(), sample.chosen.end());
    const auto text = change_of(sample, at->second, keys);
    if (text.empty()) continue;
    throw UsageError(fmt::format("this folder holds a batch of other requests; line {}, {}: {}",
                                 sample.prompt.line, shown(json(sample.prompt.text)), text),
                     "give the same command to go on with it, or choose another --output");
  }
}

}  // namespace

json Sample::record() const {
  json record{
      {"index", prompt.index}, {"take", take},       {"line", prompt.line}, {"seed", seed},
      {"prompt", prompt.text}, {"request", nullptr}, {"status", "failed"},  {"outputs", json::array()}};
  if (!prompt.path.empty()) record["path"] = prompt.path;
  if (!notices.empty()) record["notices"] = notices;
  if (!error.empty()) record["error"] = error, record["hint"] = hint;
  for (const auto& output : outputs)
    record["outputs"].push_back({{"attention", output.request.attention}, {"file", output.file}});
  if (outputs.empty()) return record;
  record["request"] = to_json(outputs.front().request);
  for (const char* key : {"attention", "output", "latents", "preview"}) record["request"].erase(key);
  return record;
}

double Sample::work() const {
  double sum = 0;
  for (const auto& [r, file] : outputs)
    sum += double(r.width.value()) * r.height.value() * r.num_frames.value() * r.steps.value();
  return sum;
}

std::vector<std::string> split_specs(const std::vector<std::string>& arguments) {
  std::vector<std::string> specs;
  for (const auto& argument : arguments)
    for (auto& spec : split(argument)) {
      if (spec.empty()) throw UsageError("--attention: a name is missing beside a comma in " + argument);
      if (std::find(specs.begin(), specs.end(), spec) != specs.end())
        throw UsageError("--attention names " + spec + " twice", "name each backend once");
      specs.push_back(std::move(spec));
    }
  return specs;
}

Seeds parse_seeds(const std::string& text) {
  constexpr int kMost = 10000;
  Seeds seeds;
  if (text.find(',') == std::string::npos) {
    seeds.count = number_of<int>(text, "--seeds", "no number of seeds, nor a list as 3,7,11");
    if (seeds.count < 1 || seeds.count > kMost)
      throw UsageError(fmt::format("--seeds: {} is not within 1 to {}", seeds.count, kMost),
                       "a single seed is given by --seed");
    return seeds;
  }
  for (const auto& part : split(text)) {
    seeds.list.push_back(number_of<uint64_t>(part, "--seeds", "no seed"));
    if (std::count(seeds.list.begin(), seeds.list.end(), seeds.list.back()) > 1)
      throw UsageError("--seeds names " + part + " twice", "name each seed once");
  }
  return seeds;
}

Shard parse_shard(const std::string& text) {
  constexpr const char* kWanted = "no shard: write 1/4 to 4/4 for the four parts of a batch";
  const auto slash = std::min(text.find('/'), text.size());
  const Shard shard{number_of<int>(text.substr(0, slash), "--shard", kWanted),
                    number_of<int>(text.substr(std::min(slash + 1, text.size())), "--shard", kWanted)};
  if (shard.count < 1 || shard.count > 10000 || shard.index < 1 || shard.index > shard.count)
    throw UsageError("--shard: " + text + " is " + kWanted);
  return shard;
}

std::vector<Sample> plan_samples(const std::vector<Prompt>& prompts, const Settings& settings,
                                 const Family& family) {
  const Planner planner(settings, family);
  const auto stems = stems_of(prompts, settings.name_by);
  const auto count = std::min(prompts.size(), size_t(settings.limit.value_or(int(prompts.size()))));
  std::vector<Sample> all;
  for (size_t i = 0; i < count; ++i)
    for (auto& sample : planner.samples(prompts[i], stems[i])) all.push_back(std::move(sample));
  return all;
}

std::vector<Sample> of_shard(const std::vector<Sample>& samples, const Shard& shard) {
  std::vector<Sample> ours;
  std::copy_if(samples.begin(), samples.end(), std::back_inserter(ours),
               [&](const Sample& s) { return s.prompt.index % shard.count == shard.index - 1; });
  return ours;
}

void check_unchanged(const std::vector<Sample>& samples, const Records& records) {
  refuse_changes(samples, records, {});
}

void check_shards_agree(const std::vector<Sample>& samples, const Records& records) {
  refuse_changes(samples, records, {"model", "device"});
}

}  // namespace sagelab::batch
