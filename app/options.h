// SPDX-License-Identifier: Apache-2.0
// The flags that make a Request: the shared ones, and a model family's own from its option table.
#pragma once

#include <CLI/App.hpp>
#include <exception>
#include <initializer_list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pipelines/request.h"

namespace sagelab {

class RequestFlags {
 public:
  // Adds the shared flags but for those named ("--prompt"): what a command asks for in its own way.
  explicit RequestFlags(CLI::App& app, std::initializer_list<const char*> without = {});
  // Adds a flag for each row: "use_dynamic_cfg" -> --use-dynamic-cfg and --no-use-dynamic-cfg.
  void add_options(CLI::App& app, const std::string& family, const std::vector<Option>& table);

  // Adds the flags of the model that the arguments name, where they can be told. What is wrong with the model
  // is said by require_model(), after what is wrong with the other flags.
  void add_options_of_model(CLI::App& app, std::span<const char* const> arguments);
  void require_model() const;

  // Adds --resume, which stands for the request: of the others, only those count that change no step.
  void add_resume(CLI::App& app);
  // Adds --latents as the file to decode. (Leave the flag of that name out before.)
  void add_decoding(CLI::App& app);

  // After parsing: the flags over --request FILE over those of --from-latents; unset stays unset.
  // Throws UsageError: no model, no prompt (where there is a flag for it), and what check_request throws.
  Request request() const;
  // A file of finished latents that is to be decoded; empty where the run starts from noise.
  std::string from_latents() const { return from_latents_.value_or(""); }
  std::string resume() const { return resume_.value_or(""); }  // a checkpoint to go on from; or empty
  std::string request_file() const { return request_file_.value_or(""); }

 private:
  bool asks_prompt_ = true;
  std::exception_ptr no_family_;  // why the model's own flags are unknown
  void refuse_without_effect(const char* with, const char* why) const;
  template <typename T>
  void add(CLI::App& app, const std::string& flag, std::optional<T> RequestFlags::*value,
           const std::string& help);

  std::optional<std::string> request_file_, from_latents_, resume_;
  std::optional<std::string> model_, prompt_, negative_prompt_, dtype_, device_, variant_, attention_,
      attention_switch_, vae_tiling_, offload_, output_, latents_;
  std::optional<std::vector<std::string>> weights_, attention_at_;
  std::optional<int> width_, height_, num_frames_, steps_, preview_;
  std::optional<double> guidance_scale_, fps_;
  std::optional<uint64_t> seed_;
  std::map<std::string, OptionValue> options_;
};

// Throws UsageError: a number beyond what any model makes, a text that is not UTF-8, a bad attention spec or
// switch.
void check_request(const Request& request);
// Throws UsageError: a switch of attention that is malformed, or beyond the run's steps or a step's calls.
void check_switches(const Request& request, int steps, int calls_of_a_step);
// A check of --device for the parser: what is wrong, or empty.
std::string check_device(const std::string& name);
// Throws UsageError: "the <what> is not UTF-8: byte 0xff at position 3".
void check_flag_text(const std::string& text, const char* what);

// The model folder that a command line names, before it is parsed: --model, or "model" of the file that
// --request names. Empty where neither is there or readable: parsing then says what is wrong.
std::string model_in(std::span<const char* const> arguments);

}  // namespace sagelab
