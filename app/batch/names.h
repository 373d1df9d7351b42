// SPDX-License-Identifier: Apache-2.0
// What a batch calls its files. By index, as Open-Sora: sample_0000.mp4, with several seeds
// sample_0000-0.mp4, sample_0000-1.mp4. By prompt, as VBench: "{prompt}-{i}.mp4", i counting the seeds. With
// several attention specs each has a folder of its own, so that every folder is one that those tools can
// read.
#pragma once

#include <string>
#include <vector>

#include "app/batch/prompts/prompts.h"

namespace sagelab::batch {

enum class NameBy { Index, Prompt };

// A text as a file name may hold it: at most 180 bytes, whole characters; slashes and control characters
// become "_", as does a dot in front, which would hide the file.
std::string file_text(const std::string& text);
// Of each prompt, the part in front of the seed's number. A prompt whose name an earlier one has (told apart
// as file systems without upper and lower case do) gets its index behind it.
std::vector<std::string> stems_of(const std::vector<Prompt>& prompts, NameBy by);
// Without its ending.
std::string name_of(const std::string& stem, NameBy by, int take, bool several_seeds);
// "sdpa/", "sage2-qk-int4/" ...: unlike each other; a single spec has none.
std::vector<std::string> folders_of(const std::vector<std::string>& specs);

}  // namespace sagelab::batch
