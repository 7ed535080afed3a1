#include "shell/completion.h"

#include <gtest/gtest.h>

namespace rq::shell {
namespace {

const Schema kSchema{{{"people", {"id", "full_name"}}, {"pets", {"id", "owner"}}}};

std::vector<std::string> offered(std::string_view text) {
  const CompletionSources sources{.commands = {".mode", ".nodes", ".import"},
                                  .choices = [](std::string_view command) -> std::vector<std::string> {
                                    if (command == ".mode") return {"csv", "column", "json"};
                                    if (command == ".import") return {"FILE", "TABLE"};
                                    return {};
                                  },
                                  .schema = []() -> const Schema& { return kSchema; }};
  return complete(text, sources).candidates;
}
using Words = std::vector<std::string>;

TEST(ShellCompletion, Commands) {
  EXPECT_EQ(offered(".n"), Words{".nodes"});
  EXPECT_EQ(offered(".mode c"), (Words{"column", "csv"}));
  EXPECT_EQ(offered(".import nosuchfile pe"), (Words{"people", "pets"}));
}

TEST(ShellCompletion, TablesWhereATableMustStand) {
  EXPECT_EQ(offered("SELECT * FROM "), (Words{"people", "pets"}));
  EXPECT_EQ(offered("INSERT INTO pet"), Words{"pets"});
}

TEST(ShellCompletion, ColumnsOfTheTablesThatAreNamed) {
  EXPECT_EQ(offered("SELECT * FROM people WHERE full_"), Words{"full_name"});
  EXPECT_EQ(offered("SELECT * FROM people WHERE own"), Words{});
  EXPECT_EQ(offered("SELECT * FROM pets AS p, people WHERE p."), (Words{"id", "owner"}));
  EXPECT_EQ(offered("SELECT own"), Words{"owner"});
}

TEST(ShellCompletion, KeywordsInTheCaseTheyWereBegunIn) {
  EXPECT_EQ(offered("sele"), Words{"select"});
  EXPECT_EQ(offered("SELE"), Words{"SELECT"});
}

TEST(ShellCompletion, NothingWithinTexts) { EXPECT_EQ(offered("SELECT 'sel"), Words{}); }

TEST(ShellCompletion, CommonPrefixNeverCutsACharacter) {
  EXPECT_EQ(common_prefix({"people", "pets"}), "pe");
  EXPECT_EQ(common_prefix({"é1", "è1"}), "");
}

}  // namespace
}  // namespace rq::shell
