// SPDX-License-Identifier: Apache-2.0
// Makes the samples of a plan, one after the other: files first, then their record.
#pragma once

#include <functional>
#include <memory>
#include <variant>
#include <vector>

#include "app/batch/plan.h"
#include "app/batch/progress.h"
#include "app/batch/store/manifest.h"
#include "app/session.h"

namespace sagelab::batch {

struct Tally {
  int made = 0, there = 0, failed = 0;  // samples; there: made before
  bool cancelled = false;
};

// Whether a record's sample is done and its files are there, of the sizes that it names.
bool is_made(const nlohmann::json& record, const std::filesystem::path& folder);
// Removes what a process that was killed left half-written under temporary names.
void remove_drafts(const std::vector<Sample>& samples);

class Runner {
 public:
  struct Hooks {
    std::function<bool()> stop = [] { return false; };  // asked often; then the run at hand is cancelled
    std::function<void()> recorded = [] {};             // after each record
  };
  Runner(Session& session, Manifest& manifest, BatchProgress& progress, std::filesystem::path folder);
  // A sample that fails is recorded. Throws sagelab::Error where that cannot be written, or where the disk
  // has no room for the next.
  Tally run(const std::vector<Sample>& samples, const Hooks& hooks);

 private:
  using End = std::variant<Finished, Failed>;
  void announce(const std::vector<Sample>& samples, size_t from);
  bool make(const Sample& sample, const std::string& count);  // whether it is done; throws Cancelled
  // Fills in its record; the frames where it succeeded. Throws Cancelled.
  std::shared_ptr<const Picture> make(const Output& output, const Picture* reference, nlohmann::json& record);
  End follow(JobId job);

  Session& session_;
  Manifest& manifest_;
  BatchProgress& progress_;
  std::filesystem::path folder_;
  Hooks hooks_;
};

}  // namespace sagelab::batch
