#include "shell/completion.h"

#include <sqlite3.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "shell/statement.h"

namespace rq::shell {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; }
std::string lowered(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), lower);
  return out;
}
bool begins_with_any_case(std::string_view text, std::string_view prefix) {
  return text.size() >= prefix.size() && lowered(text.substr(0, prefix.size())) == lowered(prefix);
}

std::vector<std::string> file_names(std::string_view typed) {
  const std::size_t slash = typed.rfind('/');
  const std::string folder(slash == std::string_view::npos ? "" : typed.substr(0, slash + 1));
  const std::string_view begin = slash == std::string_view::npos ? typed : typed.substr(slash + 1);
  std::vector<std::string> names;
  std::error_code ec;
  for (std::filesystem::directory_iterator entry(folder.empty() ? "." : folder, ec), end; !ec && entry != end; entry.increment(ec)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(begin) || (begin.empty() && name.starts_with('.'))) continue;
    std::error_code ignored;
    names.push_back(folder + name + (entry->is_directory(ignored) ? "/" : ""));
  }
  return names;
}

// SQLite's keywords in the case in which the word was begun.
void add_keywords(std::set<std::string>& out, std::string_view typed) {
  const bool small = !typed.empty() && typed[0] >= 'a' && typed[0] <= 'z';
  for (int i = 0; i < sqlite3_keyword_count(); ++i) {
    const char* name = nullptr;
    int size = 0;
    if (sqlite3_keyword_name(i, &name, &size) != SQLITE_OK) continue;
    std::string word(name, static_cast<std::size_t>(size));
    if (begins_with_any_case(word, typed)) out.insert(small ? lowered(word) : word);
  }
}

bool is_word_byte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' || static_cast<unsigned char>(c) >= 0x80;
}

std::string unquoted(std::string_view name) {
  if (name.size() >= 2 && (name[0] == '"' || name[0] == '`' || name[0] == '[')) return std::string(name.substr(1, name.size() - 2));
  return std::string(name);
}

const std::vector<std::string>* columns_of(const Schema& schema, std::string_view table) {
  for (const auto& [name, columns] : schema.columns)
    if (lowered(name) == lowered(table)) return &columns;
  return nullptr;
}

// Tables that the statement names, by alias too: "FROM foo AS f" gives foo and f.
std::map<std::string, std::string> tables_named(const std::vector<Token>& tokens, const Schema& schema) {
  std::map<std::string, std::string> named;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].kind != Token::Kind::Word && tokens[i].kind != Token::Kind::Quoted) continue;
    const std::string name = unquoted(tokens[i].text);
    if (columns_of(schema, name) == nullptr) continue;
    named[lowered(name)] = name;
    std::size_t alias = i + 1;
    if (alias < tokens.size() && lowered(tokens[alias].text) == "as") ++alias;
    if (alias < tokens.size() && tokens[alias].kind == Token::Kind::Word &&
        sqlite3_keyword_check(tokens[alias].text.data(), static_cast<int>(tokens[alias].text.size())) == 0)
      named[lowered(tokens[alias].text)] = name;
  }
  return named;
}

bool expects_table(const std::vector<Token>& before) {
  if (before.empty()) return false;
  const std::string last = lowered(before.back().text);
  return last == "from" || last == "join" || last == "into" || last == "update" || last == "table" || last == "exists" || last == "references";
}

Completion complete_command(std::string_view text, const CompletionSources& sources) {
  Completion result;
  const std::size_t blank = text.find(' ');
  std::set<std::string> found;
  if (blank == std::string_view::npos) {
    for (const std::string& command : sources.commands)
      if (begins_with_any_case(command, text)) found.insert(command);
  } else {
    const std::string_view typed = text.substr(text.rfind(' ') + 1);
    result.begin = text.size() - typed.size();
    const std::vector<std::string> choices = sources.choices(lowered(text.substr(0, blank)));
    for (const std::string& choice : choices) {
      if (choice == "FILE" && result.begin == blank + 1) {
        for (std::string& name : file_names(typed)) found.insert(std::move(name));
      } else if (choice == "TABLE") {
        for (const auto& [table, columns] : sources.schema().columns)
          if (begins_with_any_case(table, typed)) found.insert(table);
      } else if (choice != "FILE" && choice.starts_with(typed)) {
        found.insert(choice);
      }
    }
  }
  result.candidates.assign(found.begin(), found.end());
  return result;
}

}  // namespace

Completion complete(std::string_view text, const CompletionSources& sources) {
  if (text.starts_with('.')) return complete_command(text, sources);
  Completion result;
  result.begin = text.size();
  while (result.begin > 0 && is_word_byte(text[result.begin - 1])) --result.begin;
  const std::string_view typed = text.substr(result.begin);
  const Tokens tokens = tokenize(text.substr(0, result.begin));
  if (tokens.open_comment || (!tokens.list.empty() && !tokens.list.back().closed)) return result;
  std::vector<Token> before = tokens.list;
  for (std::size_t i = before.size(); i > 0; --i)      // only the statement the cursor is in
    if (before[i - 1].text == ";") {
      before.erase(before.begin(), before.begin() + static_cast<std::ptrdiff_t>(i));
      break;
    }
  std::set<std::string> found;
  const Schema& schema = sources.schema();
  const auto add = [&](const std::string& name) {
    if (begins_with_any_case(name, typed)) found.insert(name);
  };
  if (before.size() >= 2 && before.back().text == ".") {               // alias.column
    const auto named = tables_named(before, schema);
    const auto table = named.find(lowered(unquoted(before[before.size() - 2].text)));
    if (table != named.end())
      for (const std::string& column : *columns_of(schema, table->second)) add(column);
  } else if (expects_table(before)) {
    for (const auto& [table, columns] : schema.columns) add(table);
  } else {
    if (typed.empty() && before.empty()) return result;
    if (!typed.empty()) add_keywords(found, typed);
    const auto named = tables_named(before, schema);
    for (const auto& [alias, table] : named)
      for (const std::string& column : *columns_of(schema, table)) add(column);
    for (const auto& [table, columns] : schema.columns) {
      if (!typed.empty()) add(table);
      // No table is named yet, as behind SELECT: any column may come.
      if (named.empty() && !typed.empty()) std::for_each(columns.begin(), columns.end(), add);
    }
  }
  result.candidates.assign(found.begin(), found.end());
  return result;
}

std::string common_prefix(const std::vector<std::string>& candidates) {
  if (candidates.empty()) return {};
  std::string prefix = candidates.front();
  for (const std::string& candidate : candidates) {
    std::size_t same = 0;
    while (same < prefix.size() && same < candidate.size() && prefix[same] == candidate[same]) ++same;
    prefix.resize(same);
  }
  while (!prefix.empty() && prefix.size() < candidates.front().size() && (static_cast<unsigned char>(candidates.front()[prefix.size()]) & 0xC0U) == 0x80U) prefix.pop_back();
  return prefix;
}

}  // namespace rq::shell
