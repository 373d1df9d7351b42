// SPDX-License-Identifier: Apache-2.0
#include "pipelines/pipeline.h"

#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <new>

#include "attention/error.h"
#include "pipelines/core/memory.h"
#include "pipelines/core/safetensors.h"
#include "pipelines/footprint.h"
#include "pipelines/registry.h"

namespace sagelab {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void wait_for(const at::Device& device) {
  if (!device.is_cpu()) at::accelerator::synchronizeDevice(std::max<c10::DeviceIndex>(device.index(), 0));
}

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

// LibTorch throws its own type on CUDA; its CPU allocator throws a plain c10::Error.
bool is_out_of_memory(const std::exception& e) {
  return dynamic_cast<const c10::OutOfMemoryError*>(&e) || dynamic_cast<const std::bad_alloc*>(&e) ||
         std::string_view(e.what()).find("can't allocate memory") != std::string_view::npos;
}

std::string message_of(const std::exception& e) {
  const auto* torch = dynamic_cast<const c10::Error*>(&e);
  return torch ? first_line(torch->what_without_backtrace()) : e.what();
}

// One phase: its progress, its seconds less those of loading, its peak of tensor bytes, out of memory said
// plainly.
class Phases {
 public:
  Phases(const RunContext& run, Result& result, at::Device device)
      : run_(run), loaded_(*run.load_seconds), result_(result), device_(device) {}

  template <typename F>
  void run(const std::string& name, double& seconds, F&& body) {
    run_.check_cancelled();
    reset_tensor_peak(device_);
    const double loaded_before = loaded_;
    const auto start = Clock::now();
    const auto note = [&] {
      wait_for(device_);
      seconds = seconds_since(start) - (loaded_ - loaded_before);
      result_.peak_by_phase.emplace_back(name, peak_tensor_bytes(device_));
    };
    try {
      run_.say(Phase{name, 0, 1});
      body();
      note();
      run_.say(Phase{name, 1, 1});
    } catch (const std::exception& e) {
      if (!is_out_of_memory(e)) throw;
      throw Error(
          fmt::format("out of memory in {} on {}: {} of {} were held; {}", name, device_.str(),
                      human_bytes(tensor_bytes(device_)), human_bytes(memory_for_tensors(device_)),
                      message_of(e)),
          "ask for fewer frames or a smaller size, --vae-tiling on, --offload encoders or --dtype bf16");
    }
  }

 private:
  const RunContext& run_;
  const double& loaded_;
  Result& result_;
  at::Device device_;
};

std::shared_ptr<const Picture> preview_at(Pipeline& pipeline, const Request& request, const State& state,
                                          int done) {
  if (request.preview <= 0 || done % request.preview != 0) return nullptr;
  return std::make_shared<const Picture>(to_picture(pipeline.preview(state)));
}

void one_step(Pipeline& pipeline, const Request& request, State& state, int i, const RunContext& run,
              Timings& timings) {
  run.check_cancelled();
  const auto start = Clock::now();
  // Pinned: a switch in the middle of a forward waits for the next one.
  const attention::BackendPtr pinned = run.attention->current();
  const bool per_call = request.attention_switch == "call";
  const attention::Backend& backend =
      per_call ? static_cast<const attention::Backend&>(*run.attention) : *pinned;
  attention::Site site;
  site.step = i;
  site.steps = state.steps;
  site.branch = state.conditioning.guided ? attention::Branch::Both : attention::Branch::Cond;

  const at::Tensor prediction = pipeline.predict(state, i, Forward{backend, run.recorder, site, run.stop});
  run.check_cancelled();
  pipeline.advance(state, i, prediction);
  wait_for(state.latents.device());

  std::string name = pinned->name();
  if (const std::string last = backend.name(); last != name) name += " -> " + last;
  timings.steps.push_back({seconds_since(start), name});
  run.say(Step{i + 1, state.steps, timings.steps.back().seconds, name,
               preview_at(pipeline, request, state, i + 1)});
}

void check_finite(const at::Tensor& latents, const Request& request) {
  if (at::isfinite(latents).all().item<bool>()) return;
  throw Error(fmt::format("the finished latents hold values that are not finite (dtype {})", request.dtype),
              "the checkpoint overflows in this dtype: run it in its own (--dtype auto) or in fp32");
}

void save_latents(const std::string& file, const at::Tensor& latents, const Request& request) {
  write_safetensors(file, {{"latents", latents}}, {{"request", to_json(request).dump()}});
}

void decode_into(Result& result, Pipeline& pipeline, at::Tensor latents, const Request& request,
                 const RunContext& run) {
  at::Tensor video = pipeline.decode(latents, request, run);
  latents.reset();
  result.picture = std::make_shared<const Picture>(to_picture(video));
}

// Whatever stopped the decoding, its message also says where the finished latents are.
template <typename F>
void saying_where_latents_are(const std::string& file, F&& body) {
  const auto with_path = [&](const std::string& hint) {
    const std::string where = "the finished latents are in " + file;
    return file.empty() ? hint : hint.empty() ? where : hint + "; " + where;
  };
  try {
    body();
  } catch (const Cancelled&) {
    throw;
  } catch (const Error& e) {
    throw Error(e.what(), with_path(e.hint()));
  } catch (const std::exception& e) {
    throw Error("decoding failed: " + message_of(e), with_path({}));
  }
}

RunContext watched(const RunContext& run, Result& result) {
  RunContext watched = run;
  watched.load_seconds = &result.timings.load;
  watched.notices = &result.notices;
  return watched;
}

}  // namespace

void RunContext::check_cancelled() const {
  if (stop.stop_requested()) throw Cancelled();
}

struct Loading::Shared {
  ProgressSink sink;
  std::stop_token stop;
  int64_t said = -1;  // percent
};

Loading::Loading(const RunContext& run)
    : run_(run), shared_(std::make_shared<Shared>(Shared{run.progress, run.stop})) {}

Loading::~Loading() {
  if (run_.load_seconds) *run_.load_seconds += seconds_since(start_);
}

LoadProgress Loading::progress() {
  return [shared = shared_](int64_t done, int64_t total) {
    if (shared->stop.stop_requested()) throw Cancelled();
    if (!shared->sink || total <= 0) return;
    const int64_t percent = done * 100 / total;
    if (percent <= shared->said) return;  // there may be thousands of tensors
    shared->said = percent;
    shared->sink(Phase{"load", done, total});
  };
}

Picture to_picture(const at::Tensor& video) {
  TORCH_CHECK(video.dim() == 4 && video.size(1) == 3, "a video is [T, 3, H, W], not ", video.sizes());
  Picture picture;
  picture.frames = int(video.size(0));
  picture.height = int(video.size(2));
  picture.width = int(video.size(3));
  const int64_t frame_bytes = int64_t(picture.height) * picture.width * 3;
  picture.pixels.resize(size_t(frame_bytes) * picture.frames);
  // A frame at a time: the fp32 copy of a whole video would be the largest tensor of the decode phase.
  for (int64_t t = 0; t < video.size(0); ++t) {
    const at::Tensor unit =
        video[t].mul(0.5).add_(0.5).clamp_(0, 1);  // in the decoded dtype, as diffusers rounds
    const at::Tensor bytes =
        unit.permute({1, 2, 0}).to(at::kFloat).mul(255).round_().to(at::kByte).contiguous().cpu();
    std::copy_n(bytes.const_data_ptr<uint8_t>(), frame_bytes, picture.pixels.data() + frame_bytes * t);
  }
  return picture;
}

Result generate(Pipeline& pipeline, const Request& request, const std::string& latents_file,
                const RunContext& caller) {
  const c10::InferenceMode inference;
  count_cpu_tensors();
  Result result;
  Timings& timings = result.timings;
  const RunContext run = watched(caller, result);
  const auto start = Clock::now();
  Phases phases(run, result, resolve_target(request).device);

  Conditioning conditioning;
  std::unique_ptr<State> state;
  at::Tensor latents;
  phases.run("encode", timings.encode, [&] { conditioning = pipeline.encode(request, run); });
  phases.run("denoise", timings.denoise, [&] {
    state = pipeline.prepare(request, std::move(conditioning), run);
    for (int i = 0; i < state->steps; ++i) one_step(pipeline, request, *state, i, run, timings);
    latents = std::move(state->latents);
    state.reset();
    check_finite(latents, request);
  });
  result.latents = latents.cpu();
  if (!latents_file.empty()) save_latents(latents_file, result.latents, request);
  saying_where_latents_are(latents_file, [&] {
    phases.run("decode", timings.decode,
               [&] { decode_into(result, pipeline, std::move(latents), request, run); });
  });
  run.recorder.collect();
  timings.total = seconds_since(start);
  return result;
}

Result decode_latents(Pipeline& pipeline, const Request& request, const std::string& latents_file,
                      const RunContext& caller) {
  const c10::InferenceMode inference;
  count_cpu_tensors();
  Result result;
  const RunContext run = watched(caller, result);
  const auto start = Clock::now();
  const at::Device device = resolve_target(request).device;
  result.latents = SafetensorsFile(latents_file).tensor("latents");
  saying_where_latents_are(latents_file, [&] {
    Phases(run, result, device).run("decode", result.timings.decode, [&] {
      decode_into(result, pipeline, result.latents.to(device), request, run);
    });
  });
  result.timings.total = seconds_since(start);
  return result;
}

Request request_of_latents(const std::string& latents_file) {
  const SafetensorsFile file(latents_file);
  const auto request = file.metadata().find("request");
  if (request == file.metadata().end())
    throw Error(fmt::format("{}: no request in this file's metadata", latents_file),
                "give a latents file that this program wrote");
  return request_from_json(nlohmann::json::parse(request->second));
}

}  // namespace sagelab
