// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <utility>

#include "app/commands/commands.h"
#include "app/failure.h"
#include "app/interrupt.h"
#include "app/media/output.h"
#include "app/options.h"
#include "app/progress_line.h"
#include "app/replay/made.h"
#include "app/replay/origin.h"
#include "app/report/report.h"
#include "app/session.h"
#include "app/system.h"
#include "app/terminal/follow.h"

namespace sagelab {
namespace {

using nlohmann::json;

std::string size_text(const json& frames) {
  return fmt::format("{} frame{} of {}x{}", frames.at("count").dump(), frames.at("count") == 1 ? "" : "s",
                     frames.at("width").dump(), frames.at("height").dump());
}

struct Replay {
  explicit Replay(CLI::App& app) {
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    app.add_option("file", file, "an MP4, a PNG, a folder of frames, its request.json, or a report")
        ->required();
    app.add_option("--output", output,
                   "keep what is made: x.mp4, x.png (one frame) or folder/; else it is compared only");
    app.add_option("--model", model, "where the model's folder is now");
    app.add_option("--weights", weights, "where a component's single file is now, for each that was used")
        ->type_name("COMPONENT=FILE")
        ->allow_extra_args(false)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    app.add_option("--device", device, "auto, cpu, cuda or cuda:N, in place of the one of then")
        ->check(CLI::Validator(check_device, "auto|cpu|cuda|cuda:N"));
    app.add_flag("--json", as_json, "results on stdout as JSON");
  }

  int run() const {
    for (const auto& [text, what] : {std::pair(file, "name of the file"),
                                     {model, "name of the model folder"},
                                     {output, "name of the output"}})
      check_flag_text(text, what);
    const auto origins = origins_of(file);
    const auto target = place(origins);
    use_threads_of(origins);
    catch_interrupt();
    Session session;
    json results = json::array();
    for (const auto& origin : origins) results.push_back(replay(session, origin, target));
    bool identical = true;
    std::string text;
    for (const auto& result : results) {
      identical = identical && result.at("identical") == true;
      text += text_of(result);
    }
    print(as_json ? json_text({{"file", file}, {"identical", identical}, {"runs", results}}, 2) + "\n"
                  : text);
    return identical ? kDone : kFailed;
  }

 private:
  std::optional<media::Output> place(const std::vector<Origin>& origins) const {
    if (output.empty()) return std::nullopt;
    if (origins.size() > 1)
      throw UsageError(file + " is of several runs, and --output is one file",
                       "leave it out, or replay the files beside the report");
    media::Output target(output);
    target.check_frames(origins.front().request.num_frames.value_or(1));
    target.probe();
    return target;
  }

  // Sums on the CPU are split among threads. All runs of a comparison had as many.
  void use_threads_of(const std::vector<Origin>& origins) const {
    const auto& threads = origins.front().made.value("threads", json());
    constexpr int kMost = 4096;
    if (threads.is_number_integer() && threads > 0 && threads <= kMost) use_cpu_threads(threads);
  }

  Request request_of(const Origin& origin) const {
    Request request = origin.request;
    if (!model.empty()) request.model = model;
    if (!weights.empty()) request.weights = weights;
    if (!device.empty()) request.device = device;
    request.output = output;
    try {
      check_request(request);
    } catch (const UsageError& e) {  // the file's fault, not the command's
      throw Error(fmt::format("{}: {}", file, e.what()), e.hint());
    }
    std::error_code ignored;
    if (!std::filesystem::exists(request.model, ignored))
      throw Error(request.model + ": no such model folder", "name with --model where it is now");
    return request;
  }

  json replay(Session& session, const Origin& origin, const std::optional<media::Output>& target) const {
    ProgressLine line(stderr, isatty(STDERR_FILENO) != 0);
    const auto frames = frames_of(session, session.submit(request_of(origin)), line);
    if (target && !target->write(frames, metadata_of(frames), interrupted)) throw Cancelled();
    const auto& now = frames.report.at("made");
    const auto &then_frames = origin.made.at("frames"), &now_frames = now.at("frames");
    json result{{"label", origin.label},
                {"identical", then_frames.at("digest") == now_frames.at("digest")},
                {"then", then_frames},
                {"now", now_frames},
                {"differences", differences(origin.made, now)}};
    if (target) result["output"] = output;
    return result;
  }

  std::string text_of(const json& result) const {
    const auto label = result.at("label").get<std::string>();
    const auto name = label.empty() ? file : fmt::format("{} ({})", file, label);
    const auto written = result.contains("output") ? fmt::format(", written to {}", output) : "";
    if (result.at("identical") == true)
      return fmt::format("identical: {}: {}, sha256 {}{}\n", name, size_text(result.at("now")),
                         result.at("now").at("digest").get<std::string>(), written);
    auto text = fmt::format("differs: {}: the frames have sha256 {}, not {}{}\n", name,
                            result.at("now").at("digest").get<std::string>(),
                            result.at("then").at("digest").get<std::string>(), written);
    for (const auto& line : result.at("differences")) text += "  " + line.get<std::string>() + "\n";
    if (result.at("differences").empty())
      text +=
          "  nothing that is recorded differs: the weights' data may be others, or the file was changed\n";
    return text;
  }

  std::string file, output, model, device;
  std::vector<std::string> weights;
  bool as_json = false;
};

}  // namespace

void add_replay(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("replay", "make a file of ours again from what it says, and compare");
  auto state = std::make_shared<Replay>(*command);
  command->callback([state, &exit_code] { exit_code = guarded([&] { return state->run(); }); });
}

}  // namespace sagelab
