// SPDX-License-Identifier: Apache-2.0
// What a run will take, from headers and configs alone, and what is chosen by it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "attention/attention.h"
#include "pipelines/core/config.h"
#include "pipelines/core/weights.h"
#include "pipelines/registry.h"

namespace sagelab::cogvideox {

struct Folder;

// Peaks, tokens and operations of a resolved request.
Plan plan(const Folder& folder, const Request& request);
// available: bytes that tensors may take in all.
std::vector<std::pair<std::string, int64_t>> peak_by_phase(const Folder& folder, const Request& request,
                                                           int64_t available);
// The one attention problem that every block of a resolved request has.
attention::Problem attention_problem(const Folder& folder, const Request& request, const Target& target);

std::shared_ptr<WeightSource> open_component(const Folder& folder, const std::string& name,
                                             LoadProgress progress = {});
// What a component's files hold and we leave unread: the encoder of the VAE, T5's second name of its
// embedding.
std::span<const std::string_view> unread_prefixes(const std::string& component);
// Throws sagelab::Error for any tensor that is missing, of another shape or nobody's: before the first is
// loaded.
void check_weights(const Folder& folder);
// Bytes that the tensors we read of a component take on a target.
int64_t component_bytes(const Folder& folder, const std::string& component, const Target& target);
// (key, shape) of every tensor that we read of a component with this config.
std::vector<std::pair<std::string, std::vector<int64_t>>> requested_names(const std::string& component,
                                                                          Config config);

}  // namespace sagelab::cogvideox
