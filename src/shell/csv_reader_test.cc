#include "shell/csv_reader.h"

#include <gtest/gtest.h>

#include "shell/files.h"

namespace rq::shell {
namespace {

using Row = std::vector<std::string>;

std::vector<Row> rows_of(std::string text, char separator = ',') {
  std::FILE* file = ::fmemopen(text.data(), text.size(), "r");
  CsvReader reader(file, separator);
  std::vector<Row> rows;
  while (true) {
    auto row = reader.next();
    if (!row) rows.push_back({"error", row.error().detail});
    if (!row || row->empty()) break;
    rows.push_back(std::move(*row));
  }
  std::fclose(file);
  return rows;
}

TEST(ShellCsv, ReadsQuotedFields) {
  EXPECT_EQ(rows_of("a,\"b,\"\"c\"\"\",\n\"x\ny\",\"\",z"), (std::vector<Row>{{"a", "b,\"c\"", ""}, {"x\ny", "", "z"}}));
}
TEST(ShellCsv, TakesBothLineEndsAndSkipsEmptyLines) { EXPECT_EQ(rows_of("a,b\r\n\r\n\n\"c\",d\r\n"), (std::vector<Row>{{"a", "b"}, {"c", "d"}})); }
TEST(ShellCsv, SkipsAByteOrderMark) { EXPECT_EQ(rows_of("\xEF\xBB\xBF" "a\tb", '\t'), (std::vector<Row>{{"a", "b"}})); }
TEST(ShellCsv, RefusesAnOpenQuote) { EXPECT_EQ(rows_of("a\n\"b\nc"), (std::vector<Row>{{"a"}, {"error", "line 2: a quote is not closed"}})); }

TEST(ShellProgress, ShowsShareAndRate) {
  using Seconds = std::chrono::duration<double>;
  EXPECT_EQ(Progress::line("backup", 10'000'000, 40'000'000, Seconds(2)), "backup: 10 MB of 40 MB, 25%, 5.0 MB/s, 6s left");
  EXPECT_EQ(Progress::line("backup", 10'000'000, 0, Seconds(2)), "backup: 10 MB, 5.0 MB/s");
}

}  // namespace
}  // namespace rq::shell
