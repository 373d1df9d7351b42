// SPDX-License-Identifier: Apache-2.0
#include "pipelines/pipeline.h"

#include <ATen/ATen.h>
#include <ATen/DeviceAccelerator.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <new>
#include <optional>

#include "attention/error.h"
#include "pipelines/core/files/atomic_file.h"
#include "pipelines/core/memory.h"
#include "pipelines/footprint.h"
#include "pipelines/registry.h"
#include "pipelines/saved/checkpoint.h"

namespace sagelab {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void wait_for(const at::Device& device) {
  if (!device.is_cpu()) at::accelerator::synchronizeDevice(std::max<c10::DeviceIndex>(device.index(), 0));
}

struct OutOfMemory : Error {
  using Error::Error;
};

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
      throw OutOfMemory(fmt::format("out of memory in {} on {}: {} of {} were held at the peak{}", name,
                                    device_.str(), human_bytes(peak_tensor_bytes(device_)),
                                    human_bytes(memory_for_tensors(device_)), asked_for(e)),
                        kTakeLessMemory);
    }
  }

 private:
  const RunContext& run_;
  const double& loaded_;
  Result& result_;
  at::Device device_;
};

// A step that was made: its latents are those before it.
struct Made {
  int i = 0;
  at::Tensor latents, prediction;
};

// Of the clean latents that the step leads to: latents as they stand are mostly noise until the
// last steps. A preview that cannot be made is no reason to lose the run.
std::shared_ptr<const Picture> preview_of(Pipeline& pipeline, const State& state, const Made& step,
                                          const RunContext& run) {
  try {
    const at::Tensor clean = state.sampler->denoised(step.prediction, step.i, step.latents);
    return std::make_shared<const Picture>(to_picture(pipeline.preview(state, clean)));
  } catch (const Cancelled&) {
    throw;
  } catch (const std::exception& e) {
    run.notice("no preview: " + message_of(e));
    return nullptr;
  }
}

Timings::StepTime one_step(Pipeline& pipeline, const Request& request, State& state, int i,
                           const RunContext& run) {
  run.check_cancelled();
  const auto start = Clock::now();
  run.switching->begin(i);
  std::string name = run.switching->name();
  attention::BackendPtr backend = run.switching;
  if (run.capture) backend = std::make_shared<attention::Capture>(backend, *run.capture);
  attention::Site site;
  site.step = i;
  site.steps = state.steps;
  site.branch = state.conditioning.guided ? attention::Branch::Both : attention::Branch::Cond;

  const at::Tensor prediction = pipeline.predict(state, i, Forward{*backend, run.recorder, site, run.stop});
  run.check_cancelled();
  const Made made{i, state.latents, prediction};
  pipeline.advance(state, i, prediction);
  wait_for(state.latents.device());

  if (const std::string last = backend->name(); last != name) name += " -> " + last;
  const double seconds = seconds_since(start);
  std::shared_ptr<const Picture> preview;
  if (request.preview > 0 && (i + 1) % request.preview == 0) preview = preview_of(pipeline, state, made, run);
  run.say(Step{i + 1, state.steps, seconds, name, preview});
  return {seconds, name};
}

void check_finite(const at::Tensor& latents, const Request& request) {
  if (at::isfinite(latents).all().item<bool>()) return;
  throw Error(fmt::format("the finished latents hold values that are not finite (dtype {})", request.dtype),
              "the checkpoint overflows in this dtype: run it in its own (--dtype auto) or in fp32");
}

constexpr int64_t kHeaderRoom = 1 << 16;  // of the latents file: names, shapes and the request

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

struct Decoding {
  Request request;
  const RunContext& run;
  at::Tensor latents;  // on the run's device; undefined: the result's are
};

// Out of memory, it begins again in tiles.
void decode_phase(Phases& phases, Result& result, Pipeline& pipeline, Decoding decoding) {
  const auto run = [&] {
    phases.run("decode", result.timings.decode, [&] {
      at::Tensor latents = std::move(decoding.latents);
      if (!latents.defined()) latents = result.latents.to(resolve_target(decoding.request).device);
      decode_into(result, pipeline, std::move(latents), decoding.request, decoding.run);
    });
  };
  saying_where_latents_are(result.latents_file, [&] {
    try {
      return run();
    } catch (const OutOfMemory& e) {
      if (decoding.request.vae_tiling == "on") throw;
      decoding.run.notice(std::string(e.what()) + "; decoding again in tiles");
    }
    decoding.request.vae_tiling = "on";
    result.tiled_after_all = true;
    run();
  });
}

RunContext watched(const RunContext& run, const Request& request, Result& result) {
  RunContext watched = run;
  watched.load_seconds = &result.timings.load;
  watched.notices = &result.notices;
  watched.switching = std::make_shared<attention::Switching>(run.attention, switches_of(request),
                                                             request.attention_switch == "call");
  return watched;
}

Result without_picture(Result result, const RunContext& run, Clock::time_point start) {
  result.picture = std::make_shared<const Picture>();
  run.recorder.collect();
  result.timings.total = seconds_since(start);
  return result;
}

void go_on(const Checkpoint& begun, State& state, const RunContext& run, Timings& timings) {
  restore(begun, state, run.recorder);
  timings.steps = begun.times;
  run.notice(fmt::format("goes on after step {} of {}", begun.step, begun.steps));
}

void replace_latents(State& state, const at::Tensor& others) {
  if (!others.defined()) return;
  TORCH_CHECK(others.sizes() == state.latents.sizes(), "latents ", others.sizes(), " cannot stand for ",
              state.latents.sizes());
  state.latents = others.to(state.latents.options(), /*non_blocking=*/false, /*copy=*/true);
}

// A disk that is full is no reason to lose the run.
void leave_checkpoint(const State& state, const Request& request, const RunContext& run,
                      const Timings& timings) {
  const int done = int(timings.steps.size());
  if (!run.checkpoints || run.checkpoints->every < 1 || done % run.checkpoints->every || done == state.steps)
    return;
  try {
    auto checkpoint = checkpoint_of(state, done, request, run);
    checkpoint.times = timings.steps;
    write_checkpoint(run.checkpoints->file, checkpoint);
  } catch (const Error& e) {
    run.notice(std::string("no checkpoint: ") + e.what());
  }
}

at::Tensor denoise(Pipeline& pipeline, const Request& request, State& state, const RunContext& run,
                   Timings& timings) {
  for (int i = int(timings.steps.size()); i < state.steps; ++i) {
    if (run.hooks && run.hooks->before) replace_latents(state, run.hooks->before(i));
    timings.steps.push_back(one_step(pipeline, request, state, i, run));
    if (run.hooks && run.hooks->after) run.hooks->after(i, state.latents);
    leave_checkpoint(state, request, run, timings);
  }
  check_finite(state.latents, request);
  return std::move(state.latents);
}

}  // namespace

void RunContext::check_cancelled() const {
  if (stop.stop_requested()) throw Cancelled();
}

void RunContext::notice(const std::string& text) const {
  if (notices) {
    if (std::find(notices->begin(), notices->end(), text) != notices->end()) return;
    notices->push_back(text);
  }
  say(Notice{text});
}

std::string message_of(const std::exception& error) {
  const auto* torch = dynamic_cast<const c10::Error*>(&error);
  const std::string text = torch ? torch->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

bool is_out_of_memory(const std::exception& error) {
  return dynamic_cast<const c10::OutOfMemoryError*>(&error) || dynamic_cast<const std::bad_alloc*>(&error) ||
         std::string_view(error.what()).find("can't allocate memory") != std::string_view::npos;
}

// Of "Tried to allocate 20.00 GiB. ..." or "... tried to allocate 80 bytes. ...".
std::string asked_for(const std::exception& error) {
  constexpr std::string_view kBefore = "ried to allocate ", kBytes = " bytes";
  const std::string text = message_of(error);
  const size_t at = text.find(kBefore);
  if (at == std::string::npos) return {};
  std::string amount = text.substr(at + kBefore.size());
  amount = amount.substr(0, std::min(amount.find(". "), amount.size()));
  if (amount.ends_with('.')) amount.pop_back();
  if (amount.ends_with(kBytes)) amount = human_bytes(std::atoll(amount.c_str()));
  return fmt::format(", {} more were asked for", amount);
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
  const RunContext run = watched(caller, request, result);
  const auto start = Clock::now();
  Phases phases(run, result, resolve_target(request).device);

  std::optional<Checkpoint> begun;  // read before anything is loaded
  if (run.checkpoints && !run.checkpoints->resume.empty()) begun = read_checkpoint(run.checkpoints->resume);
  Conditioning conditioning;
  at::Tensor latents;
  std::optional<ReservedSpace> space;  // for the latents' file
  phases.run("encode", timings.encode, [&] { conditioning = pipeline.encode(request, run); });
  phases.run("denoise", timings.denoise, [&] {
    const auto state = pipeline.prepare(request, std::move(conditioning), run);
    attention::require_within(switches_of(request), state->steps, std::numeric_limits<int>::max());
    if (!latents_file.empty()) space.emplace(latents_file, int64_t(state->latents.nbytes()) + kHeaderRoom);
    if (begun) go_on(*begun, *state, run, timings);
    latents = denoise(pipeline, request, *state, run, timings);
  });
  result.latents = latents.cpu();
  result.switches = run.switching->switches();
  space.reset();
  if (!latents_file.empty()) result.latents_file = save_latents(latents_file, result.latents, request, run);
  if (run.hooks && !run.hooks->decode) return without_picture(std::move(result), run, start);
  decode_phase(phases, result, pipeline, {request, run, std::move(latents)});
  run.recorder.collect();
  timings.total = seconds_since(start);
  return result;
}

Result decode_latents(Pipeline& pipeline, const Request& request, const std::string& latents_file,
                      const RunContext& caller) {
  const c10::InferenceMode inference;
  count_cpu_tensors();
  Result result;
  const RunContext run = watched(caller, request, result);
  const auto start = Clock::now();
  const at::Device device = resolve_target(request).device;
  result.latents = read_latents(latents_file);
  result.latents_file = latents_file;
  result.denoised = denoised_by(latents_file);
  Phases phases(run, result, device);
  decode_phase(phases, result, pipeline, {request, run, {}});
  result.timings.total = seconds_since(start);
  return result;
}

}  // namespace sagelab
