// Power loss and failing devices at any point: nothing is applied twice, nothing that was durable is lost.
#include <gtest/gtest.h>

#include <map>

#include "executor/test_rig.h"

namespace rq::executor {
namespace {

using rq::test::MemoryDisk;
using rq::test::SeededRng;

// A log that never forgets (another node has it), an executor that is cut off again and again.
class PowerLoss {
 public:
  explicit PowerLoss(std::uint64_t seed) : rng_(seed) {}

  void run() {
    open();
    for (int life = 0; life < 6; ++life) {
      disk_->fail_call(1 + rng_.below(260), rng_.below(4) == 0 ? Errc::NoSpace : Errc::Io, rng_.below(3) != 0);
      live();
      rig_->close();
      const MemoryDisk::Loss losses[] = {MemoryDisk::Loss::All, MemoryDisk::Loss::Suffix, MemoryDisk::Loss::Sectors};
      killed_ = rng_.below(4) == 0;   // kill -9: the page cache lives on
      if (!killed_) disk_->lose_power(rng_, losses[rng_.below(3)]);
      disk_->heal();
      open();
      if (::testing::Test::HasFailure()) return;
    }
    while (rig_->executor().applied_index() < Index{120}) {
      const auto applied = rig_->apply_entry(entry(rig_->next().value));
      ASSERT_TRUE(applied) << applied.error().text();
    }
    check(120);
  }

 private:
  void open() {
    rig_ = std::make_unique<test::Rig>(disk_);
    rig_->options().wal_bytes_soft = 24 << 10;
    // Starting may be cut off, too.
    if (rng_.below(3) == 0) {
      disk_->fail_call(1 + rng_.below(30), Errc::Io, true);
      if (!rig_->try_open()) {
        rig_->close();
        killed_ = false;
        disk_->lose_power(rng_, MemoryDisk::Loss::Suffix);
      } else {
        rig_->close();
      }
      disk_->heal();
      rig_ = std::make_unique<test::Rig>(disk_);
      rig_->options().wal_bytes_soft = 24 << 10;
    }
    (void)disk_->remove("/data/apply.attempt");   // dying thrice at one entry is poison: not here
    auto opened = rig_->try_open();
    ASSERT_TRUE(opened) << opened.error().text();
    const std::uint64_t applied = rig_->executor().applied_index().value;
    ASSERT_GE(applied, durable_.value);
    ASSERT_TRUE(!killed_ || applied >= written_.value);
    killed_ = false;
    check(applied);
    written_ = Index{applied};
  }

  // Entry 2 makes the table, every third writes nothing, all others count.
  static test::Entry entry(std::uint64_t index) {
    if (index == 2) return test::entry_of(Index{2}, {test::execute({"CREATE TABLE c(n, pad)", "INSERT INTO c VALUES(0,'')"})});
    if (index % 3 == 0) return test::entry_of(Index{index}, {test::execute({"UPDATE c SET n=n+1 WHERE n<0", "SELECT 1"})});
    if (index % 50 == 1) return test::entry_of(Index{index}, {test::execute({"VACUUM"})});
    return test::entry_of(Index{index}, {test::execute({"UPDATE c SET n=n+1, pad=zeroblob((n*397)%9000)"}),
                                         test::execute({"INSERT INTO nope VALUES(1)"})});
  }
  static std::uint64_t count_at(std::uint64_t index) {
    std::uint64_t n = 0;
    for (std::uint64_t i = 3; i <= index; ++i) n += i % 3 != 0 && i % 50 != 1 ? 1 : 0;
    return n;
  }
  void check(std::uint64_t index) {
    if (index < 2) return;
    EXPECT_EQ(rig_->rows("SELECT n FROM c"), std::to_string(count_at(index)) + "\n") << "at index " << index;
    EXPECT_EQ(rig_->rows("PRAGMA integrity_check"), "ok\n");
  }

  bool step() {
    const std::uint64_t index = rig_->executor().applied_index().value + 1;
    const bool done = rig_->apply_entry(entry(index), rng_.below(2) == 0).has_value();
    if (done && index % 3 != 0) written_ = Index{index};
    return done;
  }
  void live() {
    for (int i = 0; i < 60 && rig_->executor().applied_index() < Index{119}; ++i) {
      if (!step()) {
        if (rng_.below(3) == 0) return;
        continue;   // again, as the engine would
      }
      const auto what = rng_.below(12);
      if (what < 3) rig_->executor().idle();
      if (what == 4) (void)rig_->executor().sync();
      if (what == 5) (void)rig_->executor().checkpoint();
      if (what == 6) (void)rig_->executor().settle();
      durable_ = std::max(durable_, rig_->executor().durable_index());
    }
  }

  SeededRng rng_;
  std::shared_ptr<MemoryDisk> disk_ = std::make_shared<MemoryDisk>();
  std::unique_ptr<test::Rig> rig_;
  Index durable_;
  Index written_;         // the newest entry that wrote pages: known without any sync, if only the process dies
  bool killed_ = false;
};

TEST(PowerLossTest, NeverAppliesTwiceAndNeverLosesWhatWasDurable) {
  for (std::uint64_t seed = 1; seed <= 1000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    PowerLoss(seed).run();
    if (::testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace rq::executor
