// SPDX-License-Identifier: Apache-2.0
#include "app/media/output.h"

#include <random>

#include "app/media/file.h"
#include "attention/error.h"
#include "tests/app/support.h"

namespace sagelab::media {
namespace {

using namespace sagelab::testing;

template <typename F>
std::string error_of(F&& body) {
  try {
    body();
  } catch (const Error& e) {
    return std::string(e.what()) + "; " + e.hint();
  }
  return "no error";
}

Frames frames_of(Picture picture) {
  Frames frames;
  frames.picture = std::make_shared<const Picture>(std::move(picture));
  return frames;
}

const std::string kRequest = R"({"model":"m","prompt":"a cat","seed":7})";
const Metadata kMetadata{.request = kRequest, .parameters = "a cat\nSteps: 4"};

TEST(Output, TheNameSaysTheKind) {
  const TempFolder folder;
  EXPECT_EQ(Output("frames/").kind(), Kind::Folder);
  EXPECT_EQ(Output("frames/").path(), "frames");
  EXPECT_EQ(Output(folder.path().string()).kind(), Kind::Folder);
  EXPECT_EQ(Output("a/x.PNG").kind(), Kind::Png);
  EXPECT_EQ(Output("a/x.png").latents_beside(), "a/x.latents.safetensors");
  EXPECT_EQ(Output("a/frames/").latents_beside(), "a/frames.latents.safetensors");
  EXPECT_EQ(error_of([] { Output("x.avi"); }),
            "--output x.avi is of no known kind; name it x.mp4, x.png (one frame) or folder/ (PNG frames)");
}

TEST(Output, OnePngHoldsOneFrame) {
  EXPECT_EQ(error_of([] { Output("x.png").check_frames(9); }),
            "a PNG holds one frame, this request makes 9; use --output x.mp4 or folder/, or --num-frames 1");
  EXPECT_EQ(error_of([] { Output("x.png").check_frames(1); }), "no error");
}

TEST(Output, AFolderHoldsFramesAndTheRequest) {
  const TempFolder folder;
  const Output output((folder / "f").string() + "/");
  EXPECT_TRUE(output.write(frames_of(smooth_clip(3, 16, 16)), kMetadata));
  const std::set<std::string> expected{"frame_0000.png", "frame_0001.png", "frame_0002.png", "request.json"};
  const auto names = [&] {
    std::set<std::string> all;
    for (const auto& entry : fs::directory_iterator(folder / "f"))
      all.insert(entry.path().filename().string());
    return all;
  };
  EXPECT_EQ(names(), expected);
  EXPECT_EQ(read_file(folder / "f/request.json"), kRequest + "\n");
  // An earlier output is replaced as a whole: no frame of it stays.
  EXPECT_TRUE(output.write(frames_of(smooth_clip(1, 16, 16)), kMetadata));
  EXPECT_EQ(names(), (std::set<std::string>{"frame_0000.png", "request.json"}));
  EXPECT_EQ(folder.names(), std::set<std::string>{"f"});
}

TEST(Output, AFolderWithOtherFilesIsLeftAlone) {
  const TempFolder folder;
  fs::create_directory(folder / "f");
  write_file(folder / "f/thesis.tex", "x");
  const auto place = (folder / "f").string();
  EXPECT_EQ(error_of([&] { Output(place + "/").probe(); }),
            "the folder " + place +
                " holds other files (thesis.tex); choose a new or an empty folder for --output");
  EXPECT_EQ(folder.names(), std::set<std::string>{"f"});
}

TEST(Output, FramesOfAnotherProgramAreLeftAlone) {
  const TempFolder folder;
  fs::create_directory(folder / "f");
  write_file(folder / "f/frame_0000.png", "somebody's");
  const auto place = (folder / "f").string();
  const auto refused =
      "the folder " + place +
      " holds frames without the request.json of a run of ours; choose a new or an empty folder "
      "for --output";
  EXPECT_EQ(error_of([&] { Output(place + "/").probe(); }), refused);
  write_file(folder / "f/request.json", "{\"url\": \"...\"}");
  EXPECT_EQ(error_of([&] { Output(place + "/").probe(); }), refused);
  EXPECT_EQ(read_file(folder / "f/frame_0000.png"), "somebody's");
}

TEST(ReplaceFolder, WithAndWithoutExchanging) {
  for (const bool exchange : {true, false}) {
    const TempFolder folder;
    fs::create_directory(folder / "old");
    fs::create_directory(folder / "new");
    write_file(folder / "old/a", "old");
    write_file(folder / "new/b", "new");
    replace_folder(folder / "new", folder / "old", exchange);
    EXPECT_EQ(folder.names(), std::set<std::string>{"old"});
    EXPECT_EQ(read_file(folder / "old/b"), "new");
    EXPECT_FALSE(fs::exists(folder / "old/a"));
  }
}

TEST(Probe, AFileThatWouldNotFitIsKnownBeforeTheRun) {
  const TempFolder folder;
  const SmallDisk disk(folder / "disk", "size=64k");
  if (!disk.mounted()) GTEST_SKIP() << "needs the right to mount a file system";
  const auto file = (folder / "disk/z.safetensors").string();
  EXPECT_EQ(error_of([&] { probe_file(file, 48 << 10); }), "no error");
  EXPECT_EQ(error_of([&] { probe_file(file, 80 << 10); }),
            "cannot write " + file + ": No space left on device; free some space in " +
                (folder / "disk").string() + ", or choose another place");
  EXPECT_TRUE(fs::is_empty(folder / "disk"));
}

TEST(Probe, ReservedSpaceIsNobodyElsesAndHasNoName) {
  const TempFolder folder;
  const SmallDisk disk(folder / "disk", "size=64k");
  if (!disk.mounted()) GTEST_SKIP() << "needs the right to mount a file system";
  const auto file = (folder / "disk/z.safetensors").string();
  {
    const ReservedSpace space(file, 48 << 10);
    EXPECT_TRUE(fs::is_empty(folder / "disk"));
    EXPECT_NE(error_of([&] { probe_file(file, 48 << 10); }), "no error");
  }
  EXPECT_EQ(error_of([&] { probe_file(file, 48 << 10); }), "no error");
}

TEST(FreeName, CountsUpBeforeTheLastExtension) {
  const TempFolder folder;
  const auto name = folder / "a.latents.safetensors";
  EXPECT_EQ(free_name(name), name);
  write_file(name, "x");
  EXPECT_EQ(free_name(name), folder / "a.latents-2.safetensors");
  write_file(folder / "a.latents-2.safetensors", "x");
  EXPECT_EQ(free_name(name), folder / "a.latents-3.safetensors");
}

TEST(Output, PngCarriesBothTexts) {
  const TempFolder folder;
  EXPECT_TRUE(Output(folder / "x.png").write(frames_of(smooth_clip(1, 16, 16)), kMetadata));
  const auto bytes = read_file(folder / "x.png");
  EXPECT_NE(bytes.find(std::string("tEXtparameters\0a cat\nSteps: 4", 29)), std::string::npos);
  EXPECT_NE(bytes.find(std::string("tEXtsagelab\0", 12) + kRequest), std::string::npos);
}

TEST(Output, UnwritablePlacesAreFoundBeforeTheRun) {
  const TempFolder folder;
  const auto lost = (folder / "nowhere/x.png").string();
  EXPECT_EQ(error_of([&] { Output(lost).probe(); }),
            "cannot write " + lost + ": No such file or directory; make the folder " +
                (folder / "nowhere").string() + " first, or choose another place");
  write_file(folder / "file", "x");
  const auto below = (folder / "file/x.png").string();
  EXPECT_EQ(error_of([&] { Output(below).probe(); }),
            "cannot write " + below + ": Not a directory; choose another place");
  const auto taken = (folder / "file").string();
  EXPECT_EQ(error_of([&] { Output(taken + "/").probe(); }),
            taken + " is a file, not a folder; choose another place");
  fs::create_directory(folder / "d.png");
  // A folder of that name is a folder: frames go into it.
  EXPECT_EQ(Output(folder / "d.png").kind(), Kind::Folder);
  fs::create_symlink("/dev/full", folder / "x.png");
  EXPECT_EQ(error_of([&] { Output(folder / "x.png").probe(); }),
            "/dev/full is not a regular file; choose another name for the file");
  EXPECT_EQ(folder.names(), (std::set<std::string>{"file", "d.png", "x.png"}));
}

TEST(Output, AFolderWithoutPermissionIsSaid) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may write everywhere";
  const TempFolder folder;
  fs::create_directory(folder / "closed");
  fs::permissions(folder / "closed", fs::perms::owner_read | fs::perms::owner_exec);
  const auto name = (folder / "closed/x.png").string();
  EXPECT_EQ(error_of([&] { Output(name).probe(); }),
            "cannot write " + name + ": Permission denied; choose a folder that you may write to");
}

TEST(Output, AReadOnlyDiskIsSaid) {
  const TempFolder folder;
  const SmallDisk disk(folder / "disk", "size=64k");
  if (!disk.mounted()) GTEST_SKIP() << "needs the right to mount a file system";
  disk.make_read_only();
  const auto name = (folder / "disk/x.png").string();
  EXPECT_EQ(error_of([&] { Output(name).probe(); }),
            "cannot write " + name + ": Read-only file system; choose a folder that you may write to");
}

TEST(Output, AFullDiskLeavesWhatWasThere) {
  const TempFolder folder;
  const SmallDisk disk(folder / "disk", "size=64k");
  if (!disk.mounted()) GTEST_SKIP() << "needs the right to mount a file system";
  const auto place = (folder / "disk").string();
  const auto full = [&](const std::string& name) {
    return "cannot write " + place + "/" + name + ": No space left on device; free some space in " + place +
           ", or choose another place";
  };
  write_file(folder / "disk/x.png", "old");
  Picture noise = smooth_clip(2, 256, 256);
  std::mt19937 random(0);  // what no codec makes small
  for (auto& pixel : noise.pixels) pixel = uint8_t(random());
  Picture image = noise;
  image.frames = 1;
  image.pixels.resize(image.pixels.size() / 2);
  EXPECT_EQ(error_of([&] { Output(folder / "disk/x.png").write(frames_of(image), kMetadata); }),
            full("x.png"));
  EXPECT_EQ(error_of([&] { Output(place + "/f/").write(frames_of(noise), kMetadata); }), full("f"));
#ifdef SAGELAB_FFMPEG
  EXPECT_EQ(error_of([&] { Output(folder / "disk/x.mp4").write(frames_of(noise), kMetadata); }),
            full("x.mp4"));
#endif
  EXPECT_TRUE(read_file(folder / "disk/x.png") == "old");
  std::set<std::string> left;
  for (const auto& entry : fs::directory_iterator(folder / "disk"))
    left.insert(entry.path().filename().string());
  EXPECT_EQ(left, std::set<std::string>{"x.png"});
  // Nothing fits at all: known before the run.
  write_file(folder / "disk/fill", std::string(64 << 10, 'x'));  // as much of it as there is room for
  EXPECT_EQ(error_of([&] { Output(folder / "disk/y.png").probe(); }), full("y.png"));
}

TEST(Output, CancelledMeansNothingUnderTheName) {
  const TempFolder folder;
  int asked = 0;
  EXPECT_FALSE(Output((folder / "f").string() + "/").write(frames_of(smooth_clip(3, 16, 16)), kMetadata, [&] {
    return ++asked == 2;
  }));
  EXPECT_FALSE(
      Output(folder / "x.png").write(frames_of(smooth_clip(1, 16, 16)), kMetadata, [] { return true; }));
  EXPECT_EQ(folder.names(), std::set<std::string>{});
}

TEST(WriteWhole, ADeviceIsWrittenInPlace) {
  EXPECT_EQ(
      error_of([] { write_whole("/dev/full", "report"); }),
      "cannot write /dev/full: No space left on device; free some space in /dev, or choose another place");
  EXPECT_TRUE(fs::is_character_file("/dev/full"));
}

TEST(WriteWhole, ALinkKeepsPointingAtItsFile) {
  const TempFolder folder;
  write_file(folder / "real.json", "old");
  fs::create_symlink(folder / "real.json", folder / "link.json");
  write_whole(folder / "link.json", "new");
  EXPECT_TRUE(fs::is_symlink(folder / "link.json"));
  EXPECT_EQ(read_file(folder / "real.json"), "new");
}

}  // namespace
}  // namespace sagelab::media
