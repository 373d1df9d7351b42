// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/clip/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "attention/error.h"
#include "pipelines/core/config.h"

namespace sagelab::clip {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kNamed[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                       "pad_token", "cls_token", "mask_token"};

// What transformers 4 and 5 write into tokenizer_config.json besides, none of which changes CLIPTokenizer's
// ids: how files were found and loaded, what decoding, chats and models make of them, and what a call says
// itself.
constexpr std::string_view kWithoutEffect[] = {"_commit_hash",
                                               "_from_auto",
                                               "add_bos_token",
                                               "add_eos_token",
                                               "add_prefix_space",
                                               "additional_special_tokens",  // read_config
                                               "auto_map",
                                               "backend",
                                               "cache_dir",
                                               "chat_control_tokens",
                                               "chat_template",
                                               "clean_up_tokenization_spaces",
                                               "device_map",
                                               "do_lower_case",
                                               "errors",
                                               "fast_tokenizer_files",
                                               "files_loaded",
                                               "fix_mistral_regex",
                                               "force_download",
                                               "from_slow",
                                               "is_local",
                                               "legacy",
                                               "local_files_only",
                                               "max_length",
                                               "merges_file",
                                               "model_input_names",
                                               "name_or_path",
                                               "pad_to_multiple_of",
                                               "pad_token_type_id",
                                               "padding",
                                               "processor_class",
                                               "response_schema",
                                               "response_template",
                                               "return_attention_mask",
                                               "return_token_type_ids",
                                               "revision",
                                               "slow_tokenizer_class",
                                               "spaces_between_special_tokens",
                                               "special_tokens_map_file",
                                               "stride",
                                               "subfolder",
                                               "tokenizer_class",
                                               "tokenizer_file",
                                               "transformers_version",
                                               "truncation",
                                               "truncation_strategy",
                                               "trust_remote_code",
                                               "use_fast",
                                               "verbose",
                                               "vocab_file"};

template <typename List>
bool in(const List& list, std::string_view what) {
  return std::find(std::begin(list), std::end(list), what) != std::end(list);
}

// A file of the folder and the key being read.
struct Place {
  std::string file, key;
  [[noreturn]] void refuse(const Json& value, std::string_view why) const {
    throw Error(fmt::format("{}: {} = {} {}", file, key, shown(value), why));
  }
};

bool flag(const Json& token, const char* key, const Place& place) {
  const auto found = token.find(key);
  if (found == token.end() || found->is_null()) return false;
  if (!found->is_boolean()) place.refuse(token, fmt::format("has a {} that is not true or false", key));
  return found->get<bool>();
}

// "text", or {"content": "text", "lstrip": false, ...}.
TokenSpec token_spec(const Json& value, bool special, const Place& place) {
  TokenSpec token;
  token.special = special;
  if (value.is_string()) {
    token.content = value.get<std::string>();
    return token;
  }
  if (!value.is_object() || !value.contains("content") || !value["content"].is_string())
    place.refuse(value, "is not a token");
  token.content = value["content"].get<std::string>();
  token.single_word = flag(value, "single_word", place);
  token.lstrip = flag(value, "lstrip", place);
  token.rstrip = flag(value, "rstrip", place);
  token.special = special || flag(value, "special", place);
  if (value.contains("normalized")) token.normalized = flag(value, "normalized", place);
  return token;
}

std::vector<TokenSpec> token_list(const Json& value, const Place& place) {
  if (!value.is_array()) place.refuse(value, "should be a list of tokens");
  std::vector<TokenSpec> tokens;
  for (const Json& token : value) tokens.push_back(token_spec(token, true, place));
  return tokens;
}

Json read_if_there(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return Json::object();
  Json json = read_json(file);
  if (!json.is_object()) throw Error(fmt::format("{}: should be a JSON object", file.string()));
  return json;
}

// What transformers collects before it builds the tokenizer.
class Reader {
 public:
  Reader(const std::filesystem::path& folder, const Json* tokenizer_json)
      : folder_(folder), tokenizer_json_(tokenizer_json) {}

  Settings read() {
    read_config();
    if (!has_decoder_) read_legacy_files();
    for (const auto& [id, token] : by_id_) {
      settings_.added.push_back(token);
      settings_.numbered.insert(token.content);
    }
    add_named();
    for (const TokenSpec& token : extra_ ? *extra_ : additional_)
      if (!settings_.numbered.contains(token.content)) settings_.added.push_back(token);
    return std::move(settings_);
  }

 private:
  void read_config() {
    const std::filesystem::path file = folder_ / "tokenizer_config.json";
    const Json config = read_if_there(file);
    for (const auto& [key, value] : config.items()) read_config_key({file.string(), key}, value);
    // A list under the old name counts where the new one is absent or empty.
    const auto old = config.find("additional_special_tokens");
    if (old != config.end() && !old->is_null() && (!extra_ || extra_->empty()))
      extra_ = token_list(*old, {file.string(), "additional_special_tokens"});
  }

  void read_config_key(const Place& place, const Json& value) {
    const std::string_view key = place.key;
    if (in(kNamed, key)) {
      read_named(place, value);
    } else if (key.ends_with("_token") && (value.is_string() || value.is_object())) {
      place.refuse(value, "is not a token of CLIP's");
    } else if (key == "model_max_length" || key == "max_len") {
      read_max_length(place, value);
    } else if (key == "extra_special_tokens") {
      extra_ = value.is_null() ? std::vector<TokenSpec>() : token_list(value, place);
    } else if (key == "added_tokens_decoder") {
      read_decoder(place, value);
    } else if (key == "padding_side" || key == "truncation_side") {
      if (value != "right") place.refuse(value, "is not supported (only \"right\")");
    } else if (key == "split_special_tokens") {
      if (value != false) place.refuse(value, "is not supported (only false)");
    } else if (key == "init_inputs") {
      if (value != Json::array()) place.refuse(value, "is not supported (only [])");
    } else if (!in(kWithoutEffect, key)) {
      throw Error(fmt::format("{}: unknown key {} = {}", place.file, place.key, shown(value)),
                  "nothing here knows what it changes; remove it if it changes nothing");
    }
  }

  // transformers writes 10^30 where there is no limit.
  void read_max_length(const Place& place, const Json& value) {
    if (value.is_null()) return;
    if (!value.is_number() || value.get<double>() < 2)
      place.refuse(value, "should be a length of at least 2");
    if (value.get<double>() < 1e9) settings_.model_max_length = value.get<int64_t>();
  }

  void read_named(const Place& place, const Json& value) {
    const bool optional = place.key == "sep_token" || place.key == "cls_token" || place.key == "mask_token";
    if (value.is_null() && !optional) place.refuse(value, "is not supported: CLIP's tokenizer has it");
    named_[place.key] = value.is_null() ? std::nullopt : std::optional(token_spec(value, true, place));
  }

  void read_decoder(const Place& place, const Json& value) {
    has_decoder_ = true;
    if (!value.is_object()) place.refuse(value, "should be an object of tokens by id");
    for (const auto& [id, token] : value.items()) {
      if (id.empty() || id.size() > 9 ||
          !std::all_of(id.begin(), id.end(), [](char c) { return c >= '0' && c <= '9'; }))
        place.refuse(value, fmt::format("has the id \"{}\"", id));
      if (!token.is_object()) place.refuse(token, "is not a token");
      by_id_[std::stol(id)] = token_spec(token, false, place);
    }
  }

  void read_legacy_files() {
    const std::filesystem::path file = folder_ / "special_tokens_map.json";
    const Json tokens = read_if_there(file);
    for (const auto& [key, value] : tokens.items()) {
      const Place place{file.string(), key};
      if (in(kNamed, key))
        read_named(place, value);
      else if (key == "additional_special_tokens")
        additional_ = token_list(value, place);
      else
        place.refuse(value, "is not supported");
    }
    read_added_tokens();
    if (tokenizer_json_) read_json_tokens();
  }

  void read_added_tokens() {
    const std::filesystem::path file = folder_ / "added_tokens.json";
    const Json tokens = read_if_there(file);
    for (const auto& [content, id] : tokens.items()) {
      const Place place{file.string(), content};
      if (!id.is_number_integer()) place.refuse(id, "is not an id");
      TokenSpec token;
      token.content = content;
      token.special = is_special(content);
      token.normalized = !token.special;
      by_id_[id.get<int64_t>()] = std::move(token);
    }
  }

  void read_json_tokens() {
    const Place place{(folder_ / "tokenizer.json").string(), "added_tokens"};
    const auto tokens = tokenizer_json_->find("added_tokens");
    if (tokens == tokenizer_json_->end()) return;
    if (!tokens->is_array()) place.refuse(*tokens, "should be a list of tokens");
    for (const Json& token : *tokens) {
      if (!token.is_object() || !token.contains("id") || !token["id"].is_number_integer())
        place.refuse(token, "has no id");
      by_id_[token["id"].get<int64_t>()] = token_spec(token, false, place);
    }
  }

  bool is_special(const std::string& content) const {
    const auto same = [&](const auto& token) { return token.content == content; };
    for (const auto& [key, token] : named_)
      if (token && same(*token)) return true;
    return extra_ && std::any_of(extra_->begin(), extra_->end(), same);
  }

  // CLIPTokenizer's own defaults, then those of the table above that the tables by id do not have.
  void add_named() {
    const std::pair<const char*, std::string*> required[] = {{"bos_token", &settings_.bos},
                                                             {"eos_token", &settings_.eos},
                                                             {"unk_token", &settings_.unk},
                                                             {"pad_token", &settings_.pad}};
    for (const auto& [key, content] : required) {
      if (!named_.contains(key)) named_[key] = token_spec(*content, true, {});
      *content = named_[key]->content;
    }
    for (const std::string_view key : kNamed) {
      const auto found = named_.find(std::string(key));
      if (found == named_.end() || !found->second) continue;
      if (!settings_.numbered.contains(found->second->content)) settings_.added.push_back(*found->second);
    }
  }

  const std::filesystem::path& folder_;
  const Json* tokenizer_json_;
  Settings settings_;
  bool has_decoder_ = false;
  std::map<std::string, std::optional<TokenSpec>> named_;
  std::optional<std::vector<TokenSpec>> extra_;
  std::vector<TokenSpec> additional_;
  std::map<int64_t, TokenSpec> by_id_;
};

}  // namespace

Settings read_settings(const std::filesystem::path& folder, const nlohmann::json* tokenizer_json) {
  return Reader(folder, tokenizer_json).read();
}

}  // namespace sagelab::clip
