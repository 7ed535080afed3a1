#include "config/go_flags.h"

#include <gtest/gtest.h>

namespace rq::config {
namespace {

struct Values {
  std::string text = "x";
  bool on = false, off_by_request = true;
  std::int64_t number = 5;
  std::uint64_t count = 0;
  Duration time = std::chrono::seconds(3);
};

class GoFlags : public testing::Test {
 protected:
  GoFlags() {
    flags.text("text", values.text, "A text");
    flags.boolean("on", values.on, "A switch");
    flags.boolean("stays", values.off_by_request, "Another switch");
    flags.integer("number", values.number, "A number");
    flags.unsigned_integer("count", values.count, "A count");
    flags.duration("time", values.time, "A time");
  }
  std::optional<Exit> parse(const std::vector<std::string>& arguments) { return flags.parse(arguments); }
  // The first line of what is wrong.
  std::string wrong(const std::vector<std::string>& arguments) {
    const auto exit = parse(arguments);
    if (!exit) return "accepted";
    EXPECT_EQ(exit->code, 2);
    EXPECT_EQ(exit->text.substr(exit->text.find('\n') + 1), flags.usage());
    return exit->text.substr(0, exit->text.find('\n'));
  }
  Values values;
  FlagSet flags{"head\n"};
};

TEST_F(GoFlags, TakeOneOrTwoDashesAndEqualsOrTheNextArgument) {
  ASSERT_FALSE(parse({"-text", "a", "--number=7", "-time=1m", "--count", "9", "dir", "-on"}));
  EXPECT_EQ(values.text, "a");
  EXPECT_EQ(values.number, 7);
  EXPECT_EQ(values.time, std::chrono::minutes(1));
  EXPECT_EQ(values.count, 9u);
  EXPECT_FALSE(values.on);                     // behind the first argument that is no flag
  EXPECT_EQ(flags.rest(), (std::vector<std::string>{"dir", "-on"}));
}

TEST_F(GoFlags, EndAtTwoDashesAndAtOneAlone) {
  ASSERT_FALSE(parse({"-on", "--", "-text"}));
  EXPECT_TRUE(values.on);
  EXPECT_EQ(flags.rest(), (std::vector<std::string>{"-text"}));
}

TEST_F(GoFlags, AValueMayBeEmptyOrLookLikeAFlag) {
  ASSERT_FALSE(parse({"-text=", "-number", "-3"}));
  EXPECT_EQ(values.text, "");
  EXPECT_EQ(values.number, -3);
  ASSERT_FALSE(parse({"-text", "-on", "-text=a=b"}));
  EXPECT_EQ(values.text, "a=b");
  EXPECT_FALSE(values.on);
}

TEST_F(GoFlags, ABooleanTakesItsValueOnlyWithEquals) {
  for (const char* text : {"1", "t", "T", "true", "TRUE", "True"}) {
    values.on = false;
    ASSERT_FALSE(parse({std::string("-on=") + text}));
    EXPECT_TRUE(values.on) << text;
  }
  for (const char* text : {"0", "f", "F", "false", "FALSE", "False"}) {
    values.on = true;
    ASSERT_FALSE(parse({std::string("-on=") + text}));
    EXPECT_FALSE(values.on) << text;
  }
  ASSERT_FALSE(parse({"-on", "false"}));
  EXPECT_TRUE(values.on);
  EXPECT_EQ(wrong({"-on=yes"}), "invalid boolean value \"yes\" for -on: parse error");
  EXPECT_EQ(wrong({"-on="}), "invalid boolean value \"\" for -on: parse error");
}

TEST_F(GoFlags, ReadIntegersInAllBases) {
  const std::pair<const char*, std::int64_t> good[] = {{"0", 0},       {"-12", -12},  {"+12", 12},      {"0x10", 16},   {"0X_1f", 31},       {"0o17", 15}, {"017", 15},
                                                       {"0b101", 5},   {"1_000", 1000}, {"0_7", 7},     {"-0x8", -8},   {"00", 0},
                                                       {"9223372036854775807", INT64_MAX}, {"-9223372036854775808", INT64_MIN}};
  for (const auto& [text, value] : good) {
    ASSERT_FALSE(parse({"-number", text})) << text;
    EXPECT_EQ(values.number, value) << text;
  }
  for (const char* bad : {"", "x", "-", "+", "1_", "_1", "1__0", "08", "0x", "0b2", "1.5", " 1", "1 ", "--1", "1e3"})
    EXPECT_EQ(wrong({"-number", bad}), std::string("invalid value \"") + bad + "\" for flag -number: parse error");
  EXPECT_EQ(wrong({"-number=9223372036854775808"}), "invalid value \"9223372036854775808\" for flag -number: value out of range");
  EXPECT_EQ(wrong({"-count", "-1"}), "invalid value \"-1\" for flag -count: parse error");
  EXPECT_EQ(wrong({"-count", "+1"}), "invalid value \"+1\" for flag -count: parse error");
  EXPECT_EQ(wrong({"-count=18446744073709551616"}), "invalid value \"18446744073709551616\" for flag -count: value out of range");
}

TEST_F(GoFlags, NameWhatIsWronglyWritten) {
  EXPECT_EQ(wrong({"-nosuch"}), "flag provided but not defined: -nosuch");
  EXPECT_EQ(wrong({"--nosuch=1"}), "flag provided but not defined: -nosuch");
  EXPECT_EQ(wrong({"-text"}), "flag needs an argument: -text");
  EXPECT_EQ(wrong({"---text"}), "bad flag syntax: ---text");
  EXPECT_EQ(wrong({"-=x"}), "bad flag syntax: -=x");
  EXPECT_EQ(wrong({"-time", "10"}), "invalid value \"10\" for flag -time: parse error");
  EXPECT_EQ(wrong({"-number", "a\"\\\n\x01"}), "invalid value \"a\\\"\\\\\\n\\x01\" for flag -number: parse error");
}

TEST_F(GoFlags, TellWhatWasGivenAndWhatChanged) {
  ASSERT_FALSE(parse({"-time", "3s", "-number=6", "-text", "y", "-on=false", "-number=7"}));
  EXPECT_TRUE(flags.given("time"));
  EXPECT_FALSE(flags.given("count"));
  EXPECT_EQ(flags.changed(), (std::vector<std::string>{"number", "text"}));
}

TEST_F(GoFlags, ListThemselvesByNameWithDefaults) {
  EXPECT_EQ(flags.usage(),
            "head\n"
            "  -count uint\n    \tA count\n"
            "  -number int\n    \tA number (default 5)\n"
            "  -on\n    \tA switch\n"
            "  -stays\n    \tAnother switch (default true)\n"
            "  -text string\n    \tA text (default \"x\")\n"
            "  -time duration\n    \tA time (default 3s)\n");
  for (const char* help : {"-h", "-help", "--help", "--h"}) EXPECT_EQ(parse({help, "-nosuch"}), (Exit{0, flags.usage()}));
}

}  // namespace
}  // namespace rq::config
