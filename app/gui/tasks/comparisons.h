// SPDX-License-Identifier: Apache-2.0
// How far the latents of jobs are from those of another one, step by step, where they were made to be
// compared.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "app/compare/trajectory.h"
#include "ui/job.h"

namespace sagelab::gui {

// Of a job that is done, against those of a.
struct LatentErrors {
  ui::Id a = 0;
  StepErrors errors;
};
nlohmann::json to_json(const LatentErrors& latents);
LatentErrors latent_errors_from_json(const nlohmann::json& json);  // throws nlohmann's own

class Comparisons {
 public:
  // others are made after a, from the same noise.
  void begin(ui::Id a, const std::vector<ui::Id>& others);
  // For the run of a job. With an a that is not done, cancelled say, nothing can be compared.
  StepHooks hooks(ui::Id id, const std::function<bool(ui::Id a)>& is_done);
  // The job's run has ended: a's latents go with the last of its others.
  void ended(ui::Id id);
  // Of one of the others, once it is done; nothing where nobody compared it.
  std::optional<LatentErrors> errors(ui::Id id) const;
  void restore(ui::Id id, const LatentErrors& latents);  // as errors() said it

 private:
  struct Group {
    Trajectory latents;  // of a
    std::vector<ui::Id> left;
  };
  struct Other {
    ui::Id a = 0;
    std::shared_ptr<StepErrors> errors = std::make_shared<StepErrors>();
  };
  std::map<ui::Id, std::shared_ptr<Group>> groups_;  // by a
  std::map<ui::Id, Other> others_;
};

}  // namespace sagelab::gui
