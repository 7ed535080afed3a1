#include "base/mailbox.h"

#include <gtest/gtest.h>

#include <thread>

namespace rq {
namespace {

TEST(Mailbox, GivesEverythingThatWaitsAtOnce) {
  Mailbox<int> box;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(box.post(int(i)));
  std::vector<int> out;
  EXPECT_TRUE(box.take(out));
  EXPECT_EQ(out, (std::vector<int>{0, 1, 2}));
}

TEST(Mailbox, RefusesWhenFullAndLeavesTheValue) {
  Mailbox<std::string> box(1);
  std::string first = "a", second = "b";
  EXPECT_TRUE(box.post(std::move(first)));
  EXPECT_FALSE(box.post(std::move(second)));
  EXPECT_EQ(second, "b");
}

TEST(Mailbox, WaitsNoLongerThanTheDeadline) {
  Mailbox<int> box;
  std::vector<int> out;
  EXPECT_TRUE(box.take(out, std::chrono::steady_clock::now() + std::chrono::milliseconds(5)));
  EXPECT_TRUE(out.empty());
}

TEST(Mailbox, GivesWhatIsLeftAfterClosingThenEnds) {
  Mailbox<int> box;
  box.post(1);
  box.close();
  EXPECT_FALSE(box.post(2));
  std::vector<int> out;
  EXPECT_TRUE(box.take(out));
  EXPECT_EQ(out.size(), 1u);
  EXPECT_FALSE(box.take(out));
}

TEST(Mailbox, LosesNothingBetweenManyWriters) {
  Mailbox<int> box;
  constexpr int kWriters = 4, kEach = 5000;
  std::vector<std::thread> writers;
  for (int w = 0; w < kWriters; ++w)
    writers.emplace_back([&box] {
      for (int i = 0; i < kEach; ++i) box.post(int(i));
    });
  int got = 0;
  std::vector<int> out;
  while (got < kWriters * kEach && box.take(out)) got += static_cast<int>(out.size());
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(got, kWriters * kEach);
}

}  // namespace
}  // namespace rq
