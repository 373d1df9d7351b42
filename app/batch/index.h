// SPDX-License-Identifier: Apache-2.0
// A batch as a page: a summary over the set with its plots, then every result, the specs of one sample side
// by side. It needs nothing but the videos beside it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "app/batch/store/manifest.h"

namespace sagelab::batch {

// {samples, done, failed, attention: [{attention, outputs, seconds, median_step, emulated, and of all but the
//  first that have samples in common with it: time_ratio (null where one is emulated),
//  psnr {mean, worst, worst_of}, ssim {...}, identical}]}: means over samples; worst: of any frame, worst_of:
// [index, take] of its sample. A figure that no sample has is null.
nlohmann::json summary_of(const Records& records);
// For people, a line for each spec.
std::string summary_text(const nlohmann::json& summary);
std::string index_html(const Records& records);

}  // namespace sagelab::batch
