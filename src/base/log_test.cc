#include "base/log.h"

#include <gtest/gtest.h>

#include <string>

namespace rq::log {
namespace {

class Log : public testing::Test {
 protected:
  ~Log() override {
    set_level(Level::Info);
    set_raft_level(Level::Warn);
    set_format(Format::Text);
  }
  // With every digit as 0.
  static std::string shape(std::string line) {
    for (char& c : line)
      if (c >= '0' && c <= '9') c = '0';
    return line;
  }
  template <class Work>
  std::string lines_of(const Work& work) {
    testing::internal::CaptureStderr();
    work();
    return testing::internal::GetCapturedStderr();
  }
};

TEST_F(Log, WritesComponentTimeAndText) {
  const std::string line = lines_of([] { info("store", "opened, index=5"); });
  EXPECT_EQ(shape(line), "[store] 0000/00/00 00:00:00 opened, index=0\n");
}

TEST_F(Log, MarksTheLevelOfRaftLinesAndHasALevelForThem) {
  EXPECT_EQ(lines_of([] { info("raft", "quiet"); }), "");
  EXPECT_TRUE(lines_of([] { warn("raft", "loud"); }).ends_with(" [WARN]  loud\n"));
  set_raft_level(Level::Debug);
  EXPECT_TRUE(lines_of([] { info("raft", "told"); }).ends_with(" [INFO]  told\n"));
  set_raft_level(Level::Off);
  EXPECT_EQ(lines_of([] { error("raft", "gone"); }), "");
}

TEST_F(Log, LeavesOutWhatIsBelowItsLevel) {
  set_level(Level::Error);
  EXPECT_EQ(lines_of([] { warn("store", "x"); }), "");
  EXPECT_NE(lines_of([] { error("store", "x"); }), "");
}

TEST_F(Log, WritesOneJsonObjectALine) {
  set_format(Format::Json);
  const std::string line = lines_of([] { warn("http", "said \"no\"\n"); });
  EXPECT_TRUE(shape(line).starts_with(R"({"time":"0000-00-00T00:00:00)")) << line;
  EXPECT_TRUE(line.ends_with(R"(Z","level":"warn","component":"http","msg":"said \"no\"\n"})" "\n")) << line;
}

TEST_F(Log, KnowsTheWordsOfLevelsInAnyCase) {
  EXPECT_EQ(parse_level("Warn"), Level::Warn);
  EXPECT_EQ(parse_level("TRACE"), Level::Debug);
  EXPECT_EQ(parse_level("OFF"), Level::Off);
  EXPECT_EQ(parse_level("loud"), std::nullopt);
}

}  // namespace
}  // namespace rq::log
