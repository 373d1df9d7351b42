// SPDX-License-Identifier: Apache-2.0
#include "app/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <limits>

#include <CLI/CLI.hpp>

#include "app/failure.h"
#include "app/media/output.h"
#include "app/replay/origin.h"
#include "attention/registry.h"
#include "pipelines/common/weights/weight_files.h"
#include "pipelines/core/config.h"
#include "pipelines/core/utf8.h"
#include "pipelines/registry.h"
#include "pipelines/saved/checkpoint.h"

namespace sagelab {
namespace {

template <typename T>
void override_with(const std::optional<T>& flag, T& field) {
  if (flag) field = *flag;
}

template <typename T>
void override_with(const std::optional<T>& flag, std::optional<T>& field) {
  if (flag) field = flag;
}

std::string dashed(std::string name) {
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

std::string text_of(const OptionValue& value) {
  return nlohmann::json(std::visit([](const auto& v) { return nlohmann::json(v); }, value)).dump();
}

// "--flag value" or "--flag=value"; the last one wins, as in the parser.
std::string value_of(std::span<const char* const> arguments, const std::string& flag) {
  std::string value;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string argument = arguments[i];
    if (argument == flag && i + 1 < arguments.size()) value = arguments[++i];
    if (argument.starts_with(flag + "=")) value = argument.substr(flag.size() + 1);
  }
  return value;
}

Request request_of_file(const std::string& file) {
  try {
    return request_of_output(read_json(file));
  } catch (const Error& e) {
    throw Error(std::string("--request: ") + e.what(),
                "give it a JSON file like the request.json of a frames folder");
  }
}

void check_output(const std::string& name) {
  if (name.empty()) return;
  try {
    media::kind_of(name);
  } catch (const Error& e) {
    throw UsageError(e.what(), e.hint());
  }
}

void check_spec(const std::string& spec) {
  if (spec.empty()) return;
  try {
    attention::make_backend(spec);
  } catch (const Error& e) {
    throw UsageError(e.what(), e.hint());
  }
}

void check_weights(const Request& request) {
  try {
    WeightFiles{request};
  } catch (const Error& e) {
    throw UsageError(e.what(), e.hint());
  }
}

template <typename T>
void check_range(const char* name, const std::optional<T>& value, T least, T most) {
  if (value && !(*value >= least && *value <= most))
    throw UsageError(fmt::format("{} is {}, not within {} to {}", name, *value, least, most));
}

// Far beyond what any model makes; within them no size or count overflows.
void check_ranges(const Request& r) {
  constexpr int kMostPixels = 16384, kMostFrames = 4096, kMostSteps = 10000;
  check_range("width", r.width, 1, kMostPixels);
  check_range("height", r.height, 1, kMostPixels);
  check_range("num_frames", r.num_frames, 1, kMostFrames);
  check_range("steps", r.steps, 1, kMostSteps);
  check_range("preview", std::optional(r.preview), 0, kMostSteps);
  check_range("fps", r.fps, 0.1, 1000.0);
}

void check_texts(const Request& r) {
  check_flag_text(r.prompt, "prompt");
  check_flag_text(r.negative_prompt, "negative prompt");
  check_flag_text(r.model, "name of the model folder");
  check_flag_text(r.variant, "variant");
  for (const auto& text : r.weights) check_flag_text(text, "name of a file of weights");
  check_flag_text(r.attention, "attention");
  for (const auto& text : r.attention_at) check_flag_text(text, "switch of attention");
  check_flag_text(r.output, "name of the output");
  check_flag_text(r.latents, "name of the latents file");
  for (const auto& [name, value] : r.options)
    if (const auto* text = std::get_if<std::string>(&value))
      check_flag_text(*text, ("option " + name).c_str());
}

void check_latents(const std::string& name) {
  std::error_code ignored;
  if (name.ends_with('/') || std::filesystem::is_directory(name, ignored))
    throw UsageError("--latents " + name + " is a folder, not a file", "name it x.safetensors");
}

// CLI11 would take -1 for 2^64 - 1, what lies above for that too, and 010 for 8.
uint64_t seed_of(const std::string& text) {
  uint64_t seed = 0;
  const auto* end = text.data() + text.size();
  const auto [last, error] = std::from_chars(text.data(), end, seed);
  if (error != std::errc() || last != end)
    throw CLI::ValidationError("--seed", text + " is no whole number from 0 to 18446744073709551615");
  return seed;
}

void take_all(CLI::App& app, const char* flag, const char* type) {
  app.get_option(flag)->type_name(type)->allow_extra_args(false)->multi_option_policy(
      CLI::MultiOptionPolicy::TakeAll);
}

// Not the names of what the first run wrote: they are its own.
Request request_to_decode(const std::string& latents) {
  check_flag_text(latents, "name of the latents file");
  auto request = request_of_latents(latents);
  request.output.clear();
  request.latents.clear();
  request.preview = 0;
  return request;
}

}  // namespace

void check_request(const Request& request) {
  check_texts(request);
  check_ranges(request);
  check_spec(request.attention);
  check_weights(request);
  constexpr int kAny = std::numeric_limits<int>::max();
  check_switches(request, request.steps.value_or(kAny), kAny);
}

void check_switches(const Request& request, int steps, int calls_of_a_step) {
  try {
    attention::require_within(switches_of(request), steps, calls_of_a_step);
  } catch (const Error& e) {
    throw UsageError(e.what(), e.hint());
  }
}

std::string check_device(const std::string& name) {
  const bool indexed = name.starts_with("cuda:") && name.size() > 5 &&
                       name.find_first_not_of("0123456789", 5) == std::string::npos;
  if (indexed || name == "auto" || name == "cpu" || name == "cuda") return {};
  return name + " not in {auto,cpu,cuda,cuda:N}";
}

void check_flag_text(const std::string& text, const char* what) {
  try {
    check_utf8(text, what);
  } catch (const Error& e) {
    throw UsageError(e.what(), "pass the text in UTF-8");
  }
}

template <typename T>
void RequestFlags::add(CLI::App& app, const std::string& flag, std::optional<T> RequestFlags::*value,
                       const std::string& help) {
  app.add_option(flag, this->*value, help);
}

RequestFlags::RequestFlags(CLI::App& app, std::initializer_list<const char*> without) {
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  add(app, "--model", &RequestFlags::model_, "a diffusers folder");
  add(app, "--prompt", &RequestFlags::prompt_, "what to show");
  add(app, "--negative-prompt", &RequestFlags::negative_prompt_, "what not to show");
  add(app, "--width", &RequestFlags::width_, "pixels");
  add(app, "--height", &RequestFlags::height_, "pixels");
  add(app, "--num-frames", &RequestFlags::num_frames_, "frames; 1 is an image");
  add(app, "--steps", &RequestFlags::steps_, "denoising steps");
  add(app, "--guidance-scale", &RequestFlags::guidance_scale_,
      "guidance: classifier-free, where 1 turns it off, or what the model takes as an input");
  app.add_option_function<std::string>(
         "--seed", [this](const std::string& text) { seed_ = seed_of(text); }, "of the initial noise [0]")
      ->type_name("UINT");
  add(app, "--dtype", &RequestFlags::dtype_, "auto: the checkpoint's own on CUDA, fp32 on the CPU");
  add(app, "--device", &RequestFlags::device_, "auto, cpu, cuda or cuda:N");
  add(app, "--variant", &RequestFlags::variant_, "which files of the folder: fp16, bf16");
  add(app, "--weights", &RequestFlags::weights_,
      "COMPONENT=FILE, as often as you like: a single .safetensors file in place of a component's own");
  add(app, "--attention", &RequestFlags::attention_, "a backend: see sagelab info");
  add(app, "--attention-switch", &RequestFlags::attention_switch_, "when a live switch takes effect");
  add(app, "--attention-at", &RequestFlags::attention_at_,
      "STEP=SPEC, as often as you like: another backend from that step on, counted from 0");
  add(app, "--vae-tiling", &RequestFlags::vae_tiling_, "decode in tiles: less memory, slightly other pixels");
  add(app, "--offload", &RequestFlags::offload_,
      "encoders: free text encoders before denoising; layers: keep the transformer's blocks in host memory "
      "too, slower");
  add(app, "--fps", &RequestFlags::fps_, "frames per second of the file");
  add(app, "--preview", &RequestFlags::preview_,
      "a preview of the latents every N steps, as <output>.preview.png");
  add(app, "--output", &RequestFlags::output_, "x.mp4, x.png (one frame) or folder/ (PNG frames)");
  add(app, "--latents", &RequestFlags::latents_, "keep the finished latents in this safetensors file");
  add(app, "--request", &RequestFlags::request_file_, "a JSON file with any of these; flags win over it");
  add(app, "--from-latents", &RequestFlags::from_latents_,
      "decode latents that an earlier run kept; nothing is denoised");
  app.get_option("--device")->check(CLI::Validator(check_device, "auto|cpu|cuda|cuda:N"));
  app.get_option("--dtype")->check(CLI::IsMember({"auto", "fp32", "fp16", "bf16"}));
  app.get_option("--attention-switch")->check(CLI::IsMember({"forward", "call"}));
  take_all(app, "--attention-at", "STEP=SPEC");
  take_all(app, "--weights", "COMPONENT=FILE");
  app.get_option("--vae-tiling")->check(CLI::IsMember({"auto", "on", "off"}));
  app.get_option("--offload")->check(CLI::IsMember({"auto", "none", "encoders", "layers"}));
  for (const auto* flag : without) app.remove_option(app.get_option(flag));
  asks_prompt_ = app.get_option_no_throw("--prompt") != nullptr;
}

void RequestFlags::add_options(CLI::App& app, const std::string& family, const std::vector<Option>& table) {
  for (const auto& option : table) {
    const auto name = option.name;
    const auto flag = dashed(name);
    const auto help = option.help + " [" + text_of(option.fallback) + "]";
    CLI::Option* added = nullptr;
    if (std::holds_alternative<bool>(option.fallback)) {
      added = app.add_flag(
          "--" + flag + ",!--no-" + flag, [this, name](int64_t count) { options_[name] = count > 0; }, help);
    } else if (std::holds_alternative<int64_t>(option.fallback)) {
      added = app.add_option_function<int64_t>(
          "--" + flag, [this, name](const int64_t& v) { options_[name] = v; }, help);
    } else if (std::holds_alternative<double>(option.fallback)) {
      added = app.add_option_function<double>(
          "--" + flag, [this, name](const double& v) { options_[name] = v; }, help);
    } else {
      added = app.add_option_function<std::string>(
          "--" + flag, [this, name](const std::string& v) { options_[name] = v; }, help);
      if (!option.choices.empty()) added->check(CLI::IsMember(option.choices));
    }
    if (option.min < option.max && std::holds_alternative<int64_t>(option.fallback))
      added->check(CLI::Range(int64_t(option.min), int64_t(option.max)));
    else if (option.min < option.max)
      added->check(CLI::Range(option.min, option.max));
    added->group("Options of " + family);
  }
}

void RequestFlags::add_resume(CLI::App& app) {
  add(app, "--resume", &RequestFlags::resume_, "go on from what --checkpoint-every left, as it began");
  app.get_option("--resume")->excludes("--from-latents");
}

void RequestFlags::add_decoding(CLI::App& app) {
  add(app, "--latents", &RequestFlags::from_latents_, "finished latents that an earlier run kept");
  app.get_option("--latents")->required();
}

// What is decoded is what was denoised, and what goes on is what began: of the flags, only those count that
// change nothing of it.
void RequestFlags::refuse_without_effect(const char* with, const char* why) const {
  const bool resumes = resume_.has_value();
  const std::pair<const char*, bool> kFlags[] = {{"--request", request_file_.has_value()},
                                                 {"--prompt", prompt_.has_value()},
                                                 {"--negative-prompt", negative_prompt_.has_value()},
                                                 {"--width", width_.has_value()},
                                                 {"--height", height_.has_value()},
                                                 {"--num-frames", num_frames_.has_value()},
                                                 {"--steps", steps_.has_value()},
                                                 {"--guidance-scale", guidance_scale_.has_value()},
                                                 {"--seed", seed_.has_value()},
                                                 {"--attention", attention_.has_value()},
                                                 {"--attention-switch", attention_switch_.has_value()},
                                                 {"--attention-at", attention_at_.has_value()},
                                                 {"--dtype", resumes && dtype_.has_value()},
                                                 {"--variant", resumes && variant_.has_value()},
                                                 {"--weights", resumes && weights_.has_value()},
                                                 {"--preview", !resumes && preview_.has_value()},
                                                 {"--latents", !resumes && latents_.has_value()}};
  const auto refuse = [&](const std::string& flag) {
    throw UsageError(fmt::format("{} has no effect with {}: {}", flag, with, why), "leave it out");
  };
  for (const auto& [flag, given] : kFlags)
    if (given) refuse(flag);
  if (!options_.empty()) refuse("--" + dashed(options_.begin()->first));
}

Request RequestFlags::request() const {
  Request r;
  if (from_latents_) {
    refuse_without_effect("--from-latents", "nothing is denoised");
    r = request_to_decode(*from_latents_);
  }
  if (resume_) {
    refuse_without_effect("--resume", "the run goes on as it began");
    check_flag_text(*resume_, "name of the checkpoint");
    r = read_checkpoint(*resume_).request;
  }
  if (request_file_) r = request_of_file(*request_file_);
  override_with(model_, r.model);
  override_with(prompt_, r.prompt);
  override_with(negative_prompt_, r.negative_prompt);
  override_with(width_, r.width);
  override_with(height_, r.height);
  override_with(num_frames_, r.num_frames);
  override_with(steps_, r.steps);
  override_with(guidance_scale_, r.guidance_scale);
  override_with(seed_, r.seed);
  override_with(dtype_, r.dtype);
  override_with(device_, r.device);
  override_with(variant_, r.variant);
  override_with(weights_, r.weights);
  override_with(attention_, r.attention);
  override_with(attention_switch_, r.attention_switch);
  override_with(attention_at_, r.attention_at);
  override_with(vae_tiling_, r.vae_tiling);
  override_with(offload_, r.offload);
  override_with(fps_, r.fps);
  override_with(preview_, r.preview);
  override_with(output_, r.output);
  override_with(latents_, r.latents);
  for (const auto& [name, value] : options_) r.options[name] = value;
  if (r.model.empty()) throw UsageError("no model is named", "give --model a diffusers folder");
  if (asks_prompt_ && !prompt_ && !request_file_ && !from_latents_ && !resume_)
    throw UsageError("no prompt is given", "add --prompt \"what to show\"");
  check_request(r);
  check_latents(r.latents);
  check_output(r.output);
  return r;
}

std::string model_in(std::span<const char* const> arguments) {
  if (const auto model = value_of(arguments, "--model"); !model.empty()) return model;
  const auto file = value_of(arguments, "--request"), latents = value_of(arguments, "--from-latents");
  try {
    if (!file.empty()) return request_of_output(read_json(file)).model;
    return latents.empty() ? std::string() : request_of_latents(latents).model;
  } catch (const Error&) {
    return {};
  }
}

void RequestFlags::add_options_of_model(CLI::App& app, std::span<const char* const> arguments) {
  const auto model = model_in(arguments);
  if (model.empty()) {
    if (app.get_footer().empty())
      app.footer("With --model, --help also lists the flags of the model's family.");
    return;
  }
  try {
    const auto& family = family_of(model);
    add_options(app, family.name, family.options());
  } catch (const Error&) {
    no_family_ = std::current_exception();
    app.allow_extras();  // they may be the model's; what is wrong with the model comes first
  }
}

void RequestFlags::require_model() const {
  if (no_family_) std::rethrow_exception(no_family_);
}

}  // namespace sagelab
