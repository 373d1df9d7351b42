// SPDX-License-Identifier: Apache-2.0
#include "ui/panels/prompt/prompt_panel.h"

#include <fmt/format.h>
#include <imgui.h>
#include <imgui_stdlib.h>

#include <algorithm>
#include <cmath>

#include "ui/look/icons.h"
#include "ui/look/theme.h"
#include "ui/panels/prompt/parameters.h"

namespace sagelab::ui {
namespace {

constexpr double kDoubleClick = .4;  // seconds in which a second click on Generate is none

std::string with_icon(const char* icon, const char* text) {
  return fmt::format("{}  {}", icon, text);
}

// What a prompt takes of the tokens that the model reads.
void draw_tokens(const Estimate& estimate) {
  if (estimate.token_limit <= 0) return;
  const bool over = estimate.prompt_tokens > estimate.token_limit;
  const auto text = fmt::format("{} of {} tokens{}", estimate.prompt_tokens, estimate.token_limit,
                                over ? ": the rest is cut" : "");
  ImGui::PushStyleColor(ImGuiCol_Text, over ? palette().warning : palette().muted);
  ImGui::TextUnformatted(text.c_str());
  ImGui::PopStyleColor();
}

void choose_backend(const char* name, std::string& spec, const State& state) {
  ImGui::AlignTextToFramePadding();
  ImGui::TextUnformatted(name);
  ImGui::SameLine(px(24));
  ImGui::SetNextItemWidth(px(260));
  if (!ImGui::BeginCombo(fmt::format("##{}", name).c_str(), spec.c_str())) return;
  for (const auto& backend : state.backends) {
    ImGui::BeginDisabled(!backend.reason.empty());
    if (ImGui::Selectable(backend.spec.c_str(), backend.spec == spec)) spec = backend.spec;
    tip(backend.reason.empty() ? backend.help : backend.reason);
    ImGui::EndDisabled();
  }
  ImGui::EndCombo();
}

}  // namespace

void PromptPanel::draw(const State& state, Actions& actions, FileDialog& files) {
  draw_model(state, actions, files);
  const auto* model = state.model();
  // The line of the estimate and the buttons; what cannot run takes some lines more.
  const bool usable = model && model->problem.empty();
  const float lines = !usable || state.estimate.error.empty() ? 1 : 5;
  const float foot = ImGui::GetFrameHeight() * 1.3f + ImGui::GetTextLineHeightWithSpacing() * lines + px(20);
  if (ImGui::BeginChild("settings", {0, -foot})) {
    Request request = state.request;
    bool changed = draw_texts(state, request);
    if (usable) {
      draw_presets(state, actions);
      changed |= draw_size(*model, request);
      changed |= draw_sampling(*model, request);
      changed |= draw_seed(request);
      if (!model->options.empty() && ImGui::CollapsingHeader("Model options"))
        changed |= draw_options(*model, request);
      if (ImGui::CollapsingHeader("Machine")) changed |= draw_machine(*model, request);
    }
    if (changed) actions.push(action::Edit{std::move(request)});
  }
  ImGui::EndChild();
  ImGui::Separator();
  if (usable) draw_estimate(state, actions);
  draw_buttons(state, actions);
}

void PromptPanel::draw_model(const State& state, Actions& actions, FileDialog& files) {
  const auto* model = state.model();
  const float button = ImGui::GetFrameHeight() * 1.1f, gap = ImGui::GetStyle().ItemInnerSpacing.x;
  ImGui::SetNextItemWidth(-2 * (button + gap));
  if (ImGui::BeginCombo("##model", model ? model->label.c_str() : "choose a model folder")) {
    for (const auto& choice : state.models) {
      ImGui::PushID(choice.path.c_str());
      if (ImGui::Selectable(choice.label.c_str(), model == &choice))
        actions.push(action::SelectModel{choice.path});
      tip(choice.problem.empty() ? choice.path : choice.path + ": " + choice.problem);
      ImGui::PopID();
    }
    ImGui::EndCombo();
  }
  if (model) tip(model->path);
  ImGui::SameLine(0, gap);
  if (icon_button(icon::kFolder, "open model",
                  "Open a model folder (one with model_index.json), or drop it anywhere on this window"))
    files.open(
        {FileDialog::Kind::Folder, "A diffusers model folder", "", {}, [&actions](const std::string& path) {
           actions.push(action::AddModelFolder{path});
         }});
  if (icon_button(icon::kImport, "restore",
                  "Restore all settings of an MP4 or PNG made here; dropping or pasting one does the same"))
    files.open({FileDialog::Kind::Open,
                "Restore the settings of a file made here",
                "",
                {"Videos, pictures, JSON", "*.mp4 *.png *.json", "All files", "*"},
                [&actions](const std::string& path) { actions.push(action::RestoreFrom{path}); }});
  ImGui::NewLine();
  if (model && !model->problem.empty()) {
    ImGui::PushStyleColor(ImGuiCol_Text, palette().bad);
    ImGui::TextWrapped("%s", model->problem.c_str());
    ImGui::PopStyleColor();
    if (!model->hint.empty()) note(model->hint.c_str());
    if (ImGui::SmallButton("Forget this folder")) actions.push(action::ForgetModel{model->path});
  }
}

bool PromptPanel::draw_texts(const State& state, Request& request) {
  const float line = ImGui::GetTextLineHeight();
  bool changed =
      ImGui::InputTextMultiline("##prompt", &request.prompt, {-1, line * 6}, ImGuiInputTextFlags_WordWrap);
  tip(request.prompt.empty() ? "What to show" : "");
  draw_tokens(state.estimate);
  note("Negative prompt");
  changed |= ImGui::InputTextMultiline("##negative prompt", &request.negative_prompt, {-1, line * 2.6f},
                                       ImGuiInputTextFlags_WordWrap);
  return changed;
}

void PromptPanel::draw_presets(const State& state, Actions& actions) {
  if (state.presets.empty()) return;
  const float gap = ImGui::GetStyle().ItemInnerSpacing.x;
  const float each = (ImGui::GetContentRegionAvail().x - gap * float(state.presets.size() - 1)) /
                     float(state.presets.size());
  for (const auto& preset : state.presets) {
    if (&preset != state.presets.data()) ImGui::SameLine(0, gap);
    if (ImGui::Button(preset.name.c_str(), {each, 0})) {
      Request request = state.request;
      request.width = preset.request.width, request.height = preset.request.height;
      request.num_frames = preset.request.num_frames, request.steps = preset.request.steps;
      request.guidance_scale = preset.request.guidance_scale;
      actions.push(action::Edit{std::move(request)});
    }
    tip(preset.help);
  }
}

void PromptPanel::draw_estimate(const State& state, Actions& actions) {
  const auto& estimate = state.estimate;
  if (!estimate.error.empty()) {
    ImGui::PushStyleColor(ImGuiCol_Text, palette().bad);
    ImGui::TextWrapped("%s", estimate.error.c_str());
    ImGui::PopStyleColor();
    if (estimate.other_size) {
      tip(estimate.hint);
      if (ImGui::SmallButton("Take the nearest size")) actions.push(action::FitSize{});
    } else if (!estimate.hint.empty()) {
      note(estimate.hint.c_str());
    }
    return;
  }
  const bool tight = estimate.there_bytes > 0 && estimate.peak_bytes > estimate.there_bytes;
  const auto time = std::isnan(estimate.seconds) ? std::string("unknown before its first run")
                                                 : fmt::format("{}{}", estimate.rough ? "roughly " : "about ",
                                                               clock_text(estimate.seconds));
  const auto text =
      fmt::format("{} {}   {} {} of {}{}", icon::kClock, time, icon::kMemory, bytes_text(estimate.peak_bytes),
                  bytes_text(estimate.there_bytes), estimate.pending ? " ..." : "");
  const auto room = ImGui::GetContentRegionAvail().x;
  ImGui::PushStyleColor(ImGuiCol_Text, tight ? palette().bad : palette().muted);
  ImGui::TextUnformatted(estimate.tokens > 0 ? shortened(text, room).c_str() : "...");
  ImGui::PopStyleColor();
  const char* how = estimate.rough ? "from this machine's speed in general: the first run will tell better"
                                   : "from runs that were made here";
  tip(fmt::format(
      "Time: {}, {}.\nMemory: {} at the peak, {} are there.\n{} tokens, {} layers, {} steps on {}", time, how,
      bytes_text(estimate.peak_bytes), bytes_text(estimate.there_bytes), estimate.tokens, estimate.layers,
      estimate.steps, estimate.device));
}

void PromptPanel::draw_buttons(const State& state, Actions& actions) {
  const auto* model = state.model();
  const bool can = model && model->problem.empty() && !state.request.prompt.empty() &&
                   state.estimate.error.empty() && !state.closing;
  const float height = ImGui::GetFrameHeight() * 1.3f, gap = ImGui::GetStyle().ItemSpacing.x;
  const float half = (ImGui::GetContentRegionAvail().x - gap) / 2;
  ImGui::BeginDisabled(!can);
  ImGui::PushStyleColor(ImGuiCol_Button, palette().accent);
  ImGui::PushStyleColor(ImGuiCol_Text, IM_COL32_WHITE);
  if (ImGui::Button(with_icon(icon::kBolt, "Generate###generate").c_str(), {half, height}) &&
      state.now - clicked_ > kDoubleClick) {
    clicked_ = state.now;
    actions.push(action::Generate{});
  }
  ImGui::PopStyleColor(2);
  tip(state.request.prompt.empty() ? "Write a prompt first" : "Ctrl+Enter");
  ImGui::SameLine();
  if (ImGui::Button(with_icon(icon::kCompare, "Compare...###compare").c_str(), {half, height}))
    ImGui::OpenPopup("pair");
  ImGui::EndDisabled();
  tip("The same noise with two backends, and the first one twice, so that differences can be judged");
  draw_pair(state, actions);
  const bool keys = ImGui::IsKeyChordPressed(ImGuiMod_Ctrl | ImGuiKey_Enter);
  if (can && keys && state.now - clicked_ > kDoubleClick) {
    clicked_ = state.now;
    actions.push(action::Generate{});
  }
}

void PromptPanel::draw_pair(const State& state, Actions& actions) {
  if (!ImGui::BeginPopup("pair")) return;
  const auto knows = [&](const std::string& spec) {
    return std::any_of(state.backends.begin(), state.backends.end(),
                       [&](const BackendChoice& b) { return b.spec == spec && b.reason.empty(); });
  };
  if (!knows(a_)) a_ = "sdpa";
  if (!knows(b_)) b_ = "sage2";
  choose_backend("a", a_, state);
  choose_backend("b", b_, state);
  ImGui::BeginDisabled(!knows(a_) || !knows(b_));
  if (ImGui::Button("Make both", {-1, 0})) {
    actions.push(action::GenerateBoth{{a_, b_}});
    ImGui::CloseCurrentPopup();
  }
  ImGui::EndDisabled();
  ImGui::EndPopup();
}

}  // namespace sagelab::ui
