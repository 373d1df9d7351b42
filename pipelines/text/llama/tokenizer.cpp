// SPDX-License-Identifier: Apache-2.0
#include "pipelines/text/llama/tokenizer.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>

#include <string>
#include <utility>

#include "attention/error.h"
#include "pipelines/core/config.h"
#include "pipelines/core/utf8.h"
#include "pipelines/text/bpe/pieces.h"
#include "pipelines/text/llama/settings.h"
#include "pipelines/text/llama/vocabulary.h"
#include "pipelines/text/llama/words.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;

std::string as_it_is(std::string_view text) {
  return std::string(text);
}

class LlamaTokenizer : public Tokenizer {
 public:
  LlamaTokenizer(llama::Vocabulary vocabulary, const llama::Settings& settings)
      : LlamaTokenizer(BpeTokens(std::move(vocabulary.bpe), settings.added, settings.numbered), settings,
                       vocabulary) {}

  Tokens encode(std::string_view text, int64_t max_length) const override {
    TORCH_CHECK(max_length >= 1, "max_length ", max_length, " leaves no place for the start token");
    check_utf8(text, "text");
    Tokens tokens;
    tokens.ids.push_back(bos_);
    pieces_.encode(text, tokens.ids);
    tokens.truncated = int64_t(tokens.ids.size()) > max_length;
    if (tokens.truncated) tokens.ids.resize(size_t(max_length));
    tokens.length = int64_t(tokens.ids.size());
    tokens.ids.resize(size_t(max_length), pad_);
    return tokens;
  }

 private:
  LlamaTokenizer(BpeTokens tokens, const llama::Settings& settings, const llama::Vocabulary& vocabulary)
      : bos_(start_id(tokens, settings, vocabulary)),
        pad_(tokens.id("pad_token", settings.pad)),
        pieces_(std::move(tokens), {.suffix = "", .unknown = -1, .ignore_merges = vocabulary.ignore_merges},
                {as_it_is, llama::words}) {}

  static int64_t start_id(const BpeTokens& tokens, const llama::Settings& settings,
                          const llama::Vocabulary& vocabulary) {
    const std::string& where = tokens.vocabulary.ids_file;
    const int64_t id = tokens.id("post_processor's token", vocabulary.bos);
    if (id != vocabulary.bos_id)
      throw Error(fmt::format("{}: post_processor has the id {} for \"{}\", which is token {}", where,
                              vocabulary.bos_id, vocabulary.bos, id),
                  "the file does not belong together; download the tokenizer again");
    // LlamaTokenizerFast would put that one in front, PreTrainedTokenizerFast the file's.
    if (settings.bos.value_or(vocabulary.bos) != vocabulary.bos)
      throw Error(fmt::format("{}: post_processor puts \"{}\" in front, and bos_token is \"{}\"", where,
                              vocabulary.bos, *settings.bos),
                  "which of them starts a text is not clear: make them the same");
    return id;
  }

  int64_t bos_, pad_;
  BpePieces pieces_;
};

}  // namespace

std::unique_ptr<Tokenizer> open_llama_tokenizer(const fs::path& folder) {
  if (!fs::is_directory(folder))
    throw Error(fmt::format("{}: no such folder", folder.string()),
                "point to the folder of a whole diffusers checkpoint");
  const fs::path file = folder / "tokenizer.json";
  if (!fs::exists(file))
    throw Error(fmt::format("{}: tokenizer.json is not there", folder.string()),
                "the checkpoint is incomplete; download its tokenizer again");
  const nlohmann::json json = read_json(file);
  return std::make_unique<LlamaTokenizer>(llama::read_vocabulary(json, file.string()),
                                          llama::read_settings(folder, json));
}

}  // namespace sagelab
