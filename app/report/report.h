// SPDX-License-Identifier: Apache-2.0
// What a run says about itself, as JSON and as the line that other programs show.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "app/media/output.h"
#include "pipelines/registry.h"

namespace sagelab {

struct ReportInput {
  const Request& request;  // resolved
  const Result& result;
  const Plan& plan;
  const attention::Recorder& recorder;
  std::string device;
};

// request, versions, device, seconds {load, encode, denoise, decode, total}, steps [{seconds, backend,
// served}], attention {served, spans, calls [{step, layer, branch, block, backend, fused, seconds}] of
// timed(), fallbacks, measurements}, switches (report/switches.h), memory {peak_bytes, peak_bytes_by_phase,
// predicted_peak_bytes, process_peak_bytes}, frames {count, width, height, fps}, notices [text], latents:
// their file or null.
nlohmann::json make_report(const ReportInput& input);

// AUTOMATIC1111's "parameters": prompt, negative prompt, then "Steps: 50, CFG scale: 6, Seed: 7, Size:
// 720x480, ...".
std::string parameters_text(const Request& request);
// What every file carries of how it was made: the request and, as its "made", what app/replay compares.
media::Metadata metadata_of(const Frames& frames);

}  // namespace sagelab
