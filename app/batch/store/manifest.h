// SPDX-License-Identifier: Apache-2.0
// What a batch has made: JSON Lines, one record for each sample (a prompt with one seed), appended and synced
// after its files are complete under their names. A later record of the same sample replaces an earlier one.
//   {index, take, line, seed, prompt, path?, status: "done"|"failed", request: resolved or null, notices?,
//    outputs: [{attention, file, bytes, seconds, served, emulated, quality?, ...} or {attention, file,
//    error}], error?, hint?}
// Each shard has a manifest of its own: manifest.jsonl, or manifest-2-of-4.jsonl.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

namespace sagelab::batch {

struct Shard {
  int index = 1, count = 1;  // from 1
};

using SampleKey = std::pair<int, int>;  // index of the prompt, number of the seed
using Records = std::map<SampleKey, nlohmann::json>;

std::string manifest_name(const Shard& shard);
std::filesystem::path lock_file(const std::filesystem::path& folder, const Shard& shard);
// Throws sagelab::Error where the folder holds manifests of another division into shards.
void check_sharding(const std::filesystem::path& folder, const Shard& shard);
// The records of every shard in the folder, half-written lines left out.
Records merged_records(const std::filesystem::path& folder, int shards);

class Manifest {
 public:
  // Makes the file where there is none; cuts off a last line that a crash left unfinished. Throws
  // sagelab::Error for a file that is damaged elsewhere.
  explicit Manifest(std::filesystem::path file);
  ~Manifest();
  Manifest(const Manifest&) = delete;
  Manifest& operator=(const Manifest&) = delete;

  const std::string& repaired() const { return repaired_; }  // what was cut off; empty: nothing
  const Records& records() const { return records_; }
  // On disk when it returns; a record that is there already is not written again. Throws sagelab::Error.
  void append(const nlohmann::json& record);

 private:
  std::filesystem::path file_;
  int descriptor_ = -1;
  std::string repaired_;
  Records records_;
};

}  // namespace sagelab::batch
