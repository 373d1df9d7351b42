// SPDX-License-Identifier: Apache-2.0
// What goes wrong with folders and requests, and every word that is said about it.
#include <ATen/Context.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "attention/error.h"
#include "attention/registry.h"
#include "pipelines/cogvideox/pipeline.h"
#include "pipelines/cogvideox/sampler.h"
#include "pipelines/core/config.h"
#include "pipelines/core/safetensors.h"
#include "pipelines/registry.h"
#include "tests/support/parity.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class BadInput : public ::testing::Test {
 protected:
  fs::path base =
      fs::path(::testing::TempDir()) /
      fmt::format("bad_input_{}", ::testing::UnitTest::GetInstance()->current_test_info()->name());
  fs::path model = base / "model";
  Request request;

  void SetUp() override { use("2b"); }
  void TearDown() override { fs::remove_all(base); }

  // A copy of a fixture that a test may damage.
  void use(const std::string& name) {
    fs::remove_all(base);
    fs::create_directories(base);
    fs::copy(testing::fixture("cogvideox", name) / "model", model, fs::copy_options::recursive);
    request = {};
    request.model = model.string();
    request.prompt = "a fox";
    request.height = 48;
    request.width = 64;
    request.num_frames = 9;
    request.steps = 1;
    request.device = "cpu";
  }
  void edit(const std::string& file, const std::function<void(Json&)>& change) {
    Json json = read_json(model / file);
    change(json);
    std::ofstream(model / file) << json.dump();
  }
  void cut(const fs::path& file, uintmax_t bytes) { fs::resize_file(file, fs::file_size(file) - bytes); }

  // "what | hint" of the first thing that stops a run, from the folder to the opened pipeline.
  std::string failure() {
    try {
      attention::Recorder recorder;
      const Family& family = family_of(request.model);
      const Request resolved = family.resolve(request);
      const RunContext run{
          std::make_shared<attention::Selector>(attention::make_backend("sdpa")), recorder, {}, {}};
      const auto pipeline = family.open(resolved, run);
      generate(*pipeline, resolved, "", run);
    } catch (const Error& e) {
      return e.hint().empty() ? e.what() : std::string(e.what()) + " | " + e.hint();
    }
    return "no error";
  }
  // The same of a dry run.
  std::string plan_failure() {
    try {
      const Family& family = family_of(request.model);
      family.plan(family.resolve(request));
    } catch (const Error& e) {
      return std::string(e.what()) + " | " + e.hint();
    }
    return "no error";
  }
  std::string in(const std::string& file) const { return (model / file).string(); }
};

TEST_F(BadInput, NothingIsWrongWithTheFolderItself) {
  EXPECT_EQ(failure(), "no error");
}

TEST_F(BadInput, NoFolder) {
  request.model = in("nowhere");
  EXPECT_EQ(failure(), in("nowhere") +
                           ": no such model folder | give a folder saved by diffusers' save_pretrained, with "
                           "model_index.json in it");
}

TEST_F(BadInput, OneComponentInsteadOfTheModel) {
  request.model = in("transformer");
  EXPECT_EQ(failure(),
            in("transformer") +
                " is one component of a model (CogVideoXTransformer3DModel), not a whole one | give the "
                "folder around it: " +
                model.string());
}

TEST_F(BadInput, SingleFile) {
  request.model = in("vae/diffusion_pytorch_model.safetensors");
  EXPECT_EQ(failure(), request.model +
                           " is a single file, not a model folder | give a folder saved by diffusers' "
                           "save_pretrained, with model_index.json in it");
}

TEST_F(BadInput, FolderWithoutIndex) {
  fs::remove(model / "model_index.json");
  EXPECT_EQ(failure(),
            model.string() +
                ": no model_index.json in this folder | give a folder saved by diffusers' save_pretrained, "
                "with model_index.json in it");
}

TEST_F(BadInput, UnknownClass) {
  std::string known = " | known: ";
  for (const Family& family : families())
    known += (&family == families().data() ? "" : ", ") + family.class_name;
  edit("model_index.json", [](Json& j) { j["_class_name"] = "CogVideoXImageToVideoPipeline"; });
  EXPECT_EQ(failure(), in("model_index.json") +
                           ": _class_name \"CogVideoXImageToVideoPipeline\" is not supported" + known);
  edit("model_index.json", [](Json& j) { j.erase("_class_name"); });
  EXPECT_EQ(failure(), in("model_index.json") + ": no _class_name" + known);
}

TEST_F(BadInput, ComponentOfAnotherClass) {
  edit("model_index.json", [](Json& j) { j["vae"][1] = "AutoencoderKL"; });
  EXPECT_EQ(failure(), in("model_index.json") + ": vae is AutoencoderKL, not AutoencoderKLCogVideoX");
  edit("model_index.json", [](Json& j) { j.erase("vae"); });
  EXPECT_EQ(failure(), in("model_index.json") + ": vae is missing, not AutoencoderKLCogVideoX");
}

// As diffusers: scheduler_config.json's own class is not looked at.
TEST_F(BadInput, SchedulerIsOfTheClassThatTheIndexNames) {
  const auto is_dpm = [&] {
    const Request resolved = family_of(request.model).resolve(request);
    const auto sampler = cogvideox::sampler_of(cogvideox::Folder(resolved), resolved);
    return dynamic_cast<cogvideox::DpmSampler*>(sampler.get()) != nullptr;
  };
  EXPECT_FALSE(is_dpm());
  edit("model_index.json", [](Json& j) { j["scheduler"][1] = "CogVideoXDPMScheduler"; });
  EXPECT_EQ(read_json(model / "scheduler/scheduler_config.json")["_class_name"], "CogVideoXDDIMScheduler");
  EXPECT_TRUE(is_dpm());
  request.options["scheduler"] = std::string("ddim");
  EXPECT_FALSE(is_dpm());
  edit("model_index.json", [](Json& j) { j["scheduler"][1] = "DDIMScheduler"; });
  EXPECT_EQ(failure(),
            in("model_index.json") +
                ": scheduler is DDIMScheduler, not CogVideoXDDIMScheduler or CogVideoXDPMScheduler");
}

TEST_F(BadInput, TokenThatTheTextEncoderHasNoRowFor) {
  use("5b");
  const int64_t rows = read_json(model / "text_encoder/config.json")["vocab_size"];
  edit("tokenizer/tokenizer_config.json", [](Json& j) {
    for (int i = 0; i < 6; ++i) j["extra_special_tokens"].push_back(fmt::format("<more_{}>", i));
  });
  const std::string reason = fmt::format(
      "{}: the prompt has token {}, but {} says vocab_size = {} | the tokenizer belongs to another "
      "model than the text encoder",
      in("tokenizer"), rows, in("text_encoder/config.json"), rows);
  request.prompt = "a <more_3>";
  EXPECT_EQ(failure(), "no error");
  request.prompt = "a <more_4>";
  EXPECT_EQ(failure(), reason);
  EXPECT_EQ(plan_failure(), reason);
  request.prompt = "a fox";
  request.negative_prompt = "<more_4>";
  EXPECT_EQ(failure(), reason);
  EXPECT_EQ(plan_failure(), reason);
  request.guidance_scale = 1;
  EXPECT_EQ(failure(), "no error");
}

// Said when the request is resolved, so that a dry run says it too and nothing has been loaded.
TEST_F(BadInput, AttentionThatCannotRun) {
  const auto refusal = [&](const char* spec) {
    request.attention = spec;
    try {
      family_of(request.model).resolve(request);
    } catch (const Error& e) {
      return e.what() + std::string(" | ") + e.hint();
    }
    return std::string("no error");
  };
  EXPECT_EQ(refusal("sdpa(cudnn)"),
            "attention 'sdpa(cudnn)' cannot run here: it needs a CUDA device, not cpu | choose another, or "
            "let it fall back: prefer(sdpa(cudnn),sdpa)");
  EXPECT_EQ(refusal("check(sdpa,sdpa(cudnn))"),
            "attention 'check(sdpa,sdpa(cudnn))' cannot run here: its sdpa(cudnn) cannot: it needs a CUDA "
            "device, not cpu | choose another, or let it fall back: prefer(check(sdpa,sdpa(cudnn)),sdpa)");
  EXPECT_EQ(refusal("prefer(sdpa(cudnn),sdpa)"), "no error");
  EXPECT_EQ(refusal("sdpa(flash)"), "no error");
}

TEST_F(BadInput, ComponentThatNobodyKnows) {
  edit("model_index.json", [](Json& j) { j["safety_checker"] = {nullptr, nullptr}; });
  EXPECT_EQ(failure(), "no error");
  edit("model_index.json", [](Json& j) { j["safety_checker"] = {"diffusers", "Checker"}; });
  EXPECT_EQ(failure(),
            in("model_index.json") +
                ": unknown key safety_checker = [\"diffusers\",\"Checker\"] | this program would ignore it; "
                "remove it if that is right");
}

TEST_F(BadInput, UnknownConfigKey) {
  const std::string hint = " | nothing here knows what it changes; remove it if it changes nothing";
  for (const char* file : {"transformer/config.json", "vae/config.json", "text_encoder/config.json",
                           "scheduler/scheduler_config.json"}) {
    use("2b");
    edit(file, [](Json& j) { j["flux_capacitor"] = 88; });
    EXPECT_EQ(failure(), in(file) + ": unknown key flux_capacitor = 88" + hint);
  }
}

TEST_F(BadInput, ComponentsThatDoNotFitEachOther) {
  edit("transformer/config.json", [](Json& j) { j["text_embed_dim"] = 64; });
  EXPECT_EQ(failure(),
            model.string() + ": text_encoder d_model = 32 does not fit transformer text_embed_dim = 64");
}

TEST_F(BadInput, MissingShard) {
  use("5b");
  const std::string shard = "model-00002-of-00002.safetensors";
  fs::remove(model / "text_encoder" / shard);
  EXPECT_EQ(failure(),
            in("text_encoder") + ": " + shard +
                " is missing, which model.safetensors.index.json names | the checkpoint is incomplete; "
                "download the file");
}

TEST_F(BadInput, MissingFile) {
  fs::remove(model / "vae/diffusion_pytorch_model.safetensors");
  fs::remove(model / "vae/diffusion_pytorch_model.fp16.safetensors");
  EXPECT_EQ(failure(),
            in("vae") +
                ": neither diffusion_pytorch_model.safetensors nor "
                "diffusion_pytorch_model.safetensors.index.json is there | the checkpoint is incomplete; "
                "download the file");
}

TEST_F(BadInput, TruncatedFile) {
  const fs::path file = model / "transformer/diffusion_pytorch_model.safetensors";
  std::string last;
  uint64_t end = 0, begin = ~uint64_t(0);
  {
    const SafetensorsFile whole(file);
    for (const auto& [key, tensor] : whole.tensors()) {
      begin = std::min(begin, tensor.begin);
      if (tensor.end > end) end = tensor.end, last = key;
    }
  }
  cut(file, 8);
  EXPECT_EQ(failure(),
            fmt::format("{}: tensor {} ends at {}, but the file holds {} bytes of tensors | the file is "
                        "incomplete; download or copy it again",
                        file.string(), last, end - begin, end - begin - 8));
}

TEST_F(BadInput, TensorOfAnotherShape) {
  edit("transformer/config.json", [](Json& j) { j["time_embed_dim"] = 48; });
  const std::string message = failure();
  EXPECT_EQ(
      message,
      in("transformer/diffusion_pytorch_model.safetensors") +
          ": tensor time_embedding.linear_1.weight has shape [32, 128], but [48, 128] is expected | the "
          "weights belong to another model than config.json");
}

TEST_F(BadInput, TensorsOfABiggerModel) {
  edit("transformer/config.json", [](Json& j) { j["num_layers"] = 1; });
  EXPECT_THAT(
      failure(),
      ::testing::AllOf(::testing::StartsWith(in("transformer/diffusion_pytorch_model.safetensors") +
                                             ": 24 tensors are no part of this model: transformer_blocks.1."),
                       ::testing::EndsWith("| the weights belong to another model than config.json")));
}

TEST_F(BadInput, PickleOnly) {
  for (const auto& entry : fs::directory_iterator(model / "transformer"))
    if (entry.path().extension() == ".safetensors") fs::remove(entry.path());
  std::ofstream(model / "transformer/diffusion_pytorch_model.bin") << "x";
  EXPECT_EQ(failure(),
            in("transformer") +
                ": the weights are there only as a pickle (diffusion_pytorch_model.bin), which can run any "
                "code and is not read | save them again with save_pretrained(..., safe_serialization=True)");
}

TEST_F(BadInput, PromptThatIsNotUtf8) {
  request.prompt = "caf\xE9";
  EXPECT_EQ(failure(), "the prompt is not UTF-8: byte 0xe9 at position 3 | convert the text to UTF-8");
  request.prompt = "a fox";
  request.negative_prompt = "\xFF";
  EXPECT_EQ(failure(),
            "the negative prompt is not UTF-8: byte 0xff at position 0 | convert the text to UTF-8");
}

TEST_F(BadInput, SizesThatDoNotDivide) {
  request.height = 50;
  EXPECT_EQ(failure(), "height is 50, not a multiple of 16 | nearest: 48 or 64");
  request.height = 48;
  request.width = 8;
  EXPECT_EQ(failure(), "width is 8, not a multiple of 16 | nearest: 16");
  request.width = 0;
  EXPECT_EQ(failure(), "width is 0, not a multiple of 16 | nearest: 16");
  request.width = -64;
  EXPECT_EQ(failure(), "width is -64, not a multiple of 16 | nearest: 16");
}

TEST_F(BadInput, FramesOfAnotherForm) {
  request.num_frames = 12;
  EXPECT_EQ(failure(), "num_frames is 12, not of the form 4k + 1 | nearest: 9 or 13");
  request.num_frames = 0;
  EXPECT_EQ(failure(), "num_frames is 0, not of the form 4k + 1 | nearest: 1");
}

TEST_F(BadInput, NumbersOutOfRange) {
  request.steps = 0;
  EXPECT_EQ(failure(), fmt::format("0 steps are not possible with this scheduler | give 1 to 1000 "
                                   "(num_train_timesteps in {})",
                                   in("scheduler/scheduler_config.json")));
  request.steps = 1;
  request.guidance_scale = -1;
  EXPECT_EQ(
      failure(),
      "guidance_scale is -1, not a number of at least 0 | up to 1 does not guide, unless the model takes the "
      "scale as an input");
  request.guidance_scale = 6;
  request.fps = 0;
  EXPECT_EQ(failure(), "fps is 0, not within 0 to 1000");
  request.fps = 8;
  request.options["eta"] = 0.5;
  EXPECT_EQ(failure(),
            "unknown option eta | this model knows: use_dynamic_cfg, max_sequence_length, scheduler");
}

TEST_F(BadInput, WordsThatNobodyKnows) {
  request.vae_tiling = "maybe";
  EXPECT_EQ(failure(), "vae_tiling is \"maybe\", not one of: auto, on, off");
  request.vae_tiling = "auto";
  request.dtype = "int8";
  EXPECT_EQ(failure(), "dtype is \"int8\", not one of: auto, fp32, fp16, bf16");
  request.dtype = "auto";
  request.device = "tpu";
  EXPECT_EQ(failure(), "device is \"tpu\", not one of: auto, cpu, cuda, cuda:N");
}

TEST_F(BadInput, CudaWithoutAGpu) {
  if (at::hasCUDA()) GTEST_SKIP() << "this machine has a CUDA device";
  request.device = "cuda";
#ifdef SAGELAB_CUDA
  const std::string reason = "Found no NVIDIA driver on your system";
#else
  const std::string reason = "this build has no CUDA";
#endif
  EXPECT_EQ(failure(), "device cuda was asked for, but there is none: " + reason +
                           " | use --device cpu, or run on a machine with an NVIDIA GPU and its driver");
}

TEST_F(BadInput, CudaDeviceBeyondTheLast) {
  if (!at::hasCUDA()) GTEST_SKIP() << "no CUDA device here";
  request.device = "cuda:99";
  EXPECT_THAT(failure(),
              ::testing::MatchesRegex("device cuda:99 was asked for, but this machine has [0-9]+ CUDA "
                                      "devices? . use cuda:0.*"));
}

}  // namespace
}  // namespace sagelab
