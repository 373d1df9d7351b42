// SPDX-License-Identifier: Apache-2.0
// What a run will take, from headers and configs alone, and what is chosen by it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/attention.h"
#include "pipelines/common/components.h"
#include "pipelines/common/outlook.h"
#include "pipelines/registry.h"

namespace sagelab::cogvideox {

struct Folder;

// Every subfolder that holds weights.
std::span<const Component> component_table();

// Peaks, tokens and operations of a resolved request.
Plan plan(const Folder& folder, const Request& request);
// available: bytes that tensors may take in all.
Peaks peak_by_phase(const Folder& folder, const Request& request, int64_t available);
// What its forwards ask of attention: the one that every block has.
std::vector<attention::Problem> attention_problems(const Folder& folder, const Request& request,
                                                   const Target& target);

}  // namespace sagelab::cogvideox
