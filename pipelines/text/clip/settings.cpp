// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/clip/settings.h"

namespace sagelab::clip {
namespace {

using Json = nlohmann::json;

// transformers writes 10^30 where there is no limit.
std::optional<int64_t> max_length(const TokenPlace& place, const Json& value) {
  if (value.is_null()) return std::nullopt;
  if (!value.is_number() || value.get<double>() < 2) place.refuse(value, "should be a length of at least 2");
  if (value.get<double>() >= 1e9) return std::nullopt;
  return value.get<int64_t>();
}

}  // namespace

Settings read_settings(const std::filesystem::path& folder, const Json* tokenizer_json) {
  Settings settings;
  const TokenizerClass clip{"CLIP",
                            {{"bos_token", settings.bos},
                             {"eos_token", settings.eos},
                             {"unk_token", settings.unk},
                             {"pad_token", settings.pad}},
                            {"bos_token", "eos_token", "unk_token", "pad_token"},
                            [&](const TokenPlace& place, const Json& value) {
                              const bool length = place.key == "model_max_length" || place.key == "max_len";
                              if (length) settings.model_max_length = max_length(place, value);
                              return length || place.key == "merges_file";
                            }};
  const TokenFiles files = read_token_files(folder, tokenizer_json, clip);
  settings.added =
      files.in_order(files.extra ? *files.extra : files.additional.value_or(std::vector<TokenSpec>()));
  settings.numbered = files.numbered;
  settings.bos = files.content("bos_token");
  settings.eos = files.content("eos_token");
  settings.unk = files.content("unk_token");
  settings.pad = files.content("pad_token");
  return settings;
}

}  // namespace sagelab::clip
