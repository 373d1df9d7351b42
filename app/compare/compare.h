// SPDX-License-Identifier: Apache-2.0
// One request through several attention backends from the same noise, and a folder that shows what that did:
// a.mp4, b.mp4 ... and side_by_side.mp4 (folders of PNG frames where MP4 cannot be written, PNG for one
// frame), contact_sheet.png, report.json and report.html, which carries videos and charts in itself.
#pragma once

#include <string>
#include <vector>

#include "pipelines/request.h"

namespace sagelab {

struct CompareJob {
  Request request;                 // its output: the folder; empty: a free name is chosen
  std::vector<std::string> specs;  // a, b, c ...: two to six
  bool locked = false, attention_errors = true;
  bool json = false;  // report.json on stdout in place of the summary
};

// A comparison is always a folder: "out" is out/. A name that an MP4 or a PNG would have stays as it is.
std::string folder_name(const std::string& name);

// Returns the exit code. Throws sagelab::Error, UsageError, Cancelled; the folder appears whole or not at
// all, and takes the place of an earlier comparison only.
int compare(const CompareJob& job);

}  // namespace sagelab
