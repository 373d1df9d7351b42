// SPDX-License-Identifier: Apache-2.0
#include "ui/panels/prompt/parameters.h"

#include <fmt/format.h>
#include <imgui.h>
#include <imgui_stdlib.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "ui/look/icons.h"
#include "ui/look/theme.h"

namespace sagelab::ui {
namespace {

constexpr int kMostPixels = 8192, kMostFrames = 1025, kMostSteps = 1000;

// A label to the left of a control that fills the rest; the label is dimmed where the value is the model's.
void label(const char* text, bool own) {
  ImGui::AlignTextToFramePadding();
  ImGui::PushStyleColor(ImGuiCol_Text, own ? palette().text : palette().muted);
  ImGui::TextUnformatted(text);
  ImGui::PopStyleColor();
  ImGui::SameLine(px(96));
  ImGui::SetNextItemWidth(-1);
}

// Right click gives the model's own value back.
template <typename T>
bool resets(std::optional<T>& value, const std::string& fallback) {
  tip(value ? fmt::format("The model's own: {}. Right click to take it.", fallback)
            : "The model's own value");
  if (!value || !ImGui::IsItemClicked(ImGuiMouseButton_Right)) return false;
  value.reset();
  return true;
}

struct Whole {
  int least = 1, most = 1, step = 1;
};

bool draw_whole(const char* name, std::optional<int>& value, int fallback, Whole range) {
  label(name, value.has_value());
  int shown = value.value_or(fallback);
  const auto id = fmt::format("##{}", name);
  bool changed = ImGui::InputInt(id.c_str(), &shown, range.step, range.step * 4);
  if (changed) value = std::clamp(shown, range.least, range.most);
  return resets(value, std::to_string(fallback)) || changed;
}

bool draw_real(const char* name, std::optional<double>& value, double fallback, const char* format) {
  label(name, value.has_value());
  double shown = value.value_or(fallback);
  const auto id = fmt::format("##{}", name);
  bool changed = ImGui::InputDouble(id.c_str(), &shown, .5, 1, format);
  if (changed && std::isfinite(shown)) value = std::clamp(shown, 0., 1000.);
  return resets(value, fmt::format("{:g}", fallback)) || changed;
}

bool draw_choice(const char* name, std::string& value, const std::vector<std::string>& choices) {
  label(name, value != choices.front());
  bool changed = false;
  const auto id = fmt::format("##{}", name);
  if (!ImGui::BeginCombo(id.c_str(), value.c_str())) return false;
  for (const auto& choice : choices) {
    if (!ImGui::Selectable(choice.c_str(), choice == value)) continue;
    changed = value != choice;
    value = choice;
  }
  ImGui::EndCombo();
  return changed;
}

bool edit_number(const std::string& id, const Option& option, OptionValue& value) {
  const bool bounded = option.min < option.max;
  if (auto* whole = std::get_if<int64_t>(&value)) {
    const int64_t step = 1, fast = 16;
    if (!ImGui::InputScalar(id.c_str(), ImGuiDataType_S64, whole, &step, &fast)) return false;
    if (bounded) *whole = std::clamp(*whole, int64_t(option.min), int64_t(option.max));
    return true;
  }
  auto& real = std::get<double>(value);
  if (!ImGui::InputDouble(id.c_str(), &real, .1, 1, "%g")) return false;
  if (bounded) real = std::clamp(real, option.min, option.max);
  return true;
}

bool edit_word(const std::string& id, const Option& option, std::string& word) {
  if (option.choices.empty()) return ImGui::InputText(id.c_str(), &word);
  bool changed = false;
  if (!ImGui::BeginCombo(id.c_str(), word.c_str())) return false;
  for (const auto& choice : option.choices) {
    if (!ImGui::Selectable(choice.c_str(), choice == word)) continue;
    changed = word != choice;
    word = choice;
  }
  ImGui::EndCombo();
  return changed;
}

// "use_dynamic_cfg" -> "use dynamic cfg"
std::string spoken(std::string name) {
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

bool draw_option(const Option& option, std::map<std::string, OptionValue>& options) {
  const auto at = options.find(option.name);
  const bool own = at != options.end();
  OptionValue value = own ? at->second : option.fallback;
  // A file may hold a whole number where the table has a real one.
  if (std::holds_alternative<double>(option.fallback) && std::holds_alternative<int64_t>(value))
    value = double(std::get<int64_t>(value));
  bool changed = false;
  const auto id = "##" + option.name;
  if (auto* flag = std::get_if<bool>(&value)) {
    changed = ImGui::Checkbox((spoken(option.name) + id).c_str(), flag);
  } else {
    ImGui::PushStyleColor(ImGuiCol_Text, own ? palette().text : palette().muted);
    ImGui::TextUnformatted(spoken(option.name).c_str());
    ImGui::PopStyleColor();
    tip(option.help);
    ImGui::SetNextItemWidth(-1);
    auto* word = std::get_if<std::string>(&value);
    changed = word ? edit_word(id, option, *word) : edit_number(id, option, value);
  }
  tip(option.help);
  if (changed) options[option.name] = value;
  if (!own || !ImGui::IsItemClicked(ImGuiMouseButton_Right)) return changed;
  options.erase(option.name);
  return true;
}

}  // namespace

Size size_of_aspect(const ModelChoice& model, double aspect) {
  const double area = double(model.defaults.width.value_or(512)) * model.defaults.height.value_or(512);
  const auto nearest = [](double length, int grain) {
    return std::max(1, int(std::lround(length / grain))) * grain;
  };
  return {nearest(std::sqrt(area * aspect), model.width_grain),
          nearest(std::sqrt(area / aspect), model.height_grain)};
}

bool draw_size(const ModelChoice& model, Request& request) {
  struct Aspect {
    const char* name;
    double ratio;
  };
  constexpr Aspect kAspects[] = {
      {"16:9", 16. / 9}, {"3:2", 1.5}, {"1:1", 1}, {"2:3", 1 / 1.5}, {"9:16", 9. / 16}};
  const auto& own = model.defaults;
  bool changed = draw_whole("width", request.width, own.width.value_or(0),
                            {model.width_grain, kMostPixels, model.width_grain});
  changed |= draw_whole("height", request.height, own.height.value_or(0),
                        {model.height_grain, kMostPixels, model.height_grain});
  const float gap = ImGui::GetStyle().ItemInnerSpacing.x;
  const float each = (ImGui::GetContentRegionAvail().x - gap * 4) / 5;
  ImGui::PushStyleVar(ImGuiStyleVar_FramePadding, {0, ImGui::GetStyle().FramePadding.y});
  for (const auto& aspect : kAspects) {
    if (&aspect != kAspects) ImGui::SameLine(0, gap);
    if (!ImGui::Button(aspect.name, {each, 0})) continue;
    const auto size = size_of_aspect(model, aspect.ratio);
    request.width = size.width, request.height = size.height;
    changed = true;
  }
  ImGui::PopStyleVar();
  if (model.pictures_only) return changed;
  changed |= draw_whole("frames", request.num_frames, own.num_frames.value_or(1),
                        {1, kMostFrames, model.frames_grain});
  return changed;
}

bool draw_sampling(const ModelChoice& model, Request& request) {
  bool changed = draw_whole("steps", request.steps, model.defaults.steps.value_or(50), {1, kMostSteps, 1});
  changed |= draw_real("guidance", request.guidance_scale, model.defaults.guidance_scale.value_or(1), "%g");
  return changed;
}

bool draw_seed(Request& request) {
  label("seed", true);
  const float gap = ImGui::GetStyle().ItemInnerSpacing.x;
  ImGui::SetNextItemWidth(-(ImGui::GetFrameHeight() * 1.1f + gap));
  bool changed = ImGui::InputScalar("##seed", ImGuiDataType_U64, &request.seed);
  ImGui::SameLine(0, gap);
  if (icon_button(icon::kDice, "dice", "Another seed")) {
    request.seed = std::random_device()() % 1000000;  // short enough to read out
    changed = true;
  }
  ImGui::NewLine();
  return changed;
}

bool draw_options(const ModelChoice& model, Request& request) {
  bool changed = false;
  for (const auto& option : model.options) changed |= draw_option(option, request.options);
  return changed;
}

bool draw_machine(const ModelChoice& model, Request& request) {
  bool changed = !model.pictures_only && draw_real("fps", request.fps, model.defaults.fps.value_or(8), "%g");
  label("preview", true);
  bool preview = request.preview > 0;
  if (ImGui::Checkbox("##preview", &preview)) request.preview = preview ? 1 : 0, changed = true;
  tip("A picture of the latents after each step");
  changed |= draw_choice("device", request.device, {"auto", "cpu", "cuda"});
  changed |= draw_choice("dtype", request.dtype, {"auto", "fp32", "bf16", "fp16"});
  changed |= draw_choice("VAE tiles", request.vae_tiling, {"auto", "on", "off"});
  changed |= draw_choice("offload", request.offload, {"auto", "none", "encoders", "layers"});
  changed |= draw_choice("switch at", request.attention_switch, {"forward", "call"});
  tip("When a switch of attention takes effect: at the next forward, or at the next call within one");
  return changed;
}

}  // namespace sagelab::ui
