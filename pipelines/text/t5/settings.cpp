// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/t5/settings.h"

#include <fmt/format.h>

#include <algorithm>

#include "attention/error.h"
#include "pipelines/core/config.h"

namespace sagelab {
namespace {

using Json = nlohmann::json;

int64_t sentinels(const TokenPlace& place, const Json& value) {
  if (!value.is_number_integer() || value.get<int64_t>() < 0 || value.get<int64_t>() > 100000)
    place.refuse(value, "should be a number of sentinels");
  return value.get<int64_t>();
}

// Those of special_tokens_map.json or of spiece.model, else the sentinels that T5Tokenizer makes itself.
std::vector<TokenSpec> extra_tokens(std::vector<TokenSpec> tokens, int64_t extra_ids,
                                    const std::filesystem::path& folder) {
  const auto found = std::count_if(tokens.begin(), tokens.end(), [](const TokenSpec& token) {
    return token.content.find("<extra_id_") != std::string::npos;
  });
  if (found > 0 && extra_ids > 0 && found != extra_ids)
    throw Error(fmt::format("{}: {} sentinels where extra_ids is {}", folder.string(), found, extra_ids));
  for (int64_t i = 0; found == 0 && i < extra_ids; ++i) {
    TokenSpec token;
    token.content = fmt::format("<extra_id_{}>", i);
    token.special = true;
    tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace

T5Settings read_t5_settings(const std::filesystem::path& folder, const Json* tokenizer_json,
                            const std::vector<TokenSpec>& controls) {
  T5Settings settings;
  const TokenizerClass t5{"T5",
                          {{"eos_token", "</s>"}, {"unk_token", "<unk>"}, {"pad_token", "<pad>"}},
                          {"eos_token", "pad_token"},
                          [&](const TokenPlace& place, const Json& value) {
                            const std::string& key = place.key;
                            if (key == "extra_ids") settings.extra_ids = sentinels(place, value);
                            // Of no effect on the ids.
                            return key == "extra_ids" || key == "max_len" || key == "model_max_length" ||
                                   key == "unk_id" || key == "sp_model_kwargs";
                          }};
  const TokenFiles files = read_token_files(folder, tokenizer_json, t5);
  settings.eos = files.content("eos_token");
  settings.pad = files.content("pad_token");
  settings.added = files.in_order(
      files.extra
          ? *files.extra
          : extra_tokens(tokenizer_json ? files.additional.value_or(std::vector<TokenSpec>()) : controls,
                         settings.extra_ids, folder));
  return settings;
}

}  // namespace sagelab
