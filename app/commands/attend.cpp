// SPDX-License-Identifier: Apache-2.0
#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <memory>

#include "app/commands/commands.h"
#include "app/failure.h"
#include "app/media/file.h"
#include "app/options.h"
#include "app/system.h"
#include "attention/dtype.h"
#include "attention/joint.h"
#include "attention/recorder.h"
#include "attention/registry.h"
#include "pipelines/core/safetensors.h"
#include "pipelines/registry.h"

namespace sagelab {
namespace {

constexpr const char* kKnown =
    "attend reads q, k and v, and where they are there q_norm.weight, k_norm.weight, rope.cos and rope.sin";
constexpr std::array kFloats{at::kDouble, at::kFloat, at::kHalf, at::kBFloat16};

// What the file holds, checked: shapes fit each other and the values are floating point.
class AttendInput {
 public:
  explicit AttendInput(const std::string& path) : file_(opened(path)) {
    for (const auto* name : {"q", "k", "v"})
      if (!has(name)) fail(fmt::format("tensor {} is missing", name), kKnown);
    for (const auto& [name, stored] : file_.tensors()) {
      if (std::find(kNames.begin(), kNames.end(), name) == kNames.end())
        fail(fmt::format("tensor {} is none that attend knows", name), kKnown);
      if (std::find(kFloats.begin(), kFloats.end(), stored.dtype) == kFloats.end())
        fail(fmt::format("{} is {}; attend takes F64, F32, F16 and BF16", name,
                         safetensors_dtype(stored.dtype)));
    }
    check_shapes();
    check_extras();
  }

  bool has(const std::string& name) const { return file_.tensors().contains(name); }
  bool prepares() const { return file_.tensors().size() > 3; }  // norm or RoPE
  at::Tensor tensor(const std::string& name) const { return has(name) ? file_.tensor(name) : at::Tensor(); }

  // Of the call that the tensors are of, where the metadata says it (`generate --capture-qkv`).
  std::optional<double> scale() const {
    const auto said = file_.metadata().find("scale");
    if (said == file_.metadata().end()) return std::nullopt;
    const std::string& text = said->second;
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
      fail(fmt::format("scale is '{}' in its metadata, which is no number", text), "choose one with --scale");
    return value;
  }
  bool causal() const {
    const auto said = file_.metadata().find("causal");
    return said != file_.metadata().end() && said->second == "true";
  }

  // Of q, k and v, if it is one.
  at::ScalarType dtype() const {
    for (const auto* name : {"k", "v"})
      if (stored(name).dtype != stored("q").dtype)
        fail(fmt::format("q is {} but {} is {}", safetensors_dtype(stored("q").dtype), name,
                         safetensors_dtype(stored(name).dtype)),
             "store them in one dtype, or choose one with --dtype");
    return stored("q").dtype;
  }

 private:
  static constexpr std::array kNames{"q", "k", "v", "q_norm.weight", "k_norm.weight", "rope.cos", "rope.sin"};

  static std::string opened(const std::string& path) {
    if (!std::filesystem::exists(path))
      throw Error(path + ": no such file", "give --input a safetensors file with q, k and v");
    return path;
  }
  const StoredTensor& stored(const std::string& name) const { return file_.tensors().at(name); }
  const std::vector<int64_t>& shape(const std::string& name) const { return stored(name).shape; }
  [[noreturn]] void fail(const std::string& what, const std::string& hint = {}) const {
    throw Error(fmt::format("{}: {}", file_.path().string(), what), hint);
  }

  void check_shapes() const {
    for (const auto* name : {"q", "k", "v"})
      if (shape(name).size() != 4)
        fail(fmt::format("{} is {}; q, k and v are [batch, tokens, heads, head dimension]", name,
                         shape(name)));
    const auto &q = shape("q"), &k = shape("k");
    if (k != shape("v")) fail(fmt::format("k is {} and v is {}; they must be of one shape", k, shape("v")));
    if (q[0] != k[0] || q[3] != k[3] || q[3] == 0 || k[2] == 0 || q[2] % k[2] != 0)
      fail(fmt::format(
          "q {} and k {} do not fit: batch and head dimension must be equal, and the heads of q a "
          "multiple of those of k",
          q, k));
  }

  void expect(const std::string& name, const std::vector<int64_t>& wanted, const char* meaning) const {
    if (has(name) && shape(name) != wanted)
      fail(fmt::format("{} is {}; {} expected: {}", name, shape(name), wanted, meaning));
  }

  void check_extras() const {
    const int64_t tokens = shape("k")[1], dim = shape("k")[3];
    if (has("rope.cos") != has("rope.sin")) fail("rope.cos and rope.sin go together", kKnown);
    if (has("rope.cos") && dim % 2 != 0)
      fail(fmt::format("RoPE rotates pairs, and a head dimension of {} is odd", dim));
    for (const auto* name : {"q_norm.weight", "k_norm.weight"}) expect(name, {dim}, "[head dimension]");
    for (const auto* name : {"rope.cos", "rope.sin"})
      expect(name, {tokens, dim / 2}, "[tokens, half the head dimension]");
    if (prepares() && shape("q")[1] != tokens)
      fail(fmt::format("q has {} tokens and k {}; with norm weights or RoPE tables they must be the same",
                       shape("q")[1], tokens));
  }

  SafetensorsFile file_;
};

struct Attend {
  std::string input, output, attention, device = "auto", dtype = "auto";
  std::optional<double> scale;
  double norm_eps = 1e-6;
  bool causal = false, lse = false;

  attention::BackendPtr backend(const at::Device& on) const {
    const auto spec = attention.empty() ? attention::default_spec(on) : attention;
    try {
      return attention::make_backend(spec);
    } catch (const Error& e) {
      throw UsageError(e.what(), e.hint());
    }
  }

  // One segment: the whole call.
  attention::Segment segment(const AttendInput& file, const Target& target) const {
    const auto there = [&](const char* name, at::ScalarType type) {
      return file.has(name) ? file.tensor(name).to(target.device, type) : at::Tensor();
    };
    const auto norm = [&](const char* name) {
      using Kind = attention::Norm::Kind;
      return attention::Norm{file.has(name) ? Kind::Rms : Kind::None, there(name, at::kFloat), {}, norm_eps};
    };
    attention::Segment s;
    s.q = there("q", target.dtype), s.k = there("k", target.dtype), s.v = there("v", target.dtype);
    s.q_norm = norm("q_norm.weight"), s.k_norm = norm("k_norm.weight");
    s.rope.cos = there("rope.cos", at::kFloat), s.rope.sin = there("rope.sin", at::kFloat);
    return s;
  }

  // A joint call has neither mask nor LSE: with one of those, norm and RoPE are a step before.
  attention::Output attend(const attention::Backend& by, attention::Segment s, bool prepares,
                           attention::Recorder& recorder) const {
    const double factor = scale.value_or(1 / std::sqrt(double(s.q.size(3))));
    attention::JointCall joint{{&s, 1}, factor, {}};
    if (prepares && !causal && !lse) {
      s.out = at::empty_like(s.q);
      by.run_joint(joint, recorder);
      return {s.out, {}};
    }
    attention::Call call{s.q, s.k, s.v, factor, causal, lse, {}, false, {}};
    if (prepares) {
      s.out = s.q;  // not written: a segment with queries names a place for them
      const auto gathered = attention::gather(joint);
      call.q = gathered.q, call.k = gathered.k, call.v = gathered.v, call.fused = gathered.fused;
    }
    return by.run(call, recorder);
  }

  void write(const attention::Output& result, const attention::Recorder& recorder,
             const Target& target) const {
    std::map<std::string, at::Tensor> tensors{{"out", result.out}};
    if (lse) tensors["lse"] = result.lse;
    write_safetensors(output, tensors, {{"attention", recorder.last_served()}});
    std::string line =
        fmt::format("{}: out {} {}", output, result.out.sizes().vec(), dtype_name(target.dtype));
    if (lse) line += fmt::format(", lse {} fp32", result.lse.sizes().vec());
    line += fmt::format("; {} on {}\n", recorder.last_served(), device_title(target.device));
    for (const auto& m : recorder.measurements())
      line += fmt::format("{} against {}: cosine {:.6f}, relative L1 {:.3g}, RMSE {:.3g}, largest {:.3g}\n",
                          m.a, m.b, m.errors.cosine, m.errors.relative_l1, m.errors.rmse, m.errors.max_abs);
    print(line);
    for (const auto& f : recorder.fallbacks())
      fmt::print(stderr, "sagelab: {} took the place of {}: {}\n", f.to, f.from, f.reason);
  }

  int run() {
    if (scale && !std::isfinite(*scale)) throw UsageError("--scale is not a finite number");
    Request request;
    request.device = device;
    request.dtype = dtype == "auto" || dtype == "fp64" ? "fp32" : dtype;
    auto target = resolve_target(request);
    const auto by = backend(target.device);
    const AttendInput file(input);
    if (!scale) scale = file.scale();
    causal = causal || file.causal();
    if (dtype == "auto") target.dtype = file.dtype();
    if (dtype == "fp64") target.dtype = at::kDouble;
    media::probe_file(output);
    const c10::InferenceMode inference;
    const c10::DeviceGuard guard(target.device);
    attention::Recorder recorder;
    const auto result = attend(*by, segment(file, target), file.prepares(), recorder);
    recorder.collect();
    write(result, recorder, target);
    return kDone;
  }
};

}  // namespace

void add_attend(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("attend", "one attention call on tensors of your own");
  auto state = std::make_shared<Attend>();
  command
      ->add_option("--input", state->input,
                   "safetensors: q [B, S, H, D], k and v [B, S, Hkv, D]; optionally q_norm.weight and "
                   "k_norm.weight [D] (RMS), rope.cos and rope.sin [S, D/2] (pairs 2j, 2j+1)")
      ->required();
  command->add_option("--output", state->output, "safetensors: out [B, S, H, D] (and lse)")->required();
  command->add_option("--attention", state->attention,
                      "a backend; check(a,b) also prints how far a is from b [the device's default]");
  command->add_flag("--causal", state->causal,
                    "query i sees keys up to i + (keys - queries) [as the file's metadata says]");
  command->add_option("--scale", state->scale,
                      "multiplies q k^T [as the file's metadata says, or 1/sqrt(D)]");
  command->add_option("--norm-eps", state->norm_eps, "of the norms [1e-6]")->check(CLI::PositiveNumber);
  command->add_flag("--lse", state->lse, "also write the log-sum-exp, fp32 [B, H, S]");
  command->add_option("--device", state->device, "auto, cpu, cuda or cuda:N")
      ->check(CLI::Validator(check_device, "auto|cpu|cuda|cuda:N"));
  command->add_option("--dtype", state->dtype, "auto: as stored")
      ->check(CLI::IsMember({"auto", "fp64", "fp32", "fp16", "bf16"}));
  command->callback([state, &exit_code] { exit_code = guarded([&] { return state->run(); }); });
}

}  // namespace sagelab
