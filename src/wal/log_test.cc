#include "wal/log.h"

#include <gtest/gtest.h>

#include <map>

#include "support/memory_disk.h"

namespace rq::wal {
namespace {

using raft::Entry;
using raft::HardState;
using test::MemoryDisk;
using test::SeededRng;

constexpr Options kSmall{.segment_bytes_first = 16384, .segment_bytes_max = 65536};
const std::string kDir = "/data/raft";

Entry entry(std::uint64_t index, std::uint64_t term, std::string payload, raft::EntryType type = raft::EntryType::Normal) {
  return {.type = type, .term = Term{term}, .index = Index{index}, .payload = std::make_shared<const std::string>(std::move(payload))};
}

bool same(const Entry& a, const Entry& b) {
  return a.index == b.index && a.term == b.term && a.type == b.type && *a.payload == *b.payload;
}

Log::Opened must_open(MemoryDisk& disk, const Options& options = kSmall) {
  auto opened = Log::open(disk, kDir, options);
  EXPECT_TRUE(opened) << (opened ? "" : opened.error().text());
  return *std::move(opened);
}

std::string newest_segment(MemoryDisk& disk) {
  const auto names = disk.list(kDir);
  return kDir + "/" + names->back();
}

// What the log should hold: the same operations on plain containers.
struct Model {
  std::map<std::uint64_t, Entry> entries;
  HardState hard_state;
  Membership membership;
  std::uint64_t first = 1;
  void append(const Batch& batch) {
    if (batch.snapshot) {
      entries.clear();
      first = batch.snapshot->index.value + 1;
    }
    for (const Entry& one : batch.entries) {
      entries.erase(entries.lower_bound(one.index.value), entries.end());
      entries[one.index.value] = one;
    }
    if (batch.hard_state) hard_state = *batch.hard_state;
    if (batch.membership) membership = *batch.membership;
  }
  std::uint64_t last() const { return entries.empty() ? first - 1 : entries.rbegin()->first; }
};

void expect_equal(const Model& model, const Log& log, const Recovered& recovered) {
  EXPECT_EQ(recovered.hard_state, model.hard_state);
  EXPECT_EQ(recovered.membership, model.membership);
  ASSERT_EQ(recovered.last.value, model.last());
  if (model.entries.empty()) return;
  const auto read = log.read(Index{model.entries.begin()->first}, Index{model.last()}, SIZE_MAX);
  ASSERT_TRUE(read) << read.error().text();
  ASSERT_EQ(read->size(), model.entries.size());
  for (const Entry& one : *read) EXPECT_TRUE(same(one, model.entries.at(one.index.value))) << one.index.value;
  for (const auto& [index, one] : model.entries) EXPECT_EQ(*log.term_of(Index{index}), one.term);
}

const Batch kBootstrap{.snapshot = SnapshotMark{Index{1}, Term{1}},
                       .entries = {},
                       .hard_state = HardState{Term{1}, {}, Index{1}},
                       .membership = Membership{Index{1}, {.voters = {RaftId{7}}}, "members"}};

struct Step {
  std::vector<Entry> entries;
  std::optional<HardState> hard_state;
  std::optional<Membership> membership;
  Batch batch() const { return {.entries = entries, .hard_state = hard_state, .membership = membership}; }
};

Step random_step(SeededRng& rng, const Model& model, std::uint64_t& term) {
  Step step;
  if (rng.below(8) == 0) step.hard_state = HardState{Term{++term}, RaftId{rng.below(3)}, Index{model.last()}};
  std::uint64_t index = model.last() + 1;
  if (rng.below(6) == 0 && model.last() > model.first + 3) index -= 1 + rng.below(3);     // a conflicting tail is replaced
  for (std::uint64_t n = rng.below(5); n > 0; --n)
    step.entries.push_back(entry(index++, term, std::string(rng.below(rng.below(10) == 0 ? 5000 : 200), static_cast<char>('a' + rng.below(26))),
                                 rng.below(20) == 0 ? raft::EntryType::ConfChange : raft::EntryType::Normal));
  const std::uint64_t last = step.entries.empty() ? model.last() : std::min(model.last(), step.entries.back().index.value);
  if (rng.below(15) == 0) step.membership = Membership{Index{last}, {.voters = {RaftId{rng.below(9) + 1}}}, std::string(rng.below(300), 'm')};
  return step;
}

TEST(Log, GivesBackWhatWasAppendedAlsoAfterReopening) {
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    SeededRng rng(seed);
    MemoryDisk disk;
    Model model;
    auto opened = must_open(disk);
    ASSERT_TRUE(opened.log->append(kBootstrap));
    model.append(kBootstrap);
    std::uint64_t term = 1;
    for (int i = 0; i < 120; ++i) {
      const Step step = random_step(rng, model, term);
      ASSERT_TRUE(opened.log->append(step.batch()));
      model.append(step.batch());
      if (rng.below(3) == 0) {
        ASSERT_TRUE(opened.log->sync());
      }
      if (rng.below(10) == 0) (void)opened.log->prepare_spare();
      if (rng.below(25) == 0) {
        ASSERT_TRUE(opened.log->sync());
        opened = must_open(disk);
        expect_equal(model, *opened.log, opened.recovered);
      }
    }
  }
}

// Power goes at a random moment: what was synced is there, nothing is made up, and the log goes on.
TEST(Log, LosesOnlyWhatWasNotSynced) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    SeededRng rng(seed);
    MemoryDisk disk;
    Model durable, present;
    std::vector<Model> possible;          // every state since the last sync
    auto opened = must_open(disk);
    ASSERT_TRUE(opened.log->append(kBootstrap));
    ASSERT_TRUE(opened.log->sync());
    present.append(kBootstrap);
    std::uint64_t term = 1;
    for (int round = 0; round < 4; ++round) {
      possible = {present};
      for (std::uint64_t n = rng.below(20); n > 0; --n) {
        const Step step = random_step(rng, present, term);
        ASSERT_TRUE(opened.log->append(step.batch()));
        present.append(step.batch());
        possible.push_back(present);
        if (rng.below(4) == 0) {
          ASSERT_TRUE(opened.log->sync());
          possible = {present};
        }
      }
      const auto loss = static_cast<MemoryDisk::Loss>(rng.below(3));
      disk.lose_power(rng, loss);
      auto again = Log::open(disk, kDir, kSmall);
      ASSERT_TRUE(again) << "seed " << seed << ": " << again.error().text();
      opened = *std::move(again);
      // The durable entries are all there, and each entry found is one that was written.
      const Model& base = possible.front();
      for (const auto& [index, one] : base.entries) {
        bool replaced = false;            // a later unsynced batch may have replaced it
        for (const Model& model : possible) replaced |= !model.entries.contains(index) || !same(model.entries.at(index), one);
        if (replaced) continue;
        const auto read = opened.log->read(Index{index}, Index{index}, SIZE_MAX);
        ASSERT_TRUE(read) << "seed " << seed << " entry " << index << ": " << read.error().text();
        EXPECT_TRUE(same(read->front(), one)) << "seed " << seed;
      }
      EXPECT_GE(opened.recovered.hard_state.term, base.hard_state.term) << "seed " << seed;
      Model found;
      found.first = opened.recovered.first.value;
      found.hard_state = opened.recovered.hard_state;
      found.membership = opened.recovered.membership;
      if (opened.recovered.last >= opened.recovered.first) {
        const auto all = opened.log->read(opened.recovered.first, opened.recovered.last, SIZE_MAX);
        ASSERT_TRUE(all);
        for (const Entry& one : *all) {
          bool written = false;
          for (const Model& model : possible) written |= model.entries.contains(one.index.value) && same(model.entries.at(one.index.value), one);
          EXPECT_TRUE(written) << "seed " << seed << ": entry " << one.index.value << " was never written";
          found.entries[one.index.value] = one;
        }
      }
      present = found;
      term = std::max(term, present.hard_state.term.value);
    }
  }
}

// One file, one last batch: cut and flipped at every byte.
struct LastBatch {
  LastBatch() {
    auto opened = must_open(disk);
    EXPECT_TRUE(opened.log->append(kBootstrap));
    EXPECT_TRUE(opened.log->append({.entries = std::vector{entry(2, 1, "acknowledged")}}));
    EXPECT_TRUE(opened.log->sync());
    path = newest_segment(disk);
    before = disk.contents(path);
    EXPECT_TRUE(opened.log->append({.entries = std::vector{entry(3, 1, "last batch"), entry(4, 1, std::string(100, 'x'))}}));
    after = disk.contents(path);
    for (begin = 0; before[begin] == after[begin];) ++begin;
    for (end = after.size(); before[end - 1] == after[end - 1];) --end;
  }
  MemoryDisk disk;
  std::string path, before, after;
  std::size_t begin = 0, end = 0;
};

TEST(Log, SurvivesACutAtEveryByteOfTheLastBatch) {
  LastBatch last;
  for (std::size_t cut = last.begin; cut <= last.end; ++cut) {
    std::string torn = last.after;
    std::fill(torn.begin() + static_cast<std::ptrdiff_t>(cut), torn.end(), '\0');
    for (const bool shorter : {false, true}) {
      last.disk.overwrite(last.path, shorter ? torn.substr(0, cut) : torn);
      const auto opened = Log::open(last.disk, kDir, kSmall);
      ASSERT_TRUE(opened) << cut << ": " << opened.error().text();
      EXPECT_GE(opened->recovered.last.value, 2u);
      EXPECT_EQ(*opened->log->read(Index{2}, Index{2}, 1)->front().payload, "acknowledged");
    }
  }
}

// A snapshot replaces a log: what power leaves of it is all that was before, or the snapshot with its membership.
TEST(Log, ASnapshotMarkIsNeverThereWithoutItsMembership) {
  for (const bool empty : {true, false}) {
    MemoryDisk disk;
    const Membership before{Index{1}, {.voters = {RaftId{7}}}, "members"}, behind{Index{50}, {.voters = {RaftId{7}, RaftId{8}}}, std::string(900, 'm')};
    {
      auto opened = must_open(disk);
      if (!empty) {
        ASSERT_TRUE(opened.log->append(kBootstrap));
        ASSERT_TRUE(opened.log->append({.entries = std::vector<Entry>{entry(2, 1, "two")}}));
      } else {
        ASSERT_TRUE(opened.log->append({.entries = {}, .hard_state = HardState{Term{1}, RaftId{9}, Index{0}}}));
      }
      ASSERT_TRUE(opened.log->sync());
      ASSERT_TRUE(opened.log->append({.snapshot = SnapshotMark{Index{50}, Term{3}}, .entries = {}, .hard_state = HardState{Term{3}, {}, Index{50}}, .membership = behind}));
    }
    const std::string path = newest_segment(disk);
    const std::string whole = disk.contents(path);
    const std::size_t end = whole.find_last_not_of('\0') + 1;
    int with = 0, without = 0;
    for (std::size_t cut = end; cut > 64; --cut) {
      disk.overwrite(path, whole.substr(0, cut) + std::string(whole.size() - cut, '\0'));
      auto opened = Log::open(disk, kDir, kSmall);
      if (!opened) continue;                      // cut into what was synced
      const Recovered& recovered = opened->recovered;
      if (recovered.snapshot.index == Index{50}) {
        EXPECT_EQ(recovered.membership, behind) << cut;
        ++with;
      } else {
        EXPECT_EQ(recovered.membership, empty || recovered.snapshot.index.value == 0 ? Membership{} : before) << cut;
        EXPECT_EQ(recovered.snapshot.index, recovered.membership.index) << cut;
        ++without;
      }
    }
    EXPECT_GT(with, 30);
    EXPECT_GT(without, 900);
  }
}

// A leader's entries replace an old tail, and commit: what power leaves never commits the old tail, nor lags behind its own terms.
TEST(Log, ACommitIndexIsNeverThereWithoutTheEntriesBesideIt) {
  MemoryDisk disk;
  {
    auto opened = must_open(disk);
    ASSERT_TRUE(opened.log->append(kBootstrap));
    ASSERT_TRUE(opened.log->append({.entries = std::vector{entry(2, 1, "old"), entry(3, 1, "old")}, .hard_state = HardState{Term{1}, RaftId{7}, Index{1}}}));
    ASSERT_TRUE(opened.log->sync());
    ASSERT_TRUE(opened.log->append({.entries = std::vector{entry(2, 4, "new"), entry(3, 4, "new")}, .hard_state = HardState{Term{4}, {}, Index{3}}}));
  }
  const std::string path = newest_segment(disk);
  const std::string whole = disk.contents(path);
  int old = 0, halves = 0, anew = 0;
  for (std::size_t cut = whole.find_last_not_of('\0') + 1; cut > 64; --cut) {
    disk.overwrite(path, whole.substr(0, cut) + std::string(whole.size() - cut, '\0'));
    const auto opened = Log::open(disk, kDir, kSmall);
    if (!opened || opened->recovered.last < Index{2}) continue;    // cut into what was synced
    const Recovered& recovered = opened->recovered;
    if (recovered.hard_state.commit == Index{3}) {
      EXPECT_EQ(recovered.hard_state, (HardState{Term{4}, {}, Index{3}})) << cut;
      const auto both = opened->log->read(Index{2}, Index{3}, SIZE_MAX);
      ASSERT_TRUE(both) << cut;
      EXPECT_EQ(*both->front().payload, "new") << cut;
      EXPECT_EQ(*both->back().payload, "new") << cut;
      ++anew;
    } else if (recovered.last_term == Term{4}) {
      EXPECT_EQ(recovered.hard_state.term, Term{4}) << cut;
      EXPECT_EQ(recovered.hard_state.vote, RaftId{}) << cut;
      EXPECT_LE(recovered.hard_state.commit, Index{1}) << cut;
      ++halves;
    } else {
      ++old;
    }
  }
  EXPECT_GT(old, 30);
  EXPECT_GT(halves, 30);
  EXPECT_GE(anew, 1);                     // the whole batch
}

TEST(Log, SurvivesAFlippedBitAtEveryByteOfTheLastBatch) {
  LastBatch last;
  for (std::size_t at = last.begin; at < last.end; ++at) {
    std::string flipped = last.after;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x10);
    last.disk.overwrite(last.path, flipped);
    const auto opened = Log::open(last.disk, kDir, kSmall);
    ASSERT_TRUE(opened) << at << ": " << opened.error().text();
    EXPECT_EQ(*opened->log->read(Index{2}, Index{2}, 1)->front().payload, "acknowledged");
    // What is written over the torn place is found again, and nothing of the old behind it.
    ASSERT_TRUE(opened->log->append({.entries = std::vector{entry(opened->recovered.last.value + 1, 2, "new")}}));
    ASSERT_TRUE(opened->log->sync());
    const auto again = Log::open(last.disk, kDir, kSmall);
    ASSERT_TRUE(again) << at << ": " << again.error().text();
    EXPECT_EQ(again->recovered.last.value, opened->recovered.last.value + 1);
    EXPECT_EQ(*again->log->read(again->recovered.last, again->recovered.last, 1)->front().payload, "new");
  }
}

TEST(Log, RefusesToStartWhenAcknowledgedBytesAreDamaged) {
  MemoryDisk disk;
  auto opened = must_open(disk);
  ASSERT_TRUE(opened.log->append(kBootstrap));
  for (std::uint64_t i = 2; i < 6; ++i) {
    ASSERT_TRUE(opened.log->append({.entries = std::vector{entry(i, 1, "payload " + std::to_string(i))}}));
    ASSERT_TRUE(opened.log->sync());
  }
  const std::string path = newest_segment(disk);
  std::string bytes = disk.contents(path);
  const std::size_t at = bytes.find("payload 3");
  bytes[at] ^= 1;
  disk.overwrite(path, bytes);
  const auto refused = Log::open(disk, kDir, kSmall);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::Corrupt);
  EXPECT_NE(refused.error().detail.find(path), std::string::npos);
  EXPECT_NE(refused.error().detail.find("at byte"), std::string::npos);
}

// Every call fails once, the n-th, for every n: the log says so, and a restart finds all that was acknowledged.
TEST(Log, SurvivesTheFailureOfEveryCall) {
  for (std::uint64_t n = 1;; ++n) {
    MemoryDisk disk;
    disk.fail_call(n, Errc::Io);
    std::uint64_t acknowledged = 0;
    bool failed = false;
    {
      auto opened = Log::open(disk, kDir, kSmall);
      failed = !opened;
      if (opened) {
        Log& log = *opened->log;
        failed = !log.append(kBootstrap) || !log.sync();
        for (std::uint64_t i = 2; i < 60 && !failed; ++i) {
          failed = !log.append({.entries = std::vector{entry(i, 1, std::string(900, 'p'))}}) || !log.sync();
          if (!failed) acknowledged = i;
          if (i % 9 == 0) (void)log.prepare_spare();
        }
      }
    }
    const bool reached = disk.calls() >= n;
    disk.heal();
    SeededRng rng(n);
    disk.lose_power(rng, MemoryDisk::Loss::Suffix);
    const auto again = Log::open(disk, kDir, kSmall);
    ASSERT_TRUE(again) << "n=" << n << ": " << again.error().text();
    EXPECT_GE(again->recovered.last.value, acknowledged) << "n=" << n;
    if (!reached) break;
  }
}

TEST(Log, RefusesEntriesOnAFullDiskAndTakesThemWhenThereIsSpace) {
  MemoryDisk disk;
  auto opened = must_open(disk);
  ASSERT_TRUE(opened.log->append(kBootstrap));
  disk.set_capacity(128 * 1024);
  std::uint64_t index = 2;
  Result<> result;
  while ((result = opened.log->append({.entries = std::vector{entry(index, 1, std::string(500, 'p'))}}))) ++index;
  EXPECT_EQ(result.error().code, Errc::NoSpace);
  // A vote still fits, many times.
  for (std::uint64_t term = 2; term < 40; ++term) {
    ASSERT_TRUE(opened.log->append({.entries = {}, .hard_state = HardState{Term{term}, RaftId{3}, {}}}));
    ASSERT_TRUE(opened.log->sync());
  }
  disk.set_capacity(UINT64_MAX);
  ASSERT_TRUE(opened.log->append({.entries = std::vector{entry(index, 39, "after")}}));
  ASSERT_TRUE(opened.log->sync());
  const auto again = must_open(disk);
  EXPECT_EQ(again.recovered.last.value, index);
  EXPECT_EQ(again.recovered.hard_state.term, Term{39});
}

TEST(Log, StopsForGoodAfterAFailedSync) {
  MemoryDisk disk;
  auto opened = must_open(disk);
  ASSERT_TRUE(opened.log->append(kBootstrap));
  disk.fail_call(1, Errc::Io);
  EXPECT_FALSE(opened.log->sync());
  const Result<> later = opened.log->sync();
  ASSERT_FALSE(later);
  EXPECT_TRUE(later.error().detail.starts_with("log stopped")) << later.error().detail;
  EXPECT_FALSE(opened.log->append({.entries = std::vector{entry(2, 1, "x")}}));
}

TEST(Log, DropsOldSegments) {
  MemoryDisk disk;
  auto opened = must_open(disk);
  ASSERT_TRUE(opened.log->append(kBootstrap));
  for (std::uint64_t i = 2; i < 400; ++i) ASSERT_TRUE(opened.log->append({.entries = std::vector{entry(i, i / 50 + 1, std::string(900, 'p'))}}));
  ASSERT_TRUE(opened.log->sync());
  const std::uint64_t before = opened.log->disk_bytes();
  ASSERT_TRUE(opened.log->compact(Index{300}));
  EXPECT_LT(opened.log->disk_bytes(), before);
  EXPECT_GT(opened.log->first().value, 2u);
  EXPECT_LE(opened.log->first().value, 300u);
  ASSERT_TRUE(opened.log->read(Index{300}, Index{399}, SIZE_MAX));
  EXPECT_EQ(opened.log->read(Index{2}, Index{3}, SIZE_MAX).error().code, Errc::NotFound);
  ASSERT_TRUE(opened.log->compact(Index{300}, Index{390}, UINT64_MAX));
  EXPECT_LE(opened.log->first().value, 300u);
  ASSERT_TRUE(opened.log->compact(Index{300}, Index{390}, 0));   // too much on disk: what isn't needed goes too
  EXPECT_GT(opened.log->first().value, 300u);
  EXPECT_LE(opened.log->first().value, 390u);
  const Index first = opened.log->first();
  for (std::uint64_t i = 400; i < 600; ++i) ASSERT_TRUE(opened.log->append({.entries = std::vector{entry(i, 9, std::string(200, 'q'))}}));
  ASSERT_TRUE(opened.log->sync());
  const auto again = must_open(disk);
  EXPECT_EQ(again.recovered.first, first);
  EXPECT_EQ(again.recovered.last.value, 599u);
  EXPECT_EQ(again.recovered.membership, *kBootstrap.membership);
  EXPECT_EQ(*again.log->term_of(first), Term{first.value / 50 + 1});
}

// A new leader replaces a tail that began in the segment before: what stands at that segment's end is another entry then.
TEST(Log, CompactsBehindATailThatWasReplaced) {
  MemoryDisk disk;
  auto opened = must_open(disk);
  ASSERT_TRUE(opened.log->append(kBootstrap));
  std::uint64_t next = 2;
  const std::string first_name = newest_segment(disk);
  while (newest_segment(disk) == first_name) ASSERT_TRUE(opened.log->append({.entries = std::vector{entry(next++, 1, std::string(900, 'p'))}}));
  const std::uint64_t begun = next - 1;                     // the second segment's first entry
  for (std::uint64_t i = begun - 3; i < begun + 4; ++i) ASSERT_TRUE(opened.log->append({.entries = std::vector{entry(i, 2, "new")}}));
  ASSERT_TRUE(opened.log->sync());
  ASSERT_TRUE(opened.log->compact(Index{begun + 2}));
  const Index first = opened.log->first();
  EXPECT_GT(first.value, 2u);
  EXPECT_EQ(*opened.log->term_of(Index{first.value - 1}), Term{2});
  const auto again = must_open(disk);
  EXPECT_LE(again.recovered.first.value, begun + 2);
  EXPECT_EQ(again.recovered.last.value, begun + 3);
  EXPECT_EQ(again.recovered.snapshot.term, Term{2});
  const auto read = again.log->read(Index{begun + 1}, Index{begun + 3}, SIZE_MAX);
  ASSERT_TRUE(read);
  for (const Entry& one : *read) EXPECT_EQ(one.term, Term{2});
}

// A segment that could not be removed must not be left behind a gap: the log would not open any more.
TEST(Log, AFailedRemovalIsMadeUpFor) {
  for (std::uint64_t failing = 1; failing <= 4; ++failing) {
    MemoryDisk disk;
    auto opened = must_open(disk);
    ASSERT_TRUE(opened.log->append(kBootstrap));
    std::uint64_t next = 2;
    const auto fill = [&] {
      for (int i = 0; i < 100; ++i, ++next) ASSERT_TRUE(opened.log->append({.entries = std::vector{entry(next, 1, std::string(900, 'p'))}}));
      ASSERT_TRUE(opened.log->sync());
    };
    fill();
    disk.fail_call(failing, Errc::Io);
    (void)opened.log->compact(Index{next - 2});
    disk.heal();
    fill();
    ASSERT_TRUE(opened.log->compact(Index{next - 2}));
    const Index first = opened.log->first();
    const auto again = Log::open(disk, kDir, kSmall);
    ASSERT_TRUE(again) << again.error().text();
    EXPECT_EQ(again->recovered.first, first);
    EXPECT_EQ(again->recovered.last.value, next - 1);
  }
}

// The process died between the renaming of a segment and the sync of its name: what a later start builds on it must last.
TEST(Log, MakesNamesDurableAtStart) {
  for (std::uint64_t failing = 1; failing <= 12; ++failing) {
    MemoryDisk disk;
    SeededRng rng(failing);
    auto opened = must_open(disk);
    ASSERT_TRUE(opened.log->append(kBootstrap));
    ASSERT_TRUE(opened.log->sync());
    std::uint64_t next = 2;
    const std::string before = newest_segment(disk);
    while (newest_segment(disk) == before) {
      if (next == 14) disk.fail_call(failing, Errc::Io, true);
      if (!opened.log->append({.entries = std::vector{entry(next, 1, std::string(900, 'p'))}}) || !opened.log->sync()) break;
      ++next;
    }
    opened.log.reset();
    disk.heal();
    disk.lose_power(rng, MemoryDisk::Loss::None);
    {
      const auto again = must_open(disk);
      next = again.recovered.last.value + 1;
      ASSERT_TRUE(again.log->append({.entries = std::vector{entry(next, 2, "kept")}}));
      ASSERT_TRUE(again.log->sync());
    }
    disk.lose_power(rng, MemoryDisk::Loss::All);
    EXPECT_EQ(must_open(disk).recovered.last.value, next) << "call " << failing;
  }
}

// The same by chance: appends, replaced tails, cuts behind what can't be replaced any more, restarts.
TEST(Log, CutsAndReplacedTailsGoTogether) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    SeededRng rng(seed);
    MemoryDisk disk;
    auto opened = must_open(disk);
    ASSERT_TRUE(opened.log->append(kBootstrap));
    std::map<std::uint64_t, Entry> model;
    std::uint64_t last = 1, committed = 1, term = 1;
    for (int step = 0; step < 400; ++step) {
      if (rng.below(8) == 0) {
        ++term;
        last -= rng.below(std::min<std::uint64_t>(last - committed, 12) + 1);
        model.erase(model.upper_bound(last), model.end());
      }
      std::vector<Entry> batch;
      for (std::uint64_t n = 1 + rng.below(4); n > 0; --n) batch.push_back(entry(++last, term, std::string(rng.below(900), 'x')));
      ASSERT_TRUE(opened.log->append({.entries = batch}));
      for (const Entry& one : batch) model[one.index.value] = one;
      if (rng.below(3) == 0) {
        ASSERT_TRUE(opened.log->sync());
        committed += rng.below(last - committed + 1);
      }
      if (rng.below(12) == 0) { ASSERT_TRUE(opened.log->compact(Index{committed})); }
      if (rng.below(20) == 0) {
        ASSERT_TRUE(opened.log->sync());
        opened.log.reset();
        auto reopened = Log::open(disk, kDir, kSmall);
        ASSERT_TRUE(reopened) << "seed " << seed << ": " << reopened.error().text();
        opened = *std::move(reopened);
        const Recovered& recovered = opened.recovered;
        ASSERT_EQ(recovered.last.value, last) << "seed " << seed;
        ASSERT_LE(recovered.first.value, committed + 1);
        if (recovered.snapshot.index.value > 1) { ASSERT_EQ(recovered.snapshot.term, model.at(recovered.snapshot.index.value).term) << "seed " << seed; }
      }
      const Index first = opened.log->first();
      ASSERT_LE(first.value, committed + 1);
      if (first.value > 2) { ASSERT_EQ(*opened.log->term_of(Index{first.value - 1}), model.at(first.value - 1).term) << "seed " << seed; }
      if (first.value > last) continue;
      const auto read = opened.log->read(first, Index{last}, SIZE_MAX);
      ASSERT_TRUE(read) << "seed " << seed << ": " << read.error().text();
      ASSERT_EQ(read->size(), last - first.value + 1);
      for (const Entry& one : *read) ASSERT_TRUE(same(one, model.at(one.index.value))) << "seed " << seed;
    }
  }
}

TEST(Log, TakesRecordsLargerThanASegment) {
  MemoryDisk disk;
  auto opened = must_open(disk);
  ASSERT_TRUE(opened.log->append(kBootstrap));
  ASSERT_TRUE(opened.log->append({.entries = std::vector{entry(2, 1, std::string(5'000'000, 'L')), entry(3, 1, "small")}}));
  ASSERT_TRUE(opened.log->sync());
  const auto again = must_open(disk);
  const auto read = again.log->read(Index{2}, Index{3}, SIZE_MAX);
  ASSERT_TRUE(read);
  EXPECT_EQ((*read)[0].payload->size(), 5'000'000u);
  EXPECT_EQ(*(*read)[1].payload, "small");
  EXPECT_EQ(opened.log->append({.entries = std::vector{entry(4, 1, "x")}}).has_value(), true);
  Options limited = kSmall;
  limited.record_bytes_max = 1000;
  MemoryDisk other;
  auto small = must_open(other, limited);
  ASSERT_TRUE(small.log->append(kBootstrap));
  EXPECT_EQ(small.log->append({.entries = std::vector{entry(2, 1, std::string(2000, 'x'))}}).error().code, Errc::TooLarge);
}

TEST(Log, RefusesALaterFormatAndAMissingSegment) {
  MemoryDisk disk;
  auto opened = must_open(disk);
  ASSERT_TRUE(opened.log->append(kBootstrap));
  for (std::uint64_t i = 2; i < 300; ++i) ASSERT_TRUE(opened.log->append({.entries = std::vector{entry(i, 1, std::string(900, 'p'))}}));
  ASSERT_TRUE(opened.log->sync());
  auto names = *disk.list(kDir);
  std::erase_if(names, [](const std::string& name) { return !name.starts_with("wal-"); });
  ASSERT_GE(names.size(), 3u);
  ASSERT_TRUE(disk.remove(kDir + "/" + names[1]));
  EXPECT_EQ(Log::open(disk, kDir, kSmall).error().code, Errc::Corrupt);
}

}  // namespace
}  // namespace rq::wal
