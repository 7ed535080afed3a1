#include "sql/dates.h"

#include <gtest/gtest.h>

namespace rq::sql {
namespace {

std::string shown(auto value) {
  std::string out;
  const auto done = append_date(out, value);
  return done ? out : done.error().text();
}

TEST(Dates, ReadTexts) {
  const std::pair<const char*, const char*> cases[] = {
      {"2024-02-29", "\"2024-02-29T00:00:00Z\""},
      {"2024-01-02 3:04", "\"2024-01-02T03:04:00Z\""},
      {"2024-01-02T03:04:05.120Z", "\"2024-01-02T03:04:05.12Z\""},
      {"2024-01-02 03:04:05,1234567891", "\"2024-01-02T03:04:05.123456789Z\""},
      {"2024-01-02 03:04:05+02:30", "\"2024-01-02T03:04:05+02:30\""},
      {"2024-01-02 03:04:05-00:00", "\"2024-01-02T03:04:05Z\""},
      {"2023-02-29", "\"0001-01-01T00:00:00Z\""},
      {"nonsense", "\"0001-01-01T00:00:00Z\""},
      {"2024-01-02 03:04:05+24:00", "Time.MarshalText: timezone hour outside of range [0,23]"},
  };
  for (const auto& [text, wanted] : cases) EXPECT_EQ(shown(std::string_view(text)), wanted) << text;
}

TEST(Dates, ReadSecondsAndMilliseconds) {
  EXPECT_EQ(shown(std::int64_t{0}), "\"1970-01-01T00:00:00Z\"");
  EXPECT_EQ(shown(std::int64_t{-1}), "\"1969-12-31T23:59:59Z\"");
  EXPECT_EQ(shown(std::int64_t{1'700'000'000'123}), "\"2023-11-14T22:13:20.123Z\"");
  EXPECT_EQ(shown(std::int64_t{INT64_MAX}), "Time.MarshalText: year outside of range [0,9999]");
}

}  // namespace
}  // namespace rq::sql
