#include "command/outcome.h"

#include <gtest/gtest.h>

namespace rq::command {
namespace {

using namespace std::chrono_literals;

TEST(Outcome, BecomesABody) {
  EXPECT_EQ(render_body({}, 0), R"({"results":[]})");
  EXPECT_EQ(render_body({.results = R"({"rows_affected":1})"}, 0), R"({"results":[{"rows_affected":1}]})");
}

TEST(Outcome, ATopLevelErrorHidesTheResults) {
  EXPECT_EQ(render_body({.results = R"({"rows_affected":1})", .error = "no \"leader\""}, 0), R"({"results":[],"error":"no \"leader\""})");
}

TEST(Outcome, ShowsWhatIsAskedFor) {
  const Outcome outcome{.results = "{}", .raft_index = 9, .elapsed = 1500us};
  EXPECT_EQ(render_body(outcome, 0), R"({"results":[{}]})");
  EXPECT_EQ(render_body(outcome, kTimings), R"({"results":[{}],"time":0.0015})");
  EXPECT_EQ(render_body(outcome, kRaftIndex), R"({"results":[{}],"raft_index":9})");
  EXPECT_EQ(render_body(outcome, 0, 41), R"({"results":[{}],"sequence_number":41})");
  EXPECT_EQ(render_body(outcome, kTimings | kRaftIndex, 41), R"({"results":[{}],"time":0.0015,"sequence_number":41,"raft_index":9})");
  EXPECT_EQ(render_body({.results = "{}"}, kTimings | kRaftIndex), R"({"results":[{}]})");
  EXPECT_EQ(render_body(outcome, kPretty), "{\n    \"results\": [\n        {}\n    ]\n}");
}

}  // namespace
}  // namespace rq::command
