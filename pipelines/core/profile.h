// SPDX-License-Identifier: Apache-2.0
// Where the time of a forward goes: CUDA events (or clocks on CPU) around named sections. Only benches make
// one.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

namespace sagelab {

class Profile {
 public:
  explicit Profile(at::Device device);
  ~Profile();
  class Section {
   public:
    Section(Profile* profile, const char* name);  // profile may be null: then nothing happens
    ~Section();
    Section(const Section&) = delete;
    Section& operator=(const Section&) = delete;

   private:
    Profile* profile_;
  };
  // Seconds by section; synchronises.
  std::map<std::string, double> seconds();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sagelab
