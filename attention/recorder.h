// SPDX-License-Identifier: Apache-2.0
// What happened in a run: who served each call, fused or not, how long it took, how far two backends were
// apart, what fell back. It belongs to the run, never to a backend. Thread-safe: the UI reads while a worker
// writes.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "attention/attention.h"

namespace sagelab::attention {

// How far a's output is from b's over the sampled rows of one call, every head together.
struct Errors {
  double cosine = 1;
  double relative_l1 = 0;  // sum |a - b| / sum |b|
  double rmse = 0;
  double max_abs = 0;
};

struct Measurement {
  Site site;
  std::string a, b;
  Errors errors;
};

struct Fallback {
  Site site;
  std::string from, to, reason;
};

struct ServedCall {
  Site site;
  std::string backend;
  bool fused = false;
  std::optional<double> seconds;  // where timed() measured it
};

// Calls of one backend over the run. fused counts those whose norm and RoPE ran inside the one-pass kernel
// (or inside the backend's own).
struct Served {
  int64_t calls = 0, fused = 0;
  double seconds = 0;  // filled by timed(); 0 without it
};

// A run of consecutive steps and layers that one backend served: what the report stores and replay
// re-applies.
struct Span {
  int first_step = 0, last_step = 0;
  int first_layer = 0, last_layer = 0;
  Branch branch = Branch::Cond;
  std::string backend;
};

class Recorder {
 public:
  void served(const Site& site, const std::string& backend, bool fused);
  void fell_back(Fallback fallback);
  void measured(Measurement measurement);
  // The same for figures that are still on their way from the device: collect() reads them.
  void measured(const Site& site, const std::string& a, const std::string& b, std::function<Errors()> errors);
  // Seconds of the latest call at the site; of several for one call, the last counts (it is the outermost's).
  // On CUDA the caller hands in a function that reads its events; it is called by collect(), so that timing
  // never stalls the stream. Throws c10::Error where nobody served the site.
  void timed(const Site& site, std::function<double()> seconds);
  void collect();

  std::map<std::string, Served> served() const;
  std::vector<ServedCall> calls() const;  // in order
  std::string last_served() const;        // the backend of the latest call; empty before the first
  std::vector<Span> spans() const;
  std::vector<Measurement> measurements() const;
  std::vector<Fallback> fallbacks() const;  // one entry per distinct (from, to, reason), with its first Site
  int64_t fallback_count() const;

 private:
  struct Pending {
    size_t call;  // of calls_
    std::function<double()> seconds;
  };
  struct PendingErrors {
    Measurement measurement;
    std::function<Errors()> errors;
  };
  mutable std::mutex mutex_;
  std::map<std::string, Served> served_;
  std::vector<ServedCall> calls_;
  std::vector<Measurement> measurements_;
  std::vector<Fallback> fallbacks_;
  int64_t fallback_count_ = 0;
  std::vector<Pending> pending_;
  std::vector<PendingErrors> pending_errors_;
};

}  // namespace sagelab::attention
