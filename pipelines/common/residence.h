// SPDX-License-Identifier: Apache-2.0
// What of a model is in memory: room is made and checked before anything is loaded.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "pipelines/common/components.h"
#include "pipelines/common/outlook.h"
#include "pipelines/run.h"

namespace sagelab {

class Residence {
 public:
  using Available = std::function<int64_t(at::Device)>;  // bytes that may still be taken
  Residence(Components components, Target target, Available available);

  const Components& components() const { return components_; }
  int64_t bytes(const std::string& name) const { return components_.bytes(name, target_); }

  // Frees models, in this order, as long as so many bytes would not fit beside them.
  template <class... Models>
  void make_room(int64_t bytes, const Request& request, std::unique_ptr<Models>&... models) const {
    if (request.offload == "none") return;
    const auto free = [&](auto& model) {
      if (available_(target_.device) < bytes) model.reset();
    };
    (free(models), ...);
  }

  // Whether more runs follow, for which what there is room for is kept.
  void expect(bool more) { more_follow_ = more; }

  // Room for a decoder that takes so many bytes, where nothing is left to denoise.
  template <class Model>
  void make_room_to_decode(int64_t bytes, const Request& request, std::unique_ptr<Model>& transformer) const {
    if (frees_encoders(request) && !target_.streamed && !more_follow_) transformer.reset();
    make_room(bytes, request, transformer);
  }

  // Loads a component that is not there yet; make(weights) is its model. Throws sagelab::Error where there is
  // no room for it.
  template <class Model, class Make>
  void load(std::unique_ptr<Model>& held, const std::string& name, const RunContext& run,
            const Make& make) const {
    if (held) return;
    require_room(name);
    Loading loading(run);
    // Into its place at last: not what was cut short.
    held = std::make_unique<Model>(components_.load(name, target_, loading.progress(), make));
  }

 private:
  void require_room(const std::string& name) const;

  Components components_;
  Target target_;
  Available available_;
  bool more_follow_ = false;
};

}  // namespace sagelab
