// SPDX-License-Identifier: Apache-2.0
#include "ui/metrics/heat_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "ui/panels/attention/attention_panel.h"

namespace sagelab::ui {

const char* name_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::RelativeL1:
      return "relative L1";
    case ErrorKind::Cosine:
      return "1 - cosine";
    case ErrorKind::Rmse:
      return "RMSE";
    case ErrorKind::MaxAbs:
      return "largest error";
  }
  return "";
}

double error_of(const Measured& measured, ErrorKind kind) {
  switch (kind) {
    case ErrorKind::RelativeL1:
      return measured.relative_l1;
    case ErrorKind::Cosine:
      return 1 - measured.cosine;
    case ErrorKind::Rmse:
      return measured.rmse;
    case ErrorKind::MaxAbs:
      return measured.max_abs;
  }
  return NAN;
}

HeatMap heat_map(const std::vector<Measured>& measured, ErrorKind kind, int steps) {
  HeatMap map;
  map.kind = kind, map.steps = steps;
  for (const auto& m : measured)
    if (m.step >= 0 && m.layer >= 0)
      map.steps = std::max(map.steps, m.step + 1), map.layers = std::max(map.layers, m.layer + 1);
  map.cells.resize(size_t(map.steps) * size_t(map.layers));
  for (const auto& m : measured) {
    if (m.step < 0 || m.layer < 0) continue;
    auto& cell = map.cells[size_t(m.step) * size_t(map.layers) + size_t(m.layer)];
    const double error = error_of(m, kind);
    // What is not a number is worse than any that is.
    if (cell.calls++ == 0 || std::isnan(error) || error > error_of(cell.worst, kind)) cell.worst = m;
  }
  for (const auto& cell : map.cells) {
    const double error = cell.calls > 0 ? error_of(cell.worst, kind) : 0;
    if (!(error > 0) || !std::isfinite(error)) continue;
    map.least = map.least > 0 ? std::min(map.least, error) : error;
    map.most = std::max(map.most, error);
  }
  return map;
}

double heat_of(double error, const HeatMap& map) {
  if (std::isnan(error)) return error;
  if (error >= map.most) return map.most > 0 ? 1 : 0;
  if (error <= map.least) return 0;
  return std::log(error / map.least) / std::log(map.most / map.least);
}

HeatPlace place_at(const HeatMap& map, double x, double y, double width, double height) {
  if (x < 0 || y < 0 || x >= width || y >= height || map.cells.empty()) return {};
  return {int(x / width * map.steps), int(y / height * map.layers)};
}

std::string text_of(const HeatMap& map, HeatPlace place) {
  if (place.step < 0) return "";
  auto text = fmt::format("layer {}, step {}", place.layer, place.step);
  const auto& cell = map.at(place.step, place.layer);
  if (cell.calls == 0) return text + "\nnot measured";
  const auto& m = cell.worst;
  text += fmt::format("\n{} against {}", m.a, m.b);
  if (cell.calls > 1) text += fmt::format(", worst of {} calls", cell.calls);
  return text + fmt::format("\ncosine {:.6f}\nrelative L1 {:.3g}\nRMSE {:.3g}\nlargest error {:.3g}",
                            m.cosine, m.relative_l1, m.rmse, m.max_abs);
}

LayerChange put_layer_on(const State& state, int steps, int layers,
                         const std::pair<int, std::string>& layer_on) {
  const auto& [layer, backend] = layer_on;
  const std::string now = attention_of(state), plain = plain_spec(now);
  LayerChange change;
  const bool painted = state.policy.layers > layer && spec_of(state.policy) == plain;
  if (painted) {
    change.policy = with_layer(state.policy, layer, backend);
  } else if (plain.find("schedule(") == std::string::npos && layers > layer) {
    change.policy = with_layer(make_policy(steps, layers, 1, plain), layer, backend);
  }
  change.spec = change.policy.cells.empty()
                    ? fmt::format("schedule(layers={}:{},else:{})", layer, backend, plain)
                    : spec_of(change.policy);
  // "check(sage2,sdpa)": what follows the first backend stays.
  if (now != plain) change.spec = "check(" + change.spec + now.substr(now.find(plain) + plain.size());
  return change;
}

}  // namespace sagelab::ui
