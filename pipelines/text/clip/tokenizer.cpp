// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/clip/tokenizer.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <string>
#include <utility>

#include "attention/error.h"
#include "pipelines/core/config.h"
#include "pipelines/core/utf8.h"
#include "pipelines/text/bpe/pieces.h"
#include "pipelines/text/clip/settings.h"
#include "pipelines/text/clip/vocabulary.h"
#include "pipelines/text/clip/words.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;

class ClipTokenizer : public Tokenizer {
 public:
  ClipTokenizer(BpeVocabulary vocabulary, const clip::Settings& settings)
      : ClipTokenizer(BpeTokens(std::move(vocabulary), settings.added, settings.numbered), settings) {}

  Tokens encode(std::string_view text, int64_t max_length) const override {
    TORCH_CHECK(max_length >= 2, "max_length ", max_length, " leaves no place for the start and end tokens");
    check_utf8(text, "text");
    Tokens tokens;
    tokens.ids.push_back(bos_);
    pieces_.encode(text, tokens.ids);
    tokens.truncated = int64_t(tokens.ids.size()) > max_length - 1;
    if (tokens.truncated) tokens.ids.resize(size_t(max_length - 1));
    tokens.ids.push_back(eos_);
    tokens.length = int64_t(tokens.ids.size());
    tokens.ids.resize(size_t(max_length), pad_);
    return tokens;
  }

 private:
  ClipTokenizer(BpeTokens tokens, const clip::Settings& settings)
      : bos_(tokens.id("bos_token", settings.bos)),
        eos_(tokens.id("eos_token", settings.eos)),
        pad_(tokens.id("pad_token", settings.pad)),
        unknown_(tokens.id("unk_token", settings.unk)),
        pieces_(std::move(tokens), {.suffix = clip::kSuffix, .unknown = unknown_},
                {clip::normalize, clip::words}) {}

  int64_t bos_, eos_, pad_, unknown_;
  BpePieces pieces_;
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
