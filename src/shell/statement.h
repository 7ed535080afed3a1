// Where statements begin and end in what people type and keep in files. Pure (SQLite's parser is asked, on an empty
// database in memory, whether a text is complete; nothing is run).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace rq::shell {

// Without white space around it.
std::string_view trimmed(std::string_view text);

// A token of SQL. Comments and blanks are skipped.
struct Token {
  enum class Kind { Word, Number, String, Quoted, Punctuation } kind;   // Quoted: "name", `name`, [name]
  std::string_view text;
  std::size_t offset;
  bool closed;          // false: a quote without its end
};

struct Tokens {
  std::vector<Token> list;
  bool open_comment = false;     // the text ends within /* */
};
Tokens tokenize(std::string_view sql);

// Whether a line of keywords such as select, SELECT begins a statement of SQL.
bool begins_statement(std::string_view line);

// True when the text is one statement that surely changes nothing (SELECT, VALUES, EXPLAIN).
bool only_reads(std::string_view sql);

// True when the text holds nothing but blanks, comments and semicolons.
bool is_blank_sql(std::string_view sql);

// True when more must follow: an open quote, comment or bracket, a trigger without END, or SQLite's parser reached the end
// too early. A semicolon at the end doesn't matter here; what is wrong in another way counts as complete.
bool is_incomplete(std::string_view sql);

// Cuts a text at the semicolons outside of quotes, comments and triggers. Statements keep their semicolon and lose blanks
// around; what follows the last semicolon is the last element. Blank parts are left out. From BEGIN to its COMMIT, END or
// ROLLBACK is one element: the server wants a transaction in one request.
std::vector<std::string> split_statements(std::string_view text);

// Collects lines into statements for input whose next line is known (files, -q, pasted text): a statement ends at a
// semicolon at the end of a line, or where the next line begins another one and nothing is missing.
class LineCollector {
 public:
  // Adds a line (without its line feed). True when the text is ready, given what comes next (nullptr: the end of input).
  bool add(std::string_view line, const std::string* next);
  bool empty() const { return text_.empty(); }
  std::string take();

 private:
  void settle();                    // looks at what came since the last semicolon that ended a statement
  std::string text_;
  std::size_t settled_ = 0;         // behind that semicolon: nothing before it is looked at again
  bool in_transaction_ = false;
};

}  // namespace rq::shell
