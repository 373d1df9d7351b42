// SPDX-License-Identifier: Apache-2.0
// What switching attention while a run went on did to the clock.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pipelines/pipeline.h"

namespace sagelab {

// [{step, call, layer, branch, block, from, to, at, seconds_before, seconds_after}], in order. step, call:
// the first that `to` served, from 0; call counts all of a step's. at: the text that plans it again, for
// Request::attention_at. seconds: the median of the whole steps that `from` served since the switch before,
// and `to` until the next one; null where there is none.
nlohmann::json switches_json(const std::vector<attention::Switch>& switches,
                             const std::vector<Timings::StepTime>& steps);
// "sdpa 1.82 s a step, from step 10 sage2 1.31 s a step"; empty where nothing was switched.
std::string switches_text(const nlohmann::json& switches);

}  // namespace sagelab
