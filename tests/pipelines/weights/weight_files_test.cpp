// SPDX-License-Identifier: Apache-2.0
// A component read from a single file is the component of the folder: the same pictures, peaks and words.
#include "pipelines/common/weights/weight_files.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "attention/error.h"
#include "pipelines/core/config.h"
#include "pipelines/core/safetensors.h"
#include "tests/pipelines/core/files.h"
#include "tests/support/pictures/checks.h"

namespace sagelab {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using Texts = std::vector<std::string>;

fs::path place(const std::string& name) {
  return testing::fixture("single_files", name);
}

const Family& family() {
  return family_of(place("model"));
}

Request request_of(const std::string& model, const Texts& weights = {}) {
  const nlohmann::json spec = read_json(place("request.json"));
  Request r;
  r.model = place(model).string();
  r.prompt = spec["prompt"];
  r.options["max_sequence_length"] = spec["max_sequence_length"].get<int64_t>();
  r.height = 32, r.width = 48, r.steps = 2;
  r.device = "cpu";
  r.vae_tiling = "off";
  for (const std::string& text : weights) {
    const size_t equals = text.find('=') + 1;
    r.weights.push_back(text.substr(0, equals) + place(text.substr(equals)).string());
  }
  return r;
}

at::Tensor picture_of(const Request& unresolved) {
  testing::OneRun run;
  const Request request = family().resolve(unresolved);
  const auto pipeline = family().open(request, run.context);
  return testing::pixels_of(*generate(*pipeline, request, "", run.context).picture);
}

// What generating is refused with: "<what> | <hint>".
std::string refusal(const Texts& weights) {
  return testing::error_of([&] {
    Request request = request_of("model");
    request.weights = weights;
    request = family().resolve(request);
    family().plan(request);
  });
}

std::map<std::string, at::Tensor> tensors_of(const std::string& name) {
  const SafetensorsFile file(place(name));
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [key, stored] : file.tensors()) tensors[key] = file.tensor(key).clone();
  return tensors;
}

TEST(WeightFiles, TheSamePictureFromAnyFormOfTheFiles) {
  const at::Tensor expected = picture_of(request_of("model"));
  EXPECT_GT(expected.to(at::kFloat).std().item<float>(), 10);
  for (const Texts& weights : {Texts{"transformer=transformer.safetensors", "vae=vae.safetensors"},
                               {"transformer=ours.safetensors"},
                               {"vae=bundle.safetensors"},
                               {"text_encoder=clip.safetensors", "text_encoder_2=t5.safetensors"},
                               {"transformer=bundle.safetensors", "vae=bundle.safetensors",
                                "text_encoder=bundle.safetensors", "text_encoder_2=bundle.safetensors"}})
    EXPECT_TRUE(at::equal(picture_of(request_of("model", weights)), expected)) << weights[0];
  EXPECT_FALSE(at::equal(picture_of(request_of("model", {"transformer=other.safetensors"})), expected));
}

// Names that depend on the number of layers.
TEST(WeightFiles, Sd3UnderItsAuthorsNames) {
  Request request;
  request.model = (testing::fixture("sd3_pipelines", "medium") / "model").string();
  request.prompt = "a fox";
  request.device = "cpu";
  request.height = 44, request.width = 60, request.steps = 2;
  const Family& sd3 = family_of(request.model);
  const auto picture = [&] {
    testing::OneRun run;
    const Request resolved = sd3.resolve(request);
    return testing::pixels_of(*generate(*sd3.open(resolved, run.context), resolved, "", run.context).picture);
  };
  const at::Tensor expected = picture();
  request.weights = {"transformer=" + place("sd3.safetensors").string()};
  EXPECT_TRUE(at::equal(picture(), expected));
}

TEST(WeightFiles, TheComponentsOwnFilesMayBeMissing) {
  const testing::Folder folder;
  fs::copy(place("model"), folder.path(), fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  const at::Tensor expected = picture_of(request_of("model"));
  for (const char* name : {"transformer", "vae"})
    fs::remove(folder.path() / name / "diffusion_pytorch_model.safetensors");
  Request request = request_of("model", {"transformer=bundle.safetensors", "vae=bundle.safetensors"});
  request.model = folder.str();
  EXPECT_TRUE(at::equal(picture_of(request), expected));
}

// e4m3 with scales and without: what a folder gives that holds what they stand for.
TEST(WeightFiles, EightBitsGiveWhatTheyStandFor) {
  const at::Tensor expected = picture_of(request_of("widened"));
  const Request narrow =
      request_of("model", {"transformer=scaled.safetensors", "text_encoder_2=t5_e4m3.safetensors"});
  EXPECT_TRUE(at::equal(picture_of(narrow), expected));
  EXPECT_FALSE(at::equal(picture_of(request_of("model")), expected));
  const auto bytes_of = [](const Request& request) {
    std::map<std::string, int64_t> bytes;
    for (const auto& c : family().plan(family().resolve(request)).components) bytes[c.name] = c.bytes;
    return bytes;
  };
  const auto wide = bytes_of(request_of("model")), eight = bytes_of(narrow);
  EXPECT_LT(double(eight.at("transformer")), 0.4 * double(wide.at("transformer")));
  EXPECT_LT(eight.at("text_encoder_2"), wide.at("text_encoder_2"));
  EXPECT_EQ(eight.at("vae"), wide.at("vae"));
  const auto parameters_of = [](const Request& request) {
    std::vector<int64_t> all;
    for (const auto& c : family().plan(family().resolve(request)).components) all.push_back(c.parameters);
    return all;
  };
  EXPECT_EQ(parameters_of(narrow), parameters_of(request_of("model"))) << "scales are none";
}

// Within 15 % of the tensors that a run then holds, where weights of 8 bits are read and widened.
TEST(WeightFiles, PlanPredictsThePeaks) {
  count_cpu_tensors();
  for (const char* dtype : {"fp32", "bf16"})
    for (const char* offload : {"none", "encoders"})
      for (const int scale : {1, 6}) {
        Request request =
            request_of("model", {"transformer=scaled.safetensors", "text_encoder_2=t5_e4m3.safetensors"});
        request.dtype = dtype, request.offload = offload, request.steps = 1;
        *request.height *= scale, *request.width *= scale;
        // What a decoding takes in half precision is the CPU's matter.
        testing::expect_peaks(family(), family().resolve(request), std::string(dtype) == "fp32" ? 3 : 2);
      }
}

TEST(WeightFiles, DigestsTellOneFileFromAnother) {
  const auto digest = [](const Texts& weights) {
    return model_digests(family(), request_of("model", weights)).at("transformer");
  };
  const std::string theirs = digest({"transformer=transformer.safetensors"});
  EXPECT_EQ(digest({"transformer=transformer.safetensors"}), theirs);
  EXPECT_NE(digest({}), theirs);
  EXPECT_NE(digest({"transformer=other.safetensors"}), theirs) << "the same names and shapes";
  EXPECT_EQ(digest({"vae=vae.safetensors"}), digest({}));
  const testing::Folder folder;
  fs::copy_file(place("transformer.safetensors"), folder / "renamed.safetensors");
  Request moved = request_of("model");
  moved.weights = {"transformer=" + (folder / "renamed.safetensors").string()};
  EXPECT_EQ(model_digests(family(), moved).at("transformer"), theirs);
}

TEST(WeightFiles, AVariantIsOfTheOtherComponents) {
  Request request = request_of("model", {"transformer=transformer.safetensors"});
  request.variant = "fp16";
  EXPECT_THROW(check_variant(family(), request), Error) << "no component has such files";
  request.weights =
      request_of("model", {"transformer=bundle.safetensors", "vae=bundle.safetensors",
                           "text_encoder=bundle.safetensors", "text_encoder_2=bundle.safetensors"})
          .weights;
  EXPECT_EQ(check_variant(family(), request), Texts{});
}

TEST(WeightFiles, SaysWhatIsWrong) {
  const std::string file = place("transformer.safetensors").string();
  EXPECT_EQ(refusal({"transformer=" + file}), "");
  EXPECT_EQ(refusal({file}), "weights \"" + file +
                                 "\" do not say which file stands for which component | write "
                                 "COMPONENT=FILE: transformer=model.safetensors");
  EXPECT_THAT(refusal({"=" + file}), HasSubstr("do not say which file"));
  EXPECT_THAT(refusal({"vae="}), HasSubstr("do not say which file"));
  EXPECT_EQ(refusal({"transformer=" + file, "transformer=" + file}),
            "weights: transformer is given two files | leave one of them out");
  EXPECT_EQ(refusal({"text_encoder_3=" + file}),
            "weights: this model has no component text_encoder_3 | it has: text_encoder, text_encoder_2, "
            "transformer, vae");
  EXPECT_THAT(refusal({"transformer=nowhere.safetensors"}), HasSubstr("nowhere.safetensors"));
  EXPECT_THAT(refusal({"vae=" + file}),
              AllOf(HasSubstr(file + ": tensor "), HasSubstr("is missing | the weights belong to another")));
  EXPECT_THAT(refusal({"transformer=" + place("model/model_index.json").string()}),
              HasSubstr("model_index.json"));
}

// ComfyUI says of each weight how it is quantized. What is not e4m3 would be read as something else.
TEST(WeightFiles, TheFormatBesideAWeightIsRead) {
  const testing::Folder folder;
  const auto with = [&](const std::string& format) {
    auto tensors = tensors_of("scaled.safetensors");
    const std::string json = R"({"format": ")" + format + R"("})";
    const std::vector<uint8_t> bytes(json.begin(), json.end());
    tensors["single_blocks.1.linear1.comfy_quant"] = at::tensor(bytes, at::kByte);
    write_safetensors(folder / "x.safetensors", tensors);
    return refusal({"transformer=" + (folder / "x.safetensors").string()});
  };
  EXPECT_EQ(with("float8_e4m3fn"), "");
  EXPECT_THAT(with("int8_tensorwise"),
              HasSubstr("no part of this model: single_transformer_blocks.1.attn.to_k.comfy_quant"));
}

TEST(WeightFiles, ATensorThatIsMissingOrOfAnotherShapeIsNamed) {
  const testing::Folder folder;
  const auto with = [&](const char* key, const at::Tensor& value) {
    auto tensors = tensors_of("transformer.safetensors");
    tensors.erase(key);
    if (value.defined()) tensors[key] = value;
    write_safetensors(folder / "x.safetensors", tensors);
    return refusal({"transformer=" + (folder / "x.safetensors").string()});
  };
  EXPECT_THAT(with("single_blocks.1.linear1.weight", {}),
              HasSubstr("tensor single_transformer_blocks.1.attn.to_q.weight is missing"));
  EXPECT_THAT(with("final_layer.linear.bias", at::ones({5})),
              HasSubstr("tensor proj_out.bias has shape [5]"));
  EXPECT_THAT(with("single_blocks.9.linear2.bias", at::ones({5})),
              HasSubstr("no part of this model: single_transformer_blocks.9.proj_out.bias"));
}

}  // namespace
}  // namespace sagelab
