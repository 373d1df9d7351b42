// SPDX-License-Identifier: Apache-2.0
// Which text encoders are there while another one is loaded.
#pragma once

#include <algorithm>

#include "tests/support/pictures/runs.h"

namespace sagelab::testing {

// One prompt, or several that are known ahead, encoded by a pipeline of class P: what it gives, and what is
// alive on the CPU whenever the room for a component is asked for.
template <class P>
struct Encoded {
  Encoded(const Request& request, const std::vector<Request>& expected)
      : pipeline(request, [this](at::Device device) {
          alive.push_back(tensor_bytes(device) - before);
          return int64_t(1) << 40;
        }) {
    pipeline.expect(expected);
  }
  Conditioning operator()(const Request& request) {
    const c10::InferenceMode inference;
    return pipeline.encode(request, run.context);
  }
  OneRun run;
  int64_t before = tensor_bytes(at::kCPU);
  std::vector<int64_t> alive;
  P pipeline;
};

// Where they are freed, encoders are loaded one after the other, whatever else is encoded; where they stay,
// all are there at last. The bits are the same. encoders: bytes, in their order.
template <class P>
void expect_encoders_in_turn(Request request, const std::vector<int64_t>& encoders) {
  count_cpu_tensors();
  Request other = request;
  other.prompt = "At dawn: " + request.prompt;  // the end may be cut
  const int64_t smallest = *std::ranges::min_element(encoders);
  std::vector<Conditioning> all;
  for (const char* offload : {"none", "encoders"}) {
    request.offload = other.offload = offload;
    Encoded<P> encode(request, {other});
    all.push_back(encode(request));
    ASSERT_GE(encode.alive.size(), encoders.size());
    const size_t first = encode.alive.size() - encoders.size();
    int64_t held = 0;
    for (size_t i = 0; i < encoders.size(); held += encoders[i++]) {
      const int64_t alive = encode.alive[first + i];
      if (request.offload == "encoders") {
        EXPECT_LT(alive, smallest) << i;
      } else {
        EXPECT_GE(alive, held) << i;
      }
    }
    all.push_back(encode(other));
    EXPECT_EQ(encode.alive.size(), first + encoders.size()) << "another load, offload " << offload;
    if (other.offload == "encoders") continue;
    const int64_t kept = tensor_bytes(at::kCPU);
    other.offload = "encoders";
    encode(other);
    EXPECT_LE(tensor_bytes(at::kCPU), kept - held) << "those of a run that kept them are freed";
  }
  for (size_t i : {0, 1}) {
    if (all[i].pooled.defined()) {
      EXPECT_TRUE(at::equal(all[i].pooled, all[i + 2].pooled));
    }
    EXPECT_TRUE(at::equal(all[i].embeds, all[i + 2].embeds));
  }
  EXPECT_FALSE(at::equal(all[0].embeds, all[1].embeds));
}

}  // namespace sagelab::testing
