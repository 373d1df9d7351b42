// SPDX-License-Identifier: Apache-2.0
// A comparison as numbers: report.json, from which the page, the burnt-in labels and the summary are made.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "app/compare/passes.h"

namespace sagelab {

inline constexpr const char* kReportKind = "sagelab compare";
inline constexpr const char* kEmulated = "emulated: quality, not speed";

// kind, request, versions, device, locked, how [text],
// runs [{label, spec, served [name], emulated, seconds {load, encode, denoise, decode, median_step, steps},
//   temporal {mean_change, flicker_score, changes}, and of all but a: figures, time_ratio or null,
//   report: the run's own}],
// floor: {identical, latents_identical (or null), frames_identical, temporal, figures} of a's second run
// against its first; its seconds are of the first,
// a's of the second.
// figures: {quality {frames, identical_frames, psnr {mean, worst, per_frame}, ssim {...}},
//   latents [{cosine, relative_l1, rmse, max_abs} of each step] (or null: nobody looked at them),
//   locked_latents (the same, or null),
//   attention [{step, layer, cosine, relative_l1, rmse, max_abs}] (or null)}.
// A number that is not finite (the PSNR of equal frames) is null.
nlohmann::json compare_report(const Comparison& comparison);

// "31.24 dB", or "equal" for null.
std::string decibels(const nlohmann::json& value);
// "0.9712", "12345", or "-" for null.
std::string figure(const nlohmann::json& value, int digits = 4);
// "sdpa 0.25 s a step, 12.3 s in all", with kEmulated where it is.
std::string time_text(const nlohmann::json& run);
// "PSNR 31.24 dB, SSIM 0.9712", or that all is equal.
std::string quality_text(const nlohmann::json& figures);
std::string floor_text(const nlohmann::json& floor);
std::string summary_of(const nlohmann::json& report);

// A file that the page carries in itself.
struct Embedded {
  std::string name, mime;  // "a.mp4", "video/mp4"
  std::string bytes;
};
// The page: it needs nothing but itself.
std::string html_of(const nlohmann::json& report, const std::vector<Embedded>& files);

}  // namespace sagelab
