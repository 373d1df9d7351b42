// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/llama/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "attention/error.h"

namespace sagelab::llama {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kClasses[] = {"PreTrainedTokenizerFast", "PreTrainedTokenizer",
                                         "TokenizersBackend", "LlamaTokenizer", "LlamaTokenizerFast"};

void only(const TokenPlace& place, const Json& value, bool supported) {
  if (!value.is_null() && value != supported)
    place.refuse(value, fmt::format("is not supported (only {})", supported));
}

// The keys that are this tokenizer's own.
struct Keys {
  bool pads_right = false, llama_class = false;

  bool read(const TokenPlace& place, const Json& value) {
    const std::string& key = place.key;
    if (key == "padding_side") {
      pads_right = true;  // any other side is refused with the keys of all classes
    } else if (key == "tokenizer_class" && !value.is_null()) {
      if (std::find(std::begin(kClasses), std::end(kClasses), value) == std::end(kClasses))
        place.refuse(value, "is not supported (only PreTrainedTokenizerFast and LlamaTokenizerFast)");
      llama_class = value.get<std::string>().starts_with("Llama");
    } else if (key == "add_bos_token" || key == "add_eos_token") {
      only(place, value, key == "add_bos_token");
      return true;
    }
    return key == "model_max_length" || key == "max_len" || key == "use_default_system_prompt" ||
           key == "sp_model_kwargs";
  }
};

}  // namespace

Settings read_settings(const std::filesystem::path& folder, const Json& tokenizer_json) {
  Keys keys;
  const TokenizerClass llama{"Llama", {}, {"pad_token"}, [&](const TokenPlace& place, const Json& value) {
                               return keys.read(place, value);
                             }};
  TokenFiles files = read_token_files(folder, &tokenizer_json, llama);
  const std::string config = (folder / "tokenizer_config.json").string();
  if (keys.llama_class && !keys.pads_right)
    throw Error(fmt::format("{}: padding_side is missing, and LlamaTokenizer's own is \"left\"", config),
                "only \"right\" is supported: add \"padding_side\": \"right\"");
  if (!files.named.contains("pad_token"))
    throw Error(fmt::format("{}: pad_token is missing", config),
                "prompts are padded with it: name the token that the model was trained with");
  Settings settings;
  settings.added = tokenizer_json_tokens(folder, tokenizer_json);
  for (const TokenSpec& token : settings.added) files.numbered.insert(token.content);
  const auto others =
      files.in_order(files.extra ? *files.extra : files.additional.value_or(std::vector<TokenSpec>()));
  settings.added.insert(settings.added.end(), others.begin(), others.end());
  settings.numbered = files.numbered;
  settings.pad = files.content("pad_token");
  if (const auto bos = files.named.find("bos_token"); bos != files.named.end() && bos->second)
    settings.bos = bos->second->content;
  return settings;
}

}  // namespace sagelab::llama
