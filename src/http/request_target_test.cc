#include "http/request_target.h"

#include <gtest/gtest.h>

namespace rq::http {
namespace {

std::string problem(std::string_view text) {
  const auto target = parse_target(text);
  if (!target) return target.error().text();
  return target->bad_parameters ? target->bad_parameters->text() : "";
}

TEST(RequestTarget, DecodesPathAndParameters) {
  const auto target = parse_target("/db%2Fquery?q=SELECT+1%2B1&level=STRONG&pretty=false&timeout=1m&q=second");
  ASSERT_TRUE(target);
  EXPECT_EQ(target->path, "/db/query");
  EXPECT_EQ(target->parameters.q, "SELECT 1+1");        // the first value counts
  EXPECT_EQ(target->parameters.level, pb::Request::STRONG);
  EXPECT_TRUE(target->parameters.pretty);               // present is on
  EXPECT_EQ(target->parameters.timeout, std::chrono::minutes(1));
  EXPECT_EQ(target->raw_path, "/db%2Fquery");
}

TEST(RequestTarget, TakesAbsoluteForm) {
  EXPECT_EQ(parse_target("http://host:4001/status?key=a")->path, "/status");
  EXPECT_EQ(parse_target("http://host:4001")->path, "/");
}

TEST(RequestTarget, SaysWhatIsWrongInTheOrderOfTheReference) {
  EXPECT_EQ(problem("/x?a=1;b=2"), "invalid semicolon separator in query");
  EXPECT_EQ(problem("/x?a=%zz"), "invalid URL escape \"%zz\"");
  EXPECT_EQ(problem("/x?q="), "query parameter not set");
  EXPECT_EQ(problem("/x?freshness_strict&timeout=x"), "freshness_strict requires freshness");
  EXPECT_EQ(problem("/x?timeout=&freshness=y"), "timeout is not a valid duration");
  EXPECT_EQ(problem("/x?freshness=y"), "freshness is not a valid duration");
  EXPECT_EQ(problem("/x?db_timeout=5"), "db_timeout is not a valid duration");
  EXPECT_EQ(problem("/x?linearizable_timeout=1"), "linearizable_timeout is not a valid duration");
  EXPECT_EQ(problem("/x?retries=a"), "retries is not a valid integer");
  EXPECT_EQ(problem("/x?trailing_logs=99999999999999999999"), "trailing_logs is not a valid integer");
  EXPECT_EQ(problem("/x?retries=-1&trailing_logs=%2B5&timeout=0"), "");
}

TEST(RequestTarget, SurvivesEveryTruncation) {
  const std::string text = "/db/query?q=%41&level=weak&timeout=1s&retries=3";
  for (std::size_t size = 0; size <= text.size(); ++size) (void)parse_target(std::string_view(text).substr(0, size));
}

}  // namespace
}  // namespace rq::http
