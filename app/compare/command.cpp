// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <memory>
#include <optional>

#include "app/commands/commands.h"
#include "app/compare/compare.h"
#include "app/failure.h"
#include "app/options.h"
#include "pipelines/registry.h"

namespace sagelab {
namespace {

// Flags of a request that a comparison settles itself, and what to do instead.
constexpr std::array<std::pair<const char*, const char*>, 6> kSettled{
    {{"--attention", "name the backends with --a and --b"},
     {"--attention-switch", "nothing is switched in a comparison; leave it out"},
     {"--attention-at", "nothing is switched in a comparison; leave it out"},
     {"--preview", "leave it out"},
     {"--latents", "leave it out; generate keeps latents"},
     {"--from-latents", "a comparison starts from noise; leave it out"}}};

struct Compare {
  explicit Compare(CLI::App& app) : command(app), flags(app) {
    for (const auto& [flag, hint] : kSettled) app.get_option(flag)->group("");
    app.get_option("--output")
        ->description("a folder for videos, pictures and reports")
        ->transform(folder_name);
    const char* const kHelp[] = {"the backend that the others are compared with; it runs twice",
                                 "the backend to compare",
                                 "a third",
                                 "a fourth",
                                 "a fifth",
                                 "a sixth"};
    for (size_t i = 0; i < specs.size(); ++i)
      app.add_option(fmt::format("--{}", char('a' + i)), specs[i], kHelp[i])
          ->type_name("SPEC")
          ->required(i < 2);
    app.add_flag("--locked", job.locked, "also run each step on a's latents: its error alone, without drift");
    app.add_flag("!--no-attention-errors", job.attention_errors,
                 "leave out the runs that measure each layer");
    app.add_flag("--json", job.json, "report.json on stdout");
  }

  int run() {
    for (const auto& [flag, hint] : kSettled)
      if (command.count(flag) > 0) throw UsageError(std::string(flag) + " has no effect with compare", hint);
    job.request = flags.request();
    flags.require_model();
    job.request.attention.clear();  // a request's file may hold those of the run that it is of
    job.request.attention_at.clear();
    job.request.latents.clear();
    job.request.preview = 0;
    bool ended = false;
    for (size_t i = 0; i < specs.size(); ++i) {
      if (!specs[i]) {
        ended = true;
        continue;
      }
      if (ended)
        throw UsageError(fmt::format("--{} is given, and --{} is not", char('a' + i), char('a' + i - 1)),
                         "name the backends --a, --b, --c ... in order");
      job.specs.push_back(*specs[i]);
    }
    return compare(job);
  }

  CLI::App& command;
  RequestFlags flags;
  CompareJob job;
  std::array<std::optional<std::string>, 6> specs;
};

}  // namespace

void add_compare(CLI::App& app, std::span<const char* const> arguments, int& exit_code) {
  auto* command = app.add_subcommand("compare", "several backends from the same noise, side by side");
  auto state = std::make_shared<Compare>(*command);
  state->flags.add_options_of_model(*command, arguments);
  command->callback([state, &exit_code] { exit_code = guarded([&] { return state->run(); }); });
}

}  // namespace sagelab
