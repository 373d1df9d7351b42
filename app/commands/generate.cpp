// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>

#include "app/commands/capture.h"
#include "app/commands/commands.h"
#include "app/commands/dry_run.h"
#include "app/commands/places.h"
#include "app/failure.h"
#include "app/interrupt.h"
#include "app/media/file.h"
#include "app/media/output.h"
#include "app/media/png.h"
#include "app/options.h"
#include "app/progress_line.h"
#include "app/report/report.h"
#include "app/report/switches.h"
#include "app/session.h"
#include "app/terminal/follow.h"
#include "app/terminal/switch_keys.h"
#include "attention/registry.h"
#include "pipelines/saved/checkpoint.h"

namespace sagelab {
namespace {
namespace fs = std::filesystem;

struct Decode {};  // only the flags that decoding asks

struct Generate {
  explicit Generate(CLI::App& app) : flags(app) {
    add_reports(app);
    app.add_option("--num-images", num_images,
                   "so many, with seeds counted up from --seed; each output is named after its seed")
        ->check(CLI::Range(1, 10000));
    app.add_flag("--dry-run", dry_run, "say what a run would do and need; load and write nothing");
    app.add_option("--checkpoint-every", checkpoint_every,
                   "leave all that --resume takes in <output>.checkpoint.safetensors every N steps")
        ->check(CLI::Range(1, 10000));
    flags.add_resume(app);
    capturing.add(app);
  }
  Generate(CLI::App& app, Decode)
      : flags(app, {"--prompt", "--negative-prompt", "--width", "--height", "--num-frames", "--steps",
                    "--guidance-scale", "--seed", "--attention", "--attention-switch", "--attention-at",
                    "--preview", "--latents", "--request", "--from-latents"}) {
    flags.add_decoding(app);
    add_reports(app);
  }
  void add_reports(CLI::App& app) {
    app.add_option("--report", report, "what happened, as JSON: seconds, memory, who served which calls");
    app.add_flag("--json", json, "results on stdout as JSON; of several images one line each");
  }
  // One of the images that are asked for: what the user asked, and all that it means.
  struct Take {
    Request request, resolved;
  };
  int run() const;
  void check_flags() const;
  void check_several() const;
  std::string shown(const nlohmann::json& result) const;
  std::vector<Take> takes(const Request& request, const Request& resolved) const;
  int make(Session& session, const Take& take, const Plan& plan, CaptureFolder* capture) const;
  Checkpoints checkpoints(const Places& places) const;
  Places places_of(const Request& resolved) const;
  int dry(const Request& resolved, const Plan& plan, const CaptureFolder* capture) const;
  int finish(const Places& places, Frames& frames, const CaptureFolder* capture) const;

  RequestFlags flags;
  CaptureFlags capturing;
  std::string report;
  std::optional<int> checkpoint_every;
  int num_images = 1;
  bool dry_run = false, json = false;
};

// "<family>-<seed>.mp4", or the first such name that is free.
std::string default_output(const Request& resolved) {
#ifdef SAGELAB_FFMPEG
  const std::string video = ".mp4";
#else
  const std::string video = "/";
#endif
  const auto& extension = resolved.num_frames == 1 ? ".png" : video;
  const auto stem = fmt::format("{}-{}", family_of(resolved.model).name, resolved.seed);
  if (!extension.ends_with('/')) return free_name(stem + extension).string();
  return free_name(stem).string() + "/";
}

// "x.png" -> "x-7.png", "folder/" -> "folder-7/".
std::string named_after(uint64_t seed, const std::string& output) {
  const auto suffix = fmt::format("-{}", seed);
  if (output.ends_with('/')) return output.substr(0, output.find_last_not_of('/') + 1) + suffix + "/";
  const fs::path path = output;
  return (path.parent_path() / (path.stem().string() + suffix + path.extension().string())).string();
}

// A preview that cannot be written is no reason to lose the run.
void write_preview(const Places& places, const Picture& picture, ProgressLine& line) {
  try {
    const auto bytes =
        media::encode_png(picture.frame(picture.frames / 2), picture.width, picture.height, {});
    media::write_whole(places.preview, bytes);
  } catch (const Error& e) {
    line.clear();
    std::fprintf(stderr, "sagelab: no preview: %s\n", e.what());
  }
}

// Says what happens until the job ends.
std::variant<Finished, Failed> watch(Session& session, JobId job, const Places& places,
                                     const Request& resolved, const std::vector<std::string>& choices) {
  ProgressLine line(stderr, isatty(STDERR_FILENO) != 0);
  std::optional<SwitchKeys> keys;
  if (choices.size() > 1) {
    keys.emplace(choices, resolved, [&line](const std::string& text) {
      line.clear();
      std::fprintf(stderr, "%s\n", text.c_str());
    });
  }
  const auto seen = [&](const Progress& progress) {
    if (keys) keys->show(progress);
    if (const auto* step = std::get_if<Step>(&progress.what); step && step->preview)
      write_preview(places, *step->preview, line);
  };
  return follow(session, job, line,
                {[&] {
                   if (keys) keys->serve(session);
                 },
                 seen});
}

std::string summary(const Frames& frames, const media::Output& output) {
  const auto& picture = *frames.picture;
  const auto switches = switches_text(frames.report.at("switches"));
  return fmt::format("{}: {} frame{} of {}x{}, {:.1f} s{}{}", output.path().string(), picture.frames,
                     picture.frames == 1 ? "" : "s", picture.width, picture.height,
                     frames.report.at("seconds").at("total").get<double>(), switches.empty() ? "" : "\n",
                     switches);
}

// Whatever stops the writing, the finished latents stay and the message says where.
bool write_output(const Places& places, Frames& frames) {
  const auto metadata = metadata_of(frames);
  const auto start = std::chrono::steady_clock::now();
  try {
    if (!places.output.write(frames, metadata, interrupted)) return false;
  } catch (const Error& e) {
    const auto& latents = frames.report.at("latents");
    if (latents.is_null()) throw;
    throw Error(e.what(), e.hint() + "; the finished latents are in " + latents.get<std::string>());
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  frames.report["seconds"]["write"] = took.count();
  return true;
}

int64_t latents_bytes(const Plan& plan, const Request& resolved) {
  constexpr int64_t kHeader = 1 << 16;
  int64_t bytes = int64_t(elementSize(resolve_target(resolved).dtype));
  for (const auto n : plan.latent_shape) bytes *= n;
  return bytes + kHeader;
}

int Generate::dry(const Request& resolved, const Plan& plan, const CaptureFolder* capture) const {
  if (!flags.from_latents().empty())
    throw UsageError("--dry-run tells of a run from noise, and --from-latents makes none",
                     "leave one of them out");
  auto attention = resolved.attention;
  if (attention.empty()) attention = attention::default_spec(resolve_target(resolved).device);
  const DryRun result{resolved, plan, attention, places_of(resolved).all(), capture};
  print(json ? shown(to_json(result)) : table_of(result));
  return kDone;
}

std::string Generate::shown(const nlohmann::json& result) const {
  return json_text(result, num_images > 1 ? -1 : 2) + "\n";
}

Places Generate::places_of(const Request& resolved) const {
  Places places(resolved, {report, flags.from_latents(), flags.request_file(), capturing.folder.value_or(""),
                           flags.resume(), checkpoint_every.has_value()});
  places.output.check_frames(resolved.num_frames.value_or(1));
  return places;
}

Checkpoints Generate::checkpoints(const Places& places) const {
  Checkpoints all{.every = checkpoint_every.value_or(0), .file = places.checkpoint, .resume = flags.resume()};
  if (!all.resume.empty() && !checkpoint_every) all.every = read_checkpoint(all.resume).every;
  return all;
}

// For a shell.
std::string quoted(const std::string& text) {
  constexpr const char* kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./+:,@%";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

void say_how_to_go_on(const Places& places, const std::string& latents) {
  std::error_code ignored;
  if (!latents.empty()) {
    if (!places.checkpoint.empty()) fs::remove(places.checkpoint, ignored);  // the steps are done
    std::fprintf(stderr, "sagelab: decode them with: sagelab decode --latents %s --output %s\n",
                 quoted(latents).c_str(), quoted(places.output.name()).c_str());
  } else if (!places.checkpoint.empty() && fs::exists(places.checkpoint, ignored)) {
    std::fprintf(stderr, "sagelab: go on with: sagelab generate --resume %s\n",
                 quoted(places.checkpoint).c_str());
  }
}

// Only what this run made, and nobody asked to keep, is removed.
int Generate::finish(const Places& places, Frames& frames, const CaptureFolder* capture) const {
  auto& latents = frames.report.at("latents");
  if (!write_output(places, frames)) {
    auto cancelled = failure(Cancelled().what());
    if (latents.is_string()) cancelled.latents = latents.get<std::string>();
    print_failure(cancelled);
    say_how_to_go_on(places, cancelled.latents);
    return kInterrupted;
  }
  std::error_code ignored;
  if (!places.checkpoint.empty()) fs::remove(places.checkpoint, ignored);
  if (capture) frames.report["capture"] = capture->as_json(capture->written());
  frames.report["output"] = places.output.path().string();
  if (!places.latents.empty() && !places.keep_latents && latents.is_string()) {
    fs::remove(latents.get<std::string>(), ignored);
    latents = nullptr;
  }
  if (!report.empty()) media::write_whole(report, json_text(frames.report, 2) + "\n");
  const auto captured = capture ? capture->as_text(capture->written()) + "\n" : "";
  print(json ? shown(frames.report) : summary(frames, places.output) + "\n" + captured);
  return kDone;
}

void Generate::check_flags() const {
  check_flag_text(report, "name of the report");
  if (capturing.folder && !flags.from_latents().empty())
    throw UsageError("--capture-qkv has no effect with --from-latents: nothing is denoised", "leave it out");
  if (capturing.folder && !flags.resume().empty())
    throw UsageError("--capture-qkv starts with the first step, and --resume goes on after it",
                     "leave one of them out");
  if (checkpoint_every && !flags.from_latents().empty())
    throw UsageError("--checkpoint-every has no effect with --from-latents: nothing is denoised",
                     "leave it out");
}

// What is of one run, and has one name.
void Generate::check_several() const {
  const auto refuse = [](const std::string& flag) {
    throw UsageError(flag + " is of one run, and --num-images asks for several", "leave one of them out");
  };
  if (!flags.from_latents().empty()) refuse("--from-latents");
  if (!flags.resume().empty()) refuse("--resume");
  if (!report.empty()) refuse("--report");
  if (capturing.folder) refuse("--capture-qkv");
}

std::vector<Generate::Take> Generate::takes(const Request& request, const Request& resolved) const {
  const auto last = uint64_t(num_images - 1);
  if (request.seed > std::numeric_limits<uint64_t>::max() - last)
    throw UsageError(fmt::format("{} seeds from {} on are more than there are", num_images, request.seed),
                     "take a smaller --seed");
  if (num_images > 1 && !request.latents.empty())
    throw UsageError("--latents is of one run, and --num-images asks for several", "leave one of them out");
  std::vector<Take> all;
  for (uint64_t i = 0; i <= last; ++i) {
    Take take{request, resolved};
    take.request.seed = take.resolved.seed = request.seed + i;
    auto& output = take.request.output;
    if (output.empty())
      output = default_output(take.resolved);
    else if (num_images > 1)
      output = named_after(take.request.seed, output);
    take.resolved.output = output;
    all.push_back(std::move(take));
  }
  return all;
}

int Generate::run() const {
  const auto request = flags.request();
  check_flags();
  if (num_images > 1) check_several();
  flags.require_model();
  const auto& family = family_of(request.model);
  const auto resolved = family.resolve(request);
  auto plan = family.plan(resolved);
  check_switches(resolved, plan.steps, int(plan.calls.size()));
  const auto all = takes(request, resolved);
  std::optional<CaptureFolder> folder;
  if (capturing.folder) {
    folder.emplace(capturing, all.front().resolved, plan);
    plan.expect_capture();
  }
  auto* capture = folder ? &*folder : nullptr;
  int code = kDone;
  if (dry_run) {
    for (const auto& take : all) code = std::max(code, dry(take.resolved, plan, capture));
    return code;
  }
  for (const auto& take : all) places_of(take.resolved).probe(latents_bytes(plan, take.resolved));
  if (folder) folder->make();
  catch_interrupt();
  Session session;
  for (size_t i = 0; i < all.size(); ++i) {
    session.expect(i + 1 < all.size() ? std::vector{all[i + 1].request} : std::vector<Request>{});
    if (code = make(session, all[i], plan, capture); code != kDone) break;
  }
  return code;
}

int Generate::make(Session& session, const Take& take, const Plan& plan, CaptureFolder* capture) const {
  const auto& [request, resolved] = take;
  const auto places = places_of(resolved);
  const auto job = session.submit(
      request, {.save = places.latents, .decode = flags.from_latents(), .checkpoints = checkpoints(places)},
      capture ? capture->capturing() : attention::Capturing());
  const bool on_terminal = isatty(STDIN_FILENO) != 0 && isatty(STDERR_FILENO) != 0;
  const bool denoises = flags.from_latents().empty();
  auto end = watch(session, job, places, resolved,
                   on_terminal && denoises ? switch_choices(resolved, plan) : std::vector<std::string>());
  if (auto* finished = std::get_if<Finished>(&end)) return finish(places, finished->frames, capture);
  const auto& failed = std::get<Failed>(end);
  print_failure(failed);
  say_how_to_go_on(places, failed.latents);
  return failed.cancelled ? kInterrupted : kFailed;
}

}  // namespace

void add_generate(CLI::App& app, std::span<const char* const> arguments, int& exit_code) {
  auto* command = app.add_subcommand("generate", "make one video or image");
  auto state = std::make_shared<Generate>(*command);
  state->flags.add_options_of_model(*command, arguments);
  command->callback([state, &exit_code] { exit_code = guarded([&] { return state->run(); }); });
}

void add_decode(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("decode", "finished latents that a run left, to frames");
  auto state = std::make_shared<Generate>(*command, Decode());
  command->callback([state, &exit_code] { exit_code = guarded([&] { return state->run(); }); });
}

}  // namespace sagelab
