// SPDX-License-Identifier: Apache-2.0
// What a batch is to make: settled, with every request resolved and every name given, before anything runs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "app/batch/names.h"
#include "app/batch/prompts/prompts.h"
#include "app/batch/store/manifest.h"
#include "pipelines/registry.h"

namespace sagelab::batch {

// --seeds: so many from a prompt's own seed on, or these (a prompt with a seed of its own has that one
// alone).
struct Seeds {
  int count = 1;
  std::vector<uint64_t> list;  // empty: count them
  bool several() const { return count > 1 || list.size() > 1; }
};

struct Settings {
  Request base;                    // the flags; no prompt, no output
  std::vector<std::string> specs;  // attention; empty: the request's own or the device's default
  Seeds seeds;
  NameBy name_by = NameBy::Index;
  std::optional<int> limit;  // of the file's prompts, the first so many
  Shard shard;               // prompts go round robin to the shards
  std::filesystem::path folder;
};

// One run of a sample.
struct Output {
  Request request;   // resolved; its output is folder / file
  std::string file;  // relative to the folder; ends with "/" where it is a folder of frames
};

// One prompt with one seed: made whole, with all its specs, or made again.
struct Sample {
  Prompt prompt;
  int take = 0;  // which of its seeds
  uint64_t seed = 0;
  std::vector<Output> outputs;       // one for each spec; none where there is an error
  std::vector<std::string> notices;  // sizes that were moved
  std::vector<std::string> chosen;   // keys of the request that the memory of the moment has settled
  std::string error, hint;

  SampleKey key() const { return {prompt.index, take}; }
  // The start of its record: all that is known before it runs.
  nlohmann::json record() const;
  double work() const;  // pixels x frames x steps, over all outputs
};

// Throws UsageError: two specs alike, a bad seed or shard.
std::vector<std::string> split_specs(const std::vector<std::string>& arguments);  // "sdpa,check(a,b)" are two
Seeds parse_seeds(const std::string& text);                                       // "4" or "3,7,11"
Shard parse_shard(const std::string& text);                                       // "2/4"

// The samples of every shard, in the order of the file. What does not fit a prompt alone is its samples'
// error. Throws sagelab::Error for what fits none: a backend that cannot serve, a size the model cannot make.
std::vector<Sample> plan_samples(const std::vector<Prompt>& prompts, const Settings& settings,
                                 const Family& family);
std::vector<Sample> of_shard(const std::vector<Sample>& samples, const Shard& shard);
// Throws UsageError with the differences where a record of the same sample was made from another request.
void check_unchanged(const std::vector<Sample>& samples, const Records& records);
// The same for those of other shards, whose machines may have the model elsewhere and other devices.
void check_shards_agree(const std::vector<Sample>& samples, const Records& records);

}  // namespace sagelab::batch
