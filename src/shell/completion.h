// What Tab offers: commands, their arguments, file names, words of SQL, tables and columns. Pure but for file names.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace rq::shell {

struct Schema {
  std::map<std::string, std::vector<std::string>> columns;     // by table or view
};

struct Completion {
  std::size_t begin = 0;                     // the candidates replace text[begin, end of text)
  std::vector<std::string> candidates;       // sorted, each once
};

struct CompletionSources {
  std::vector<std::string> commands;                                   // ".backup", ...
  // The fixed choices of a command's argument; empty: none. "FILE" alone: file names. "TABLE" alone: tables.
  std::function<std::vector<std::string>(std::string_view command)> choices;
  std::function<const Schema&()> schema;                               // asked only when it matters
};

// `text` is everything up to the cursor: the lines entered before, and the current one.
Completion complete(std::string_view text, const CompletionSources& sources);

// What all candidates begin with.
std::string common_prefix(const std::vector<std::string>& candidates);

}  // namespace rq::shell
