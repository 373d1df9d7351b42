// SPDX-License-Identifier: Apache-2.0
#include "attention/wrap/check.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "attention/recorder.h"
#include "attention/registry.h"
#include "attention/spec.h"

namespace sagelab::attention {

namespace {

constexpr int64_t kDefaultRows = 256;

std::vector<at::Tensor> outs_of(const JointCall& call) {
  std::vector<at::Tensor> outs;
  for (const Segment& s : call.segments) {
    if (s.out.defined()) outs.push_back(s.out);
  }
  return outs;
}

at::Tensor whole_output(const JointCall& call) {
  at::Tensor view = destination(call);
  return view.defined() ? view : at::cat(outs_of(call), 1);
}

void record(const at::Tensor& a, const at::Tensor& b, Measurement measurement, Recorder& recorder) {
  const at::Tensor figures = error_figures(a, b);
  if (figures.is_cpu()) {
    measurement.errors = errors_from(figures);
    recorder.measured(std::move(measurement));
  } else {
    recorder.measured(measurement.site, measurement.a, measurement.b,
                      [figures] { return errors_from(figures); });
  }
}

}  // namespace

at::Tensor error_figures(const at::Tensor& a, const at::Tensor& b) {
  TORCH_CHECK(a.sizes() == b.sizes(), "check: outputs ", a.sizes(), " and ", b.sizes(), " differ in size");
  const auto options = a.options().dtype(at::kDouble);
  if (a.numel() == 0) return at::zeros({7}, options);
  const auto wide = [](const at::Tensor& t) { return t.scalar_type() == at::kDouble ? t : t.to(at::kFloat); };
  const at::Tensor x = wide(a), y = wide(b).to(x.scalar_type()), d = x - y;
  const auto sum = [](const at::Tensor& t) { return at::sum(t, at::kDouble); };
  return at::stack({sum(x * y), sum(x.square()), sum(y.square()), sum(d.abs()), sum(y.abs()),
                    at::mean(d.square(), at::kDouble), d.abs().max().to(at::kDouble)});
}

Errors errors_from(const at::Tensor& figures) {
  const at::Tensor host = figures.to(at::kCPU);
  const double* f = host.const_data_ptr<double>();
  const double xy = f[0], xx = f[1], yy = f[2], distance = f[3], size = f[4];
  Errors e;
  e.cosine = xx == 0 && yy == 0 ? 1 : xx == 0 || yy == 0 ? 0 : xy / (std::sqrt(xx) * std::sqrt(yy));
  e.relative_l1 = distance == 0 ? 0 : distance / size;
  e.rmse = std::sqrt(f[5]);
  e.max_abs = f[6];
  return e;
}

Check::Check(BackendPtr a, BackendPtr b, int64_t rows, uint64_t seed)
    : Wrapper(std::move(a)), b_(std::move(b)), rows_(rows), seed_(seed) {}

std::string Check::name() const {
  std::string name = fmt::format("check({},{}", inner()->name(), b_->name());
  if (rows_ == kAllRows) name += ",rows=all";
  if (rows_ != kAllRows && rows_ != kDefaultRows) name += fmt::format(",rows={}", rows_);
  if (seed_ != 0) name += fmt::format(",seed={}", seed_);
  return name + ")";
}

std::string Check::unsupported(const Problem& problem) const {
  const std::string reason = inner()->unsupported(problem);
  if (!reason.empty()) return reason;
  const std::string other = b_->unsupported(problem);
  return other.empty() ? "" : fmt::format("its {} cannot: {}", b_->name(), other);
}

at::Tensor Check::rows_of(const Problem& p, const Site& site) const {
  if (rows_ == kAllRows || rows_ >= p.q_len) return {};
  std::seed_seq seeds{static_cast<uint32_t>(seed_),       static_cast<uint32_t>(seed_ >> 32),
                      static_cast<uint32_t>(site.step),   static_cast<uint32_t>(site.layer),
                      static_cast<uint32_t>(site.branch), static_cast<uint32_t>(site.call)};
  std::mt19937_64 random(seeds);
  std::set<int64_t> chosen;  // Floyd's sampling: each set of rows equally likely
  for (int64_t last = p.q_len - rows_; last < p.q_len; ++last) {
    const int64_t row = static_cast<int64_t>(random() % static_cast<uint64_t>(last + 1));
    if (!chosen.insert(row).second) chosen.insert(last);
  }
  const std::vector<int64_t> rows(chosen.begin(), chosen.end());
  return at::tensor(rows, at::kLong).to(p.device, /*non_blocking=*/true);
}

void Check::compare(const at::Tensor& served, const Call& call, Recorder& recorder) const {
  Recorder apart;  // b serves nobody
  Call sample = call;
  sample.out = at::Tensor();
  sample.want_lse = false;
  const at::Tensor rows = rows_of(problem_of(call), call.site);
  const auto chosen = [&](const at::Tensor& x) { return rows.defined() ? x.index_select(1, rows) : x; };
  // What a row of a causal call sees is a matter of its place, which it has among all rows only.
  if (!call.causal) sample.q = chosen(call.q);
  const at::Tensor a = chosen(served), all = b_->run(sample, apart).out;
  const at::Tensor b = call.causal ? chosen(all) : all;
  record(a, b, {call.site, recorder.last_served(), apart.last_served(), {}}, recorder);
}

Output Check::run(const Call& call, Recorder& recorder) const {
  check_call(call);
  require_supported(*this, problem_of(call));
  Output output = inner()->run(call, recorder);
  compare(output.out, call, recorder);
  return output;
}

void Check::run_joint(const JointCall& call, Recorder& recorder) const {
  check_joint(call);
  const Problem problem = problem_of(call);
  require_supported(*this, problem);
  inner()->run_joint(call, recorder);
  if (rows_ != kAllRows && rows_ < problem.q_len) {
    Gathered g = gather(call);
    compare(whole_output(call), {g.q, g.k, g.v, call.scale, false, false, call.site, false, {}}, recorder);
    return;
  }
  std::vector<Segment> segments(call.segments.begin(), call.segments.end());
  for (Segment& s : segments) {
    if (s.out.defined()) s.out = at::empty_like(s.out, at::MemoryFormat::Contiguous);
  }
  const JointCall again{segments, call.scale, call.site};
  Recorder apart;
  b_->run_joint(again, apart);
  record(whole_output(call), whole_output(again),
         {call.site, recorder.last_served(), apart.last_served(), {}}, recorder);
}

namespace {

int64_t output_bytes(const Problem& p) {
  return p.batch * p.q_len * p.heads * p.head_dim * int64_t(c10::elementSize(p.dtype));
}
// Of error_figures, whose products live until they are all there: six, the difference, and one in fp64; half
// precisions are widened.
int64_t figures_bytes(const Problem& p) {
  const int64_t element = int64_t(c10::elementSize(p.dtype));
  return element >= 4 ? 9 * output_bytes(p) : 11 * output_bytes(p) * 4 / element;
}

}  // namespace

Problem Check::compared(const Problem& problem) const {
  Problem sample = problem;
  if (rows_ != kAllRows && !problem.causal) sample.q_len = std::min(problem.q_len, rows_);
  return sample;
}

int64_t Check::run_bytes(const Problem& p) const {
  const Problem sample = compared(p);
  const int64_t chosen = 2 * output_bytes(sample);  // of q and of what was served
  const int64_t compared = output_bytes(p) + chosen + b_->run_bytes(sample) + figures_bytes(sample);
  return std::max(inner()->run_bytes(p), compared);
}

int64_t Check::joint_bytes(const Problem& p, bool rotated) const {
  const Problem sample = compared(p);
  const GatherBytes gathered = gather_bytes(p, rotated);
  int64_t beside = output_bytes(p) + std::max(b_->joint_bytes(p, rotated), figures_bytes(p));
  if (sample.q_len < p.q_len) {
    const int64_t kept = gathered.kept + 2 * output_bytes(sample);
    beside = std::max(gathered.peak, kept + b_->run_bytes(sample) + figures_bytes(sample));
  }
  return std::max(inner()->joint_bytes(p, rotated), beside);
}

BackendPtr make_check(Arguments& arguments) {
  const Spec *a = arguments.positional(), *b = arguments.positional();
  int64_t rows = kDefaultRows;
  if (arguments.option_is("rows", "all")) {
    rows = Check::kAllRows;
  } else {
    rows = arguments.number("rows", 1).value_or(kDefaultRows);
  }
  const int64_t seed = arguments.number("seed", 0).value_or(0);
  arguments.require_all_taken("two backends, rows=N or rows=all, and seed=N");
  if (b == nullptr) arguments.fail("check needs two backends", arguments.spec().position);
  return std::make_shared<Check>(make_backend(*a, arguments.text()), make_backend(*b, arguments.text()), rows,
                                 static_cast<uint64_t>(seed));
}

}  // namespace sagelab::attention
