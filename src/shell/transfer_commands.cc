#include <algorithm>
#include <charconv>

#include "base/go_text.h"
#include "shell/csv_reader.h"
#include "shell/files.h"
#include "shell/session.h"

namespace rq::shell {
namespace {

constexpr std::string_view kSqliteHeader = "SQLite format";

std::string_view without_blanks(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(' ');
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(' ') - begin + 1);
}

// What .restore puts behind SQL text, so that a dump (which begins with PRAGMA foreign_keys=OFF) doesn't switch the setting
// of the node off for good. Servers up to v7 tell it in one place, v8 and later in another; ours keeps it by itself.
std::string foreign_keys_suffix(const Json& status) {
  const Json& sqlite = status["store"]["sqlite3"]["fk_constraints"];
  if (sqlite.text() == "enabled") return "PRAGMA foreign_keys=ON;";
  if (sqlite.text() == "disabled") return "PRAGMA foreign_keys=OFF;";
  if (status["store"]["db_conf"]["fk_constraints"].truth()) return "PRAGMA foreign_keys=ON;";
  return {};
}

struct ImportOptions {
  std::string file, table;
  std::uint64_t skip = 0;
  bool header = false;
  char separator = ',';
  std::optional<std::string> null_text;
};

Result<ImportOptions> import_options(const std::string& argument) {
  ImportOptions options;
  const auto words = argument_words(argument);
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    const bool takes_value = word == "--skip" || word == "--sep" || word == "--null";
    if (takes_value && i + 1 >= words.size()) return fail(Errc::BadRequest, word + " needs a value");
    if (word == "--header") {
      options.header = true;
    } else if (word == "--skip") {
      const std::string& number = words[++i];
      if (std::from_chars(number.data(), number.data() + number.size(), options.skip).ptr != number.data() + number.size())
        return fail(Errc::BadRequest, "invalid number of lines '" + number + "'");
    } else if (word == "--sep") {
      const std::string& text = words[++i];
      if (text != "\\t" && text.size() != 1) return fail(Errc::BadRequest, "the separator must be one character");
      options.separator = text == "\\t" ? '\t' : text[0];
    } else if (word == "--null") {
      options.null_text = words[++i];
    } else if (word.starts_with("--")) {
      return fail(Errc::BadRequest, "unknown option " + word);
    } else if (options.file.empty()) {
      options.file = word;
    } else if (options.table.empty()) {
      options.table = word;
    } else {
      return fail(Errc::BadRequest, "unexpected '" + word + "'");
    }
  }
  if (options.file.empty() || options.table.empty()) return fail(Errc::BadRequest, "please specify a CSV file and a table: .import FILE TABLE");
  return options;
}

std::string quoted_name(std::string_view name) {
  std::string out = "\"";
  for (const char c : name) out.append(c == '"' ? 2 : 1, c);
  return out + "\"";
}

std::string name_list(const std::vector<std::string>& names, std::string_view suffix) {
  std::string out = "(";
  for (std::size_t i = 0; i < names.size(); ++i) out.append(i > 0 ? "," : "").append(quoted_name(names[i])).append(suffix);
  return out + ")";
}

// Rows gathered into one INSERT of many rows with parameters: one statement, so all of them or none.
class InsertBatch {
 public:
  InsertBatch(std::string head, std::optional<std::string> null_text) : head_(std::move(head)), null_text_(std::move(null_text)) {}

  void add(const std::vector<std::string>& row) {
    values_ += values_.empty() ? "(" : ",(";
    for (std::size_t i = 0; i < row.size(); ++i) {
      values_ += i > 0 ? ",?" : "?";
      parameters_ += ',';
      if (null_text_ && row[i] == *null_text_) parameters_ += "null"; else append_json_string(parameters_, row[i]);
    }
    values_ += ')';
    ++rows_;
    parameter_count_ += row.size();
  }
  bool full(std::size_t next_fields) const {
    // SQLite takes 32766 parameters; 512 KiB make a batch that is worth its round trip and no burden for the log.
    return rows_ > 0 && (rows_ >= 1000 || parameter_count_ + next_fields > 32000 || parameters_.size() > 512 * 1024);
  }
  std::uint64_t rows() const { return rows_; }
  std::string take_body() {
    std::string body = "[[";
    append_json_string(body, head_ + values_);
    body += parameters_ + "]]";
    values_.clear();
    parameters_.clear();
    rows_ = parameter_count_ = 0;
    return body;
  }

 private:
  const std::string head_;
  const std::optional<std::string> null_text_;
  std::string values_, parameters_;
  std::uint64_t rows_ = 0;
  std::size_t parameter_count_ = 0;
};

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};

// The error of the answer to one statement, or empty.
std::string answer_error(const std::string& body) {
  const auto json = Json::parse(body);
  if (!json) return json.error().text();
  if (const std::string& top = (*json)["error"].text(); !top.empty()) return top;
  const auto& results = (*json)["results"].elements();
  return results.empty() ? std::string() : results[0]["error"].text();
}

}  // namespace

bool Session::download(const std::string& target, const std::string& path, std::string_view what) {
  auto file = WholeFile::create(path);
  if (!file) {
    error(file.error());
    return false;
  }
  Progress progress(std::string(what), settings_.style != Style::Piped);
  std::uint64_t done = 0;
  const BodySink sink = [&](std::string_view piece, std::uint64_t total) -> Result<> {
    done += piece.size();
    progress.show(done, total);
    return (*file)->write(piece);
  };
  if (!request({.method = "GET", .target = target}, StatusForm::Colon, Client::Patience::WhileBytesMove, sink)) return false;
  if (auto finished = (*file)->finish(); !finished) {
    error(finished.error());
    return false;
  }
  return true;
}

void Session::run_backup(const std::string& argument) {
  if (argument.empty()) return error("please specify an output file for the backup");
  if (download("db/backup", argument, "backup")) print("backup file written successfully\n");
}

void Session::run_dump(const std::string& argument) {
  if (argument.empty()) return error("please specify an output file for the SQL text");
  const std::size_t blank = argument.find(' ');
  std::string tables;
  std::string_view rest = blank == std::string::npos ? std::string_view() : without_blanks(std::string_view(argument).substr(blank));
  while (!rest.empty()) {
    const std::size_t comma = rest.find(',');
    if (const std::string_view name = without_blanks(rest.substr(0, comma)); !name.empty()) tables.append(tables.empty() ? "" : ",").append(name);
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
  }
  const std::string target = "db/backup?fmt=sql" + (tables.empty() ? "" : "&tables=" + query_escaped(tables));
  if (download(target, argument.substr(0, blank), "dump")) print("SQL text file written successfully\n");
}

void Session::run_restore(const std::string& argument) {
  if (argument.empty()) return error("please specify an input file to restore from");
  auto file = FileSource::open(argument);
  if (!file) return error(file.error());
  const auto status = request_json({.method = "GET", .target = "status"}, StatusForm::Colon);
  if (!status) return;
  FileSource& source = **file;
  const bool is_image = source.begins_with(kSqliteHeader);
  if (!is_image) source.append(foreign_keys_suffix(*status));
  Progress progress("restore", settings_.style != Style::Piped);
  source.watch(progress);
  HttpRequest load{.method = "POST", .target = "db/load", .source = &source};
  load.headers.emplace_back("Content-Type", is_image ? "application/octet-stream" : "text/plain");
  const auto response = request(std::move(load), StatusForm::Colon, Client::Patience::Endless);
  if (!response) return;
  schema_read_ = {};
  if (!response->body.empty()) {
    const auto json = Json::parse(response->body);
    if (!json) return error(json.error().text());
    if (const std::string& top = (*json)["error"].text(); !top.empty()) return error(top);
    for (const Json& result : (*json)["results"].elements())
      if (const std::string& wrong = result["error"].text(); !wrong.empty()) return result_error(wrong);
    if (!is_image && !(*json)["results"].elements().empty()) {
      const Json& first = (*json)["results"].elements()[0];
      const auto number = [&](std::string_view name) { return first[name].text().empty() ? std::string("0") : first[name].text(); };
      print("last inserted ID: " + number("last_insert_id") + "\nrows affected: " + number("rows_affected") + "\n");
    }
  }
  print("Database restored successfully.\n");
}

void Session::run_boot(const std::string& argument) {
  if (argument.empty()) return error("please specify an input file to boot with");
  if (!request({.method = "GET", .target = "status"}, StatusForm::Colon)) return;
  auto file = FileSource::open(argument);
  if (!file || !(*file)->begins_with(kSqliteHeader)) return error(argument + " is not a valid SQLite file");
  Progress progress("boot", settings_.style != Style::Piped);
  (*file)->watch(progress);
  const auto response = client_.send({.method = "POST", .target = "boot", .source = file->get()}, Client::Patience::Endless);
  if (!response) return error(response.error());
  if (response->status == 401) return error("unauthorized", 2);
  if (response->status != 200) return error("boot failed, status code: " + response->status_text() + ", " + response->body, 2);
  schema_read_ = {};
  print("Node booted successfully.\n");
}

void Session::run_import(const std::string& argument) {
  const auto options = import_options(argument);
  if (!options) return error(options.error());
  const std::unique_ptr<std::FILE, CloseFile> file(std::fopen(options->file.c_str(), "re"));
  if (!file) return error(open_problem(options->file, errno));
  std::fseek(file.get(), 0, SEEK_END);
  const long end = std::ftell(file.get());
  const std::uint64_t total = end > 0 ? static_cast<std::uint64_t>(end) : 0;
  std::rewind(file.get());

  CsvReader reader(file.get(), options->separator);
  const auto next_row = [&](std::vector<std::string>& row) {
    auto read = reader.next();
    if (!read) {
      error(options->file + ": " + read.error().text());
      return false;
    }
    row = std::move(*read);
    return true;
  };
  // Returns false when the server refused it; the error is told.
  const auto post = [&](const std::string& body, const std::string& where) {
    HttpRequest request{.method = "POST", .target = "db/execute"};
    request.headers.emplace_back("Content-Type", "application/json");
    request.body = body;
    const auto response = client_.send(std::move(request));
    if (!response) {
      error(response.error());
      return false;
    }
    if (response->status != 200) {
      error(status_problem(*response, StatusForm::WithBody), 2);
      return false;
    }
    if (const std::string wrong = answer_error(response->body); !wrong.empty()) {
      error(where + wrong);
      return false;
    }
    return true;
  };

  std::vector<std::string> row;
  for (std::uint64_t i = 0; i < options->skip; ++i)
    if (!next_row(row)) return;
  schema_read_ = {};
  const auto& tables = schema().columns;
  const bool exists = std::any_of(tables.begin(), tables.end(), [&](const auto& table) {
    return std::equal(table.first.begin(), table.first.end(), options->table.begin(), options->table.end(), [](char a, char b) { return std::tolower(a) == std::tolower(b); });
  });
  std::string head = "INSERT INTO " + quoted_name(options->table);
  std::vector<std::string> names;
  if (!exists || options->header) {
    if (!next_row(names)) return;
    if (names.empty()) return error(options->file + ": there is no header line");
    head += name_list(names, "");
  }
  if (!exists) {
    std::string body = "[";
    append_json_string(body, "CREATE TABLE " + quoted_name(options->table) + name_list(names, " TEXT"));
    if (!post(body + "]", "")) return;
    schema_read_ = {};
  }

  InsertBatch batch(head + " VALUES", options->null_text);
  Progress progress("import", settings_.style != Style::Piped);
  std::uint64_t imported = 0, first_line = 0;
  std::size_t width = names.size();
  const auto flush = [&] {
    const std::uint64_t rows = batch.rows();
    if (rows == 0) return true;
    const std::string where = options->file + ": rows from line " + std::to_string(first_line) + ": ";
    if (!post(batch.take_body(), where)) {
      error(std::to_string(imported) + " rows were imported before");
      return false;
    }
    imported += rows;
    progress.show(reader.bytes(), total);
    return true;
  };
  while (next_row(row)) {
    if (row.empty()) {
      if (flush()) put(std::to_string(imported) + (imported == 1 ? " row imported\n" : " rows imported\n"));
      return;
    }
    if (width == 0) width = row.size();
    if (row.size() != width) {
      if (!flush()) return;
      return error(options->file + ": line " + std::to_string(reader.line()) + " has " + std::to_string(row.size()) + " fields, expected " + std::to_string(width) + "; " +
                   std::to_string(imported) + " rows were imported before");
    }
    if (batch.full(row.size()) && !flush()) return;
    if (batch.rows() == 0) first_line = reader.line();
    batch.add(row);
  }
}

}  // namespace rq::shell
