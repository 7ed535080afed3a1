#include "store/slow_log.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace rq::store {
namespace {

using namespace std::chrono_literals;

class ManualClock final : public Clock {
 public:
  SteadyTime now() const override { return now_; }
  WallTime wall() const override { return {}; }
  void advance(std::chrono::nanoseconds time) { now_ += time; }

 private:
  SteadyTime now_{1h};
};

TEST(SlowLog, HidesEveryLiteral) {
  const std::pair<const char*, const char*> cases[] = {
      {"SELECT 'it''s', 12, 1.5e-3, .5, 0xAF, x'00ff', \"name\" FROM t1", "SELECT ?, ?, ?, ?, ?, ?, ? FROM t1"},
      {"select a.b2 from [my 1 table] where `c 3`=?1 and d=:d5 and e=@e and f=$f", "select a.b2 from [my 1 table] where `c 3`=?1 and d=:d5 and e=@e and f=$f"},
      {"SELECT 1 -- password 'x'\n+2 /* 5 */ ;", "SELECT ? +? ;"},
      {"  INSERT\tINTO t\n VALUES(-1,'a','b')  ", "INSERT INTO t VALUES(-?,?,?)"},
      {"SELECT 'unterminated", "SELECT ?"},
      {"SELECT X'", "SELECT ?"},
      {"SELECT \xc3\xbc" "1", "SELECT \xc3\xbc" "1"},
      {"", ""},
  };
  for (const auto& [sql, masked] : cases) EXPECT_EQ(without_values(sql), masked);
  EXPECT_EQ(without_values(std::string(5000, 'a')).size(), 1003u);
}

struct Told {
  std::string lines;
  template <class Work>
  explicit Told(const Work& work) {
    testing::internal::CaptureStderr();
    work();
    lines = testing::internal::GetCapturedStderr();
  }
  long count() const { return std::ranges::count(lines, '\n'); }
};

pb::Request request_of(const std::string& sql) {
  pb::Request request;
  request.set_kind(pb::Request::QUERY);
  request.add_statements()->set_sql(sql);
  return request;
}

TEST(SlowLog, TellsWhatTookLongWithItsPlan) {
  ManualClock clock;
  SlowLog log(100ms, clock, [](const std::string& sql) { return "plan of " + sql.substr(0, 6); }, [](const std::function<void()>& work) { return work(), true; });
  const Told told([&] {
    log.took(request_of("SELECT 7 FROM t"), 99ms, "pool");
    log.took(request_of("SELECT 7 FROM t"), 100ms, "pool");
  });
  EXPECT_EQ(log.count(), 1);
  EXPECT_TRUE(told.lines.ends_with(" request was slow, took=100ms kind=query level=weak where=pool statements=1 sql=\"SELECT ? FROM t\" plan=\"plan of SELECT\"\n"))
      << told.lines;
}

TEST(SlowLog, TellsWithoutPlanWhenNobodyCanExplainNow) {
  ManualClock clock;
  SlowLog log(1ms, clock, nullptr, [](const std::function<void()>&) { return false; });
  const Told told([&] { log.took(request_of("SELECT 1"), 2ms, "net"); });
  EXPECT_TRUE(told.lines.ends_with("sql=\"SELECT ?\"\n")) << told.lines;
}

TEST(SlowLog, IsOffAtZeroAndLimitsItsLines) {
  ManualClock clock;
  const auto now = [](const std::function<void()>& work) { return work(), true; };
  SlowLog off(0ms, clock, nullptr, now);
  EXPECT_EQ(Told([&] { off.took(request_of("SELECT 1"), 1h, "net"); }).count(), 0);
  SlowLog log(1ms, clock, nullptr, now);
  const Told many([&] {
    for (int i = 0; i < 50; ++i) log.took(request_of("SELECT 1"), 2ms, "net");
  });
  EXPECT_EQ(many.count(), SlowLog::kLinesMax);
  clock.advance(11s);
  const Told later([&] { log.took(request_of("SELECT 1"), 2ms, "net"); });
  EXPECT_NE(later.lines.find(" not_told=40 "), std::string::npos) << later.lines;
  EXPECT_EQ(log.count(), 51);
}

}  // namespace
}  // namespace rq::store
