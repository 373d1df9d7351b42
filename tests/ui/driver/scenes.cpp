// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <fstream>

#include "tests/ui/driver/driver.h"
#include "ui/look/icons.h"

namespace sagelab::gui {
namespace {

using Status = ui::Job::Status;
namespace icon = ui::icon;

// The scenes go on from what those before them left, in the order of kScenes.
std::string button(const char* icon, const char* id) {
  return fmt::format("//Queue/**/{}##{}", icon, id);
}

void type_path(ImGuiTestContext* context, const std::string& path) {
  context->Yield(2);
  context->SetRef("//$FOCUSED");
  context->ItemInputValue("##path", path.c_str());  // with Enter, which is OK
}

void starts(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  IM_CHECK(until(c, [&] { return d.state().model() && d.state().estimate.tokens > 0; }));
  IM_CHECK_STR_EQ(d.state().model()->problem.c_str(), "");
  IM_CHECK_LT(d.state().now, 30.);
  IM_CHECK(c->ItemExists("//Prompt/###generate"));
  const auto& backends = d.state().backends;
  const auto reasons =
      std::count_if(backends.begin(), backends.end(), [](const auto& b) { return !b.reason.empty(); });
  IM_CHECK_GT(int(reasons), 0);  // without a GPU cuDNN's is there, greyed out
  take_shot(c, "1-start");
}

void edits(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  c->ItemInputValue("//Prompt/**/##steps", 6);
  c->ItemInputValue("//Prompt/**/##seed", 11);
  IM_CHECK_EQ(d.state().request.steps.value_or(0), 6);
  IM_CHECK_EQ(int(d.state().request.seed), 11);
  c->ItemInputValue("//Prompt/**/##width", 130);
  IM_CHECK(until(c, [&] { return !d.state().estimate.pending; }));
  IM_CHECK_STR_NE(d.state().estimate.error.c_str(), "");
  take_shot(c, "2-size-that-does-not-fit");
  c->ItemClick("//Prompt/Take the nearest size");
  IM_CHECK(until(c, [&] { return !d.state().estimate.pending && d.state().estimate.error.empty(); }));
  IM_CHECK_EQ(d.state().request.width.value_or(0), 128);
  c->ItemClick(fmt::format("//Prompt/**/{}##dice", icon::kDice).c_str());
  c->Yield();
  IM_CHECK_NE(int(d.state().request.seed), 11);
}

void switches(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  c->ItemDoubleClick("//Prompt/###generate");
  c->Yield();
  IM_CHECK_EQ(int(d.state().jobs.size()), 1);  // a double click is one
  IM_CHECK(until(c, [&] { return d.state().jobs[0].step_times.size() >= 2; }));
  IM_CHECK(d.state().jobs[0].preview != nullptr);
  c->ItemClick("//Attention/sage2/sage2");
  c->Yield(2);
  IM_CHECK_STR_EQ(d.state().jobs[0].attention.c_str(), "sage2");
  IM_CHECK(until(c, [&] { return !d.state().jobs[0].switches.empty(); }));
  take_shot(c, "3-switched-while-it-runs");
  IM_CHECK(until(c, [&] { return d.state().jobs[0].status == Status::Done; }));
  IM_CHECK_STR_EQ(d.state().jobs[0].switches[0].to.c_str(), "sage2");
  IM_CHECK(d.state().results.at(0).emulated);
  take_shot(c, "4-done");
}

void cancels(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  c->ItemClick("//Prompt/###generate");
  c->Yield();
  const auto id = d.state().jobs.back().id;
  IM_CHECK(until(c, [&] { return !d.state().job(id)->step_times.empty(); }));
  const auto steps = d.state().job(id)->step_times.size();
  c->ItemClick(button(icon::kStop, "cancel").c_str());
  IM_CHECK(until(c, [&] { return d.state().job(id)->status == Status::Cancelled; }));
  IM_CHECK_LE(d.state().job(id)->step_times.size(), steps + 1);
  IM_CHECK_EQ(int(d.state().dialogs.size()), 0);
}

void compares(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  c->ItemInputValue("//Prompt/**/##steps", 4);
  c->ItemClick("//Prompt/###compare");
  c->Yield();
  c->ItemClick("//$FOCUSED/Make both");
  c->Yield();
  const auto a = d.state().compared[0], b = d.state().compared[1];
  IM_CHECK(a != 0 && b != 0);
  IM_CHECK(until(c, [&] { return d.state().result(a) && d.state().result(b) && !d.state().busy(); }));
  IM_CHECK(until(c, [&] { return d.state().floor(a) && !d.state().floor(a)->pending; }));
  IM_CHECK_EQ(d.state().floor(a)->identical_frames, d.state().result(a)->frames.picture->frames);
  IM_CHECK(d.state().result(a)->frames.picture->pixels != d.state().result(b)->frames.picture->pixels);
  take_shot(c, "5-compared");
}

void exports(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  const auto page = d.out / "report.html", video = d.out / "both.mp4";
  c->SetRef("##MainMenuBar");
  c->MenuClick("File/Export side by side...");
  type_path(c, video.string());
  IM_CHECK(until(c, [&] { return std::filesystem::exists(video) && d.state().tasks.empty(); }));
  c->SetRef("##MainMenuBar");
  c->MenuClick("File/Export report...");
  type_path(c, page.string());
  IM_CHECK(until(c, [&] { return std::filesystem::exists(page) && d.state().tasks.empty(); }));
  c->SetRef("##MainMenuBar");
  c->MenuClick("File/Export report...");
  type_path(c, "/proc/none/report.html");
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
  d.program.execute({ui::action::Export{ui::action::Export::Kind::Mp4, {id}, 0, file}});
  IM_CHECK(until(c, [&] { return d.state().tasks.empty(); }));
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
  c->ItemClick("//Attention/sdpa/sdpa");
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
  c->SetRef("##MainMenuBar");
  c->MenuClick("File/Open a model folder...");
  type_path(c, "/no/such/model");
  IM_CHECK(until(c, [&] { return d.state().request.model == "/no/such/model"; }));
  IM_CHECK_STR_NE(d.state().model()->problem.c_str(), "");
  take_shot(c, "7-bad-folder");
  c->ItemClick("//Prompt/Forget this folder");
  c->Yield(2);
  IM_CHECK_STR_EQ(d.state().request.model.c_str(), good.c_str());
}

void imports(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  const auto file = d.out / "prompts.txt";
  std::ofstream(file) << "a red ball\na blue ring\na green ball {\"seed\": 5}\n";
  const auto before = d.state().jobs.size();
  c->ItemClick(fmt::format("//Queue/{}##pause", icon::kPause).c_str());
  c->SetRef("##MainMenuBar");
  c->MenuClick("File/Import prompts...");
  type_path(c, file.string());
  IM_CHECK(until(c, [&] { return d.state().jobs.size() == before + 3; }));
  IM_CHECK_STR_EQ(d.state().jobs.back().request.prompt.c_str(), "a green ball");
  IM_CHECK_EQ(int(d.state().jobs.back().request.seed), 5);
  IM_CHECK(!d.state().running());
  take_shot(c, "8-queue");
  for (int i = 0; i < 3; ++i) d.program.execute({ui::action::Remove{d.state().jobs.back().id}});
  c->ItemClick(fmt::format("//Queue/{}##pause", icon::kPlay).c_str());
  c->Yield();
  IM_CHECK(!d.state().paused);
}

void policies(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  IM_CHECK(until(c, [&] { return !d.state().policy.cells.empty() && !d.state().estimate.pending; }));
  c->ItemOpen("//Attention/Policy: layers and steps");
  c->Yield(2);
  c->ItemClick("//Attention/grid");
  c->Yield(2);
  take_shot(c, "9-policy");
  c->ItemClick("//Attention/Use this policy");
  c->Yield(2);
  IM_CHECK(d.state().request.attention.starts_with("schedule("));
  IM_CHECK(until(c, [&] { return !d.state().estimate.pending; }));
  IM_CHECK_STR_EQ(d.state().estimate.error.c_str(), "");
  c->ItemClose("//Attention/Policy: layers and steps");
  c->ItemClick("//Attention/sdpa/sdpa");
}

void closes(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  c->ItemClick("//Prompt/###generate");
  IM_CHECK(until(c, [&] { return d.state().running() != nullptr; }));
  c->SetRef("##MainMenuBar");
  c->MenuClick("File/Close");
  c->Yield(2);
  IM_CHECK_EQ(int(d.state().dialogs.size()), 1);
  take_shot(c, "10-closing-while-busy");
  c->ItemClick("//$FOCUSED/Keep running");
  c->Yield(2);
  IM_CHECK(d.state().dialogs.empty() && !d.state().closing);
  c->ItemClick(button(icon::kStop, "cancel").c_str());
  IM_CHECK(until(c, [&] { return !d.state().busy(); }));
}

void looks(ImGuiTestContext* c) {
  auto& d = driver_of(c);
  struct Size {
    int width, height;
  };
  for (const auto& [width, height] : {Size{800, 600}, Size{3840, 2160}, Size{1366, 768}}) {
    d.window.resize(width, height);
    IM_CHECK(until(
        c, [&] { return int(ImGui::GetIO().DisplaySize.x) == width; }, 10));
    c->Yield(3);
    take_shot(c, fmt::format("11-{}x{}", width, height));
  }
  c->SetRef("##MainMenuBar");
  c->MenuClick("View/Light");
  c->Yield(2);
  take_shot(c, "12-light");
  c->SetRef("##MainMenuBar");
  c->MenuClick("View/Dark");
  c->SetRef("##MainMenuBar");
  c->MenuClick("View/Size/150 %");
  c->Yield(2);
  take_shot(c, "13-large");
  c->SetRef("##MainMenuBar");
  c->MenuClick("View/Size/100 %");
  c->SetRef("##MainMenuBar");
  c->MenuClick("View/Put the panels back");
  c->Yield(3);
  IM_CHECK(c->WindowInfo("//Prompt").Window != nullptr);
}

}  // namespace

void add_scenes(Driver& driver) {
  struct Scene {
    const char* name;
    void (*play)(ImGuiTestContext*);
  };
  constexpr Scene kScenes[] = {
      {"starts", starts},     {"edits", edits},       {"switches", switches}, {"cancels", cancels},
      {"compares", compares}, {"exports", exports},   {"restores", restores}, {"folders", folders},
      {"imports", imports},   {"policies", policies}, {"closes", closes},     {"looks", looks},
  };
  for (const auto& scene : kScenes) {
    auto* test = IM_REGISTER_TEST(driver.engine, "window", scene.name);
    test->UserData = &driver;
    test->TestFunc = scene.play;
  }
}

}  // namespace sagelab::gui
