#include "sql/parameters.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "base/clock.h"

namespace rq::sql {
namespace {

pb::Parameter text(std::string_view value, std::string_view name = {}) {
  pb::Parameter parameter;
  parameter.set_name(std::string(name));
  parameter.mutable_value()->set_text(std::string(value));
  return parameter;
}

class Binding : public testing::Test {
 protected:
  Binding() : connection_(*Connection::open({.path = ":memory:", .clock = &clock_})) {}

  // The rows of every statement of `sql`, their columns joined by '|', or the error that ended them.
  std::string bound(std::string_view sql, const std::vector<pb::Parameter>& given, Missing missing = Missing::Error) {
    const Parameters list(given.begin(), given.end());
    ParameterFeed feed(list, missing);
    if (const Result<> names = feed.check_names(); !names) return names.error().detail;
    std::string out;
    for (std::string_view rest = sql; !rest.empty();) {
      Result<Statement> statement = connection_->prepare(rest);
      if (!statement) return statement.error().detail;
      rest = statement->tail();
      if (statement->empty()) continue;
      if (const Result<> done = feed.bind(*statement); !done) return out + done.error().detail;
      EXPECT_EQ(statement->step(), SQLITE_ROW);
      for (int i = 0; i < sqlite3_column_count(statement->handle()); ++i) {
        const auto* value = sqlite3_column_text(statement->handle(), i);
        out += value == nullptr ? "NULL" : reinterpret_cast<const char*>(value);
        out += '|';
      }
    }
    return out;
  }

  SystemClock clock_;
  std::unique_ptr<Connection> connection_;
};

TEST_F(Binding, FollowsPlacesAndNames) {
  const std::vector<pb::Parameter> ab = {text("a"), text("b")};
  const std::vector<pb::Parameter> named = {text("a", "n"), text("b", "r")};
  EXPECT_EQ(bound("SELECT ?, ?", ab), "a|b|");
  EXPECT_EQ(bound("SELECT ?2, ?1", ab), "b|a|");
  EXPECT_EQ(bound("SELECT ?1, ?1", ab), "a|a|");
  EXPECT_EQ(bound("SELECT :n, :r", ab), "a|b|");
  EXPECT_EQ(bound("SELECT ?", ab), "a|");
  EXPECT_EQ(bound("SELECT :n, @r, $n", {text("a", "n"), text("b", "r"), text("c")}), "a|b|a|");
  EXPECT_EQ(bound("SELECT :N, :n", {text("upper", "N"), text("lower", "n")}), "upper|lower|");
  EXPECT_EQ(bound("SELECT ?, ?", named), "NULL|NULL|");
  EXPECT_EQ(bound("SELECT :n, ?", {text("a", "n"), text("x")}), "a|x|");
  EXPECT_EQ(bound("SELECT :b, :a", {text("5"), text("6", "a")}), "5|6|");
}

// The order of an object's keys is the client's, and it may give more of them than the statement uses.
TEST_F(Binding, FindsNamedValuesBehindOthers) {
  EXPECT_EQ(bound("SELECT :n, :r", {text("z", "z"), text("a", "n"), text("b", "r")}), "a|b|");
  EXPECT_EQ(bound("SELECT :b", {text("1", "a"), text("2", "b")}), "2|");
}

TEST_F(Binding, SharesTheListAmongTheStatementsOfAString) {
  EXPECT_EQ(bound("SELECT ?; SELECT ?, ?", {text("a"), text("b"), text("c")}), "a|b|c|");
  EXPECT_EQ(bound("SELECT ?; SELECT ?", {text("a")}), "a|not enough args to execute query: want 1 got 1");
  EXPECT_EQ(bound("SELECT :x; SELECT :x, :y", {text("a", "x"), text("b", "y"), text("c", "z")}), "a|a|b|");
}

TEST_F(Binding, CountsWhatIsMissing) {
  EXPECT_EQ(bound("SELECT ?, ?", {text("a")}), "not enough args to execute query: want 2 got 1");
  EXPECT_EQ(bound("SELECT ?3", {text("a", "n")}), "not enough args to execute query: want 3 got 1");
  EXPECT_EQ(bound("SELECT ?", {}), "not enough args to execute query: want 1 got 0");
  EXPECT_EQ(bound("SELECT ?, :a", {}, Missing::Null), "NULL|NULL|");
  EXPECT_EQ(bound("SELECT ?, ?", {text("a")}, Missing::Null), "not enough args to execute query: want 2 got 1");
}

TEST_F(Binding, RefusesNamesThatDontBeginWithALetter) {
  EXPECT_EQ(bound("SELECT :n", {text("a", ":n")}), "name \":n\" does not begin with a letter");
  EXPECT_EQ(bound("SELECT :_n", {text("a", "_n")}), "name \"_n\" does not begin with a letter");
  EXPECT_EQ(bound("SELECT ?1", {text("a", "1")}), "name \"1\" does not begin with a letter");
  EXPECT_EQ(bound("SELECT 1", {text("a", "\"\n\x01")}), R"(name "\"\n\x01" does not begin with a letter)");
  EXPECT_EQ(bound("SELECT :größe", {text("a", "größe")}), "a|");
  EXPECT_EQ(bound("SELECT :ö", {text("a", "ö")}), "a|");
}

TEST_F(Binding, KeepsTypes) {
  pb::Parameter integer, real, blob, empty_blob, null;
  integer.mutable_value()->set_integer(std::numeric_limits<std::int64_t>::min());
  real.mutable_value()->set_real(1);
  blob.mutable_value()->set_blob(std::string("\0\xff", 2));
  empty_blob.mutable_value()->set_blob("");
  const std::string sql = "SELECT typeof(?1), ?1, typeof(?2), hex(?3), typeof(?4), typeof(?5), typeof(?6), length(?7), hex(?7)";
  EXPECT_EQ(bound(sql, {integer, real, blob, empty_blob, null, text(""), text(std::string_view("a\0b", 3))}),
            "integer|-9223372036854775808|real|00FF|blob|null|text|1|610062|");
}

// The values are bound without copy: a statement on its way back to the cache must not keep them.
TEST_F(Binding, IsForgottenWhenTheStatementGoesBack) {
  EXPECT_EQ(bound("SELECT ?", {text("a")}), "a|");
  EXPECT_EQ(bound("SELECT ?", {}, Missing::Null), "NULL|");
}

}  // namespace
}  // namespace rq::sql
