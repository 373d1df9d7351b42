// SPDX-License-Identifier: Apache-2.0
#include "ui/panels/queue_panel.h"

#include <fmt/format.h>
#include <imgui.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <vector>

#include "ui/compare/maths/strip.h"
#include "ui/look/icons.h"
#include "ui/look/theme.h"

namespace sagelab::ui {
namespace {

std::shared_ptr<const Picture> picture_of(const State& state, const Job& job) {
  const auto* result = state.result(job.id);
  return result ? result->frames.picture : job.preview;
}

void draw_thumbnail(const QueueView& view, const Job& job) {
  const float height = ImGui::GetFrameHeight() * 1.9f;
  const auto picture = picture_of(view.state, job);
  if (!picture || picture->frames < 1) {
    ImGui::Dummy({height, height});
    return;
  }
  const float width = std::min(height * float(picture->width) / float(picture->height), height * 1.8f);
  ImGui::Image(view.textures.of(picture, picture->frames / 2), {width, height});
}

std::string sizes_text(const Request& r) {
  std::string text = fmt::format("seed {}", r.seed);
  if (r.width && r.height) text += fmt::format(", {}x{}", *r.width, *r.height);
  if (r.num_frames.value_or(1) > 1) text += fmt::format("x{}", *r.num_frames);
  if (r.steps) text += fmt::format(", {} steps", *r.steps);
  return text;
}

void draw_what(const QueueView& view, const Job& job) {
  const auto* result = view.state.result(job.id);
  if (job.request.prompt.empty())
    line("(no prompt)", palette().muted);
  else
    line(job.request.prompt.substr(0, job.request.prompt.find('\n')), palette().text);
  const auto spec = result ? result->title : job.attention.empty() ? job.request.attention : job.attention;
  const ImVec2 at = ImGui::GetCursorScreenPos();
  const float size = ImGui::GetTextLineHeight() * .55f, middle = ImGui::GetTextLineHeight() / 2;
  const auto backend = job.step_times.empty() ? spec : last_backend(job.step_times.back().backend);
  if (!spec.empty()) {
    ImGui::GetWindowDrawList()->AddRectFilled({at.x, at.y + middle - size / 2},
                                              {at.x + size, at.y + middle + size / 2}, colour_of(backend), 2);
    ImGui::SetCursorPosX(ImGui::GetCursorPosX() + size + px(5));
  }
  const auto text =
      fmt::format("{}{}{}", spec, spec.empty() ? "" : "  ", result ? "" : sizes_text(job.request));
  line(text, palette().muted);
}

// "denoise 12/30, 0:04 left"
std::string progress_text(const Job& job, double now) {
  const auto phase = job.phase();
  if (job.cancelling) return "stopping";
  if (phase.empty() || phase == "start") return "starting";
  std::string text = phase;
  if (phase == "denoise") text += fmt::format(" {}/{}", job.step_times.size(), job.steps);
  if (const double left = job.phase_left(now); !std::isnan(left)) text += ", " + clock_text(left) + " left";
  return text;
}

void draw_status(const State& state, const Job& job) {
  switch (job.status) {
    case Job::Status::Running: {
      ImGui::ProgressBar(float(job.progress()), {-1, 0}, progress_text(job, state.now).c_str());
      const double step = job.median_step();
      if (!std::isnan(step))
        line(fmt::format("{} a step, {} so far", step_text(step), clock_text(job.seconds(state.now))),
             palette().muted);
      return;
    }
    case Job::Status::Failed:
      ImGui::TextColored(ImGui::ColorConvertU32ToFloat4(palette().bad), "%s failed", icon::kWarning);
      tip(job.hint.empty() ? job.what : job.what + "; " + job.hint);
      return;
    case Job::Status::Done: {
      const auto* result = state.result(job.id);
      ImGui::TextColored(ImGui::ColorConvertU32ToFloat4(palette().good), "%s done", icon::kCheck);
      if (result && !std::isnan(result->median_step))
        line(fmt::format("{} a step{}", step_text(result->median_step), result->emulated ? ", emulated" : ""),
             palette().muted);
      return;
    }
    default:
      ImGui::TextDisabled("%s%s", name_of(job.status), job.latents.empty() ? "" : ", latents kept");
  }
}

// A, B, C: which of the canvas's places it is in.
void draw_places(const QueueView& view, const Job& job) {
  const auto& compared = view.state.compared;
  const bool shows = view.state.result(job.id) || job.status == Job::Status::Running;
  for (size_t i = 0; i < compared.size(); ++i) {
    const bool here = compared[i] == job.id;
    if (here) ImGui::PushStyleColor(ImGuiCol_Button, palette().accent);
    const char name[] = {char('A' + i), '#', '#', 'p', 'l', 'a', 'c', 'e', 0};
    if (icon_button(name, "", here ? "Take it out of the canvas" : "Show it here in the canvas", shows)) {
      auto ids = compared;
      for (auto& id : ids)
        if (id == job.id) id = 0;
      if (!here) ids[i] = job.id;
      view.actions.push(action::Compare{ids});
    }
    if (here) ImGui::PopStyleColor();
  }
}

void offer_exports(const QueueView& view, const Result& result) {
  using Kind = action::Export::Kind;
  const bool moves = result.frames.picture->frames > 1;
  const int frame = view.canvas.frame_of(result.id);
  const auto picture = moves ? fmt::format("frame {}", frame + 1) : "the picture";
  const auto save = [&](Kind kind, const std::string& ending, const std::string& title) {
    view.files.open({FileDialog::Kind::Save,
                     title,
                     export_name(result, ending),
                     {},
                     [&actions = view.actions, kind, id = result.id, frame](const std::string& path) {
                       actions.push(action::Export{kind, {id}, frame, path});
                     }});
  };
  if (moves && ImGui::MenuItem("Save as MP4...")) save(Kind::Mp4, ".mp4", "Save the video as MP4");
  if (ImGui::MenuItem(fmt::format("Save {} as PNG...###png", picture).c_str()))
    save(Kind::Png, moves ? fmt::format("-frame-{}.png", frame + 1) : ".png",
         fmt::format("Save {} as PNG", picture));
  if (ImGui::MenuItem("Make it again, for the floor", nullptr, false, !view.state.floor(result.id)))
    view.actions.push(action::Repeat{result.id});
}

void draw_buttons(const QueueView& view, const Job& job) {
  const bool waiting = job.status == Job::Status::Waiting, running = job.status == Job::Status::Running;
  if (running) {
    if (icon_button(icon::kStop, "cancel", "Cancel: stops within a step", !job.cancelling))
      view.actions.push(action::Cancel{job.id});
    return;
  }
  if (waiting) {
    if (icon_button(icon::kUp, "up", "Earlier")) view.actions.push(action::Move{job.id, -1});
    if (icon_button(icon::kDown, "down", "Later")) view.actions.push(action::Move{job.id, 1});
    if (icon_button(icon::kStop, "cancel", "Cancel")) view.actions.push(action::Cancel{job.id});
    return;
  }
  if (const auto* result = view.state.result(job.id)) {
    if (icon_button(icon::kExport, "export", "Export")) ImGui::OpenPopup("exports");
    if (ImGui::BeginPopup("exports")) {
      offer_exports(view, *result);
      ImGui::EndPopup();
    }
  }
  if (icon_button(icon::kRetry, "retry",
                  job.latents.empty() ? "Again, at the end of the queue" : "Decode its finished latents"))
    view.actions.push(action::Retry{job.id});
  if (icon_button(icon::kTrash, "remove", "Remove it, and what it made")) {
    // What somebody waited for is not gone by one click.
    if (view.state.result(job.id) || !job.latents.empty())
      ImGui::OpenPopup("removal");
    else
      view.actions.push(action::Remove{job.id});
  }
  if (ImGui::BeginPopup("removal")) {
    if (ImGui::MenuItem("Delete what it made")) view.actions.push(action::Remove{job.id});
    ImGui::EndPopup();
  }
}

// Both groups of buttons below each other, so that the prompt has room.
bool is_narrow() {
  return ImGui::GetWindowWidth() < px(560);
}

void draw_row(const QueueView& view, const Job& job) {
  ImGui::PushID(int(job.id));
  ImGui::TableNextRow();
  ImGui::TableNextColumn();
  draw_thumbnail(view, job);
  ImGui::TableNextColumn();
  draw_what(view, job);
  ImGui::TableNextColumn();
  draw_status(view.state, job);
  ImGui::TableNextColumn();
  draw_places(view, job);
  if (!is_narrow()) ImGui::SameLine(0, px(12));
  if (is_narrow()) ImGui::NewLine();
  draw_buttons(view, job);
  ImGui::NewLine();
  ImGui::PopID();
}

void draw_toolbar(const QueueView& view) {
  const auto& state = view.state;
  const auto count = [&](Job::Status status) {
    return std::count_if(state.jobs.begin(), state.jobs.end(),
                         [&](const Job& j) { return j.status == status; });
  };
  const char* icon = state.paused ? icon::kPlay : icon::kPause;
  if (icon_button(icon, "pause", state.paused ? "Start waiting jobs" : "Start no other job"))
    view.actions.push(action::Pause{!state.paused});
  if (icon_button(icon::kImport, "import",
                  "Import a prompt file (.txt, .csv, .jsonl): a job for each prompt"))
    view.files.open(
        {FileDialog::Kind::Open,
         "A prompt file",
         "",
         {"Prompt files", "*.txt *.csv *.jsonl", "All files", "*"},
         [&actions = view.actions](const std::string& path) { actions.push(action::ImportPrompts{path}); }});
  ImGui::AlignTextToFramePadding();
  ImGui::TextDisabled("%d waiting, %d done%s", int(count(Job::Status::Waiting)),
                      int(count(Job::Status::Done)), state.paused ? ", paused" : "");
}

// What runs, what waits, and then what has ended, the latest first.
std::vector<const Job*> in_order(const State& state) {
  std::vector<const Job*> jobs, ended;
  for (const auto& job : state.jobs) {
    const bool active = job.status == Job::Status::Running || job.status == Job::Status::Waiting;
    (active ? jobs : ended).push_back(&job);
  }
  std::stable_partition(jobs.begin(), jobs.end(),
                        [](const Job* job) { return job->status == Job::Status::Running; });
  jobs.insert(jobs.end(), ended.rbegin(), ended.rend());
  return jobs;
}

}  // namespace

std::string export_name(const Result& result, const std::string& ending) {
  std::string stem;
  for (const char c : result.title) {
    const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0;
    if (plain)
      stem += c;
    else if (!stem.empty() && stem.back() != '-')
      stem += '-';
  }
  while (stem.ends_with('-')) stem.pop_back();
  return stem + ending;
}

void draw_queue(const QueueView& view) {
  draw_toolbar(view);
  if (view.state.jobs.empty()) {
    ImGui::Spacing();
    note("Nothing yet. Write a prompt on the left and press Generate, or import a prompt file.");
    return;
  }
  constexpr auto kFlags = ImGuiTableFlags_ScrollY | ImGuiTableFlags_RowBg | ImGuiTableFlags_BordersInnerH;
  if (!ImGui::BeginTable("jobs", 4, kFlags)) return;
  const float side = ImGui::GetFrameHeight() * 1.1f + ImGui::GetStyle().ItemInnerSpacing.x / 2;
  ImGui::TableSetupColumn("picture", ImGuiTableColumnFlags_WidthFixed, ImGui::GetFrameHeight() * 2.4f);
  ImGui::TableSetupColumn("what", ImGuiTableColumnFlags_WidthStretch, 3);
  ImGui::TableSetupColumn("status", ImGuiTableColumnFlags_WidthStretch, 2);
  ImGui::TableSetupColumn("buttons", ImGuiTableColumnFlags_WidthFixed,
                          is_narrow() ? side * 3 : side * 6 + px(12));
  for (const auto* job : in_order(view.state)) draw_row(view, *job);
  ImGui::EndTable();
}

}  // namespace sagelab::ui
