// SPDX-License-Identifier: Apache-2.0
#include "app/media/output.h"

#include <sys/mount.h>

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

const Metadata kMetadata{.request = "{\"seed\":7}", .parameters = "a cat\nSteps: 4"};

// A file system of its own; needs the right to mount.
class SmallDisk {
 public:
  SmallDisk(const fs::path& place, const std::string& options) : place_(place) {
    fs::create_directory(place_);
    mounted_ = ::mount("none", place_.c_str(), "tmpfs", 0, options.c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) ::umount(place_.c_str());
  }
  bool mounted() const { return mounted_; }
  void make_read_only() const { ::mount("none", place_.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, nullptr); }

 private:
  fs::path place_;
  bool mounted_ = false;
};

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
  EXPECT_EQ(read_file(folder / "f/request.json"), "{\"seed\":7}\n");
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

TEST(Output, PngCarriesBothTexts) {
  const TempFolder folder;
  EXPECT_TRUE(Output(folder / "x.png").write(frames_of(smooth_clip(1, 16, 16)), kMetadata));
  const auto bytes = read_file(folder / "x.png");
  EXPECT_NE(bytes.find(std::string("tEXtparameters\0a cat\nSteps: 4", 29)), std::string::npos);
  EXPECT_NE(bytes.find(std::string("tEXtsagelab\0{\"seed\":7}", 22)), std::string::npos);
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
