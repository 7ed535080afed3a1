#include "shell/render.h"

#include <gtest/gtest.h>

#include <clocale>

namespace rq::shell {
namespace {

Rows sample() {
  return {.columns = {"id", "name"},
          .types = {"integer", "text"},
          .values = {{Json::number("9007199254740993"), Json::string("é日本")}, {Json::number("-1"), Json()}}};
}

class ShellRender : public ::testing::Test {
 protected:
  void SetUp() override { std::setlocale(LC_CTYPE, "C.UTF-8"); }
  static std::string shown(const Rows& rows, Mode mode) { return render(rows, {.mode = mode}); }
};

TEST_F(ShellRender, ColumnCountsBytesAsTheReferenceDoes) {
  EXPECT_EQ(shown(sample(), Mode::Column),
            "+------------------+----------+\n"
            "| id               | name     |\n"
            "+------------------+----------+\n"
            "| 9007199254740993 | é日本      |\n"
            "+------------------+----------+\n"
            "| -1               | <nil>    |\n"
            "+------------------+----------+\n");
}

TEST_F(ShellRender, BoxLinesUpByDisplayWidth) {
  EXPECT_EQ(shown(sample(), Mode::Box),
            "┌──────────────────┬───────┐\n"
            "│ id               │ name  │\n"
            "├──────────────────┼───────┤\n"
            "│ 9007199254740993 │ é日本 │\n"
            "│               -1 │       │\n"
            "└──────────────────┴───────┘\n");
}

TEST_F(ShellRender, BoxKeepsLinesAndControlCharactersInTheirCells) {
  const Rows rows{.columns = {"a", "b"}, .values = {{Json::string("one\ntwo\x1b[31m"), Json::string("x\ty")}}};
  EXPECT_EQ(shown(rows, Mode::Table),
            "+----------+--------+\n"
            "| a        | b      |\n"
            "+----------+--------+\n"
            "| one      | x    y |\n"
            "| two?[31m |        |\n"
            "+----------+--------+\n");
}

TEST_F(ShellRender, CsvQuotesAsGoDoes) {
  const Rows rows{.columns = {"a,b"}, .values = {{Json::string("q\"q")}, {Json::string(" lead")}, {Json::string("")}, {Json::string("\\.")}, {Json::string("a\r\nb")}, {Json()}}};
  EXPECT_EQ(shown(rows, Mode::Csv), "\"a,b\"\n\"q\"\"q\"\n\" lead\"\n\n\"\\.\"\n\"a\r\nb\"\nNULL\n");
}

TEST_F(ShellRender, JsonSortsNamesAndKeepsTheLastOfTwo) {
  const Rows rows{.columns = {"b", "a", "b"}, .values = {{Json::number("1"), Json::string("<"), Json::number("1e+300")}}};
  EXPECT_EQ(shown(rows, Mode::Json), "[\n  {\n    \"a\": \"\\u003c\",\n    \"b\": 1e+300\n  }\n]\n");
}

TEST_F(ShellRender, LineAlignsNames) {
  const Rows rows{.columns = {"id", "long"}, .values = {{Json::number("1"), Json::string("x")}, {Json::number("2"), Json()}}};
  EXPECT_EQ(shown(rows, Mode::Line), "  id = 1\nlong = x\n\n  id = 2\nlong = NULL\n");
}

TEST_F(ShellRender, InsertWritesSqlThatGivesTheSameRows) {
  const Rows rows{.columns = {"n", "t", "b", "a\"b"},
                  .types = {"integer", "text", "blob", ""},
                  .values = {{Json::number("9223372036854775807"), Json::string("it's"), Json::string("AP8="), Json::array({Json::number("0"), Json::number("255")})}}};
  EXPECT_EQ(render(rows, {.mode = Mode::Insert, .insert_table = "my tab"}),
            "INSERT INTO \"my tab\"(\"n\",\"t\",\"b\",\"a\"\"b\") VALUES(9223372036854775807,'it''s',x'00ff',x'00ff');\n");
}

TEST_F(ShellRender, MarkdownAndHtmlEscape) {
  const Rows rows{.columns = {"a"}, .values = {{Json::string("<x|y>\n&")}}};
  EXPECT_EQ(shown(rows, Mode::Markdown), "| a           |\n|-------------|\n| <x\\|y><br>& |\n");
  EXPECT_EQ(shown(rows, Mode::Html), "<table>\n<tr><th>a</th></tr>\n<tr><td>&lt;x|y&gt;\n&amp;</td></tr>\n</table>\n");
}

TEST_F(ShellRender, HeadersAndNullTextCanBeSet) {
  EXPECT_EQ(render(sample(), {.mode = Mode::List, .null_text = "-", .headers = false}), "9007199254740993|é日本\n-1|-\n");
}

TEST_F(ShellRender, NoRows) {
  const Rows rows{.columns = {"a"}};
  EXPECT_EQ(shown(rows, Mode::Column), "+---+\n| a |\n+---+\n");
  EXPECT_EQ(shown(rows, Mode::Csv), "a\n");
  EXPECT_EQ(shown(rows, Mode::Json), "[]\n");
  EXPECT_EQ(shown(rows, Mode::Line), "");
  EXPECT_EQ(shown(rows, Mode::Insert), "");
}

}  // namespace
}  // namespace rq::shell
