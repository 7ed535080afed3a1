#include "base/go_text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace rq {
namespace {

std::string json(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}
std::string json(double value) {
  std::string out;
  append_json_double(out, value);
  return out;
}

TEST(GoText, ReadsDurations) {
  using namespace std::chrono_literals;
  const std::pair<const char*, std::chrono::nanoseconds> good[] = {
      {"0", 0ns}, {"+0", 0ns}, {"1h30m5.5s", 1h + 30min + 5500ms}, {".5s", 500ms}, {"+1s", 1s}, {"-1s", -1s}, {"300ms", 300ms},
      {"1.5h", 90min}, {"2us", 2us}, {"2\u00b5s", 2us}, {"2\u03bcs", 2us}, {"7ns", 7ns}, {"1.s", 1s}};
  for (const auto& [text, value] : good) EXPECT_EQ(parse_go_duration(text), value) << text;
  for (const char* bad : {"", "10", "s", "1x", "-", "+", ".s", "1 s", "1s ", "99999999999h", "1h-1m"})
    EXPECT_FALSE(parse_go_duration(bad)) << bad;
}

TEST(GoText, WritesDurations) {
  using namespace std::chrono_literals;
  EXPECT_EQ(go_duration_text(0ns), "0s");
  EXPECT_EQ(go_duration_text(24757ns), "24.757\u00b5s");
  EXPECT_EQ(go_duration_text(1500us), "1.5ms");
  EXPECT_EQ(go_duration_text(30s), "30s");
  EXPECT_EQ(go_duration_text(78040ms), "1m18.04s");
  EXPECT_EQ(go_duration_text(24h), "24h0m0s");
  EXPECT_EQ(go_duration_text(-1s), "-1s");
  EXPECT_EQ(go_duration_text(7ns), "7ns");
}

TEST(GoText, WritesTimes) {
  using namespace std::chrono_literals;
  EXPECT_EQ(rfc3339_text(WallTime(0ns)), "1970-01-01T00:00:00Z");
  EXPECT_EQ(rfc3339_text(WallTime(1'700'000'000'120'000'000ns)), "2023-11-14T22:13:20.12Z");
}

TEST(GoText, WritesSizes) {
  EXPECT_EQ(friendly_size(0), "0 B");
  EXPECT_EQ(friendly_size(999), "999 B");
  EXPECT_EQ(friendly_size(4096), "4.1 kB");
  EXPECT_EQ(friendly_size(69632), "70 kB");
  EXPECT_EQ(friendly_size(671'000), "671 kB");
}

TEST(GoText, EscapesStrings) {
  EXPECT_EQ(json("a\"\\\b\f\n\r\t\x01\x7f/"), "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001\x7f/\"");
  EXPECT_EQ(json("<&>"), "\"\\u003c\\u0026\\u003e\"");
  EXPECT_EQ(json("\u2028\u2029\u00e9"), "\"\\u2028\\u2029\u00e9\"");
  EXPECT_EQ(json(std::string_view("\xff" "a\xc3", 3)), "\"\\ufffda\\ufffd\"");
  EXPECT_EQ(json("\xed\xa0\x80"), "\"\\ufffd\\ufffd\\ufffd\"");   // a surrogate is not UTF-8
}

TEST(GoText, WritesDoublesAsTheReferenceDoes) {
  EXPECT_EQ(json(1.0), "1");
  EXPECT_EQ(json(1.5), "1.5");
  EXPECT_EQ(json(-0.0), "-0");
  EXPECT_EQ(json(1e-7), "1e-7");
  EXPECT_EQ(json(1e21), "1e+21");
  EXPECT_EQ(json(1e20), "100000000000000000000");
  EXPECT_EQ(json(0.000001), "0.000001");
  EXPECT_EQ(json(9223372036854775808.0), "9223372036854776000");
  EXPECT_EQ(json(-12345678901234567890.0), "-12345678901234567000");
  EXPECT_EQ(json(1234567890123456.5), "1234567890123456.5");
  EXPECT_EQ(json(1e15), "1000000000000000");
  EXPECT_EQ(json(1.7976931348623157e308), "1.7976931348623157e+308");
  EXPECT_EQ(json(std::numeric_limits<double>::infinity()), "null");
}

TEST(GoText, Base64GoesThereAndBack) {
  for (const std::string text : {"", "f", "fo", "foo", "foob", "fooba", "foobar"}) {
    std::string out;
    append_base64(out, text);
    EXPECT_EQ(decode_base64(out), text);
  }
  EXPECT_FALSE(decode_base64("a"));
  EXPECT_FALSE(decode_base64("????"));
}

TEST(GoText, IndentsJson) {
  EXPECT_EQ(pretty_json(R"({"a":[1,{"b":"x,[\""}],"c":[],"d":{}})"),
            "{\n    \"a\": [\n        1,\n        {\n            \"b\": \"x,[\\\"\"\n        }\n    ],\n    \"c\": [],\n    \"d\": {}\n}");
}

TEST(GoText, KnowsUtf8) {
  EXPECT_TRUE(is_utf8("") && is_utf8(std::string_view("a\0b", 3)) && is_utf8("h\xc3\xa9\xe6\x97\xa5\xf0\x9f\x98\x80"));
  for (const char* bad : {"\xff", "a\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xe6\x97"}) EXPECT_FALSE(is_utf8(bad)) << bad;
}

}  // namespace
}  // namespace rq
