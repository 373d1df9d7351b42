// SPDX-License-Identifier: Apache-2.0
#define GLFW_INCLUDE_NONE
#include <GLFW/glfw3.h>
#include <fmt/format.h>

#include <algorithm>
#include <fstream>

#include "tests/app/cli/read_frames.h"
#include "tests/ui/driver/scenes/scenes.h"
#include "ui/look/icons.h"

namespace sagelab::gui {
namespace {

namespace icon = ui::icon;

// Onto the window, as GLFW says it.
void drop(const std::string& file) {
  auto* window = static_cast<GLFWwindow*>(ImGui::GetMainViewport()->PlatformHandle);
  const auto dropped = glfwSetDropCallback(window, nullptr);
  glfwSetDropCallback(window, dropped);
  const char* path = file.c_str();
  dropped(window, 1, &path);
}

bool is_frame(const std::filesystem::path& png, const Picture& picture, int frame) {
  const auto read = testing::read_png(png);
  const auto bytes = std::span(read.const_data_ptr<uint8_t>(), size_t(read.numel()));
  return read.size(1) == picture.width && std::ranges::equal(bytes, picture.frame(frame));
}

// What a row's menu and the File menu write.
void exports(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  const auto id = d.state().compared[1];
  const auto written = [&](const char* name, size_t least) {
    const auto path = d.out / name;
    return until(c, [&] { return d.state().tasks.empty() && std::filesystem::exists(path); }) &&
           std::filesystem::file_size(path) > least;
  };
  for (const auto* name : {"b.mp4", "b.png", "both.mp4", "report.html"})
    std::filesystem::remove(d.out / name);
  const auto save = [&](const char* item, const char* name) {
    click_in_row(c, id, fmt::format("{}##export", icon::kExport));
    c->ItemClick(fmt::format("//$FOCUSED/{}", item).c_str());
    return type_path(c, std::filesystem::absolute(d.out / name).string());
  };
  IM_CHECK(save("Save as MP4...", "b.mp4"));
  IM_CHECK(written("b.mp4", 1000));
  constexpr int kFrame = 3;
  c->WindowFocus("//Compare");
  c->KeyPress(ImGuiKey_Home);
  c->KeyPress(ImGuiKey_D, kFrame);
  IM_CHECK(save("###png", "b.png"));
  IM_CHECK(written("b.png", 1000));
  IM_CHECK(is_frame(d.out / "b.png", *d.state().result(id)->frames.picture, kFrame));
  click_menu(c, "File/Export side by side...");
  IM_CHECK(type_path(c, std::filesystem::absolute(d.out / "both.mp4").string()));
  IM_CHECK(written("both.mp4", 1000));
  click_menu(c, "File/Export report...");
  IM_CHECK(type_path(c, std::filesystem::absolute(d.out / "report.html").string()));
  IM_CHECK(written("report.html", 100000));
  // The desktop's own dialog.
  answer_dialog(d, std::filesystem::absolute(d.out / "answered.mp4").string());
  click_menu(c, "File/Export side by side...");
  IM_CHECK(written("answered.mp4", 1000));
  click_menu(c, "File/Export report...");
  IM_CHECK(!type_path(c, "/no/such/folder/report.html"));  // it says so, and stays
  take_shot(c, "6-no-such-folder");
  c->ItemClick("//$FOCUSED/Cancel");
  click_menu(c, "File/Export report...");
  type_path(c, "/proc/report.html");
  IM_CHECK(until(c, [&] { return !d.state().dialogs.empty(); }));
  take_shot(c, "6-error");
  c->ItemClick("//$FOCUSED/OK");
  c->Yield(2);
  IM_CHECK(d.state().dialogs.empty());
}

void restores(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  const auto id = d.state().compared[1];
  const auto file = std::filesystem::absolute(d.out / "b.mp4").string();
  c->ItemInputValue("//Prompt/**/##seed", 1);
  c->ItemInputValue("//Prompt/**/##steps", 9);
  c->ItemInputValue("//Prompt/**/##prompt",
                    "\xe7\xb2\x89\xe7\xba\xa2\xe8\x89\xb2\xe7\x9a\x84\xe7\x8e\xaf "
                    "\xe3\x83\x94\xe3\x83\xb3\xe3\x82\xaf \xeb\xb6\x84\xed\x99\x8d");
  c->Yield(2);
  take_shot(c, "7-chinese-japanese-korean");
  IM_CHECK_EQ(d.state().request.steps.value_or(0), 9);
  c->WindowFocus("//Queue");
  ImGui::SetClipboardText(("file://" + file).c_str());
  c->KeyPress(ImGuiMod_Ctrl | ImGuiKey_V);
  IM_CHECK(until(
      c, [&] { return d.state().request.steps == 4; }, 20));
  IM_CHECK_EQ(d.state().request.seed, d.state().result(id)->frames.request.seed);
  IM_CHECK_STR_EQ(d.state().request.attention.c_str(), "sage2");
  IM_CHECK(d.state().request.prompt.starts_with("a pink ring"));
  // The same dropped, as a picture.
  c->ItemInputValue("//Prompt/**/##steps", 9);
  drop((std::filesystem::absolute(d.out / "b.png")).string());
  IM_CHECK(until(
      c, [&] { return d.state().request.steps == 4; }, 20));
  c->ItemClick("//Attention/sdpa/###use");
  c->ItemClick("//Prompt/**/Quick");
  c->Yield();
  IM_CHECK_EQ(d.state().request.steps.value_or(0), 10);
  c->ItemClick("//Prompt/**/Own");
  c->Yield();
  IM_CHECK_EQ(d.state().request.steps.value_or(0), 30);
}

void folders(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  const auto good = d.state().request.model;
  const auto bad = std::filesystem::absolute(d.out / "no-model").string();
  std::filesystem::create_directories(bad);
  click_menu(c, "File/Open a model folder...");
  IM_CHECK(!type_path(c, "/no/such/model"));
  take_shot(c, "7-no-such-folder");
  c->ItemClick("//$FOCUSED/Cancel");
  click_menu(c, "File/Open a model folder...");
  IM_CHECK(type_path(c, bad));
  IM_CHECK(until(c, [&] { return d.state().request.model == bad; }));
  IM_CHECK_STR_NE(d.state().model()->problem.c_str(), "");
  take_shot(c, "7-bad-folder");
  c->ItemClick("//Prompt/Forget this folder");
  c->Yield(2);
  IM_CHECK_STR_EQ(d.state().request.model.c_str(), good.c_str());
  // Another folder of the bundled model's files, dropped.
  const auto dropped = d.out / "dropped";
  std::filesystem::remove(dropped);
  std::filesystem::create_directory_symlink(std::filesystem::absolute(good), dropped);
  const auto path = std::filesystem::absolute(dropped).string();
  drop(path);
  IM_CHECK(until(c, [&] { return d.state().request.model == path && d.state().model()->problem.empty(); }));
  d.program.execute({ui::action::ForgetModel{path}});
  c->Yield(2);
  IM_CHECK_STR_EQ(d.state().request.model.c_str(), good.c_str());
}

void imports(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  const auto file = d.out / "prompts.txt";
  std::ofstream(file) << "a red ball\na blue ring {\"aspect_ratio\": \"1:1\", \"num_frames\": 9}\na green "
                         "ball {\"seed\": 5}\n";
  const auto before = d.state().jobs.size();
  c->ItemClick(fmt::format("//Queue/{}##pause", icon::kPause).c_str());
  click_menu(c, "File/Import prompts...");
  IM_CHECK(type_path(c, std::filesystem::absolute(file).string()));
  IM_CHECK(until(c, [&] { return d.state().jobs.size() == before + 3; }));
  IM_CHECK_STR_EQ(d.state().jobs.back().request.prompt.c_str(), "a green ball");
  IM_CHECK_EQ(int(d.state().jobs.back().request.seed), 5);
  IM_CHECK_EQ(d.state().jobs[d.state().jobs.size() - 2].request.num_frames.value_or(0), 9);
  IM_CHECK(!d.state().running());
  take_shot(c, "8-queue");
  for (int i = 0; i < 3; ++i) d.program.execute({ui::action::Remove{d.state().jobs.back().id}});
  c->ItemClick(fmt::format("//Queue/{}##pause", icon::kPlay).c_str());
  c->Yield();
  IM_CHECK(!d.state().paused);
}

// One picture in place of a video.
void stills(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  auto request = d.state().request;
  request.num_frames = 1, request.steps = 4;
  edit(c, request);
  c->ItemClick("//Prompt/###generate");
  c->Yield();
  const auto id = d.state().jobs.back().id;
  IM_CHECK(until(c, [&] { return d.state().result(id) != nullptr; }));
  d.program.execute({ui::action::Compare{{id, 0, 0}}});
  c->Yield(2);
  take_shot(c, "8-still");
  click_in_row(c, id, fmt::format("{}##export", icon::kExport));
  IM_CHECK(!c->ItemExists("//$FOCUSED/Save as MP4..."));
  c->ItemClick("//$FOCUSED/###png");
  const auto path = std::filesystem::absolute(d.out / "still.png");
  std::filesystem::remove(path);
  IM_CHECK(type_path(c, path.string()));
  IM_CHECK(until(c, [&] { return d.state().tasks.empty() && std::filesystem::exists(path); }));
  remove_job(c, id);
}

}  // namespace

std::span<const Scene> file_scenes() {
  static constexpr Scene kScenes[] = {{"exports", exports},
                                      {"restores", restores},
                                      {"folders", folders},
                                      {"imports", imports},
                                      {"stills", stills}};
  return kScenes;
}

}  // namespace sagelab::gui
