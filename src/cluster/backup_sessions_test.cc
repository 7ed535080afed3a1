#include "cluster/backup_sessions.h"

#include <gtest/gtest.h>

namespace rq::cluster {
namespace {

class HandClock final : public Clock {
 public:
  SteadyTime now() const override { return time; }
  WallTime wall() const override { return {}; }
  SteadyTime time{std::chrono::hours(1)};
};

// Counts up; the last piece is "2". Holds its answer back when told to.
class Counting final : public ByteSource {
 public:
  explicit Counting(int& alive) : alive_(alive) { ++alive_; }
  ~Counting() override { --alive_; }
  void next(std::function<void(Result<Piece>)> done) override {
    if (hold) held = std::move(done);
    else if (fails) done(fail(Errc::Io, "broken"));
    else done(Piece{std::to_string(at_), at_ == 2}), ++at_;
  }
  bool hold = false, fails = false;
  std::function<void(Result<Piece>)> held;

 private:
  int& alive_;
  int at_ = 0;
};

class BackupSessionsTest : public ::testing::Test {
 protected:
  std::shared_ptr<Counting> open(std::uint64_t id) {
    auto source = std::make_shared<Counting>(alive_);
    sessions_.open(id, source);
    return source;
  }
  std::string read(std::uint64_t id, std::uint64_t number) {
    const auto out = std::make_shared<std::string>("nothing");
    sessions_.read(id, number, [out](const Result<Piece>& piece) { *out = piece ? piece->bytes : "error " + piece.error().text(); });
    return out->substr(0, 24);
  }
  static constexpr const char* kOver = "error the backup is over";

  HandClock clock_;
  BackupSessions sessions_{clock_};
  int alive_ = 0;
};

TEST_F(BackupSessionsTest, GivesEachPieceOnceAndInTurn) {
  open(7);
  EXPECT_EQ(read(7, 0), "0");
  EXPECT_EQ(read(7, 0), kOver);              // its answer may have been lost: it is not sent again
  EXPECT_EQ(read(7, 2), kOver);
  EXPECT_EQ(read(8, 0), kOver);
  EXPECT_EQ(read(7, 1), "1");
  EXPECT_EQ(read(7, 2), "2");
  EXPECT_EQ(alive_, 0);                      // that was the last
  EXPECT_EQ(read(7, 3), kOver);
}

TEST_F(BackupSessionsTest, ForgetsWhatNobodyReads) {
  open(1);
  open(2);
  clock_.time += std::chrono::seconds(20);
  EXPECT_EQ(read(2, 0), "0");
  clock_.time += std::chrono::seconds(15);
  sessions_.tidy();
  EXPECT_EQ(alive_, 1);
  EXPECT_EQ(read(1, 0), kOver);
  EXPECT_EQ(read(2, 1), "1");
  const auto slow = open(3);
  slow->hold = true;
  EXPECT_EQ(read(3, 0), "nothing");
  EXPECT_EQ(read(3, 0), kOver);              // busy
  clock_.time += std::chrono::minutes(5);    // a VACUUM may take its time
  sessions_.tidy();
  EXPECT_EQ(alive_, 1);
  slow->held(Piece{"late", false});
  slow->hold = false;
  EXPECT_EQ(read(3, 1), "0");
}

TEST_F(BackupSessionsTest, EndsWithAnErrorAndWhenClosed) {
  open(1)->fails = true;
  EXPECT_EQ(read(1, 0), "error broken");
  EXPECT_EQ(alive_, 0);
  open(2);
  sessions_.close(2);
  sessions_.close(99);
  EXPECT_EQ(alive_, 0);
  const auto slow = open(3);
  slow->hold = true;
  read(3, 0);
  sessions_.close_all();
  slow->held(Piece{"late", false});          // nobody is surprised
  EXPECT_EQ(read(3, 1), kOver);
}

}  // namespace
}  // namespace rq::cluster
