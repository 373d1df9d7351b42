// SPDX-License-Identifier: Apache-2.0
// What families work out alike before anything is loaded.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pipelines/registry.h"

namespace sagelab {

using Peaks = std::vector<std::pair<std::string, int64_t>>;  // by phase, bytes

// Chooses vae_tiling and offload where they are "auto", in this order, so that tensors stay within
// `available` bytes: the VAE is cut only where freeing all else would not do, encoders and the transformer
// are freed only where keeping them would not fit, and the transformer's blocks stay in host memory only
// where it would not fit alone. Choices that can change bits or memory are made once, and
// stored. While offload is still "auto", peaks() should tell the peak of decoding of a run which has freed
// all else.
void choose_for_memory(Request& request, const std::function<Peaks(const Request&)>& peaks,
                       int64_t available);

// Whether a resolved request frees text encoders once the prompt is encoded.
bool frees_encoders(const Request& request);

// What the phases of a run take: of weights, and beside them.
struct Needs {
  int64_t encoders = 0, transformer = 0, vae = 0;
  int64_t encode = 0, denoise = 0, decode = 0;
};
// Of a run that no other follows; where one does, what fits may stay for it. available: bytes that tensors
// may take in all.
Peaks peaks_of(const Needs& needs, const Request& request, int64_t available);
// The largest of a resolved request between others like it: what they need too stays where there is room.
int64_t peak_among_others(const Family& family, const Request& request, int64_t available);

// What a run asks of attention, and its peaks; both of a request with device and dtype filled in.
struct Outlook {
  std::function<std::vector<attention::Problem>(const Request&, const Target&)> problems;
  std::function<Peaks(const Request&, int64_t available)> peaks;
};
// Fills in device, dtype, attention, tiling and offload of a request whose sizes are there. Throws
// sagelab::Error where a backend of it cannot serve one of the problems: before anything is loaded.
void settle(Request& request, const Outlook& outlook);

// A component as the plan shows it. bytes: what its tensors take in the run's dtype. doubled: a second name
// of a tensor, not counted again; or empty.
Plan::Component component_of(const std::string& name, const std::vector<TensorInfo>& files, int64_t bytes,
                             std::string_view doubled = {});

// The most that the backend of a request and those it plans to switch to take in a joint call whose queries
// and keys are normed; and in one that has them ready.
int64_t joint_bytes(const Request& request, const attention::Problem& problem, bool rotated);
int64_t run_bytes(const Request& request, const attention::Problem& problem);
// What a captured call takes in place of that: q and k are gathered, and v, of so many bytes, is laid out for
// its file.
int64_t captured_bytes(const attention::Problem& problem, bool rotated, int64_t v_bytes);

}  // namespace sagelab
