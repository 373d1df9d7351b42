// SPDX-License-Identifier: Apache-2.0
#include "app/commands/places.h"

#include "app/failure.h"
#include "tests/app/support.h"

namespace sagelab {
namespace {

using namespace sagelab::testing;

struct PlacesTest : ::testing::Test {
  TempFolder folder;
  Request request;
  NamedFiles named;

  std::string at(const std::string& name) const { return (folder / name).string(); }
  std::string error() const {
    try {
      Places(request, named);
    } catch (const UsageError& e) {
      return std::string(e.what()) + "; " + e.hint();
    }
    return "no error";
  }
  std::string same(const std::string& a, const std::string& b, const std::string& name) const {
    return a + " and " + b + " are the same file: " + name + "; give each a name of its own";
  }
};

TEST_F(PlacesTest, EachIsAFileOfItsOwn) {
  fs::create_directory(folder / "d");
  fs::create_directory_symlink(folder / "d", folder / "link");
  request.output = at("d/x.png");
  named.report = at("link/../d/./x.png");
  EXPECT_EQ(error(), same("--output", "--report", named.report));
  named.report = at("link/x.png");
  EXPECT_EQ(error(), same("--output", "--report", named.report));
  named.report = at("r.json");
  request.latents = at("r.json");
  EXPECT_EQ(error(), same("--latents", "--report", named.report));
  request.latents = at("d/x.png");
  EXPECT_EQ(error(), same("--output", "--latents", request.latents));
  request.latents = at("d/x.preview.png");
  EXPECT_EQ(error(), "no error") << "no preview is asked for";
  request.preview = 1;
  EXPECT_EQ(error(), same("--latents", "the preview", at("d/x.preview.png")));
  request.latents.clear();
  named.from_latents = named.report = at("z.safetensors");
  EXPECT_EQ(error(), same("--report", "--from-latents", at("z.safetensors")));
  named.from_latents.clear();
  named.request = named.report = at("r.json");
  EXPECT_EQ(error(), same("--report", "--request", at("r.json")));
}

TEST_F(PlacesTest, NothingLiesInTheOutputFolder) {
  request.output = at("f/");
  named.report = at("f/r.json");
  EXPECT_EQ(error(), "--report lies in the output folder " + at("f") + ", which is replaced as a whole: " +
                         at("f/r.json") + "; choose a place outside of it");
  named.report = at("f.json");
  EXPECT_EQ(error(), "no error");
  named.request = at("f/request.json");
  EXPECT_EQ(error(), "no error") << "read before anything is written";
}

TEST_F(PlacesTest, CapturesHaveAFolderOfTheirOwn) {
  request.output = at("f/");
  named.capture = at("f");
  EXPECT_EQ(error(), same("--output", "--capture-qkv", named.capture));
  named.capture = at("f/c");
  EXPECT_EQ(error(), "--capture-qkv lies in the output folder " + at("f") +
                         ", which is replaced as a whole: " + at("f/c") + "; choose a place outside of it");
  named.capture = at("c/");
  named.report = at("c/r.json");
  EXPECT_EQ(error(), "--report lies in the folder of --capture-qkv, which holds nothing else: " +
                         at("c/r.json") + "; choose a place outside of it");
  named.report.clear();
  EXPECT_EQ(Places(request, named).all().front(), at("c/"));
}

TEST_F(PlacesTest, LatentsThatAreThereAreLeftAlone) {
  write_file(folder / "a.latents.safetensors", "kept");
  request.output = at("a.png");
  const Places places(request, named);
  EXPECT_EQ(places.latents, at("a.latents-2.safetensors"));
  EXPECT_FALSE(places.keep_latents);
}

TEST_F(PlacesTest, AllThatIsWrittenIsListed) {
  request.output = at("f/");
  request.preview = 2;
  named.report = at("r.json");
  EXPECT_EQ(Places(request, named).all(),
            (std::vector<std::string>{at("f.preview.png"),
                                      at("f.latents.safetensors") + " (until the output is written)",
                                      at("f/"), at("r.json")}));
  request.latents = at("z.safetensors");
  EXPECT_EQ(Places(request, named).all()[1], at("z.safetensors"));
  request.latents.clear();
  named.from_latents = at("z.safetensors");
  EXPECT_EQ(Places(request, named).all().size(), 3u) << "nothing is denoised";
}

TEST_F(PlacesTest, ThePreviewIsProbedToo) {
  request.output = at("x.png");
  request.preview = 1;
  fs::create_directory(folder / "x.preview.png");
  try {
    Places(request, named).probe(4096);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.what(), at("x.preview.png") + " is a folder");
  }
  EXPECT_EQ(folder.names(), std::set<std::string>{"x.preview.png"});
}

}  // namespace
}  // namespace sagelab
