// A process that dies of an entry, with and without the power; entries are replayed on the way to it.
#include "executor/attempt.h"

#include <gtest/gtest.h>

#include "support/memory_disk.h"

namespace rq::executor {
namespace {

const std::string kPath = "/apply.attempt";

// A start that has `applied`, begins the entries behind it and dies of `of`. The value: the poison it knew of.
// What it applied on the way is lost again, with the power; but for what was suspected: the executor makes that durable.
Index die(test::MemoryDisk& disk, std::uint64_t& applied, std::uint64_t of) {
  auto note = AttemptNote::open(disk, kPath, Index{applied});
  EXPECT_TRUE(note);
  const Index poison = note->poison();
  for (std::uint64_t index = applied + 1; index <= of && Index{index} != poison; ++index) {
    EXPECT_TRUE(note->begin(Index{index}));
    if (index < of && note->suspected(Index{index})) applied = index;
  }
  return poison;
}
Index die(test::MemoryDisk& disk, std::uint64_t&& applied, std::uint64_t of) { return die(disk, applied, of); }

TEST(AttemptNote, AThirdStartKnowsTheEntryThatTwoDiedOf) {
  test::MemoryDisk disk;
  EXPECT_EQ(die(disk, 0, 5), Index{});
  EXPECT_EQ(die(disk, 4, 5), Index{});
  EXPECT_EQ(die(disk, 4, 5), Index{5});
}

TEST(AttemptNote, ReplaysOnTheWayDoNotHideIt) {
  test::MemoryDisk disk;
  std::uint64_t applied = 1;
  for (int start = 0; start < 5; ++start) EXPECT_EQ(die(disk, applied, 60), Index{start < 2 ? 0u : 60u}) << start;
}

TEST(AttemptNote, NorDoesAStartThatEndsOnTheWay) {
  test::MemoryDisk disk;
  std::uint64_t applied = 1;
  for (int start = 0; start < 2; ++start) die(disk, applied, 60);
  EXPECT_EQ(die(disk, applied, 40), Index{60});
  for (int start = 0; start < 3; ++start) EXPECT_EQ(die(disk, applied, 60), Index{60}) << start;
}

// Power took what was applied beyond 27 and left the notes of later entries.
TEST(AttemptNote, NotesOfLaterEntriesDoNotHideAnEarlierOne) {
  test::MemoryDisk disk;
  EXPECT_EQ(die(disk, 59, 61), Index{});
  EXPECT_EQ(die(disk, 27, 28), Index{});
  EXPECT_EQ(die(disk, 27, 28), Index{});
  EXPECT_EQ(die(disk, 27, 28), Index{28});
}

TEST(AttemptNote, TwoLaterNotesDoNotHideAnEarlierOneEither) {
  test::MemoryDisk disk;
  EXPECT_EQ(die(disk, 59, 61), Index{});
  EXPECT_EQ(die(disk, 30, 40), Index{});
  EXPECT_EQ(die(disk, 27, 28), Index{});
  EXPECT_EQ(die(disk, 27, 28), Index{});
  EXPECT_EQ(die(disk, 27, 28), Index{28});
}

TEST(AttemptNote, TheFirstOfTwoComesFirst) {
  test::MemoryDisk disk;
  EXPECT_EQ(die(disk, 59, 60), Index{});
  EXPECT_EQ(die(disk, 59, 60), Index{});
  EXPECT_EQ(die(disk, 27, 28), Index{60});
  EXPECT_EQ(die(disk, 27, 28), Index{60});
  EXPECT_EQ(die(disk, 27, 28), Index{28});
  EXPECT_EQ(die(disk, 28, 60), Index{60});         // passed over: the other is known as yet
}

// The power goes again and again, and takes what was applied: the entry is the last one of the log, and innocent.
TEST(AttemptNote, OneThatIsSurvivedEachTimeIsNoPoison) {
  test::MemoryDisk disk;
  for (int start = 0; start < 6; ++start) {
    auto note = AttemptNote::open(disk, kPath, Index{4});
    ASSERT_TRUE(note);
    EXPECT_FALSE(note->poison()) << start;
    ASSERT_TRUE(note->begin(Index{5}));
    if (note->suspected(Index{5})) {
      ASSERT_TRUE(note->survived(Index{5}));
    }
  }
}

TEST(AttemptNote, OneThatWasGivenUpInGoodOrderDoesNotCount) {
  test::MemoryDisk disk;
  for (int start = 0; start < 4; ++start) {
    auto note = AttemptNote::open(disk, kPath, Index{4});
    ASSERT_TRUE(note);
    EXPECT_FALSE(note->poison());
    ASSERT_TRUE(note->begin(Index{5}));
    ASSERT_TRUE(note->withdraw(Index{5}));
  }
}

TEST(AttemptNote, WhatCannotBeReadIsNothing) {
  test::MemoryDisk disk;
  die(disk, 4, 5);
  die(disk, 4, 5);
  std::string bytes = disk.contents(kPath);
  bytes[9] ^= 1;
  disk.overwrite(kPath, bytes);
  EXPECT_EQ(die(disk, 4, 5), Index{});
}

}  // namespace
}  // namespace rq::executor
