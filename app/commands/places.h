// SPDX-License-Identifier: Apache-2.0
// Where `generate` reads and writes: every name settled, and checked, before the run. And where the bundled
// model is.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "app/media/output.h"

namespace sagelab {

// What the command line names beside the request.
struct NamedFiles {
  std::string report, from_latents, request, capture, resume;
  bool checkpoints = false;  // the run leaves some
};

class Places {
 public:
  // request: with its output. Throws UsageError where two of the places are one, or where one lies in the
  // output folder, which is replaced as a whole, or in the folder of captures, which starts empty.
  Places(const Request& request, const NamedFiles& named);

  // Throws sagelab::Error where something could not be written now. latents_bytes: of the finished latents.
  void probe(int64_t latents_bytes) const;
  // For people, in the order in which they appear.
  std::vector<std::string> all() const;

  media::Output output;
  std::string report;
  std::string capture;            // a folder; empty: none is asked for
  std::string checkpoint;         // goes once the output is there; empty: none is left
  std::string latents;            // empty where they are decoded, not made
  bool keep_latents = false;      // else they go once the output is there
  std::filesystem::path preview;  // empty: none is asked for

 private:
  void check_apart(const NamedFiles& named) const;
};

// Of the folders above the program, the nearest that holds the bundled model. Throws sagelab::Error.
std::string bundled_model();
// What it shows best: its prompt, steps and guidance; no model, no output.
Request bundled_request();

}  // namespace sagelab
