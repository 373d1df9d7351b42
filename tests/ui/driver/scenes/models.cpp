// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <cstdio>

#include "tests/ui/driver/scenes/scenes.h"

namespace sagelab::gui {
namespace {

// A folder as diffusers saved it: opened, and a small request of it made.
void makes_one(ImGuiTestContext* c, const std::string& folder) {
  auto& d = driver_of(c);
  const auto path = (std::filesystem::path(SAGELAB_FIXTURES) / folder / "model").string();
  click_menu(c, "File/Open a model folder...");
  IM_CHECK(type_path(c, path));
  IM_CHECK(until(c, [&] { return d.state().request.model == path && !d.state().estimate.pending; }));
  IM_CHECK_STR_EQ(d.state().model()->problem.c_str(), "");
  const bool picture = d.state().model()->pictures_only;
  auto request = d.state().request;
  request.prompt = "a fox runs over a hill";
  request.width = request.height = 64, request.steps = 3;
  request.num_frames = picture ? 1 : 9;
  d.program.execute({ui::action::Edit{request}});
  d.program.execute({ui::action::FitSize{}});
  IM_CHECK(until(c, [&] { return !d.state().estimate.pending && d.state().estimate.error.empty(); }));
  c->ItemClick("//Prompt/###generate");
  c->Yield();
  const auto id = d.state().jobs.back().id;
  IM_CHECK(until(c, [&] { return d.state().result(id) != nullptr; }));
  IM_CHECK(d.state().job(id)->preview != nullptr);
  const auto& made = *d.state().result(id)->frames.picture;
  IM_CHECK_EQ(made.frames > 1, !picture);
  IM_CHECK(d.state().dialogs.empty());
  take_shot(c, fmt::format("9-{}", folder.substr(0, folder.find('_'))));
  std::printf("%s: %d frames of %dx%d\n", folder.c_str(), made.frames, made.width, made.height);
  remove_job(c, id);
  d.program.execute({ui::action::ForgetModel{path}});
  c->Yield(2);
}

}  // namespace

std::span<const Scene> model_scenes() {
  static constexpr Scene kScenes[] = {
      {"FLUX", [](ImGuiTestContext* c) { makes_one(c, "flux_pipelines/dev"); }},
      {"SD3", [](ImGuiTestContext* c) { makes_one(c, "sd3_pipelines/medium"); }},
      {"Mochi", [](ImGuiTestContext* c) { makes_one(c, "mochi_pipelines/cut"); }},
      {"HunyuanVideo", [](ImGuiTestContext* c) { makes_one(c, "hunyuanvideo_pipelines/cut"); }}};
  return kScenes;
}

}  // namespace sagelab::gui
