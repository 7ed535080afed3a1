#include <algorithm>
#include <charconv>

#include "base/go_text.h"
#include "shell/files.h"
#include "shell/script.h"
#include "shell/session.h"
#include "shell/statement.h"
#include "shell/tree.h"

namespace rq::shell {

struct Session::Command {
  std::string_view name;
  std::string_view arguments;
  std::string_view help;
  void (Session::*run)(const std::string& argument);
  std::vector<std::string> choices = {};
  bool ours = false;                      // not in the reference, and not in its help text
  bool listed = true;
};

// Alphabetic, as .help shows them.
const std::vector<Session::Command>& Session::commands() {
  static const std::vector<std::string> kOnOff{"on", "off"};
  static const std::vector<std::string> kFile{"FILE"};
  static const std::vector<Command> kCommands{
      {".backup", "FILE", "Write database backup to FILE", &Session::run_backup, kFile},
      {".bail", "[on|off]", "Show setting, or stop scripts at the first error", &Session::run_bail, kOnOff, true},
      {".blobarray", "[on|off]", "Show setting, or set BLOB data display as byte arrays", &Session::run_blobarray, kOnOff},
      {".boot", "FILE", "Boot the node using a SQLite file read from FILE", &Session::run_boot, kFile},
      {".changes", "[on|off]", "Show setting, or set display of last insert ID after writes", &Session::run_changes, kOnOff},
      {".cluster", "", "Show all nodes with role, applied index, lag and latency", &Session::run_cluster, {}, true},
      {".consistency", "[none|weak|linearizable|strong]", "Show or set read consistency level", &Session::run_consistency,
       {"auto", "none", "weak", "linearizable", "strong"}},
      {".dump", "FILE [TABLE,TABLE...]", "Dump the database in SQL text to FILE, optionally limited to TABLEs", &Session::run_dump, {"FILE", "TABLE"}},
      {".exit", "", "Exit this program", &Session::run_exit},
      {".expvar", "", "Show expvar (Go runtime) information for connected node", &Session::run_expvar},
      {".extensions", "", "Show loaded SQLite extensions", &Session::run_extensions},
      {".forcewrites", "[on|off]", "Show setting, or set all statements to be executed via /db/execute", &Session::run_forcewrites, kOnOff},
      {".freshness", "[DURATION|off]", "Show or set how old the data of reads at level none may be", &Session::run_freshness, {"off"}, true},
      {".headers", "[on|off]", "Show setting, or set the header line of csv, tabs and list", &Session::run_headers, kOnOff, true},
      {".help", "", "Show this message", &Session::run_help},
      {".import", "FILE TABLE [--header] [--skip N] [--sep C] [--null TEXT]", "Insert the rows of a CSV file into TABLE", &Session::run_import,
       {"FILE", "TABLE", "--header", "--skip", "--sep", "--null"}, true},
      {".indexes", "", "Show names of all indexes", &Session::run_indexes},
      {".leader", "", "Show the current cluster leader", &Session::run_leader},
      {".mode", "[column|csv|json|line]", "Show or set output mode for query results", &Session::run_mode,
       {"column", "csv", "json", "line", "box", "table", "markdown", "html", "insert", "tabs", "list"}},
      {".nodes", "[all]", "Show connection status of voting nodes. 'all' to show all nodes", &Session::run_nodes, {"all"}},
      {".nullvalue", "[TEXT|off]", "Show or set the text for NULL", &Session::run_nullvalue, {}, true},
      {".once", "FILE", "Send the next result to FILE", &Session::run_once, kFile, true},
      {".output", "FILE", "Send output to FILE, or stdout if FILE is omitted", &Session::run_output, {"FILE", "stdout"}},
      {".quit", "", "Exit this program", &Session::run_exit},
      {".read", "FILE", "Read and execute SQL statements from FILE", &Session::run_read, kFile},
      {".ready", "", "Show ready status for connected node", &Session::run_ready},
      {".reap", "", "Request a snapshot reap on connected node", &Session::run_reap},
      {".remove", "NODEID", "Remove node NODEID from the cluster", &Session::run_remove},
      {".restore", "FILE", "Load using SQLite file or SQL dump contained in FILE", &Session::run_restore, kFile},
      {".schema", "", "Show CREATE statements for all tables", &Session::run_schema},
      {".show", "", "Show the current values for various settings", &Session::run_show},
      {".snapshot", "[TRAILINGLOGS]", "Request a Raft snapshot and log truncation on connected node", &Session::run_snapshot},
      {".status", "", "Show status and diagnostic information for connected node", &Session::run_status},
      {".stepdown", "[NODEID]", "Instruct the leader to stepdown, optionally specifying new Leader node", &Session::run_stepdown},
      {".sysdump", "FILE", "Dump system diagnostics to FILE", &Session::run_sysdump, kFile},
      {".tables", "", "List names of tables", &Session::run_tables},
      {".timer", "[on|off]", "Show setting, or set query timings on or off", &Session::run_timer, kOnOff},
      {"exit", "", "", &Session::run_exit, {}, false, false},
      {"quit", "", "", &Session::run_exit, {}, false, false},
  };
  return kCommands;
}

namespace {

std::string on_off(bool value) { return value ? "on\n" : "off\n"; }

std::string help_line(std::string_view name, std::string_view arguments, std::string_view help) {
  constexpr std::size_t kNameWidth = 46;
  std::string line(name);
  if (!arguments.empty()) line.append(" ").append(arguments);
  if (line.size() >= kNameWidth) line.append("\n").append(kNameWidth, ' '); else line.append(kNameWidth - line.size(), ' ');
  return line.append(help) + "\n";
}

HttpRequest get(std::string target) { return {.method = "GET", .target = std::move(target)}; }

std::string id_body(const std::string& id) {
  std::string body = "{\"id\":";
  append_json_string(body, id);
  return body + "}";
}

}  // namespace

const Session::Command* Session::find_command(std::string_view line) const {
  std::string word(line.substr(0, line.find(' ')));
  if (settings_.style != Style::Piped && (word.ends_with(';') && !word.starts_with('.'))) word.pop_back();     // exit;
  std::transform(word.begin(), word.end(), word.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  for (const Command& command : commands())
    if (command.name == word && (settings_.style != Style::Piped || !command.ours)) return &command;
  return nullptr;
}

void Session::execute(std::string_view text) {
  text = trimmed(text);
  if (text.empty()) return;
  if (const Command* command = find_command(text)) {
    const std::size_t blank = text.find(' ');
    const std::string argument(blank == std::string_view::npos ? "" : text.substr(blank + 1));
    return (this->*command->run)(argument);
  }
  if (is_command(text)) return error("unknown command '" + std::string(text.substr(0, text.find(' '))) + "'. See .help");
  execute_sql(text);
}

void Session::execute_sql(std::string_view text) {
  // The reference sends a line as it is, and shows the last result only.
  if (settings_.style == Style::Piped) return sql(std::string(text));
  for (const std::string& statement : split_statements(text)) {
    if (done_) return;
    sql(statement);
  }
}

std::vector<std::string> Session::command_names() const {
  std::vector<std::string> names;
  for (const Command& command : commands())
    if (command.listed) names.emplace_back(command.name);
  return names;
}

std::vector<std::string> Session::choices(std::string_view name) const {
  for (const Command& command : commands())
    if (command.name == name) return command.choices;
  return {};
}

void Session::toggle(bool& setting, const std::string& argument) {
  if (argument.empty()) return print(on_off(setting));
  if (argument != "on" && argument != "off") return error("invalid option '" + argument + "'. Use 'on' or 'off' (default)");
  setting = argument == "on";
}

void Session::run_bail(const std::string& argument) { toggle(settings_.bail, argument); }
void Session::run_blobarray(const std::string& argument) { toggle(settings_.blob_array, argument); }
void Session::run_changes(const std::string& argument) { toggle(settings_.changes, argument); }
void Session::run_forcewrites(const std::string& argument) { toggle(settings_.force_writes, argument); }
void Session::run_headers(const std::string& argument) { toggle(settings_.render.headers, argument); }
void Session::run_timer(const std::string& argument) { toggle(settings_.timer, argument); }
void Session::run_exit(const std::string&) { done_ = true; }

void Session::run_consistency(const std::string& argument) {
  if (argument.empty()) return print(settings_.consistency + "\n");
  if (argument != "auto" && argument != "none" && argument != "weak" && argument != "linearizable" && argument != "strong")
    return error("invalid consistency '" + argument + "'. Use 'auto', 'none', 'weak', 'linearizable', or 'strong'");
  settings_.consistency = argument;
  settings_.consistency_given = true;
}

void Session::run_freshness(const std::string& argument) {
  if (argument.empty()) return print((settings_.freshness.empty() ? "off" : settings_.freshness) + "\n");
  if (argument != "off" && !parse_go_duration(argument)) return error("time: invalid duration \"" + argument + "\"");
  settings_.freshness = argument == "off" ? "" : argument;
}

void Session::run_nullvalue(const std::string& argument) {
  if (argument.empty()) return print(settings_.render.null_text.value_or("off") + "\n");
  const auto words = argument_words(argument);
  if (argument == "off") settings_.render.null_text.reset(); else settings_.render.null_text = words.empty() ? "" : words[0];
}

void Session::run_mode(const std::string& argument) {
  if (argument.empty()) return print(std::string(name_of(settings_.render.mode)) + "\n");
  const auto words = argument_words(argument);
  const auto mode = mode_of(settings_.style == Style::Piped || words.empty() ? argument : words[0]);
  if (!mode) return error("invalid mode '" + argument + "'. Use " + mode_choices());
  settings_.render.mode = *mode;
  if (*mode == Mode::Insert && words.size() > 1) settings_.render.insert_table = words[1];
}

void Session::run_output(const std::string& argument) {
  once_ = false;
  if (auto set = set_output(argument); !set) error(set.error());
}

void Session::run_once(const std::string& argument) {
  if (argument.empty()) return error("please specify an output file for the next result");
  if (auto set = set_output(argument); !set) return error(set.error());
  once_ = true;
}

void Session::run_help(const std::string& argument) {
  std::string text, more;
  for (const Command& command : commands()) {
    if (!command.listed) continue;
    (command.ours ? more : text) += help_line(command.name, command.arguments, command.help);
  }
  print(text);
  // Scripts that read the help of the reference get that text alone.
  if (settings_.style == Style::Piped && argument != "all") return;
  print("\nMore than the reference has:\n" + more +
        "\nFurther modes: box, table, markdown, html, insert [TABLE], tabs, list.\nA statement may span lines; it ends with ; or where it is complete. Tab completes.\n");
}

void Session::run_show(const std::string&) {
  std::string text;
  const auto add = [&](std::string_view name, std::string_view value) { text.append("  ").append(name).append(": ").append(value) += '\n'; };
  const auto flag = [](bool value) { return value ? "on" : "off"; };
  add("blobarray", flag(settings_.blob_array));
  add("changes", flag(settings_.changes));
  add("consistency", settings_.consistency);
  add("forcewrites", flag(settings_.force_writes));
  add("mode", name_of(settings_.render.mode));
  add("output", output_name_);
  add("timer", flag(settings_.timer));
  if (settings_.style != Style::Piped) {
    add("bail", flag(settings_.bail));
    add("freshness", settings_.freshness.empty() ? "off" : settings_.freshness);
    add("headers", flag(settings_.render.headers));
    add("nullvalue", settings_.render.null_text.value_or("off"));
  }
  print(text);
}

void Session::run_tables(const std::string&) { fixed_query("SELECT name FROM sqlite_master WHERE type=\"table\" ORDER BY name ASC"); }
void Session::run_indexes(const std::string&) { fixed_query("SELECT sql FROM sqlite_master WHERE type=\"index\""); }
void Session::run_schema(const std::string&) { fixed_query("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid ASC"); }

void Session::run_status(const std::string& argument) {
  if (const auto json = request_json(get("status"), StatusForm::WithBody)) print(tree_text(*json, argument));
}

void Session::run_expvar(const std::string& argument) {
  if (const auto json = request_json(get("debug/vars"), StatusForm::WithBody)) print(tree_text(*json, argument));
}

void Session::run_nodes(const std::string& argument) {
  if (const auto json = request_json(get(argument.empty() ? "nodes" : "nodes?nonvoters"), StatusForm::WithBody)) print(tree_text(*json));
}

void Session::run_leader(const std::string&) {
  const auto json = request_json(get("nodes"), StatusForm::WithBody);
  if (!json) return;
  for (const auto& [id, node] : json->members())
    if (node["leader"].truth()) return print(tree_text(*json, id));
  error("no leader found");
}

void Session::run_extensions(const std::string&) {
  const auto json = request_json(get("status?key=extensions"), StatusForm::WithBody);
  if (!json) return;
  const Json& names = json->has("names") ? (*json)["names"] : (*json)["extensions"]["names"];
  for (const Json& name : names.elements()) print(name.text() + "\n");
}

void Session::run_ready(const std::string&) {
  const auto response = client_.send(get("readyz"));
  if (!response) return error(response.error());
  print(response->status == 200 ? "ready\n" : "not ready\n");
  if (response->status != 200) exit_code_ = std::max(exit_code_, 1);
}

void Session::run_reap(const std::string&) {
  const auto json = request_json({.method = "POST", .target = "reap"}, StatusForm::Plain);
  if (!json) return;
  const auto number = [&](std::string_view name) { return (*json)[name].text().empty() ? std::string("0") : (*json)[name].text(); };
  print("snapshots reaped: " + number("snapshots_reaped") + ", WALs checkpointed: " + number("wals_checkpointed") + "\n");
}

void Session::run_remove(const std::string& argument) {
  if (argument.empty()) return error("please specify the id of the node to remove");
  HttpRequest request{.method = "DELETE", .target = "remove"};
  request.body = id_body(argument);
  static_cast<void>(this->request(std::move(request), StatusForm::Colon));
}

void Session::run_snapshot(const std::string& argument) {
  std::uint64_t trailing = 0;
  if (!argument.empty()) {
    const auto read = std::from_chars(argument.data(), argument.data() + argument.size(), trailing);
    if (read.ec != std::errc() || read.ptr != argument.data() + argument.size()) return error("invalid trailing logs value: " + argument);
  }
  static_cast<void>(request({.method = "POST", .target = "snapshot?trailing_logs=" + std::to_string(trailing)}, StatusForm::Plain));
}

void Session::run_stepdown(const std::string& argument) {
  HttpRequest request{.method = "POST", .target = "leader?wait=true"};
  if (!argument.empty()) {
    request.headers.emplace_back("Content-Type", "application/json");
    request.body = id_body(argument);
  }
  static_cast<void>(this->request(std::move(request), StatusForm::Plain));
}

void Session::run_read(const std::string& argument) {
  constexpr int kReadDepthMax = 10;
  if (argument.empty()) return error("please specify an input file to read from");
  if (read_depth_ >= kReadDepthMax) return error("too many files read from one another");
  std::FILE* file = std::fopen(argument.c_str(), "re");
  if (file == nullptr) return error(open_problem(argument, errno));
  ++read_depth_;
  run_script(*this, file);
  --read_depth_;
  std::fclose(file);
}

}  // namespace rq::shell
