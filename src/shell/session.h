// Session: what happens for each statement and each command of the shell: requests, output, errors, settings. Knows nothing of
// where the text comes from. Used by one thread.
#pragma once

#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "shell/client.h"
#include "shell/completion.h"
#include "shell/json.h"
#include "shell/render.h"

namespace rq::shell {

// Piped: input from a pipe without -q; scripts parse what the reference prints then, so it is that to the byte.
// Script: -e, -f, -q; errors go to stderr and into the exit code.
enum class Style { Interactive, Piped, Script };

class Session {
 public:
  struct Settings {
    Style style = Style::Interactive;
    bool color = false;                  // stdout is a terminal
    bool bail = false;                   // Script: the first error ends it
    RenderOptions render;
    bool timer = false, changes = false, blob_array = false, force_writes = false;
    std::string consistency = "weak";
    bool consistency_given = false;      // then typed SQL sends it too, except in the style Piped
    std::string freshness;
  };
  Session(Client& client, Settings settings) : client_(client), settings_(std::move(settings)) {}
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // One command, or SQL of one or several statements.
  void execute(std::string_view text);
  // SQL alone: what begins like a command is SQL too.
  void execute_sql(std::string_view text);
  // Whether a line is for execute() alone: a dot command, exit or quit. Else it may be part of a statement.
  bool is_command(std::string_view line) const;

  bool done() const { return done_; }    // the user left, or an error ended a script
  // 0; 1: a statement or command failed; 2: no server answered, or it refused the request.
  int exit_code() const { return exit_code_; }
  const Client& client() const { return client_; }
  Style style() const { return settings_.style; }

  void print(std::string_view text);                    // stdout
  void error(std::string_view text, int code = 1);      // "ERR! ..."
  void error(const Error& problem);                     // of a request
  Result<> set_output(const std::string& path);

  std::vector<std::string> command_names() const;
  std::vector<std::string> choices(std::string_view command) const;
  const Schema& schema();                               // for completion; cached for some seconds

 private:
  struct Command;
  static const std::vector<Command>& commands();
  const Command* find_command(std::string_view line) const;

  // session.cc: requests and results
  enum class StatusForm { WithBody, Colon, Plain };
  std::string status_problem(const HttpResponse& response, StatusForm form) const;
  // The answer when its status is 200 (or 204); else the error is told. 401 is "unauthorized" unless the form has a body.
  std::optional<HttpResponse> request(HttpRequest request, StatusForm form, Client::Patience patience = Client::Patience::Whole, const BodySink& sink = {});
  std::optional<Json> request_json(HttpRequest request, StatusForm form);
  void sql(const std::string& text);
  void fixed_query(std::string_view sql);
  // Shows the only result of the answer. Errors of it: as "Error:" into the output, or as "ERR!".
  void show_results(const std::string& body, bool typed);
  void show_result(const Json& result);
  void show_rows(const Rows& rows);
  void result_error(const std::string& text);
  void put(std::string_view text);                      // where results go

  // commands.cc
  void toggle(bool& setting, const std::string& argument);
  void run_blobarray(const std::string& argument);
  void run_bail(const std::string& argument);
  void run_changes(const std::string& argument);
  void run_consistency(const std::string& argument);
  void run_exit(const std::string& argument);
  void run_expvar(const std::string& argument);
  void run_extensions(const std::string& argument);
  void run_forcewrites(const std::string& argument);
  void run_freshness(const std::string& argument);
  void run_headers(const std::string& argument);
  void run_help(const std::string& argument);
  void run_indexes(const std::string& argument);
  void run_leader(const std::string& argument);
  void run_mode(const std::string& argument);
  void run_nodes(const std::string& argument);
  void run_nullvalue(const std::string& argument);
  void run_once(const std::string& argument);
  void run_output(const std::string& argument);
  void run_read(const std::string& argument);
  void run_ready(const std::string& argument);
  void run_reap(const std::string& argument);
  void run_remove(const std::string& argument);
  void run_schema(const std::string& argument);
  void run_show(const std::string& argument);
  void run_snapshot(const std::string& argument);
  void run_status(const std::string& argument);
  void run_stepdown(const std::string& argument);
  void run_tables(const std::string& argument);
  void run_timer(const std::string& argument);
  // cluster_commands.cc
  void run_cluster(const std::string& argument);
  void run_sysdump(const std::string& argument);
  // transfer_commands.cc
  void run_backup(const std::string& argument);
  void run_boot(const std::string& argument);
  void run_dump(const std::string& argument);
  void run_import(const std::string& argument);
  void run_restore(const std::string& argument);
  bool download(const std::string& target, const std::string& path, std::string_view what);

  Client& client_;
  Settings settings_;
  std::FILE* output_ = nullptr;          // null: stdout
  std::string output_name_ = "stdout";
  bool once_ = false;
  bool done_ = false;
  int exit_code_ = 0;
  int read_depth_ = 0;
  Schema schema_;
  std::chrono::steady_clock::time_point schema_read_{};
};

// Words of a command's argument at blanks; "..." and '...' keep blanks.
std::vector<std::string> argument_words(std::string_view argument);

}  // namespace rq::shell
