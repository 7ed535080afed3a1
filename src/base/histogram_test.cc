#include "base/histogram.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace rq {
namespace {

TEST(Histogram, PutsEachValueBetweenTheBoundsOfItsBucket) {
  for (std::uint64_t value = 1; value < (std::uint64_t{1} << 40); value += value / 7 + 1) {
    const std::size_t bucket = Histogram::bucket_of(value);
    ASSERT_LT(bucket, Histogram::kBuckets);
    EXPECT_LE(value, Histogram::upper_bound(bucket)) << value;
    if (bucket > 0) {
      EXPECT_GT(value, Histogram::upper_bound(bucket - 1)) << value;
    }
  }
}

TEST(Histogram, TakesBoundsAndExtremesWhereTheyBelong) {
  EXPECT_EQ(Histogram::bucket_of(0), 0u);
  for (std::size_t i = 0; i + 1 < Histogram::kBuckets; ++i) {
    EXPECT_EQ(Histogram::bucket_of(Histogram::upper_bound(i)), i);
    EXPECT_EQ(Histogram::bucket_of(Histogram::upper_bound(i) + 1), i + 1);
    EXPECT_LT(Histogram::upper_bound(i), Histogram::upper_bound(i + 1));
  }
  EXPECT_EQ(Histogram::bucket_of(UINT64_MAX), Histogram::kBuckets - 1);
}

TEST(Histogram, CountsWhatManyThreadsRecord) {
  Histogram histogram;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (std::uint64_t i = 1; i <= 1000; ++i) histogram.record(i * 1000);
    });
  for (std::thread& thread : threads) thread.join();
  const Histogram::Snapshot seen = histogram.snapshot();
  EXPECT_EQ(seen.count, 4000u);
  EXPECT_EQ(seen.sum, 4u * 1000u * (1000u * 1001u / 2u));
}

TEST(Histogram, ReadsPercentilesAtMostAThirdTooHigh) {
  Histogram histogram;
  EXPECT_EQ(histogram.snapshot().quantile(0.5), 0u);
  for (std::uint64_t i = 1; i <= 1000; ++i) histogram.record(std::chrono::microseconds(i));
  const Histogram::Snapshot seen = histogram.snapshot();
  for (const double part : {0.5, 0.9, 0.99}) {
    const auto exact = static_cast<std::uint64_t>(part * 1'000'000);
    EXPECT_GE(seen.quantile(part), exact);
    EXPECT_LE(seen.quantile(part), exact + exact / 3 + 65536);
  }
}

TEST(Histogram, TakesANegativeTimeAsNone) {
  Histogram histogram;
  histogram.record(std::chrono::nanoseconds(-5));
  EXPECT_EQ(histogram.snapshot().sum, 0u);
  EXPECT_EQ(histogram.snapshot().counts[0], 1u);
}

}  // namespace
}  // namespace rq
