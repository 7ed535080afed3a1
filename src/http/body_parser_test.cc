#include "http/body_parser.h"

#include <gtest/gtest.h>

namespace rq::http {
namespace {

std::string problem(std::string body) {
  pb::Request request;
  const auto parsed = parse_statements(body, request);
  return parsed ? "" : parsed.error().text();
}
pb::Request good(std::string body) {
  pb::Request request;
  const auto parsed = parse_statements(body, request);
  EXPECT_TRUE(parsed) << parsed.error().text();
  return request;
}

TEST(BodyParser, ReadsStatementsAndParameters) {
  const pb::Request request = good(R"(["SELECT 1", ["SELECT ?,?,?,?,?,?", 1, 1.5, true, null, "text", "x'00fF'"], ["S", [1,2,255], []]] trailing)");
  ASSERT_EQ(request.statements_size(), 3);
  const auto& parameters = request.statements(1).parameters();
  EXPECT_EQ(parameters[0].value().integer(), 1);
  EXPECT_EQ(parameters[1].value().real(), 1.5);
  EXPECT_EQ(parameters[2].value().integer(), 1);
  EXPECT_EQ(parameters[3].value().kind_case(), pb::Value::KIND_NOT_SET);
  EXPECT_EQ(parameters[4].value().text(), "text");
  EXPECT_EQ(parameters[5].value().blob(), std::string("\0\xff", 2));
  EXPECT_EQ(request.statements(2).parameters(0).value().blob(), "\x01\x02\xff");
  EXPECT_EQ(request.statements(2).parameters(1).value().blob(), "");
}

TEST(BodyParser, NumbersBecomeIntegersOnlyWhenTheyAre) {
  const pb::Request request = good(R"([["S", 9223372036854775807, 9223372036854775808, 1.0, 1e2, -0]])");
  const auto& parameters = request.statements(0).parameters();
  EXPECT_EQ(parameters[0].value().integer(), INT64_MAX);
  EXPECT_EQ(parameters[1].value().real(), 9223372036854775808.0);
  EXPECT_TRUE(parameters[2].value().has_real());
  EXPECT_TRUE(parameters[3].value().has_real());
}

TEST(BodyParser, NamedParametersKeepTheOrderOfTheTextAndTheLastOfEqualNames) {
  const pb::Request request = good(R"([["S", {"b":1,"a":2,"b":3}, 4]])");
  const auto& parameters = request.statements(0).parameters();
  ASSERT_EQ(parameters.size(), 3);
  EXPECT_EQ(parameters[0].name(), "b");
  EXPECT_EQ(parameters[0].value().integer(), 3);
  EXPECT_EQ(parameters[1].name(), "a");
  EXPECT_EQ(parameters[2].name(), "");
}

TEST(BodyParser, TheFirstDefectDecides) {
  for (const char* body : {"", "[\"SELECT 1\"", "[\"a\",]", "\xef\xbb\xbf[]", "nul"}) EXPECT_EQ(problem(body), "invalid JSON body") << body;
  for (const char* body : {"{}", "null", "\"x\"", "5", "[1]", "[null]", "[{}]", "[[]]", "[[1]]", "[[null]]", "[true]"}) EXPECT_EQ(problem(body), "invalid request") << body;
  EXPECT_EQ(problem(R"([["S", 1e400]])"), "invalid number 1e400");
  EXPECT_EQ(problem(R"([["S", [256]]])"), "unsupported type 256");
  EXPECT_TRUE(problem(R"([["S", ["a"]]])").starts_with("unsupported type "));
  EXPECT_TRUE(problem(R"([["S", {"a":{}}]])").starts_with("unsupported type "));
}

TEST(BodyParser, CountsElementsButDropsEmptyOnes) {
  pb::Request request;
  std::string body = R"(["", "SELECT 1", ""])";
  EXPECT_EQ(*parse_statements(body, request), 3u);
  EXPECT_EQ(request.statements_size(), 1);
  pb::Request none;
  std::string empty = "[]";
  EXPECT_EQ(*parse_statements(empty, none), 0u);
}

TEST(BodyParser, WhatIsNotUnicodeBecomesTheReplacementCharacter) {
  EXPECT_EQ(good("[\"a\xff\"]").statements(0).sql(), "a\xef\xbf\xbd");
  EXPECT_EQ(good(R"(["\ud800x"])").statements(0).sql(), "\xef\xbf\xbdx");
  EXPECT_EQ(good(R"(["\ud83d\ude00"])").statements(0).sql(), "\xf0\x9f\x98\x80");
}

TEST(BodyParser, DepthIsNoWayIn) { EXPECT_NE(problem(std::string(200'000, '[')), ""); }

}  // namespace
}  // namespace rq::http
