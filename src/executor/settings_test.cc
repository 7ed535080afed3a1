#include "executor/settings.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <set>
#include <vector>

namespace rq::executor {
namespace {

std::vector<std::string> pragma_names() {
  sqlite3* db = nullptr;
  sqlite3_open(":memory:", &db);
  std::vector<std::string> names;
  const auto row = [](void* out, int, char** values, char**) {
    static_cast<std::vector<std::string>*>(out)->push_back(values[0]);
    return 0;
  };
  sqlite3_exec(db, "SELECT name FROM pragma_pragma_list", row, &names, nullptr);
  sqlite3_close(db);
  return names;
}

// PRAGMAs whose default rule is right: they show the schema or check data.
const std::set<std::string> kShow = {"collation_list", "foreign_key_check", "foreign_key_list", "freelist_count", "index_info",
                                     "index_list", "index_xinfo", "integrity_check", "page_count", "quick_check",
                                     "table_info", "table_list", "table_xinfo"};

TEST(Settings, EveryPragmaOfTheEngineHasARule) {
  const auto names = pragma_names();
  ASSERT_GT(names.size(), 50u);
  for (const std::string& name : names) {
    const bool ruled = pragma_rule(name).name == name;
    EXPECT_NE(ruled, kShow.contains(name)) << name;
  }
}

TEST(Settings, ValuesAreReadAsSqliteReadsThem) {
  for (const char* on : {"1", "on", "ON", "yes", "True", "2", "01"}) EXPECT_TRUE(pragma_truth(on)) << on;
  for (const char* off : {"0", "off", "no", "false", "", "nonsense", "-1", "256"}) EXPECT_FALSE(pragma_truth(off)) << off;
}

TEST(Settings, DifferencesBringOneStateIntoTheOther) {
  ledger::Registers from;
  ledger::Registers to;
  take_setting(to, "Recursive_Triggers", "on");
  take_setting(to, "automatic_index", "0");
  take_setting(to, "secure_delete", "fast");
  take_setting(to, "analysis_limit", "12");
  take_setting(to, "max_page_count", "99");
  take_setting(to, "max_page_count", "x");
  take_setting(to, "nosuch", "1");
  std::vector<std::string> pragmas;
  for_each_difference(from, to, [&](const std::string& text) { pragmas.push_back(text); });
  EXPECT_EQ(pragmas, (std::vector<std::string>{"PRAGMA recursive_triggers=1", "PRAGMA automatic_index=0", "PRAGMA secure_delete=fast",
                                               "PRAGMA analysis_limit=12", "PRAGMA max_page_count=99"}));
  for (const std::string& text : pragmas) {
    const auto equals = text.find('=');
    take_setting(from, text.substr(7, equals - 7), text.substr(equals + 1));
  }
  EXPECT_EQ(from, to);
  EXPECT_FALSE(foreign_keys(to));
  set_foreign_keys(to, true);
  EXPECT_TRUE(foreign_keys(to));
}

}  // namespace
}  // namespace rq::executor
