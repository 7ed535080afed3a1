// The process, or the power, dies at every single call that changes something, in building and in placing.
#include "import/placement.h"

#include "import/test_rig.h"

namespace rq::import {
namespace {

using namespace rq::import::test;

// What a start does: finish what is pending, discard what is not, import what is still there.
Result<> start(MemoryDisk& disk, const std::string& source, const std::string& target) {
  const DiskVfs vfs(disk);
  RQ_CHECK(finish_placement(disk, target));
  RQ_CHECK(discard_staging(disk, target));
  RQ_TRY(const bool theirs, is_reference_directory(disk, source));
  RQ_TRY(const bool done, disk.exists(target + "/node.json"));
  if (!theirs || done) return {};
  RQ_TRY(const Report report, build(options_for(disk, vfs, source, target)));
  return finish_placement(disk, target);
}

void check_done(MemoryDisk& disk, const std::string& source, const std::string& target, const Files& files, const Lines& wanted) {
  const DiskVfs vfs(disk);
  EXPECT_TRUE(same(lines_of_file(vfs, target + "/db.sqlite"), wanted));
  const std::string old = source == target ? source + "/" + kSetAside : source;
  for (const auto& [path, contents] : files) ASSERT_EQ(disk.contents(old + "/" + path), contents) << path;
  for (const char* left : {"/import.staging", "/import.ready", "/import.placing"}) EXPECT_FALSE(disk.exists(target + left).value_or(true)) << left;
  EXPECT_TRUE(disk.exists(target + "/node.json").value_or(false));
  EXPECT_TRUE(disk.exists(target + "/db.ledger").value_or(false));
}

constexpr std::uint64_t kPlacingCalls = 32;

void die_everywhere(const std::string& name, const std::string& target, std::uint64_t stride) {
  const Files files = fixture(name);
  const auto wanted = lines_of_sql(expected_sql(name));
  SeededRng rng(7);
  std::uint64_t total = 0;
  {
    MemoryDisk disk;
    put(disk, "/data", files);
    const std::uint64_t before = disk.calls();
    ASSERT_TRUE(start(disk, "/data", target));
    total = disk.calls() - before;
    check_done(disk, "/data", target, files, wanted);
  }
  // The steps of placing are tried one by one, each with every kind of loss, those of building by strides.
  for (std::uint64_t n = 1; n <= total; n += n + kPlacingCalls < total ? stride : 1) {
    for (const int loss : {-1, 0, 1, 2}) {   // -1: only the process dies
      if (n + kPlacingCalls < total && loss != static_cast<int>(n % 4) - 1) continue;
      SCOPED_TRACE(name + " into " + target + ", call " + std::to_string(n) + " of " + std::to_string(total) + ", loss " + std::to_string(loss));
      MemoryDisk disk;
      put(disk, "/data", files);
      disk.fail_call(n, Errc::Io, true);
      EXPECT_FALSE(start(disk, "/data", target));
      if (loss >= 0) disk.lose_power(rng, static_cast<MemoryDisk::Loss>(loss));
      disk.heal();
      const Result<> again = start(disk, "/data", target);
      ASSERT_TRUE(again) << again.error().text();
      check_done(disk, "/data", target, files, wanted);
    }
  }
}

TEST(Placement, SurvivesDeathAtEveryStepInPlace) { die_everywhere("v10-reap", "/data", 5); }
TEST(Placement, SurvivesDeathAtEveryStepElsewhere) { die_everywhere("v10-load", "/new", 5); }
TEST(Placement, SurvivesDeathWithALogOnly) { die_everywhere("v10-logonly", "/data", 7); }

TEST(Placement, MayDieAgainAndAgain) {
  const Files files = fixture("v10-reap");
  const auto wanted = lines_of_sql(expected_sql("v10-reap"));
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    SeededRng rng(seed);
    MemoryDisk disk;
    put(disk, "/data", files);
    bool done = false;
    for (int life = 0; life < 200 && !done; ++life) {
      disk.fail_call(1 + rng.below(life < 3 ? 200 : 400), Errc::Io, true);
      done = start(disk, "/data", "/data").has_value();
      if (rng.below(2) == 0) disk.lose_power(rng, static_cast<MemoryDisk::Loss>(rng.below(3)));
      disk.heal();
    }
    ASSERT_TRUE(start(disk, "/data", "/data"));
    check_done(disk, "/data", "/data", files, wanted);
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace rq::import
