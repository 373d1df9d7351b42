// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <sstream>
#include <string>

#include "app/commands/commands.h"
#include "app/failure.h"
#include "app/system.h"

namespace {

std::string version_line() {
  const auto v = sagelab::versions();
  return "sagelab " + v.at("sagelab").get<std::string>() + " (torch " + v.at("torch").get<std::string>() +
         ")";
}

// What the parser could not place, which says more than its own messages; empty where there is nothing.
std::string unplaced(const CLI::App& app) {
  const auto rest = app.remaining(true);
  const auto flag =
      std::find_if(rest.begin(), rest.end(), [](const auto& text) { return text.starts_with("-"); });
  if (flag != rest.end()) return "unknown flag " + *flag;
  return rest.empty() ? "" : "unexpected argument " + rest.front();
}

// What the parser refuses is a wrong use; --help and --version are not errors.
int parse(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == int(CLI::ExitCodes::Success)) {
      std::ostringstream text;  // of --help or --version
      app.exit(e, text, text);
      sagelab::print(text.str());
      return sagelab::kDone;
    }
    std::string command = "sagelab";
    for (const auto* at = &app; !at->get_subcommands().empty();) {
      at = at->get_subcommands().front();
      command += " " + at->get_name();
    }
    const auto rest = unplaced(app);
    throw sagelab::UsageError(rest.empty() ? e.what() : rest, "see " + command + " --help");
  }
  return sagelab::kDone;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGXFSZ, SIG_IGN);  // a file that grows past the user's limit is an error, not the end
  return sagelab::guarded([&] {
    CLI::App app("Video and image models from diffusers folders, in C++, with attention that you choose.",
                 "sagelab");
    app.set_version_flag("--version", version_line());
    app.require_subcommand(1);
#ifdef SAGELAB_UI
    if (argc == 1 && sagelab::has_display()) return sagelab::run_gui();
#endif
    int exit_code = sagelab::kDone;
    sagelab::add_generate(app, {argv, size_t(argc)}, exit_code);
    sagelab::add_decode(app, exit_code);
    sagelab::add_replay(app, exit_code);
    sagelab::add_compare(app, {argv, size_t(argc)}, exit_code);
    sagelab::add_demo(app, exit_code);
    sagelab::add_batch(app, {argv, size_t(argc)}, exit_code);
#ifdef SAGELAB_UI
    sagelab::add_gui(app, exit_code);
#endif
    sagelab::add_info(app, exit_code);
    sagelab::add_bench(app, exit_code);
    sagelab::add_attend(app, exit_code);
    const int parsed = parse(app, argc, argv);
    return parsed == sagelab::kDone ? exit_code : parsed;
  });
}
