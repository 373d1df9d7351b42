// SPDX-License-Identifier: Apache-2.0
// `generate --capture-qkv FOLDER`: q, k and v of some calls of a run as its attention sees them, one file a
// call: step_0003_layer_0017_<block>_<branch>_call_0.safetensors with q [B, Sq, H, D], k and v [B, Skv, Hkv,
// D] in the run's dtype and the call's scale, causal, step, layer, block, branch and the model's name as
// metadata. call counts the calls of one layer in one step. A file appears whole or not at all; those of a
// run that fails stay.
#pragma once

#include <CLI/App.hpp>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "attention/wrap/capture.h"
#include "pipelines/registry.h"

namespace sagelab {

struct CaptureFlags {
  std::optional<std::string> folder;
  std::string layers, steps;  // lists as schedule() takes them; empty: the first, the middle and the last
  void add(CLI::App& app);
};

struct CaptureSize {
  int64_t files = 0, bytes = 0;  // bytes: of tensors
  int64_t largest = 0;           // of one file's
};

class CaptureFolder {
 public:
  // Settles what is captured; makes nothing. Throws UsageError for a list that is malformed or names what the
  // run does not have, sagelab::Error for a folder that holds something.
  CaptureFolder(const CaptureFlags& flags, const Request& resolved, const Plan& plan);
  ~CaptureFolder();  // a folder that was made here goes if nothing came into it
  CaptureFolder(const CaptureFolder&) = delete;
  CaptureFolder& operator=(const CaptureFolder&) = delete;

  // Throws sagelab::Error where the folder cannot be made, or the files would not fit.
  void make();
  // For the run; it writes into this folder, which must outlive it.
  attention::Capturing capturing();

  const CaptureSize& planned() const { return planned_; }
  const CaptureSize& written() const { return written_; }
  nlohmann::json as_json(const CaptureSize& size) const;  // folder, files, bytes
  std::string as_text(const CaptureSize& size) const;     // "cap/: 9 files of q, k and v, 1.2 MB"

 private:
  std::string shown() const { return path_.string() + "/"; }
  void write(const attention::Captured& call);

  std::filesystem::path path_;
  std::string model_;
  attention::Ranges layers_, steps_;
  CaptureSize planned_, written_;
  std::map<std::string, int> calls_;  // of one layer in one step, by the name of its files
  bool made_ = false;
};

}  // namespace sagelab
