// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/clip/tokenizer.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <map>
#include <string>
#include <utility>

#include "attention/error.h"
#include "pipelines/core/config.h"
#include "pipelines/core/utf8.h"
#include "pipelines/text/added_tokens.h"
#include "pipelines/text/clip/bpe.h"
#include "pipelines/text/clip/settings.h"
#include "pipelines/text/clip/vocabulary.h"
#include "pipelines/text/clip/words.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;

class ClipTokenizer : public Tokenizer {
 public:
  ClipTokenizer(clip::Vocabulary vocabulary, const clip::Settings& settings) {
    // As add_tokens: a token that the vocabulary has keeps its id, others come after the vocabulary; of two
    // with the same content the last one counts.
    std::map<std::string, AddedToken> by_content;
    int64_t next_id = int64_t(vocabulary.ids.size());
    for (const TokenSpec& spec : settings.added) {
      if (spec.content.empty()) continue;
      AddedToken token{spec.content, spec.single_word, spec.lstrip, spec.rstrip,
                       spec.normalized.value_or(!spec.special)};
      const auto before = by_content.find(spec.content);
      const auto known = vocabulary.ids.find(spec.content);
      if (before != by_content.end())
        token.id = before->second.id;
      else
        token.id = known != vocabulary.ids.end() ? known->second : next_id++;
      by_content.insert_or_assign(spec.content, token);
    }
    const auto id_of = [&](const char* key, const std::string& content) {
      // Without this, it would get an id that no row of the model's embedding stands for.
      const bool known = vocabulary.ids.contains(content) || settings.numbered.contains(content);
      if (!known || content.empty())
        throw Error(fmt::format("{}: {} \"{}\" is not in the vocabulary", vocabulary.ids_file, key, content),
                    "the vocabulary is cut short, or another tokenizer's; download the tokenizer again");
      return by_content.at(content).id;
    };
    bos_ = id_of("bos_token", settings.bos);
    eos_ = id_of("eos_token", settings.eos);
    pad_ = id_of("pad_token", settings.pad);
    const int64_t unknown = id_of("unk_token", settings.unk);
    bpe_ = std::make_unique<clip::Bpe>(std::move(vocabulary.ids), vocabulary.merges,
                                       clip::Bpe::Options{clip::kSuffix, unknown}, vocabulary.merges_file);
    std::vector<AddedToken> added;
    for (auto& [content, token] : by_content) added.push_back(std::move(token));
    added_ = AddedTokens(std::move(added), clip::normalize, vocabulary.ids_file);
  }

  Tokens encode(std::string_view text, int64_t max_length) const override {
    TORCH_CHECK(max_length >= 2, "max_length ", max_length, " leaves no place for the start and end tokens");
    check_utf8(text, "text");
    Tokens tokens;
    tokens.ids.push_back(bos_);
    for (const Fragment& raw : added_.split(text, false)) {
      if (raw.id >= 0)
        tokens.ids.push_back(raw.id);
      else
        encode_text(clip::normalize(raw.text), tokens.ids);
    }
    tokens.truncated = int64_t(tokens.ids.size()) > max_length - 1;
    if (tokens.truncated) tokens.ids.resize(size_t(max_length - 1));
    tokens.ids.push_back(eos_);
    tokens.length = int64_t(tokens.ids.size());
    tokens.ids.resize(size_t(max_length), pad_);
    return tokens;
  }

 private:
  void encode_text(const std::string& normalized, std::vector<int64_t>& ids) const {
    for (const Fragment& part : added_.split(normalized, true)) {
      if (part.id >= 0) {
        ids.push_back(part.id);
        continue;
      }
      for (const std::string_view word : clip::words(part.text)) bpe_->encode(word, ids);
    }
  }

  std::unique_ptr<clip::Bpe> bpe_;
  AddedTokens added_;
  int64_t bos_ = 0, eos_ = 0, pad_ = 0;
};

}  // namespace

std::unique_ptr<Tokenizer> open_clip_tokenizer(const fs::path& folder) {
  if (!fs::is_directory(folder))
    throw Error(fmt::format("{}: no such folder", folder.string()),
                "point to the folder of a whole diffusers checkpoint");
  const fs::path json_file = folder / "tokenizer.json";
  if (fs::exists(json_file)) {
    const nlohmann::json json = read_json(json_file);
    return std::make_unique<ClipTokenizer>(clip::vocabulary_from_json(json, json_file.string()),
                                           clip::read_settings(folder, &json));
  }
  const fs::path vocab_file = folder / "vocab.json", merges_file = folder / "merges.txt";
  for (const auto& [file, other] : {std::pair{vocab_file, merges_file}, {merges_file, vocab_file}})
    if (!fs::exists(file) && fs::exists(other))
      throw Error(fmt::format("{}: no such file, beside {}", file.string(), other.filename().string()),
                  "the checkpoint is incomplete; download its tokenizer again");
  if (!fs::exists(vocab_file))
    throw Error(fmt::format("{}: neither tokenizer.json nor vocab.json is there", folder.string()),
                "the checkpoint is incomplete; download its tokenizer again");
  return std::make_unique<ClipTokenizer>(clip::vocabulary_from_files(vocab_file, merges_file),
                                         clip::read_settings(folder, nullptr));
}

std::optional<int64_t> clip_model_max_length(const fs::path& folder) {
  return clip::read_settings(folder, nullptr).model_max_length;
}

}  // namespace sagelab
