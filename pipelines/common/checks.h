// SPDX-License-Identifier: Apache-2.0
// What families check of a request alike. Everything throws sagelab::Error.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "pipelines/request.h"

namespace sagelab {

void check_multiple(const char* name, int value, int64_t unit);
void check_choice(const char* name, const std::string& value, std::initializer_list<const char*> choices);
// Prompts, tiling, offload, switching and the option table's own limits.
void check_words(const Request& request, const std::vector<Option>& options);
// guidance_scale, fps and preview of a request that has them.
void check_numbers(const Request& request);
// Every option that is not there gets its default.
void fill_options(Request& request, const std::vector<Option>& options);
// Latents that a request decodes, by their shape.
void check_latents(const std::vector<int64_t>& shape, const std::vector<int64_t>& wanted);
// Of a video whose latent frames but the first are `ratio` frames each: one, and so many times it more.
void check_frames(int frames, int64_t ratio);
int nearest_frames(int frames, int ratio);  // of two as near the smaller number
int nearest_multiple(int value, int unit);  // of two as near the smaller one, and at least one unit

}  // namespace sagelab
