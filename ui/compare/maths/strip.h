// SPDX-License-Identifier: Apache-2.0
// Figures of each frame as heights of a strip.
#pragma once

#include <string>
#include <vector>

namespace sagelab::ui {

struct StripRange {
  double low = 0, high = 1;
};

// Of finite values, with `margin` of the scale's units below and above; 0 to 1 where none is finite.
StripRange range_of(const std::vector<double>& values, double margin);
// 0 at the low end, 1 at the high end and for what is infinite; 0 for NaN.
double height_of(double value, const StripRange& range);
// The frame with the lowest value, which one wants to look at; -1 where all are infinite or none is there.
int worst_frame(const std::vector<double>& values);
// Of finite values; infinite where all are, NaN where there are none.
double mean_of(const std::vector<double>& values);
// "38.2 dB"; "equal" for infinity; "-" for NaN.
std::string psnr_text(double psnr);
std::string ssim_text(double ssim);  // "0.9812"
// Of a step, to three digits: "12.3 s", "513 ms", "2.09 ms".
std::string step_text(double seconds);

// Which of n equal parts of a strip from x0 to x1 is at x; clamped.
int part_at(double x, double x0, double x1, int n);

}  // namespace sagelab::ui
