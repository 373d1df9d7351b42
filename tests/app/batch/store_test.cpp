// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <thread>

#include "app/batch/store/difference.h"
#include "app/batch/store/lock.h"
#include "app/batch/store/manifest.h"
#include "attention/error.h"
#include "tests/app/support.h"

namespace sagelab::batch {
namespace {

using namespace sagelab::testing;
using nlohmann::json;
using ::testing::HasSubstr;

json record(int index, const std::string& status = "done") {
  return {
      {"index", index}, {"take", 0}, {"status", status}, {"outputs", json::array()}, {"prompt", "a “fox”"}};
}

std::string failure_of(const std::function<void()>& call) {
  try {
    call();
    return "";
  } catch (const Error& e) {
    return e.what();
  }
}

class ManifestTest : public ::testing::Test {
 protected:
  // As a clean run leaves it.
  std::string write(int count) const {
    Manifest manifest(file_);
    for (int i = 0; i < count; ++i) manifest.append(record(i));
    return read_file(file_);
  }
  TempFolder folder_;
  fs::path file_ = folder_ / "manifest.jsonl";
};

TEST_F(ManifestTest, KeepsWhatIsAppended) {
  write(3);
  const Manifest manifest(file_);
  EXPECT_EQ(manifest.repaired(), "");
  ASSERT_EQ(manifest.records().size(), 3u);
  EXPECT_EQ(manifest.records().at({1, 0}), record(1));
}

TEST_F(ManifestTest, ALaterRecordReplacesAnEarlierOneAndTheSameIsNotRepeated) {
  write(2);
  {
    Manifest manifest(file_);
    manifest.append(record(0, "failed"));
    manifest.append(record(0, "failed"));
    EXPECT_EQ(manifest.records().at({0, 0}).at("status"), "failed");
  }
  const auto text = read_file(file_);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3);
  EXPECT_EQ(Manifest(file_).records().at({0, 0}).at("status"), "failed");
}

// Wherever a crash cuts the file, the lines before stay and the next record is whole.
TEST_F(ManifestTest, ATornLastLineIsCutOffWhereverItEnds) {
  const auto whole = write(3);
  const auto second = whole.find('\n', whole.find('\n') + 1) + 1;
  for (size_t cut = second + 1; cut < whole.size(); ++cut) {
    write_file(file_, whole.substr(0, cut));
    {
      Manifest manifest(file_);
      ASSERT_EQ(manifest.records().size(), 2u) << cut;
      ASSERT_THAT(manifest.repaired(), HasSubstr("its last line was left unfinished")) << cut;
      manifest.append(record(2));
    }
    ASSERT_EQ(read_file(file_), whole) << cut;
  }
}

TEST_F(ManifestTest, ZerosWhereDataNeverArrivedAreCutOff) {
  const auto whole = write(2);
  write_file(file_, whole + std::string(100, '\0'));
  EXPECT_EQ(Manifest(file_).records().size(), 2u);
  EXPECT_EQ(read_file(file_), whole);
  write_file(file_, whole + std::string(100, '\0') + "\n");
  EXPECT_EQ(Manifest(file_).records().size(), 2u);
  EXPECT_EQ(read_file(file_), whole);
}

TEST_F(ManifestTest, DamageElsewhereIsNamed) {
  write(3);
  auto text = read_file(file_);
  text[text.find('\n') + 1] = '#';
  write_file(file_, text);
  EXPECT_EQ(failure_of([&] { const Manifest manifest(file_); }), file_.string() + ": line 2 is damaged");
}

TEST_F(ManifestTest, AFullDiskLeavesNoHalfLine) {
  const SmallDisk disk(folder_ / "small", "size=8k");
  if (!disk.mounted()) GTEST_SKIP() << "mounting takes rights";
  const auto file = folder_ / "small/manifest.jsonl";
  Manifest manifest(file);
  auto large = record(0);
  large["prompt"] = std::string(16384, 'x');
  EXPECT_THAT(failure_of([&] { manifest.append(large); }), HasSubstr("No space left"));
  EXPECT_EQ(read_file(file), "");
  manifest.append(record(1));
  EXPECT_EQ(Manifest(file).records().size(), 1u);
}

TEST_F(ManifestTest, ShardsAreMergedAndOneDivisionAtATimeIsTaken) {
  for (const int i : {1, 2}) {
    Manifest manifest(folder_ / manifest_name({i, 2}));
    manifest.append(record(i - 1));
  }
  EXPECT_EQ(folder_.names(), (std::set<std::string>{"manifest-1-of-2.jsonl", "manifest-2-of-2.jsonl"}));
  EXPECT_EQ(merged_records(folder_.path(), 2).size(), 2u);
  check_sharding(folder_.path(), {2, 2});
  EXPECT_THAT(failure_of([&] {
                check_sharding(folder_.path(), {1, 3});
              }),
              HasSubstr("and this one is with --shard i/3"));
  EXPECT_THAT(failure_of([&] { check_sharding(folder_.path(), {}); }),
              HasSubstr("and this one is without --shard"));
}

TEST(FileLockTest, AProcessIsRefusedWhatAnotherHolds) {
  const TempFolder folder;
  const auto file = folder / "lock";
  auto lock = std::make_unique<FileLock>(file, FileLock::Mode::Refuse);
  const auto text = failure_of([&] { const FileLock second(file, FileLock::Mode::Refuse); });
  EXPECT_THAT(text, HasSubstr("process " + std::to_string(::getpid()) + " on "));
  EXPECT_THAT(text, HasSubstr("works on this already: it holds " + file.string()));
  lock.reset();
  const FileLock again(file, FileLock::Mode::Refuse);
}

TEST(FileLockTest, EndsWithItsProcess) {
  const TempFolder folder;
  const auto file = folder / "lock";
  const pid_t child = ::fork();
  if (child == 0) {
    const FileLock lock(file, FileLock::Mode::Refuse);
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  const FileLock lock(file, FileLock::Mode::Refuse);
}

TEST(Difference, NamesTheKeysThatDiffer) {
  const json a{{"request", {{"steps", 50}, {"seed", 1}}}, {"files", {"x"}}};
  auto b = a;
  EXPECT_EQ(difference(a, b), "");
  b["request"]["steps"] = 30;
  b["files"] = {"x", "y"};
  EXPECT_EQ(difference(a, b), "files.1 was not there and is \"y\"; request.steps was 50 and is 30");
  json many, none;
  for (int i = 0; i < 9; ++i) many[fmt::format("k{}", i)] = i;
  EXPECT_THAT(difference(json::object(), many), ::testing::EndsWith("; and 3 more"));
}

}  // namespace
}  // namespace sagelab::batch
