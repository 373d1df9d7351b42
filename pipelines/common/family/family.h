// SPDX-License-Identifier: Apache-2.0
// A family's line in the table, by what it has for its folder: a Folder that is made of a request, and, with
// that and a request, plan(), sampler_of(), attention_problems() and peak_by_phase().
#pragma once

#include <memory>
#include <span>

#include "pipelines/common/components.h"
#include "pipelines/common/outlook.h"
#include "pipelines/registry.h"

namespace sagelab {

// Plans and opens such a folder; all else is left to fill in.
template <class Folder, class FamilyPipeline>
Family make_family(std::span<const Component> (*table)()) {
  Family family;
  family.plan = [](const Request& request) { return plan(Folder(request), request); };
  family.open = [](const Request& request, const RunContext&) -> std::unique_ptr<Pipeline> {
    return std::make_unique<FamilyPipeline>(request);
  };
  set_components(family, table);
  return family;
}

// The end of resolve(): settle(), once the sampler takes the request.
template <class Folder>
void settle_for(const Folder& folder, Request& request) {
  sampler_of(folder, request);
  settle(request,
         {.problems = [&](const Request& asked,
                          const Target& target) { return attention_problems(folder, asked, target); },
          .peaks = [&](const Request& asked,
                       int64_t available) { return peak_by_phase(folder, asked, available); }});
}

}  // namespace sagelab
