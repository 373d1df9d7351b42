// SPDX-License-Identifier: Apache-2.0
#include "pipelines/saved/checkpoint.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <filesystem>
#include <mutex>
#include <set>

#include "attention/error.h"
#include "pipelines/core/files/atomic_file.h"
#include "pipelines/core/files/sha256.h"
#include "pipelines/core/safetensors.h"
#include "pipelines/registry.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Tensors = std::map<std::string, at::Tensor>;

constexpr const char* kNotLatents = "give a latents file that this program wrote";
constexpr const char* kNotCheckpoint = "give a file that generate --checkpoint-every wrote";
constexpr const char* kSampler = "sampler.";  // before the names of its tensors

std::string text_of(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

// Best first: as asked for, beside the output, in the temporary folder.
std::vector<fs::path> latents_places(const fs::path& file, const Request& request) {
  std::vector<fs::path> places{file};
  std::error_code ignored;
  const fs::path output = request.output;
  const fs::path beside = (output.has_filename() ? output : output.parent_path()).parent_path();
  for (const fs::path& folder : {beside, fs::temp_directory_path(ignored)})
    if (!folder.empty() || !output.empty()) places.push_back(free_name(folder / file.filename()));
  return places;
}

json parsed(const std::string& file, const std::string& text, const char* what) {
  auto value = json::parse(text, nullptr, false);
  if (value.is_discarded())
    throw Error(fmt::format("{}: the {} in this file's metadata is not JSON", file, what));
  return value;
}

std::string digest_of(const Tensors& tensors) {
  Sha256 sum;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor values = tensor.cpu().contiguous();
    sum.add(fmt::format("{} {} {}\n", name, safetensors_dtype(values.scalar_type()), values.nbytes()));
    sum.add({static_cast<const uint8_t*>(values.const_data_ptr()), values.nbytes()});
  }
  return sum.hex();
}

// A Site's block is static storage; names read from a file are kept for good.
std::string_view kept(const std::string& block) {
  static std::mutex mutex;
  static std::set<std::string> names;
  const std::lock_guard lock(mutex);
  return *names.insert(block).first;
}

std::vector<std::string> taken_switches(const RunContext& run) {
  std::vector<std::string> all;
  if (!run.switching) return all;
  for (const auto& taken : run.switching->switches()) all.push_back(taken.at());
  return all;
}

json to_json(const attention::ServedCall& call) {
  const auto& s = call.site;
  return {s.step, s.steps, s.layer,      s.layers,   int(s.branch),
          s.call, s.block, call.backend, call.fused, call.seconds ? json(*call.seconds) : json()};
}

attention::ServedCall call_of(const json& row) {
  attention::ServedCall call;
  call.site = {.step = row.at(0),
               .steps = row.at(1),
               .layer = row.at(2),
               .layers = row.at(3),
               .branch = attention::Branch(row.at(4).get<int>()),
               .call = row.at(5),
               .block = kept(row.at(6))};
  call.backend = row.at(7);
  call.fused = row.at(8);
  if (!row.at(9).is_null()) call.seconds = row.at(9).get<double>();
  return call;
}

Tensors tensors_of(const Checkpoint& checkpoint) {
  Tensors all{{"latents", checkpoint.latents}};
  if (checkpoint.generator.defined()) all["generator"] = checkpoint.generator;
  for (const auto& [name, tensor] : checkpoint.sampler) all[kSampler + name] = tensor;
  return all;
}

// Throws json::exception for what a checkpoint does not hold.
void read_progress(const json& progress, Checkpoint& c) {
  c.step = progress.at("step");
  c.steps = progress.at("steps");
  c.every = progress.at("every");
  for (const auto& row : progress.at("times")) c.times.push_back({row.at(0), row.at(1)});
  for (const auto& row : progress.at("calls")) c.calls.push_back(call_of(row));
  if (c.step < 1 || c.step >= c.steps || int(c.times.size()) != c.step)
    throw json::other_error::create(501, "step", nullptr);
}

Checkpoint checked_checkpoint(const std::string& file) {
  const SafetensorsFile stored(file);
  const auto& metadata = stored.metadata();
  if (!metadata.contains("checkpoint"))
    throw Error(file + (stored.tensors().contains("latents") && metadata.contains("request")
                            ? ": holds finished latents: there are no steps left to make"
                            : ": is no checkpoint"));
  Checkpoint c;
  try {
    read_progress(parsed(file, metadata.at("checkpoint"), "checkpoint"), c);
    c.request = request_from_json(parsed(file, metadata.at("request"), "request"));
    Tensors all;
    for (const auto& [name, tensor] : stored.tensors()) all[name] = stored.tensor(name);
    if (digest_of(all) != metadata.at("digest"))
      throw Error(file + ": is damaged: its tensors are not those that were written");
    c.latents = all.at("latents");
    for (const auto& [name, tensor] : all)
      if (name.starts_with(kSampler)) c.sampler[name.substr(std::string(kSampler).size())] = tensor;
    if (all.contains("generator")) c.generator = all.at("generator");
  } catch (const json::exception&) {
    throw Error(file + ": what it says of its run is damaged");
  } catch (const std::out_of_range&) {
    throw Error(file + ": a part of the checkpoint is missing");
  }
  return c;
}

// Those that took effect, whoever set them, and those planned for later: together they plan the whole run.
std::vector<std::string> switches_so_far(int step, const Request& request, const RunContext& run) {
  std::vector<std::string> all = taken_switches(run);
  for (const auto& planned : switches_of(request)) {
    if (planned.step < step) continue;
    attention::Switch later{.site = {}, .call = planned.call, .from = {}, .to = planned.backend->name()};
    later.site.step = planned.step;
    all.push_back(later.at());
  }
  return all;
}

// The request's text; where the file is something else, the message says so.
std::string latents_metadata(const SafetensorsFile& file, const std::string& key) {
  if (file.metadata().contains("checkpoint"))
    throw Error(fmt::format("{}: is of a run that has steps left, go on from it with generate --resume",
                            file.path().string()));
  const auto it = file.metadata().find(key);
  return it == file.metadata().end() ? std::string() : it->second;
}

}  // namespace

Checkpoint checkpoint_of(const State& state, int step, const Request& request, const RunContext& run) {
  Checkpoint c;
  c.request = request;
  c.request.attention_at = switches_so_far(step, request, run);
  c.step = step;
  c.steps = state.steps;
  c.every = run.checkpoints->every;
  run.recorder.collect();
  c.calls = run.recorder.calls();
  c.latents = state.latents;
  if (state.generator.defined()) c.generator = state.generator.get_state();
  if (state.sampler) c.sampler = state.sampler->memory();
  return c;
}

void write_checkpoint(const std::string& file, const Checkpoint& c) {
  json times = json::array(), calls = json::array();
  for (const auto& time : c.times) times.push_back({time.seconds, time.backend});
  for (const auto& call : c.calls) calls.push_back(to_json(call));
  const json progress{
      {"step", c.step}, {"steps", c.steps}, {"every", c.every}, {"times", times}, {"calls", calls}};
  const auto tensors = tensors_of(c);
  write_safetensors(file, tensors,
                    {{"checkpoint", text_of(progress)},
                     {"request", text_of(to_json(c.request))},
                     {"digest", digest_of(tensors)}});
}

Checkpoint read_checkpoint(const std::string& file) {
  try {
    return checked_checkpoint(file);
  } catch (const Error& e) {
    throw Error(e.what(), kNotCheckpoint);
  } catch (const c10::Error& e) {
    throw Error(fmt::format("{}: cannot be read: {}", file, message_of(e)), kNotCheckpoint);
  }
}

void restore(const Checkpoint& c, State& state, attention::Recorder& recorder) {
  const auto& now = state.latents;
  const at::ScalarType dtype = state.stepped_dtype.value_or(now.scalar_type());
  if (c.steps != state.steps || c.latents.sizes() != now.sizes() || c.latents.scalar_type() != dtype ||
      c.generator.defined() != state.generator.defined())
    throw Error(
        fmt::format("the checkpoint is of {} steps and {} latents [{}], and this run has {} and {} [{}]",
                    c.steps, safetensors_dtype(c.latents.scalar_type()), fmt::join(c.latents.sizes(), ", "),
                    state.steps, safetensors_dtype(dtype), fmt::join(now.sizes(), ", ")),
        "go on with the model that it began with");
  if (state.sampler) {
    Tensors memory;
    for (const auto& [name, tensor] : c.sampler) memory[name] = tensor.to(now.device());
    state.sampler->restore(memory);
  }
  state.latents = c.latents.to(now.device());
  if (c.generator.defined()) state.generator.set_state(c.generator);
  for (const auto& call : c.calls) {
    recorder.served(call.site, call.backend, call.fused);
    if (call.seconds) recorder.timed(call.site, [seconds = *call.seconds] { return seconds; });
  }
}

std::string save_latents(const std::string& file, const at::Tensor& latents, const Request& request,
                         const RunContext& run) {
  json denoised{{"served", json::object()}, {"switches", taken_switches(run)}};
  for (const auto& [backend, served] : run.recorder.served()) denoised["served"][backend] = served.calls;
  std::string reason;
  for (const fs::path& place : latents_places(file, request)) {
    try {
      write_safetensors(place, {{"latents", latents}},
                        {{"request", text_of(to_json(request))}, {"denoised", text_of(denoised)}});
      if (!reason.empty()) run.notice(reason + "; the finished latents are in " + place.string());
      if (run.saved_latents) *run.saved_latents = place.string();
      return place.string();
    } catch (const Error& e) {
      if (reason.empty()) reason = e.what();
    }
  }
  run.notice(reason + "; the finished latents could not be kept elsewhere either");
  return {};
}

at::Tensor read_latents(const std::string& file) {
  try {
    const SafetensorsFile stored(file);
    latents_metadata(stored, "request");
    const at::Tensor latents = stored.tensor("latents");
    if (latents.is_floating_point()) return latents;
    throw Error(fmt::format("{}: the latents are of dtype {}, which is no floating point", file,
                            safetensors_dtype(latents.scalar_type())));
  } catch (const Error& e) {
    throw Error(e.what(), kNotLatents);
  } catch (const c10::Error& e) {
    throw Error(fmt::format("{}: the latents cannot be read: {}", file, message_of(e)), kNotLatents);
  }
}

json denoised_by(const std::string& file) {
  const auto text = latents_metadata(SafetensorsFile(file), "denoised");
  const auto value = json::parse(text, nullptr, false);
  return value.is_object() ? value : json();
}

Request request_of_latents(const std::string& latents_file) {
  try {
    const auto text = latents_metadata(SafetensorsFile(latents_file), "request");
    if (text.empty()) throw Error(fmt::format("{}: no request in this file's metadata", latents_file));
    const auto json = parsed(latents_file, text, "request");
    try {
      return request_from_json(json);
    } catch (const Error& e) {
      throw Error(fmt::format("{}: {}", latents_file, e.what()));
    }
  } catch (const Error& e) {
    throw Error(e.what(), kNotLatents);
  }
}

}  // namespace sagelab
