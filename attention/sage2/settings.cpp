// SPDX-License-Identifier: Apache-2.0
#include "attention/sage2/settings.h"

#include <fmt/format.h>

#include <optional>
#include <span>
#include <utility>

#include "attention/spec.h"

namespace sagelab::attention::sage2 {

namespace {

template <class T>
using Word = std::pair<std::string_view, T>;

constexpr Word<Arch> kArchs[] = {{"sm80", Arch::Sm80}, {"sm89", Arch::Sm89}, {"sm90", Arch::Sm90}};
constexpr Word<Qk> kQks[] = {{"int8", Qk::Int8}, {"int4", Qk::Int4}};
constexpr Word<Pv> kPvs[] = {{"fp16", Pv::Fp16}, {"fp8", Pv::Fp8}, {"fp8half", Pv::Fp8Half}};
constexpr Word<Mean> kMeans[] = {{"full", Mean::Full}, {"sampled", Mean::Sampled}, {"off", Mean::Off}};
constexpr Word<bool> kSwitch[] = {{"on", true}, {"off", false}};
constexpr Word<VScale> kVScales[] = {
    {"channel", VScale::Channel}, {"tile", VScale::Tile}, {"sampled", VScale::Sampled}};
constexpr Word<Sum> kSums[] = {{"fp32", Sum::Fp32}, {"matrix", Sum::Matrix}};

template <class T>
std::string_view word_of(std::span<const Word<T>> words, T value) {
  for (const auto& [word, v] : words) {
    if (v == value) return word;
  }
  return {};
}

// The value given for a key; nothing where the spec leaves it out.
template <class T>
std::optional<T> read(Arguments& arguments, std::string_view key, std::span<const Word<T>> words) {
  const std::optional<std::string> given = arguments.option(key);
  if (!given) return std::nullopt;
  std::string known;
  for (const auto& [word, value] : words) {
    if (word == *given) return value;
    known += (known.empty() ? "" : ", ") + std::string(word);
  }
  arguments.fail(fmt::format("'{}' cannot be '{}',", key, *given), arguments.spec().position,
                 fmt::format("{} is one of {}", key, known));
}

bool has_kernel(Arch arch, Qk qk, Pv pv) {
  if (qk == Qk::Int4 && arch == Arch::Sm90) return false;
  return arch == Arch::Sm80 ? pv == Pv::Fp16 : arch == Arch::Sm89 ? pv != Pv::Fp16 : pv == Pv::Fp8;
}

// What the keys that are not given become.
Settings defaults_of(Arch arch, Qk qk, std::optional<Pv> pv, std::optional<VScale> v) {
  Settings s;
  s.arch = arch;
  s.qk = qk;
  s.pv = pv.value_or(arch == Arch::Sm80 ? Pv::Fp16 : Pv::Fp8);
  s.smooth_q = qk == Qk::Int4;
  // Sampled is as exact as a look at all tokens on every set that was measured, at a fraction of the reading.
  s.smooth_k = Mean::Sampled;
  s.v = v.value_or(s.pv == Pv::Fp8 ? VScale::Sampled : VScale::Channel);
  // Where a scale wants a look at all of V, the mean comes with it.
  s.smooth_v = s.pv == Pv::Fp16 ? Mean::Off : s.v == VScale::Channel ? Mean::Full : Mean::Sampled;
  // On Hopper the tensor cores sum at next to no cost: measured faster at every length, and no less exact.
  s.sum = arch == Arch::Sm90 ? Sum::Matrix : Sum::Fp32;
  return s;
}

// The machine's own, or the one that has what is asked for.
Arch implied_arch(Qk qk, std::optional<Pv> pv, std::optional<VScale> v, Arch native) {
  const Pv own = defaults_of(native, qk, {}, {}).pv;
  const Pv wanted = pv.value_or(v && *v != VScale::Channel ? Pv::Fp8 : own);
  if (has_kernel(native, qk, wanted)) return native;
  return wanted == Pv::Fp16 ? Arch::Sm80 : Arch::Sm89;
}

void check(const Settings& s, const Arguments& arguments) {
  const auto refuse = [&](const std::string& what, const std::string& hint) {
    arguments.fail(what, arguments.spec().position, hint);
  };
  const std::string_view arch = word_of<Arch>(kArchs, s.arch), pv = word_of<Pv>(kPvs, s.pv);
  if (s.arch == Arch::Sm90 && s.qk == Qk::Int4) {
    refuse("arch=sm90 has no qk=int4,", "its tensor cores have no INT4: arch=sm89 and arch=sm80 do");
  }
  if (!has_kernel(s.arch, s.qk, s.pv)) {
    refuse(fmt::format("arch={} has no pv={},", arch, pv),
           "sm80 has pv=fp16, sm89 has pv=fp8 and pv=fp8half, sm90 has pv=fp8");
  }
  if (s.smooth_q && s.qk != Qk::Int4) {
    refuse("smooth_q=on goes with qk=int4 only,", "INT8 does not need it: leave smooth_q out");
  }
  if (s.v != VScale::Channel && s.pv == Pv::Fp16) {
    refuse(fmt::format("v={} goes with fp8 only,", word_of<VScale>(kVScales, s.v)),
           "fp16 needs no scales: leave v out");
  }
  if (s.v == VScale::Sampled && s.pv == Pv::Fp8Half) {
    refuse("v=sampled goes with pv=fp8 only,",
           "the range of pv=fp8half leaves it no room: v=channel or v=tile");
  }
}

}  // namespace

Settings read_settings(Arguments& arguments, Arch native) {
  const auto arch = read<Arch>(arguments, "arch", kArchs);
  const Qk qk = read<Qk>(arguments, "qk", kQks).value_or(Qk::Int8);
  const auto pv = read<Pv>(arguments, "pv", kPvs);
  const auto v = read<VScale>(arguments, "v", kVScales);
  Settings s = defaults_of(arch.value_or(implied_arch(qk, pv, v, native)), qk, pv, v);
  s.smooth_k = read<Mean>(arguments, "mean", kMeans).value_or(s.smooth_k);
  s.smooth_v = read<Mean>(arguments, "smooth_v", kMeans).value_or(s.smooth_v);
  s.smooth_q = read<bool>(arguments, "smooth_q", kSwitch).value_or(s.smooth_q);
  s.sum = read<Sum>(arguments, "sum", kSums).value_or(s.sum);
  arguments.require_all_taken("arch, qk, pv, mean, smooth_v, smooth_q, v, sum");
  check(s, arguments);
  return s;
}

std::string to_string(const Settings& s, bool name_arch) {
  const Settings plain = defaults_of(s.arch, s.qk, {}, {}), d = defaults_of(s.arch, s.qk, s.pv, s.v);
  std::string keys;
  const auto add = [&](bool wanted, std::string_view key, std::string_view word) {
    if (wanted) keys += fmt::format("{}{}={}", keys.empty() ? "" : ",", key, word);
  };
  add(name_arch || s.arch != implied_arch(s.qk, {}, {}, Arch::Sm90), "arch", word_of<Arch>(kArchs, s.arch));
  add(s.qk != Settings{}.qk, "qk", word_of<Qk>(kQks, s.qk));
  add(s.pv != plain.pv, "pv", word_of<Pv>(kPvs, s.pv));
  add(s.smooth_k != d.smooth_k, "mean", word_of<Mean>(kMeans, s.smooth_k));
  add(s.smooth_v != d.smooth_v, "smooth_v", word_of<Mean>(kMeans, s.smooth_v));
  add(s.smooth_q != d.smooth_q, "smooth_q", word_of<bool>(kSwitch, s.smooth_q));
  add(s.v != defaults_of(s.arch, s.qk, s.pv, {}).v, "v", word_of<VScale>(kVScales, s.v));
  add(s.sum != d.sum, "sum", word_of<Sum>(kSums, s.sum));
  return keys.empty() ? "sage2" : fmt::format("sage2({})", keys);
}

}  // namespace sagelab::attention::sage2
