// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <set>

#include "app/batch/index.h"
#include "app/batch/runner.h"
#include "app/batch/store/lock.h"
#include "app/commands/commands.h"
#include "app/failure.h"
#include "app/interrupt.h"
#include "app/media/file.h"
#include "app/media/output.h"
#include "app/options.h"

namespace sagelab {
namespace {
namespace fs = std::filesystem;
using namespace sagelab::batch;

constexpr const char* kNames =
    "Names: sample_0000.mp4, counted over the prompts of the file (.png for one frame); with --seeds "
    "sample_0000-0.mp4, sample_0000-1.mp4 ...; --name-by prompt: \"{prompt}-{i}.mp4\" with i counting the "
    "seeds, "
    "cut at 180 bytes, the prompt's index behind it where another has the name. Several --attention specs "
    "have a "
    "folder each: sdpa/sample_0000.mp4, sage2/sample_0000.mp4. manifest.jsonl says what is done, index.html "
    "shows "
    "it.\nThe same command goes on where an earlier one was stopped.";

constexpr const char* kFolderLock = ".folder.lock";  // held for moments, by every shard

class Batch {
 public:
  explicit Batch(CLI::App& app);
  int run();

  RequestFlags flags_;

 private:
  Settings settings() const;
  void make_folders(const std::vector<Sample>& samples) const;
  int dry(const std::vector<Sample>& samples) const;
  // all: of every shard.
  int make(const Settings& settings, const std::vector<Sample>& samples,
           const std::vector<Sample>& all) const;
  Tally run_all(const Settings& settings, const std::vector<Sample>& samples, Manifest& manifest) const;
  int finish(const Tally& tally, const Records& merged) const;

  std::string prompts_, output_, seeds_ = "1", shard_ = "1/1", name_by_ = "index";
  std::vector<std::string> attention_;
  std::optional<int> limit_;
  bool json_ = false, dry_run_ = false;
};

Batch::Batch(CLI::App& app)
    : flags_(app, {"--prompt", "--output", "--attention", "--attention-at", "--latents", "--from-latents",
                   "--preview"}) {
  app.add_option("--prompts", prompts_,
                 "a file of prompts: .txt (one a line, with Open-Sora's {\"...\"} conditions), "
                 ".csv (a column text) or .jsonl (requests)")
      ->required();
  app.add_option("--output", output_, "the folder of the results; it is made")->required();
  app.add_option("--attention", attention_,
                 "backends, a,b,c: each prompt is made with all and compared to the first")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--seeds", seeds_, "so many seeds of each prompt, from --seed on; or a list: 3,7,11")
      ->capture_default_str();
  app.add_option("--limit", limit_, "only the first so many prompts of the file")
      ->check(CLI::Range(1, 1 << 30));
  app.add_option("--shard", shard_, "i/n: every n-th prompt from the i-th on, for one of n processes")
      ->capture_default_str();
  app.add_option("--name-by", name_by_, "index (as Open-Sora) or prompt (as VBench)")
      ->check(CLI::IsMember({"index", "prompt"}))
      ->capture_default_str();
  app.add_flag("--dry-run", dry_run_, "list what would be made; load and write nothing");
  app.add_flag("--json", json_, "the summary on stdout as JSON");
}

Settings Batch::settings() const {
  for (const auto& [text, what] :
       {std::pair(&prompts_, "name of the prompt file"), {&output_, "name of the output"}})
    check_flag_text(*text, what);
  Settings settings;
  settings.base = flags_.request();
  settings.base.prompt.clear();
  settings.base.output.clear();
  settings.base.latents.clear();
  settings.base.preview = 0;
  settings.specs = split_specs(attention_);
  for (const auto& spec : settings.specs) {
    auto request = settings.base;
    request.attention = spec;
    check_request(request);
  }
  settings.seeds = parse_seeds(seeds_);
  settings.shard = parse_shard(shard_);
  settings.limit = limit_;
  settings.name_by = name_by_ == "prompt" ? NameBy::Prompt : NameBy::Index;
  settings.folder = output_;
  if (!settings.folder.has_filename()) settings.folder = settings.folder.parent_path();
  if (fs::exists(settings.folder) && !fs::is_directory(settings.folder))
    throw UsageError("--output " + output_ + " is a file, not a folder", "choose another place");
  return settings;
}

void Batch::make_folders(const std::vector<Sample>& samples) const {
  std::set<fs::path> folders;
  for (const auto& sample : samples)
    for (const auto& output : sample.outputs)
      folders.insert(media::Output(output.request.output).path().parent_path());
  std::error_code error;
  for (const auto& folder : folders)
    if (!fs::create_directories(folder, error) && error) cannot_write(folder, error.value());
}

// A folder without a manifest is not ours: what is there by these names is somebody's.
void require_free(const std::vector<Sample>& samples) {
  for (const auto& sample : samples)
    for (const auto& output : sample.outputs)
      if (fs::exists(output.request.output))
        throw Error(output.request.output + " is there already, and no manifest beside it tells of it",
                    "choose another --output");
}

int Batch::dry(const std::vector<Sample>& samples) const {
  auto list = nlohmann::json::array();
  std::string text;
  for (const auto& sample : samples) {
    list.push_back(sample.record());
    for (const auto& output : sample.outputs) {
      const auto& r = output.request;
      text += fmt::format("{}: {}x{}, {} frames, {} steps, seed {}, {}\n", r.output, *r.width, *r.height,
                          *r.num_frames, *r.steps, r.seed, r.attention);
    }
    if (!sample.error.empty()) text += fmt::format("line {}: {}\n", sample.prompt.line, sample.error);
  }
  print(json_ ? json_text(list, 2) + "\n" : text);
  return kDone;
}

void write_index(const fs::path& folder, int shards) {
  // Of two shards that end together, the one that writes last has seen the other's last record.
  const FileLock lock(folder / kFolderLock, FileLock::Mode::Wait);
  media::write_whole(folder / "index.html", index_html(merged_records(folder, shards)));
}

// Made where there is none: from then on the folder is divided as the settings say. all: of every shard.
std::unique_ptr<Manifest> claim(const Settings& settings, const std::vector<Sample>& samples,
                                const std::vector<Sample>& all) {
  const FileLock lock(settings.folder / kFolderLock, FileLock::Mode::Wait);
  check_sharding(settings.folder, settings.shard);
  if (settings.shard.count > 1)
    check_shards_agree(all, merged_records(settings.folder, settings.shard.count));
  const auto file = settings.folder / manifest_name(settings.shard);
  if (!fs::exists(file)) require_free(samples);
  return std::make_unique<Manifest>(file);
}

int Batch::make(const Settings& settings, const std::vector<Sample>& samples,
                const std::vector<Sample>& all) const {
  const auto& folder = settings.folder;
  std::error_code error;
  if (!fs::create_directories(folder, error) && error) cannot_write(folder, error.value());
  const FileLock lock(lock_file(folder, settings.shard), FileLock::Mode::Refuse);
  const auto claimed = claim(settings, samples, all);
  auto& manifest = *claimed;
  check_unchanged(samples, manifest.records());
  make_folders(samples);
  remove_drafts(samples);

  const auto tally = run_all(settings, samples, manifest);
  write_index(folder, settings.shard.count);
  return finish(tally, merged_records(folder, settings.shard.count));
}

Tally Batch::run_all(const Settings& settings, const std::vector<Sample>& samples, Manifest& manifest) const {
  const auto& folder = settings.folder;
  double work = 0;
  for (const auto& sample : samples) {
    const auto known = manifest.records().find(sample.key());
    if (known == manifest.records().end() || !is_made(known->second, folder)) work += sample.work();
  }
  BatchProgress progress(stderr, isatty(STDERR_FILENO) != 0, work);
  if (!manifest.repaired().empty()) progress.note(manifest.repaired());
  catch_interrupt();
  Session session;
  auto last = std::chrono::steady_clock::time_point();
  const auto recorded = [&] {
    constexpr auto kOften = std::chrono::seconds(5);
    if (std::chrono::steady_clock::now() - last < kOften) return;
    write_index(folder, settings.shard.count);
    last = std::chrono::steady_clock::now();
  };
  try {
    return Runner(session, manifest, progress, folder).run(samples, {interrupted, recorded});
  } catch (const Error& e) {
    progress.clear();
    try {
      write_index(folder, settings.shard.count);  // what is there is shown, where the disk still takes it
    } catch (const Error&) {
    }
    throw Error(fmt::format("{}: the batch stops, and what is recorded is kept", e.what()),
                e.hint() + "; the same command then goes on");
  }
}

int Batch::finish(const Tally& tally, const Records& merged) const {
  auto summary = summary_of(merged);
  summary["made"] = tally.made;
  summary["there"] = tally.there;
  summary["failed_now"] = tally.failed;
  summary["index"] = (fs::path(output_) / "index.html").string();
  print(json_ ? json_text(summary, 2) + "\n"
              : fmt::format("{}{}: {} made, {} there before, {} failed\n", summary_text(summary),
                            summary.at("index").get<std::string>(), tally.made, tally.there, tally.failed));
  if (tally.cancelled) {
    print_failure(failure("cancelled", "the same command goes on from here"));
    return kInterrupted;
  }
  return tally.failed ? kFailed : kDone;
}

int Batch::run() {
  const auto settings = this->settings();
  flags_.require_model();
  const auto& family = family_of(settings.base.model);
  const auto file = read_prompts(prompts_);
  for (const auto& notice : file.notices)
    std::fprintf(stderr, "sagelab: %s: %s\n", prompts_.c_str(), notice.c_str());
  const auto all = plan_samples(file.prompts, settings, family);
  const auto samples = of_shard(all, settings.shard);
  if (samples.empty())
    throw UsageError(fmt::format("no prompt is left for --shard {}", shard_), "there are fewer than shards");
  return dry_run_ ? dry(samples) : make(settings, samples, all);
}

}  // namespace

void add_batch(CLI::App& app, std::span<const char* const> arguments, int& exit_code) {
  auto* command = app.add_subcommand("batch", "make every prompt of a file; goes on where it was stopped");
  auto state = std::make_shared<Batch>(*command);
  command->footer(kNames);
  state->flags_.add_options_of_model(*command, arguments);
  command->callback([state, &exit_code] { exit_code = guarded([&] { return state->run(); }); });
}

}  // namespace sagelab
