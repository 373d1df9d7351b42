// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>

#include "app/commands/commands.h"
#include "app/commands/dry_run.h"
#include "app/failure.h"
#include "app/interrupt.h"
#include "app/media/file.h"
#include "app/media/output.h"
#include "app/media/png.h"
#include "app/options.h"
#include "app/progress_line.h"
#include "app/report/report.h"
#include "app/session.h"
#include "attention/registry.h"

namespace sagelab {
namespace {
namespace fs = std::filesystem;

struct Generate {
  explicit Generate(CLI::App& app) : flags(app) {
    app.add_option("--report", report, "what happened, as JSON: seconds, memory, who served which calls");
    app.add_flag("--dry-run", dry_run, "say what a run would do and need; load and write nothing");
    app.add_flag("--json", json, "results on stdout as JSON");
  }
  int run() const;
  int dry(const Request& request) const;

  RequestFlags flags;
  std::string report;
  bool dry_run = false, json = false;
  std::exception_ptr no_family;  // why the model's own flags are unknown
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
  std::string name = stem + extension;
  for (int i = 2; fs::exists(name); ++i) name = fmt::format("{}-{}{}", stem, i, extension);
  return name;
}

// The places that a run writes to.
struct Places {
  Places(const Request& request, const std::string& report_file)
      : output(request.output), report(report_file), keep_latents(!request.latents.empty()) {
    latents = keep_latents ? request.latents : output.latents_beside().string();
  }

  void probe() const {
    output.probe();
    media::probe_file(latents);
    if (!report.empty()) media::probe_whole(report);
  }

  std::vector<std::string> all() const {
    std::vector<std::string> files;
    files.push_back(latents + (keep_latents ? "" : " (until the output is written)"));
    files.push_back(output.path().string() + (output.kind() == media::Kind::Folder ? "/" : ""));
    if (!report.empty()) files.push_back(report);
    return files;
  }

  media::Output output;
  std::string report, latents;
  bool keep_latents;
};

// A preview that cannot be written is no reason to lose the run.
void write_preview(const Places& places, const Picture& picture, ProgressLine& line) {
  try {
    const auto bytes =
        media::encode_png(picture.frame(picture.frames / 2), picture.width, picture.height, {});
    media::write_whole(places.output.preview_beside(), bytes);
  } catch (const Error& e) {
    line.clear();
    std::fprintf(stderr, "sagelab: no preview: %s\n", e.what());
  }
}

// Says what happens until the job ends.
std::variant<Finished, Failed> follow(Session& session, JobId job, const Places& places) {
  ProgressLine line(stderr, isatty(STDERR_FILENO) != 0);
  bool cancelled = false;
  for (;;) {
    if (interrupted() && !std::exchange(cancelled, true)) session.cancel(job);
    auto progress = session.wait(std::chrono::milliseconds(50));
    if (!progress) continue;
    line.show(*progress);
    if (const auto* step = std::get_if<Step>(&progress->what); step && step->preview)
      write_preview(places, *step->preview, line);
    if (auto* finished = std::get_if<Finished>(&progress->what)) return std::move(*finished);
    if (auto* failed = std::get_if<Failed>(&progress->what)) return std::move(*failed);
  }
}

std::string summary(const Frames& frames, const media::Output& output) {
  const auto& picture = *frames.picture;
  return fmt::format("{}: {} frame{} of {}x{}, {:.1f} s", output.path().string(), picture.frames,
                     picture.frames == 1 ? "" : "s", picture.width, picture.height,
                     frames.report.at("seconds").at("total").get<double>());
}

// Whatever stops the writing, the finished latents stay and the message says where.
bool write_output(const Places& places, Frames& frames) {
  const media::Metadata metadata{to_json(frames.request).dump(), parameters_text(frames.request)};
  const auto start = std::chrono::steady_clock::now();
  try {
    if (!places.output.write(frames, metadata, interrupted)) return false;
  } catch (const Error& e) {
    throw Error(e.what(), e.hint() + "; the finished latents are in " + places.latents);
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  frames.report["seconds"]["write"] = took.count();
  return true;
}

int Generate::dry(const Request& request) const {
  const auto& family = family_of(request.model);
  DryRun result;
  result.request = family.resolve(request);
  if (result.request.output.empty()) result.request.output = default_output(result.request);
  const Places places(result.request, report);
  places.output.check_frames(result.request.num_frames.value_or(1));
  result.plan = family.plan(result.request);
  result.attention = result.request.attention;
  if (result.attention.empty())
    result.attention = attention::default_spec(resolve_target(result.request).device);
  result.writes = places.all();
  std::fputs(json ? (to_json(result).dump(2) + "\n").c_str() : table_of(result).c_str(), stdout);
  return kDone;
}

int Generate::run() const {
  auto request = flags.request();
  if (no_family) std::rethrow_exception(no_family);
  const auto from = flags.from_latents();
  if (!from.empty()) request.latents = from;
  if (dry_run) return dry(request);
  const auto resolved = family_of(request.model).resolve(request);
  if (request.output.empty()) request.output = default_output(resolved);
  const Places places(request, report);
  places.output.check_frames(resolved.num_frames.value_or(1));
  places.probe();

  catch_interrupt();
  Session session;
  const auto job = session.submit(request, {.save = places.latents, .decode = from});
  auto end = follow(session, job, places);
  if (const auto* failed = std::get_if<Failed>(&end)) {
    print_failure(*failed);
    return failed->cancelled ? kInterrupted : kFailed;
  }
  auto& frames = std::get<Finished>(end).frames;
  if (!write_output(places, frames)) {
    auto cancelled = failure(Cancelled().what());
    cancelled.latents = places.latents;
    print_failure(cancelled);
    return kInterrupted;
  }
  frames.report["output"] = places.output.path().string();
  frames.report["latents"] = nullptr;
  if (places.keep_latents)
    frames.report["latents"] = places.latents;
  else
    fs::remove(places.latents);
  if (!report.empty()) media::write_whole(report, frames.report.dump(2) + "\n");
  std::printf("%s\n", json ? frames.report.dump(2).c_str() : summary(frames, places.output).c_str());
  return kDone;
}

}  // namespace

void add_generate(CLI::App& app, std::span<const char* const> arguments, int& exit_code) {
  auto* command = app.add_subcommand("generate", "make one video or image");
  auto state = std::make_shared<Generate>(*command);
  if (const auto model = model_in(arguments); !model.empty()) {
    try {
      const auto& family = family_of(model);
      state->flags.add_options(*command, family.name, family.options());
    } catch (const Error&) {
      state->no_family = std::current_exception();
      command->allow_extras();  // they may be the model's; what is wrong with the model comes first
    }
  } else {
    command->footer("With --model, --help also lists the flags of the model's family.");
  }
  command->callback([state, &exit_code] { exit_code = guarded([&] { return state->run(); }); });
}

}  // namespace sagelab
