// SPDX-License-Identifier: Apache-2.0
// A family's line in the table, by what it has for its folder: a Folder that is made of a request, and, with
// that and a request, plan(), sampler_of(), attention_problems() and peak_by_phase().
#pragma once

#include <memory>
#include <span>

#include "pipelines/common/components.h"
#include "pipelines/common/outlook.h"
#include "pipelines/footprint.h"
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

// What every plan begins with. Throws sagelab::Error where the folder's weights are not those of its configs.
template <class Folder>
Plan begin_plan(const Folder& folder, const Request& request) {
  folder.components.check();
  const Target target = resolve_target(request);
  Plan plan;
  plan.steps = int(sampler_of(folder, request)->timesteps().size());
  plan.problems = attention_problems(folder, request, target);
  plan.components = folder.components.listed(target);
  plan.peak_by_phase = peak_by_phase(folder, request, memory_for_tensors(target.device));
  return plan;
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
