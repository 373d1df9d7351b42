// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "app/commands/commands.h"
#include "app/commands/model_info.h"
#include "app/failure.h"
#include "app/system.h"
#include "attention/registry.h"
#include "pipelines/core/memory.h"
#include "pipelines/registry.h"

namespace sagelab {
namespace {

using nlohmann::json;

// What the transformers of the families ask of a backend, at a modest length.
attention::Problem typical_problem(const at::Device& device) {
  return {.batch = 2,
          .heads = 30,
          .kv_heads = 30,
          .q_len = 4096,
          .kv_len = 4096,
          .head_dim = 64,
          .dtype = device.is_cuda() ? at::kBFloat16 : at::kFloat,
          .device = device,
          .causal = false};
}

std::string why_not(std::string_view spec, const at::Device& device) {
  try {
    return attention::make_backend(spec)->unsupported(typical_problem(device));
  } catch (const Error& e) {
    return e.what();
  }
}

json machine_json() {
  json out{{"versions", versions()}, {"devices", json::array()}, {"families", json::array()}};
  for (const auto& info : devices()) {
    json backends = json::array();
    for (const auto& entry : attention::backends())
      backends.push_back(
          {{"spec", entry.spec}, {"help", entry.help}, {"unsupported", why_not(entry.spec, info.device)}});
    out["devices"].push_back({{"device", info.device.str()},
                              {"name", info.name},
                              {"capability", info.capability},
                              {"cores", info.cores},
                              {"total_bytes", info.total_bytes},
                              {"free_bytes", info.free_bytes},
                              {"default_attention", attention::default_spec(info.device)},
                              {"backends", backends}});
  }
  for (const auto& family : families())
    out["families"].push_back({{"name", family.name}, {"class", family.class_name}, {"help", family.help}});
  return out;
}

std::string machine_table(const json& machine) {
  const auto text = [](const json& value) { return value.is_string() ? value.get<std::string>() : "none"; };
  const auto& v = machine.at("versions");
  std::string out = fmt::format("sagelab {}, torch {}, CUDA {}, {}\n", text(v["sagelab"]), text(v["torch"]),
                                text(v["cuda"]), v["libav"].is_null() ? "no libav" : text(v["libav"]));
  for (const auto& d : machine.at("devices")) {
    out += fmt::format("\n{:<10}{}{}, {} {}, {} of {} free\n", text(d["device"]), text(d["name"]),
                       text(d["capability"]).empty() ? "" : " (sm " + text(d["capability"]) + ")",
                       d["cores"].get<int>(), text(d["capability"]).empty() ? "threads" : "multiprocessors",
                       human_bytes(d["free_bytes"].get<int64_t>()),
                       human_bytes(d["total_bytes"].get<int64_t>()));
    out += fmt::format("  attention by default: {}\n", text(d["default_attention"]));
    for (const auto& b : d.at("backends")) {
      const auto spec = text(b["spec"]), reason = text(b["unsupported"]);
      out += fmt::format("  {:<17}{}{}\n", spec, spec.size() > 17 ? fmt::format("\n{:20}", "") : " ",
                         reason.empty() ? text(b["help"]) : "cannot run: " + reason);
    }
  }
  out += "\nfamilies\n";
  for (const auto& f : machine.at("families"))
    out += fmt::format("  {:<18}{} ({})\n", text(f["name"]), text(f["help"]), text(f["class"]));
  return out;
}

struct Info {
  std::string model, variant;
  std::vector<std::string> weights;
  bool json_wanted = false;

  int run() const {
    auto machine = machine_json();
    auto table = machine_table(machine);
    if (!model.empty()) {
      const auto info = inspect_model(model, variant, weights);
      machine["model"] = to_json(info);
      table = table_of(info);
    }
    print(json_wanted ? json_text(machine, 2) + "\n" : table);
    return kDone;
  }
};

}  // namespace

void add_info(CLI::App& app, int& exit_code) {
  auto* command = app.add_subcommand("info", "what this machine and a model folder can do");
  auto state = std::make_shared<Info>();
  command->add_option("--model", state->model, "a diffusers folder: its components and what is missing");
  command->add_option("--variant", state->variant, "which files of the folder: fp16, bf16");
  command
      ->add_option("--weights", state->weights, "a single file in place of a component's own, as in generate")
      ->type_name("COMPONENT=FILE")
      ->allow_extra_args(false);
  command->add_flag("--json", state->json_wanted, "as JSON");
  command->callback([state, &exit_code] { exit_code = guarded([&] { return state->run(); }); });
}

}  // namespace sagelab
