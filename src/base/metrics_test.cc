#include "base/metrics.h"

#include <gtest/gtest.h>

namespace rq {
namespace {

// 209 is what the reference exports: one metric a name (spec observability section 4).
TEST(Metrics, HaveEveryNameOfTheReferenceFromTheStartWithZero) {
  const Metrics metrics;
  std::size_t names = 0;
  for (const auto& [map, counters] : metrics.maps())
    for (const auto& [name, counter] : counters) {
      EXPECT_EQ(counter.value(), 0) << map << "." << name;
      if (map != "proof") ++names;   // ours
    }
  EXPECT_EQ(metrics.maps().size(), 16u);
  EXPECT_EQ(names, 209u);
}

TEST(Metrics, GiveTheSameCounterForTheSameName) {
  Metrics metrics;
  metrics.counter("http", "executions").add();
  metrics.counter("http", "executions").add(4);
  EXPECT_EQ(metrics.counter("http", "executions").value(), 5);
  EXPECT_EQ(metrics.counter("db", "executions").value(), 0);   // the same name in another map is another counter
  metrics.counter("store", "fsm_apply_duration_us").set(7);
  EXPECT_EQ(metrics.maps().at("store").at("fsm_apply_duration_us").value(), 7);
}

TEST(MetricsDeathTest, EndTheProcessOnAnUnknownName) {
  Metrics metrics;
  EXPECT_DEATH(metrics.counter("http", "nosuch"), "found != ");
  EXPECT_DEATH(metrics.counter("nosuch", "executions"), "found_map");
}

}  // namespace
}  // namespace rq
