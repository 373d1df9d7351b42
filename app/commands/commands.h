// SPDX-License-Identifier: Apache-2.0
// One function per command. Each adds its flags and a callback that sets the exit code.
#pragma once

#include <CLI/App.hpp>
#include <span>

namespace sagelab {

// arguments: the whole command line, since a model's own flags depend on the model that it names.
void add_generate(CLI::App& app, std::span<const char* const> arguments, int& exit_code);
void add_decode(CLI::App& app, int& exit_code);
void add_replay(CLI::App& app, int& exit_code);
void add_compare(CLI::App& app, std::span<const char* const> arguments, int& exit_code);
void add_demo(CLI::App& app, int& exit_code);
void add_batch(CLI::App& app, std::span<const char* const> arguments, int& exit_code);
void add_info(CLI::App& app, int& exit_code);
void add_bench(CLI::App& app, int& exit_code);
void add_attend(CLI::App& app, int& exit_code);

// Where the desktop app is built in (sagelab_gui).
void add_gui(CLI::App& app, int& exit_code);
bool has_display();
// Returns the exit code; throws sagelab::Error where no window can be opened. says_times: how long frames
// took.
int run_gui(bool says_times = false);

}  // namespace sagelab
