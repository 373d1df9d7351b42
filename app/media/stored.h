// SPDX-License-Identifier: Apache-2.0
// What an output says of how it was made, read back.
#pragma once

#include <filesystem>
#include <string>

namespace sagelab::media {

// JSON: an MP4's comment, a PNG's "sagelab" text, the request.json of a folder of frames, or a JSON file
// itself; by content, not by name. Throws sagelab::Error for what is none of these, or carries nothing.
std::string stored_text(const std::filesystem::path& file);

}  // namespace sagelab::media
