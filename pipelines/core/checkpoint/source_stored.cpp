// SPDX-License-Identifier: Apache-2.0
#include "pipelines/core/checkpoint/source_stored.h"

#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "attention/error.h"

namespace sagelab {
namespace {

constexpr std::string_view kWeight = ".weight";
// Beside "x.weight"; both spellings are about.
constexpr std::string_view kScales[] = {".scale_weight", ".weight_scale"};
constexpr std::string_view kUnread[] = {".scale_input", ".input_scale"};  // x is rounded by its own rows
constexpr std::string_view kMark = "scaled_fp8";
constexpr std::string_view kFormat = ".comfy_quant";  // JSON in bytes, beside "x.weight"

bool is_e4m3(const StoredTensor& stored) {
  return stored.dtype == at::kFloat8_e4m3fn;
}

// Whether a key says of a weight what we know: e4m3, with its scale or without.
bool says_e4m3(const std::string& key, const Located& located) {
  if (!key.ends_with(kFormat) || located.stored.dtype != at::kByte) return false;
  const at::Tensor bytes = located.file->tensor(key).contiguous();
  const auto* text = bytes.const_data_ptr<uint8_t>();
  const auto json = nlohmann::json::parse(text, text + bytes.numel(), nullptr, /*allow_exceptions=*/false);
  return json.is_object() && json.value("format", nlohmann::json()) == "float8_e4m3fn";
}

}  // namespace

bool is_scale_key(const std::string& key) {
  const auto ends = [&](std::string_view ending) { return key.ends_with(ending); };
  return key == kMark || std::any_of(std::begin(kScales), std::end(kScales), ends) ||
         std::any_of(std::begin(kUnread), std::end(kUnread), ends);
}

StoredSource::StoredSource(std::filesystem::path place, LocatedMap tensors,
                           std::span<const OriginalName> names,
                           std::function<void(int64_t, int64_t)> progress)
    : place_(std::move(place)), tensors_(std::move(tensors)), names_(names), loader_(std::move(progress)) {}

const OriginalName* StoredSource::rule_for(const std::string& key, std::string& theirs) const {
  for (const OriginalName& rule : names_)
    if (!(theirs = renamed(key, rule.ours, rule.theirs)).empty()) return &rule;
  return nullptr;
}

std::vector<StoredSource::Piece> StoredSource::pieces(const std::string& key) const {
  std::string theirs = key;
  const OriginalName* rule = names_.empty() ? nullptr : rule_for(key, theirs);
  if (!names_.empty() && !rule) return {};
  const auto it = tensors_.find(theirs);
  if (it == tensors_.end()) return {};
  const Located& located = it->second;
  std::vector<int64_t> shape = located.stored.shape;
  if (rule && rule->matrix && shape.size() == 4 && shape[2] == 1 && shape[3] == 1) shape.resize(2);
  const auto piece = [&](int64_t begin, int64_t rows) {
    Piece p{&located, theirs, begin, rows, shape};
    if (!p.shape.empty()) p.shape[0] = rows;
    return p;
  };
  const int64_t all = shape.empty() ? 0 : shape[0];
  if (!rule || (rule->of == 1 && !rule->swapped)) return {piece(0, all)};
  const int of = rule->swapped ? 2 : rule->of;
  if (all % of)
    throw Error(fmt::format("{}: tensor {} has shape [{}], whose rows are not {} equal shares",
                            located.file->path().string(), theirs, fmt::join(shape, ", "), of),
                "the weights belong to another model than config.json");
  const int64_t share = all / of;
  if (rule->swapped) return {piece(share, share), piece(0, share)};
  return {piece(rule->begin * share, (rule->end - rule->begin) * share)};
}

std::string StoredSource::where(const std::string& key) const {
  std::string theirs = key;
  if (!names_.empty()) rule_for(key, theirs);
  auto it = tensors_.find(theirs);
  if (it == tensors_.end()) it = tensors_.find(key);
  return it == tensors_.end() ? place_.string() : it->second.file->path().string();
}

bool StoredSource::has(const std::string& key) const {
  return !pieces(key).empty();
}

std::optional<std::vector<int64_t>> StoredSource::shape(const std::string& key) const {
  const std::vector<Piece> all = pieces(key);
  TORCH_CHECK(!all.empty(), "no tensor ", key);
  std::vector<int64_t> shape = all[0].shape;
  for (size_t i = 1; i < all.size(); ++i) shape[0] += all[i].rows;
  return shape;
}

bool StoredSource::is_e4m3(const std::string& key) const {
  const std::vector<Piece> all = pieces(key);
  return !all.empty() && sagelab::is_e4m3(all[0].from->stored);
}

at::Tensor StoredSource::stored_scale(const std::string& key) const {
  if (!key.ends_with(kWeight)) return {};
  for (const std::string_view name : kScales) {
    const auto it = tensors_.find(key.substr(0, key.size() - kWeight.size()).append(name));
    if (it == tensors_.end()) continue;
    const at::Tensor scale = it->second.file->tensor(it->first).to(at::kFloat).squeeze();
    const auto& shape = tensors_.at(key).stored.shape;
    const int64_t rows = shape.empty() ? 1 : shape[0];
    if (scale.numel() == 1) return scale.reshape({});
    if (scale.numel() == rows && scale.dim() == 1) return scale;
    throw Error(
        fmt::format("{}: tensor {} has shape [{}], and should hold one value, or one for each of {} rows",
                    it->second.file->path().string(), it->first, fmt::join(it->second.stored.shape, ", "),
                    rows),
        "the file is damaged, or of a form that is not known");
  }
  return {};
}

at::Tensor StoredSource::scale(const std::string& key) const {
  std::vector<at::Tensor> scales;
  for (const Piece& piece : pieces(key)) {
    const at::Tensor scale = stored_scale(piece.key);
    if (!scale.defined()) return {};
    scales.push_back(scale.dim() == 0 ? scale.expand({piece.rows})
                                      : scale.narrow(0, piece.begin, piece.rows));
  }
  return at::cat(scales);
}

void StoredSource::fill(const std::string& key, const at::Tensor& out) {
  int64_t row = 0;
  for (const Piece& piece : pieces(key)) {
    StoredTensor stored = piece.from->stored;
    at::Tensor to = out;
    if (piece.rows && piece.rows != piece.from->stored.shape[0]) {
      const uint64_t row_bytes = (stored.end - stored.begin) / uint64_t(stored.shape[0]);
      stored.begin += row_bytes * uint64_t(piece.begin);
      stored.end = stored.begin + row_bytes * uint64_t(piece.rows);
      stored.shape[0] = piece.rows;
      to = out.narrow(0, row, piece.rows);
      row += piece.rows;
    }
    loader_.queue(piece.from->file, stored, to);
  }
  if (out.scalar_type() == at::kFloat8_e4m3fn || !is_e4m3(key)) return;
  if (const at::Tensor by = scale(key); by.defined()) unscaled_.emplace_back(out, by);
}

void StoredSource::wait() {
  loader_.wait();
  for (auto& [out, scale] : unscaled_) {  // in fp32, as they were made
    std::vector<int64_t> by_rows(size_t(out.dim()), 1);
    by_rows[0] = -1;
    out.copy_(out.to(at::kFloat) * scale.to(out.device()).view(by_rows));
  }
  unscaled_.clear();
}

std::vector<std::string> StoredSource::keys() const {
  // A scale of anything else is a key like others, which nobody reads: the weight alone would be wrong.
  const auto scales_e4m3 = [&](const std::string& key) {
    const auto ends = [&](std::string_view ending) { return key.ends_with(ending); };
    if (std::none_of(std::begin(kScales), std::end(kScales), ends)) return is_scale_key(key);
    const auto weight = tensors_.find(key.substr(0, key.rfind('.')).append(kWeight));
    return weight != tensors_.end() && sagelab::is_e4m3(weight->second.stored);
  };
  std::set<std::string> keys;
  for (const auto& [key, located] : tensors_) {
    if (scales_e4m3(key) || says_e4m3(key, located)) continue;
    std::string_view theirs;  // of the first rule that fits; all rules of that pattern take their share
    for (const OriginalName& rule : names_) {
      if (!theirs.empty() && rule.theirs != theirs) continue;
      const std::string ours = renamed(key, rule.theirs, rule.ours);
      if (ours.empty()) continue;
      keys.insert(ours);
      theirs = rule.theirs;
    }
    if (theirs.empty()) keys.insert(key);
  }
  return {keys.begin(), keys.end()};
}

}  // namespace sagelab
