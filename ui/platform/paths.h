// SPDX-License-Identifier: Apache-2.0
// Paths as a person types them.
#pragma once

#include <string>
#include <vector>

namespace sagelab::ui {

enum class PathKind { Open, Save, Folder };  // a file that is there, one that will be, a folder that is there

// "~/x" -> "/home/me/x"; all else as it is.
std::string without_tilde(const std::string& path);
// What stands where the typed path ends: names of its folder that go on as it does, folders first and with a
// slash. Of files those that a pattern of "*.mp4 *.png" fits; none are asked for: all. Hidden ones only where
// a dot is typed.
std::vector<std::string> names_after(const std::string& typed, PathKind kind, const std::string& patterns);
// "/a/b" and "c/" -> "/a/c/": the name takes the place of what was typed last.
std::string with_name(const std::string& typed, const std::string& name);
// Why it cannot be taken; empty where it can.
std::string path_problem(const std::string& path, PathKind kind);

}  // namespace sagelab::ui
