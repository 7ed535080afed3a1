#include "shell/session.h"

#include <unistd.h>

#include <algorithm>

#include "base/go_text.h"
#include "shell/files.h"
#include "shell/statement.h"

namespace rq::shell {
namespace {

constexpr std::chrono::seconds kSchemaAge{5};

std::string six_digits(const Json& seconds) {
  if (!seconds.is(Json::Kind::Number)) return "0.000000";
  char text[64];
  std::snprintf(text, sizeof(text), "%.6f", std::strtod(seconds.text().c_str(), nullptr));
  return text;
}

std::optional<Rows> rows_of(const Json& result) {
  if (!result.has("columns")) return std::nullopt;
  Rows rows;
  for (const Json& name : result["columns"].elements()) rows.columns.push_back(name.text());
  for (const Json& type : result["types"].elements()) rows.types.push_back(type.text());
  for (const Json& row : result["values"].elements()) {
    rows.values.push_back(row.elements());
    rows.values.back().resize(rows.columns.size());
  }
  return rows;
}

// CREATE, DROP, ALTER; a transaction may hold one.
bool changes_schema(std::string_view sql) {
  const Tokens tokens = tokenize(sql);
  return std::any_of(tokens.list.begin(), tokens.list.end(), [](const Token& token) {
    std::string word(token.text.substr(0, 8));
    std::transform(word.begin(), word.end(), word.begin(), [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; });
    return word == "CREATE" || word == "DROP" || word == "ALTER" || word == "ROLLBACK";
  });
}

}  // namespace

std::vector<std::string> argument_words(std::string_view argument) {
  std::vector<std::string> words;
  char quote = 0;
  bool in_word = false;
  for (const char c : argument) {
    if (quote != 0 ? c == quote : (c == '"' || c == '\'')) {
      quote = quote != 0 ? '\0' : c;
      if (!in_word) words.emplace_back();
      in_word = true;
    } else if (quote == 0 && (c == ' ' || c == '\t')) {
      in_word = false;
    } else {
      if (!in_word) words.emplace_back();
      in_word = true;
      words.back() += c;
    }
  }
  return words;
}

Session::~Session() {
  if (output_ != nullptr) std::fclose(output_);
}

void Session::print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void Session::put(std::string_view text) {
  std::FILE* to = output_ != nullptr ? output_ : stdout;
  if (std::fwrite(text.data(), 1, text.size(), to) != text.size() || std::fflush(to) != 0) error("write " + output_name_ + ": the text could not be written");
  if (once_) {
    once_ = false;
    static_cast<void>(set_output(""));
  }
}

void Session::error(std::string_view text, int code) {
  const std::string_view mark = settings_.color ? "\x1b[31mERR!\x1b[0m " : "ERR! ";
  std::FILE* to = settings_.style == Style::Script ? stderr : stdout;
  std::fputs((std::string(mark) + std::string(text) + "\n").c_str(), to);
  std::fflush(to);
  exit_code_ = std::max(exit_code_, code);
  if (settings_.style == Style::Script && settings_.bail) done_ = true;
}

void Session::error(const Error& problem) {
  if (problem.code == Errc::Canceled) print("\n");     // the terminal shows ^C
  const bool server_gone = problem.code == Errc::Unreachable || problem.code == Errc::Timeout || problem.code == Errc::Closed;
  error(problem.text(), server_gone ? 2 : 1);
}

void Session::result_error(const std::string& text) {
  if (settings_.style == Style::Script) {
    std::fputs(("Error: " + text + "\n").c_str(), stderr);
    exit_code_ = std::max(exit_code_, 1);
    if (settings_.bail) done_ = true;
    return;
  }
  put("Error: " + text + "\n");
}

Result<> Session::set_output(const std::string& path) {
  if (output_ != nullptr) std::fclose(output_);
  output_ = nullptr;
  output_name_ = "stdout";
  if (path.empty() || path == "stdout") return {};
  output_ = std::fopen(path.c_str(), "we");
  if (output_ == nullptr) return fail(Errc::Io, open_problem(path, errno));
  output_name_ = path;
  return {};
}

bool Session::is_command(std::string_view line) const {
  const std::string_view text = trimmed(line);
  if (find_command(text) != nullptr) return true;
  // In the reference an unknown dot command is SQL; the server then tells what it thinks of it.
  return settings_.style != Style::Piped && text.size() > 1 && text[0] == '.' && !(text[1] >= '0' && text[1] <= '9');
}

std::string Session::status_problem(const HttpResponse& response, StatusForm form) const {
  const std::string status = response.status_text();
  switch (form) {
    case StatusForm::WithBody: return "server responded with " + status + ": " + response.body;
    case StatusForm::Colon:
    case StatusForm::Plain: break;
  }
  std::string text = (form == StatusForm::Colon ? "server responded with: " : "server responded with ") + status;
  // The reference keeps the reason to itself.
  if (settings_.style != Style::Piped && !trimmed(response.body).empty()) text.append(": ").append(trimmed(response.body));
  return text;
}

std::optional<HttpResponse> Session::request(HttpRequest request, StatusForm form, Client::Patience patience, const BodySink& sink) {
  auto response = client_.send(std::move(request), patience, sink);
  if (!response) {
    error(response.error());
    return std::nullopt;
  }
  if (response->status == 200 || response->status == 204) return std::move(*response);
  error(response->status == 401 ? "unauthorized" : status_problem(*response, form), 2);
  return std::nullopt;
}

std::optional<Json> Session::request_json(HttpRequest wanted, StatusForm form) {
  const auto response = request(std::move(wanted), form);
  if (!response) return std::nullopt;
  auto json = Json::parse(response->body);
  if (!json) {
    error(json.error().text());
    return std::nullopt;
  }
  return std::move(*json);
}

void Session::sql(const std::string& text) {
  HttpRequest request{.method = "POST", .repeatable = only_reads(text)};
  request.body = "[";
  append_json_string(request.body, text);
  request.body += ']';
  std::string parameters;
  const auto add = [&](const std::string& parameter) { parameters += (parameters.empty() ? "?" : "&") + parameter; };
  if (!settings_.force_writes) {
    if (settings_.blob_array) add("blob_array=");
    if (settings_.style != Style::Piped && !settings_.freshness.empty()) add("freshness=" + query_escaped(settings_.freshness));
    if (settings_.style != Style::Piped && settings_.consistency_given) add("level=" + settings_.consistency);
  }
  if (settings_.timer) add("timings=");
  request.target = (settings_.force_writes ? "db/execute" : "db/request") + parameters;
  const auto response = client_.send(std::move(request));
  if (!response) return error(response.error());
  if (response->status != 200) return error(status_problem(*response, StatusForm::WithBody), 2);
  if (changes_schema(text)) schema_read_ = {};
  show_results(response->body, true);
}

void Session::fixed_query(std::string_view text) {
  HttpRequest request;
  request.target = "db/query?";
  if (settings_.blob_array) request.target += "blob_array=&";
  request.target += "level=" + settings_.consistency + "&q=" + query_escaped(text);
  if (settings_.timer) request.target += "&timings=";
  const auto response = client_.send(std::move(request));
  if (!response) return error(response.error());
  if (response->status != 200) return error(status_problem(*response, StatusForm::WithBody), 2);
  show_results(response->body, false);
}

void Session::show_results(const std::string& body, bool typed) {
  const auto json = Json::parse(body);
  if (!json) return error(json.error().text());
  if (const std::string& top = (*json)["error"].text(); !top.empty()) return error(top);
  const auto& results = (*json)["results"].elements();
  if (results.size() != 1) return error("unexpected results length: " + std::to_string(results.size()));
  if (const std::string& wrong = results[0]["error"].text(); !wrong.empty()) {
    if (typed) result_error(wrong); else error(wrong);
    return;
  }
  show_result(results[0]);
}

void Session::show_result(const Json& result) {
  if (const auto rows = rows_of(result)) {
    std::string text = render(*rows, settings_.render);
    if (settings_.timer) text += "Run Time: " + six_digits(result["time"]) + " seconds\n";
    return put(text);
  }
  const std::string affected = result["rows_affected"].text().empty() ? "0" : result["rows_affected"].text();
  std::string text = affected + (affected == "0" || affected == "1" ? " row affected" : " rows affected");
  if (settings_.timer) text += " (" + six_digits(result["time"]) + " sec)";
  text += '\n';
  if (settings_.changes) text += "last insert ID: " + (result["last_insert_id"].text().empty() ? "0" : result["last_insert_id"].text()) + "\n";
  put(text);
}

void Session::show_rows(const Rows& rows) { put(render(rows, settings_.render)); }

const Schema& Session::schema() {
  const auto now = std::chrono::steady_clock::now();
  if (schema_read_ != std::chrono::steady_clock::time_point{} && now - schema_read_ < kSchemaAge) return schema_;
  schema_read_ = now;
  constexpr std::string_view kQuery =
      "SELECT m.name, p.name FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite_%'";
  const auto response = client_.look(std::string("db/query?level=none&q=") + query_escaped(kQuery));
  if (!response || response->status != 200) return schema_;      // completion is a help, its failure no error
  const auto json = Json::parse(response->body);
  if (!json || (*json)["results"].elements().size() != 1) return schema_;
  const auto rows = rows_of((*json)["results"].elements()[0]);
  if (!rows) return schema_;
  schema_.columns.clear();
  for (const auto& row : rows->values) schema_.columns[row[0].text()].push_back(row[1].text());
  return schema_;
}

}  // namespace rq::shell
