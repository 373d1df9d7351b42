// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <memory>

#include "app/commands/commands.h"
#include "app/commands/places.h"
#include "app/compare/compare.h"
#include "app/failure.h"
#include "app/options.h"

namespace sagelab {
namespace {

struct Demo {
  explicit Demo(CLI::App& app) {
    request = bundled_request();
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    app.add_option("--prompt", request.prompt, "what to show [" + request.prompt + "]");
    app.add_option("--seed", request.seed, "of the initial noise [0]");
    app.add_option("--steps", request.steps, "denoising steps")->check(CLI::Range(1, 1000));
    app.add_option("--width", request.width, "pixels")->check(CLI::Range(16, 1024));
    app.add_option("--height", request.height, "pixels")->check(CLI::Range(16, 1024));
    app.add_option("--num-frames", request.num_frames, "frames")->check(CLI::Range(1, 257));
    app.add_option("--device", request.device, "auto, cpu, cuda or cuda:N")
        ->check(CLI::Validator(check_device, "auto|cpu|cuda|cuda:N"));
    app.add_option("--output", request.output, "a folder for videos, pictures and reports");
    app.add_flag("--json", json, "report.json on stdout");
  }
  int run() {
    check_flag_text(request.prompt, "prompt");
    check_flag_text(request.output, "name of the output");
    request.output = folder_name(request.output);
    request.model = bundled_model();
    return compare({.request = request, .specs = {"sdpa", "sage2"}, .json = json});
  }

  Request request;
  bool json = false;
};

}  // namespace

void add_demo(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("demo", "the bundled model: sdpa and sage2 from the same noise");
  auto state = std::make_shared<Demo>(*command);
  command->callback([state, &exit_code] { exit_code = guarded([&] { return state->run(); }); });
}

}  // namespace sagelab
