#include "ops/exposition.h"

#include <gtest/gtest.h>

#include <sstream>

namespace rq::ops {
namespace {

TEST(Exposition, WritesHeadsSamplesAndLabels) {
  Exposition out;
  out.gauge("a_bytes", "with a \\ and\na line end", std::uint64_t{5});
  out.counter("b_total", "counted");
  out.sample(std::int64_t{-1}, {{"x", "1"}, {"y", "say \"hi\"\\\n"}});
  out.gauge("c", "a fraction", 0.25);
  EXPECT_EQ(out.take(),
            "# HELP a_bytes with a \\\\ and\\na line end\n# TYPE a_bytes gauge\na_bytes 5\n"
            "# HELP b_total counted\n# TYPE b_total counter\nb_total{x=\"1\",y=\"say \\\"hi\\\"\\\\\\n\"} -1\n"
            "# HELP c a fraction\n# TYPE c gauge\nc 0.25\n");
}

TEST(Exposition, TellsTimesInSecondsCumulated) {
  Histogram histogram;
  for (const int ms : {1, 1, 20}) histogram.record(std::chrono::milliseconds(ms));
  histogram.record(std::chrono::hours(1));
  Exposition out;
  out.histogram("t_seconds", "times");
  out.times(histogram, {{"stage", "x"}});
  const std::string text = out.take();
  std::istringstream lines(text);
  std::uint64_t last = 0;
  int buckets = 0;
  double last_bound = 0;
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("t_seconds_bucket{stage=\"x\",le=\"") || line.find("+Inf") != std::string::npos) continue;
    const double bound = std::stod(line.substr(line.find("le=\"") + 4));
    const std::uint64_t count = std::stoull(line.substr(line.rfind(' ') + 1));
    EXPECT_GT(bound, last_bound);
    EXPECT_GE(count, last);
    EXPECT_EQ(count, bound < 0.001 ? 0u : bound < 0.02 ? 2u : 3u) << bound;
    last = count, last_bound = bound, ++buckets;
  }
  EXPECT_EQ(buckets, 27);
  EXPECT_NE(text.find("t_seconds_bucket{stage=\"x\",le=\"+Inf\"} 4\n"), std::string::npos) << text;
  EXPECT_NE(text.find("t_seconds_sum{stage=\"x\"} 3600.022\n"), std::string::npos) << text;
  EXPECT_NE(text.find("t_seconds_count{stage=\"x\"} 4\n"), std::string::npos);
}

}  // namespace
}  // namespace rq::ops
