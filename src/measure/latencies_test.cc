#include "measure/latencies.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>


namespace rq::measure {
namespace {

TEST(Latencies, HaveNoPercentilesWithoutValues) {
  EXPECT_EQ(Latencies().percentile(0.99).count(), 0);
  EXPECT_EQ(Latencies().mean().count(), 0);
}

TEST(Latencies, AreExactWhenSmall) {
  Latencies latencies;
  for (int i = 1; i <= 50; ++i) latencies.record(std::chrono::nanoseconds(i));
  EXPECT_EQ(latencies.percentile(0.5).count(), 25);
  EXPECT_EQ(latencies.percentile(1).count(), 50);
  EXPECT_EQ(latencies.percentile(0).count(), 1);
}

TEST(Latencies, AreWithinOnePartOf64OfTheTruth) {
  std::mt19937_64 rng(7);
  std::vector<std::int64_t> values;
  Latencies one, other, all;
  for (int i = 0; i < 20000; ++i) {
    const auto value = static_cast<std::int64_t>(rng() >> (24 + rng() % 40));
    values.push_back(value);
    (i % 2 == 0 ? one : other).record(std::chrono::nanoseconds(value));
  }
  all.add(one);
  all.add(other);
  std::ranges::sort(values);
  EXPECT_EQ(all.count(), values.size());
  EXPECT_EQ(all.largest().count(), values.back());
  for (const double part : {0.1, 0.5, 0.9, 0.99, 0.999}) {
    const std::int64_t exact = values[static_cast<std::size_t>(part * 20000) - 1];
    EXPECT_GE(all.percentile(part).count(), exact);
    EXPECT_LE(static_cast<double>(all.percentile(part).count()), static_cast<double>(exact) * (1 + 1.0 / 64) + 1) << part;
  }
}

TEST(Latencies, CountWhatIsTooLongAsTheLongest) {
  Latencies latencies;
  latencies.record(std::chrono::hours(300));
  EXPECT_EQ(latencies.count(), 1u);
  EXPECT_EQ(latencies.largest(), std::chrono::hours(300));
}

}  // namespace
}  // namespace rq::measure
