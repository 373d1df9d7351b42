// SPDX-License-Identifier: Apache-2.0
#include "ui/panels/attention/attention_panel.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <imgui.h>
#include <imgui_stdlib.h>
#include <implot.h>

#include <algorithm>
#include <map>
#include <vector>

#include "ui/look/icons.h"
#include "ui/look/theme.h"

namespace sagelab::ui {
namespace {

constexpr std::string_view kCheck = "check(";

void swatch(std::string_view backend) {
  const float size = ImGui::GetTextLineHeight() * .6f;
  const ImVec2 at = ImGui::GetCursorScreenPos();
  const float y = at.y + (ImGui::GetFrameHeight() - size) / 2;
  ImGui::GetWindowDrawList()->AddRectFilled({at.x, y}, {at.x + size, y + size}, colour_of(backend), 2);
  ImGui::Dummy({size, size});
  ImGui::SameLine();
}

// The latest job that has steps: the one that runs, else the last one that ran.
const Job* job_to_plot(const State& state) {
  if (const auto* running = state.running()) return running;
  const auto at = std::find_if(state.jobs.rbegin(), state.jobs.rend(),
                               [](const Job& j) { return !j.step_times.empty(); });
  return at == state.jobs.rend() ? nullptr : &*at;
}

// Where a bracket at depth 0 ends an argument.
size_t argument_end(const std::string& spec, size_t from) {
  int depth = 0;
  for (size_t i = from; i < spec.size(); ++i) {
    if (spec[i] == '(') ++depth;
    if (spec[i] == ')' && --depth < 0) return i;
    if (spec[i] == ',' && depth == 0) return i;
  }
  return spec.size();
}

}  // namespace

std::string attention_of(const State& state) {
  const auto* job = state.running();
  return job ? job->attention : next_attention_of(state);
}

std::string next_attention_of(const State& state) {
  if (!state.request.attention.empty()) return state.request.attention;
  const auto* model = state.model();
  return model ? model->defaults.attention : "";
}

std::string measured_spec(const std::string& spec) {
  return spec.starts_with(kCheck) ? spec : "check(" + spec + ",sdpa)";
}

std::string plain_spec(const std::string& spec) {
  if (!spec.starts_with(kCheck)) return spec;
  return spec.substr(kCheck.size(), argument_end(spec, kCheck.size()) - kCheck.size());
}

void AttentionPanel::draw(const State& state, Actions& actions) {
  draw_target(state, actions);
  draw_backends(state, actions);
  draw_own_spec(state, actions);
  heading("Seconds a step");
  if (const auto* job = job_to_plot(state))
    draw_step_times(*job, px(150));
  else
    note("The first run shows here what each step takes.");
  if (ImGui::CollapsingHeader("Policy: layers and steps")) policy_.draw(state, actions);
}

std::string AttentionPanel::target(const State& state) const {
  return next_ ? next_attention_of(state) : attention_of(state);
}

void AttentionPanel::draw_target(const State& state, Actions& actions) {
  const auto* running = state.running();
  next_ = next_ && running;
  if (running) {
    const auto live = fmt::format("{} live###live", icon::kBolt);
    if (ImGui::RadioButton(live.c_str(), !next_)) next_ = false;
    tip("A click switches the run that goes on, from its next forward: now " + running->attention);
    ImGui::SameLine();
    if (ImGui::RadioButton("next run", next_)) next_ = true;
    tip("A click is for what is generated next; the run that goes on stays as it is");
  } else {
    ImGui::TextDisabled("for the next run");
  }
  const auto& planned = state.request.attention_at;
  if (planned.empty() || (running && !next_)) return;
  if (icon_button(icon::kTrash, "planned", "No switches planned")) {
    auto request = state.request;
    request.attention_at.clear();
    actions.push(action::Edit{std::move(request)});
  }
  line(fmt::format("planned: {}", fmt::join(planned, ", ")), palette().muted);
}

void AttentionPanel::draw_backends(const State& state, Actions& actions) {
  const auto now = target(state);
  measure_ = now.starts_with(kCheck);
  const auto plain = plain_spec(now);
  if (ImGui::Checkbox("measure errors against sdpa", &measure_) && !plain.empty())
    actions.push(action::SetAttention{measure_ ? measured_spec(plain) : plain, next_});
  tip("check(...): both backends serve each call, and the errors of each layer and step are shown in "
      "Metrics. "
      "Steps then take longer.");
  ImGui::PushStyleVar(ImGuiStyleVar_FramePadding, {px(8), px(2)});
  for (const auto& backend : state.backends) {
    ImGui::PushID(backend.spec.c_str());
    swatch(backend.spec);
    ImGui::BeginDisabled(!backend.reason.empty());
    const float circle = ImGui::GetFrameHeight() + ImGui::GetStyle().ItemInnerSpacing.x;
    const auto shown = shortened(backend.spec, ImGui::GetContentRegionAvail().x - circle);
    if (ImGui::RadioButton((shown + "###use").c_str(), backend.spec == plain))
      actions.push(action::SetAttention{measure_ ? measured_spec(backend.spec) : backend.spec, next_});
    ImGui::EndDisabled();
    auto text = shown == backend.spec ? backend.help : backend.spec + "\n\n" + backend.help;
    if (!backend.reason.empty()) text += "\n\nNot here: " + backend.reason;
    tip(text);
    ImGui::PopID();
  }
  ImGui::PopStyleVar();
}

void AttentionPanel::draw_own_spec(const State& state, Actions& actions) {
  const bool listed = std::any_of(state.backends.begin(), state.backends.end(), [&](const BackendChoice& b) {
    return b.spec == plain_spec(target(state));
  });
  ImGui::SetNextItemWidth(-px(64));
  const auto hint = listed ? std::string("or any spec: prefer(sage2,sdpa)") : target(state);
  const bool entered =
      ImGui::InputTextWithHint("##spec", hint.c_str(), &own_, ImGuiInputTextFlags_EnterReturnsTrue);
  tip("A backend with options, prefer(a,b), check(a,b), timed(a) or "
      "schedule(steps=0-4:a,layers=0+last:b,else:c)");
  ImGui::SameLine();
  ImGui::BeginDisabled(own_.empty());
  if (ImGui::Button("Set", {-1, 0}) || (entered && !own_.empty()))
    actions.push(action::SetAttention{own_, next_});
  ImGui::EndDisabled();
}

void draw_step_times(const Job& job, float height) {
  constexpr auto kPlot =
      ImPlotFlags_NoLegend | ImPlotFlags_NoMenus | ImPlotFlags_NoBoxSelect | ImPlotFlags_NoMouseText;
  if (!ImPlot::BeginPlot("##steps", {-1, height}, kPlot)) return;
  ImPlot::SetupAxes(nullptr, nullptr, ImPlotAxisFlags_NoHighlight, ImPlotAxisFlags_NoHighlight);
  double most = 0;
  std::map<std::string, std::pair<std::vector<double>, std::vector<double>>> points;
  for (size_t i = 0; i < job.step_times.size(); ++i) {
    auto& [x, y] = points[last_backend(job.step_times[i].backend)];
    x.push_back(double(i + 1));
    y.push_back(job.step_times[i].seconds);
    most = std::max(most, job.step_times[i].seconds);
  }
  setup_steps(std::max(job.steps, 1));
  ImPlot::SetupAxisLimits(ImAxis_Y1, 0, most > 0 ? most * 1.15 : 1, ImPlotCond_Always);
  for (const auto& [name, xy] : points) {
    ImPlotSpec look;
    look.FillColor = look.LineColor = ImGui::ColorConvertU32ToFloat4(colour_of(name));
    ImPlot::PlotBars(name.c_str(), xy.first.data(), xy.second.data(), int(xy.first.size()), .8, look);
  }
  for (const auto& mark : job.switches) {
    const double x = mark.step + .5;
    ImPlotSpec look;
    look.LineColor = ImGui::ColorConvertU32ToFloat4(palette().marker);
    look.LineWeight = px(2);
    ImPlot::PlotInfLines("##switch", &x, 1, look);
    ImPlot::Annotation(x, most, ImGui::ColorConvertU32ToFloat4(palette().marker), {px(4), 0}, true, "%s",
                       shortened(mark.to, px(110)).c_str());
  }
  ImPlot::EndPlot();
}

}  // namespace sagelab::ui
