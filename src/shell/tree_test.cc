#include "shell/tree.h"

#include <gtest/gtest.h>

namespace rq::shell {
namespace {

Json parsed(std::string_view text) {
  auto value = Json::parse(text);
  EXPECT_TRUE(value) << text;
  return value ? *value : Json();
}

TEST(ShellJson, KeepsTheTextOfNumbers) {
  const Json value = parsed(R"([9007199254740993, 1.50, 1e+300, -9223372036854775808, 123456789012345678901234567890])");
  ASSERT_EQ(value.elements().size(), 5U);
  EXPECT_EQ(value.elements()[0].text(), "9007199254740993");
  EXPECT_EQ(value.elements()[1].text(), "1.50");
  EXPECT_EQ(value.elements()[2].text(), "1e+300");
  EXPECT_EQ(value.elements()[3].text(), "-9223372036854775808");
  EXPECT_EQ(value.elements()[4].text(), "123456789012345678901234567890");
}

TEST(ShellJson, TellsWhatIsWrongAsGoDoes) {
  EXPECT_EQ(Json::parse("").error().text(), "unexpected end of JSON input");
  EXPECT_EQ(Json::parse("{\"a\":").error().text(), "unexpected end of JSON input");
  EXPECT_EQ(Json::parse("<html>").error().text(), "invalid character '<' looking for beginning of value");
  EXPECT_EQ(Json::parse("{} x").error().text(), "invalid character 'x' after top-level value");
}

TEST(ShellJson, RefusesEndlessNesting) {
  EXPECT_FALSE(Json::parse(std::string(100000, '[')));
}

TEST(ShellTree, SortsIndentsAndLeavesOutNull) {
  const Json value = parsed(R"({"b":{"z":1,"a":{"n":null,"f":1.50}},"a":[1,"two",{"k":"v","a":null},[]],"e":{},"z":null,"empty":""})");
  EXPECT_EQ(tree_text(value), "a: [1 two map[a:<nil> k:v] []]\nb:\n  a:\n    f: 1.50\n  z: 1\ne:\nempty: \n");
}

TEST(ShellTree, ShowsOneTopLevelMember) {
  const Json value = parsed(R"({"b":{"z":1},"a":2})");
  EXPECT_EQ(tree_text(value, "b"), "b:\n  z: 1\n");
  EXPECT_EQ(tree_text(value, "z"), "");
}

}  // namespace
}  // namespace rq::shell
