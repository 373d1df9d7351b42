// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/token_files.h"

#include <fmt/format.h>

#include <algorithm>

#include "attention/error.h"
#include "pipelines/core/config.h"

namespace sagelab {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kNamed[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                       "pad_token", "cls_token", "mask_token"};

// What transformers 4 and 5 write into tokenizer_config.json besides, none of which changes a tokenizer's
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

bool flag(const Json& token, const char* key, const TokenPlace& place) {
  const auto found = token.find(key);
  if (found == token.end() || found->is_null()) return false;
  if (!found->is_boolean()) place.refuse(token, fmt::format("has a {} that is not true or false", key));
  return found->get<bool>();
}

// "text", or {"content": "text", "lstrip": false, ...}.
TokenSpec token_spec(const Json& value, bool special, const TokenPlace& place) {
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

std::vector<TokenSpec> token_list(const Json& value, const TokenPlace& place) {
  if (!value.is_array()) place.refuse(value, "should be a list of tokens");
  std::vector<TokenSpec> tokens;
  for (const Json& token : value) tokens.push_back(token_spec(token, true, place));
  return tokens;
}

// (id, token) in the file's order.
std::vector<std::pair<int64_t, TokenSpec>> json_tokens(const std::filesystem::path& folder,
                                                       const Json& tokenizer_json) {
  const TokenPlace place{(folder / "tokenizer.json").string(), "added_tokens"};
  std::vector<std::pair<int64_t, TokenSpec>> tokens;
  const auto list = tokenizer_json.find("added_tokens");
  if (list == tokenizer_json.end()) return tokens;
  if (!list->is_array()) place.refuse(*list, "should be a list of tokens");
  for (const Json& token : *list) {
    if (!token.is_object() || !token.contains("id") || !token["id"].is_number_integer())
      place.refuse(token, "has no id");
    tokens.emplace_back(token["id"].get<int64_t>(), token_spec(token, false, place));
  }
  return tokens;
}

Json read_if_there(const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return Json::object();
  Json json = read_json(file);
  if (!json.is_object()) throw Error(fmt::format("{}: should be a JSON object", file.string()));
  return json;
}

// What transformers collects before it builds a tokenizer.
class Reader {
 public:
  Reader(const std::filesystem::path& folder, const Json* tokenizer_json, const TokenizerClass& tokenizer)
      : folder_(folder), tokenizer_json_(tokenizer_json), class_(tokenizer) {}

  TokenFiles read() {
    read_config();
    if (!has_decoder_) read_legacy_files();
    for (const auto& [id, token] : files_.by_id) files_.numbered.insert(token.content);
    for (const auto& [key, content] : class_.defaults)
      if (!files_.named.contains(key))
        files_.named[std::string(key)] = token_spec(Json(std::string(content)), true, {});
    return std::move(files_);
  }

 private:
  void read_config() {
    const std::filesystem::path file = folder_ / "tokenizer_config.json";
    const Json config = read_if_there(file);
    for (const auto& [key, value] : config.items()) read_config_key({file.string(), key}, value);
    // A list under the old name counts where the new one is absent or empty.
    const auto old = config.find("additional_special_tokens");
    if (old != config.end() && !old->is_null() && (!files_.extra || files_.extra->empty()))
      files_.extra = token_list(*old, {file.string(), "additional_special_tokens"});
  }

  void read_config_key(const TokenPlace& place, const Json& value) {
    const std::string_view key = place.key;
    if (in(kNamed, key)) {
      read_named(place, value);
    } else if (class_.read_key(place, value)) {
      return;
    } else if (key.ends_with("_token") && (value.is_string() || value.is_object())) {
      place.refuse(value, fmt::format("is not a token of {}'s", class_.name));
    } else if (key == "extra_special_tokens") {
      read_extra(place, value);
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

  // An object names tokens for an attribute each; an empty one, as older versions wrote it, is as none at
  // all.
  void read_extra(const TokenPlace& place, const Json& value) {
    if (value == Json::object()) return;
    if (value.is_object()) place.refuse(value, "is not supported (only a list of tokens, or {})");
    files_.extra = value.is_null() ? std::vector<TokenSpec>() : token_list(value, place);
  }

  void read_named(const TokenPlace& place, const Json& value) {
    if (value.is_null() && in(class_.required, place.key))
      place.refuse(value, fmt::format("is not supported: {}'s tokenizer has it", class_.name));
    files_.named[place.key] = value.is_null() ? std::nullopt : std::optional(token_spec(value, true, place));
  }

  void read_decoder(const TokenPlace& place, const Json& value) {
    has_decoder_ = true;
    if (!value.is_object()) place.refuse(value, "should be an object of tokens by id");
    for (const auto& [id, token] : value.items()) {
      if (id.empty() || id.size() > 9 ||
          !std::all_of(id.begin(), id.end(), [](char c) { return c >= '0' && c <= '9'; }))
        place.refuse(value, fmt::format("has the id \"{}\"", id));
      if (!token.is_object()) place.refuse(token, "is not a token");
      files_.by_id[std::stol(id)] = token_spec(token, false, place);
    }
  }

  void read_legacy_files() {
    const std::filesystem::path file = folder_ / "special_tokens_map.json";
    const Json tokens = read_if_there(file);
    for (const auto& [key, value] : tokens.items()) {
      const TokenPlace place{file.string(), key};
      if (in(kNamed, key))
        read_named(place, value);
      else if (key == "additional_special_tokens")
        files_.additional = token_list(value, place);
      else
        place.refuse(value, "is not supported");
    }
    read_added_tokens();
    if (tokenizer_json_)
      for (auto& [id, token] : json_tokens(folder_, *tokenizer_json_)) files_.by_id[id] = std::move(token);
  }

  void read_added_tokens() {
    const std::filesystem::path file = folder_ / "added_tokens.json";
    const Json tokens = read_if_there(file);
    for (const auto& [content, id] : tokens.items()) {
      const TokenPlace place{file.string(), content};
      if (!id.is_number_integer()) place.refuse(id, "is not an id");
      TokenSpec token;
      token.content = content;
      token.special = is_special(content);
      token.normalized = !token.special;
      files_.by_id[id.get<int64_t>()] = std::move(token);
    }
  }

  bool is_special(const std::string& content) const {
    const auto same = [&](const auto& token) { return token.content == content; };
    for (const auto& [key, token] : files_.named)
      if (token && same(*token)) return true;
    return files_.extra && std::any_of(files_.extra->begin(), files_.extra->end(), same);
  }

  const std::filesystem::path& folder_;
  const Json* tokenizer_json_;
  const TokenizerClass& class_;
  TokenFiles files_;
  bool has_decoder_ = false;
};

}  // namespace

void TokenPlace::refuse(const Json& value, std::string_view why) const {
  throw Error(fmt::format("{}: {} = {} {}", file, key, shown(value), why));
}

std::vector<TokenSpec> TokenFiles::in_order(const std::vector<TokenSpec>& others) const {
  std::vector<TokenSpec> tokens;
  for (const auto& [id, token] : by_id) tokens.push_back(token);
  const auto add = [&](const TokenSpec& token) {
    if (!numbered.contains(token.content)) tokens.push_back(token);
  };
  for (const std::string_view key : kNamed) {
    const auto found = named.find(key);
    if (found != named.end() && found->second) add(*found->second);
  }
  for (const TokenSpec& token : others) add(token);
  return tokens;
}

TokenFiles read_token_files(const std::filesystem::path& folder, const Json* tokenizer_json,
                            const TokenizerClass& tokenizer) {
  return Reader(folder, tokenizer_json, tokenizer).read();
}

std::vector<TokenSpec> tokenizer_json_tokens(const std::filesystem::path& folder,
                                             const Json& tokenizer_json) {
  std::vector<TokenSpec> tokens;
  for (auto& [id, token] : json_tokens(folder, tokenizer_json)) tokens.push_back(std::move(token));
  return tokens;
}

std::map<std::string, AddedToken> with_ids(const std::vector<TokenSpec>& tokens, int64_t size,
                                           const std::function<int64_t(const std::string&)>& id_of) {
  std::map<std::string, AddedToken> by_content;
  for (const TokenSpec& spec : tokens) {
    if (spec.content.empty()) continue;
    AddedToken token{spec.content, spec.single_word, spec.lstrip, spec.rstrip,
                     spec.normalized.value_or(!spec.special)};
    const auto before = by_content.find(spec.content);
    token.id = before != by_content.end() ? before->second.id : id_of(spec.content);
    if (token.id < 0) token.id = size++;
    by_content.insert_or_assign(spec.content, token);
  }
  return by_content;
}

AddedTokens added_tokens(const std::map<std::string, AddedToken>& tokens,
                         const std::function<std::string(std::string_view)>& normalize,
                         const std::string& where) {
  std::vector<AddedToken> list;
  for (const auto& [content, token] : tokens) list.push_back(token);
  return {std::move(list), normalize, where};
}

}  // namespace sagelab
