// SPDX-License-Identifier: Apache-2.0
#include "ui/compare/maths/strip.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace sagelab::ui {

StripRange range_of(const std::vector<double>& values, double margin) {
  double low = INFINITY, high = -INFINITY;
  for (const double v : values) {
    if (!std::isfinite(v)) continue;
    low = std::min(low, v), high = std::max(high, v);
  }
  if (low > high) return {};
  return {low - margin, high + margin};
}

double height_of(double value, const StripRange& range) {
  if (std::isnan(value) || range.high <= range.low) return 0;
  return std::clamp((value - range.low) / (range.high - range.low), 0., 1.);
}

int worst_frame(const std::vector<double>& values) {
  int worst = -1;
  for (size_t i = 0; i < values.size(); ++i)
    if (std::isfinite(values[i]) && (worst < 0 || values[i] < values[size_t(worst)])) worst = int(i);
  return worst;
}

double mean_of(const std::vector<double>& values) {
  if (values.empty()) return NAN;
  double sum = 0;
  size_t finite = 0, infinite = 0;
  for (const double v : values) {
    if (std::isfinite(v)) sum += v, ++finite;
    if (std::isinf(v)) ++infinite;
  }
  if (finite > 0) return sum / double(finite);
  return infinite > 0 ? INFINITY : NAN;
}

std::string psnr_text(double psnr) {
  if (std::isnan(psnr)) return "-";
  return std::isinf(psnr) ? "equal" : fmt::format("{:.1f} dB", psnr);
}

std::string ssim_text(double ssim) {
  return std::isnan(ssim) ? "-" : fmt::format("{:.4f}", ssim);
}

std::string step_text(double seconds) {
  const double rounded = std::stod(fmt::format("{:.2e}", seconds));  // digits are counted of what is shown
  const bool below = rounded < 1;
  const double scale = below ? 1e3 : 1, shown = seconds * scale;
  const int whole =
      rounded > 0 ? int(std::floor(std::log10(rounded * scale))) + 1 : 1;  // digits before the point
  return fmt::format("{:.{}f} {}", shown, std::max(3 - whole, 0), below ? "ms" : "s");
}

int part_at(double x, double x0, double x1, int n) {
  if (n < 1 || x1 <= x0) return 0;
  return int(std::clamp(std::floor((x - x0) / (x1 - x0) * n), 0., double(n - 1)));
}

}  // namespace sagelab::ui
