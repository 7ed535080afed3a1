// rqlite: the shell. Reads the command line, connects, and hands the input over.
#include <langinfo.h>
#include <termios.h>
#include <unistd.h>

#include <clocale>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

#include "app/rqlited/version.h"
#include "base/go_text.h"
#include "base/log.h"
#include "shell/client.h"
#include "shell/files.h"
#include "shell/options.h"
#include "shell/script.h"
#include "shell/session.h"

namespace {

using namespace rq;
using namespace rq::shell;

constexpr int kUsageError = 2;
constexpr std::size_t kHistoryLines = 1000;

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// Connections fail, files are missing: the reason goes where scripts of the reference look for it.
int refuse(const Error& error, Style style) {
  std::FILE* to = style == Style::Script ? stderr : stdout;
  const bool color = ::isatty(::fileno(to)) == 1;
  std::fputs(((color ? "\x1b[31mERR!\x1b[0m " : "ERR! ") + error.text() + "\n").c_str(), to);
  return kUsageError;
}

Result<std::string> ask_password(const std::string& user) {
  if (::isatty(0) != 1) return fail(Errc::BadRequest, "invalid user '" + user + "': use username:password, or set RQLITE_PASSWORD");
  struct termios before {};
  ::tcgetattr(0, &before);
  struct termios silent = before;
  silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
  ::tcsetattr(0, TCSAFLUSH, &silent);
  std::fputs(("Password for " + user + ": ").c_str(), stderr);
  std::string password;
  std::getline(std::cin, password);
  ::tcsetattr(0, TCSAFLUSH, &before);
  std::fputs("\n", stderr);
  return password;
}

// The value of the Authorization header; empty: none.
Result<std::string> authorization(const Options& options) {
  std::string user = options.user.empty() ? environment("RQLITE_USER") : options.user;
  if (user.empty()) return std::string();
  if (user.find(':') == std::string::npos) {
    std::string password = environment("RQLITE_PASSWORD");
    if (password.empty()) {
      RQ_TRY(password, ask_password(user));
    }
    user += ":" + password;
  }
  std::string header = "Basic ";
  append_base64(header, user);
  return header;
}

Result<std::vector<Endpoint>> hosts_of(const Options& options) {
  if (options.scheme != "http" && options.scheme != "https") return fail(Errc::BadRequest, "unsupported protocol scheme \"" + options.scheme + "\"");
  const bool tls = options.scheme == "https";
  std::string host = options.host;
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  std::vector<Endpoint> hosts{{tls, host, static_cast<std::uint16_t>(options.port)}};
  std::size_t begin = 0;
  while (begin < options.alternatives.size()) {
    const std::size_t comma = std::min(options.alternatives.find(',', begin), options.alternatives.size());
    std::string entry = options.alternatives.substr(begin, comma - begin);
    begin = comma + 1;
    entry.erase(0, entry.find_first_not_of(" \t"));
    entry.erase(entry.find_last_not_of(" \t") + 1);
    if (entry.empty()) continue;
    RQ_TRY(Endpoint endpoint, parse_host(entry, tls, 4001));
    hosts.push_back(std::move(endpoint));
  }
  return hosts;
}

Style style_of(const Options& options) {
  if (!options.scripts.empty() || options.quiet) return Style::Script;
  return ::isatty(0) == 1 ? Style::Interactive : Style::Piped;
}

Result<Session::Settings> settings_of(const Options& options, Style style) {
  Session::Settings settings{.style = style, .color = ::isatty(1) == 1, .bail = options.bail, .timer = options.timer};
  if (!options.mode.empty()) {
    const auto mode = mode_of(options.mode);
    if (!mode) return fail(Errc::BadRequest, "invalid mode '" + options.mode + "'. Use " + mode_choices());
    settings.render.mode = *mode;
  }
  if (!options.consistency.empty()) {
    settings.consistency = options.consistency;
    settings.consistency_given = true;
  }
  return settings;
}

void run_scripts(Session& session, const Options& options) {
  for (const auto& [is_file, text] : options.scripts) {
    if (session.done()) return;
    std::FILE* file = !is_file ? ::fmemopen(const_cast<char*>(text.data()), text.size(), "r") : text == "-" ? stdin : std::fopen(text.c_str(), "re");
    if (file == nullptr && !text.empty()) session.error(open_problem(text, errno));
    if (file == nullptr) continue;
    run_script(session, file);
    if (file != stdin) std::fclose(file);
  }
  if (options.scripts.empty()) run_script(session, stdin);
}

void run_start_file(Session& session) {
  const std::string home = environment("HOME");
  std::FILE* file = home.empty() ? nullptr : std::fopen((home + "/.rqliterc").c_str(), "re");
  if (file == nullptr) return;
  run_script(session, file);
  std::fclose(file);
}

std::size_t history_lines() {
  const std::string value = environment("RQLITE_HISTFILESIZE");
  if (value.empty()) return kHistoryLines;
  char* end = nullptr;
  const long long size = std::strtoll(value.c_str(), &end, 10);
  if (end == value.c_str() || *end != '\0') return kHistoryLines;
  return size <= 0 ? 0 : static_cast<std::size_t>(size);
}

// The first request: is anyone there, and which version. Its status doesn't matter.
Result<> greet(Session& session, Client& client) {
  RQ_TRY(const HttpResponse status, client.send({.method = "GET", .target = "status"}));
  session.print("Welcome to the rqlite CLI.\nEnter \".help\" for usage hints.\nConnected to " + client.current().url() + " running version " +
                (status.version.empty() ? "unknown" : status.version) + "\n");
  return {};
}

int run(const Options& options) {
  const Style style = style_of(options);
  const auto hosts = hosts_of(options);
  if (!hosts) return refuse(hosts.error(), style);
  const auto header = authorization(options);
  if (!header) return refuse(header.error(), style);
  const auto http = HttpClient::create({.tls = {options.insecure, options.ca_cert, options.client_cert, options.client_key},
                                        .authorization = *header,
                                        .interruptible = style == Style::Interactive,
                                        .proxy_of = [](const Endpoint& to) { return proxy_url(to.tls, to.host, to.port, environment); }});
  if (!http) return refuse(http.error(), style);
  Client client(**http, {.hosts = *hosts, .prefix = options.prefix, .timeout = options.http_timeout,
                         .log = [](const std::string& text) { log::write(log::Level::Info, "client", text); }});
  const auto settings = settings_of(options, style);
  if (!settings) return refuse(settings.error(), style);
  Session session(client, *settings);
  if (!options.output.empty())
    if (auto set = session.set_output(options.output); !set) return refuse(set.error(), style);

  if (style == Style::Script) {
    run_scripts(session, options);
    return session.exit_code();
  }
  if (auto greeted = greet(session, client); !greeted) return refuse(greeted.error(), style);
  if (style == Style::Piped) {
    run_lines(session, stdin, ::isatty(1) != 1);
  } else {
    run_start_file(session);
    const std::string home = environment("HOME");
    History history(home.empty() ? "" : home + "/.rqlite_history", history_lines());
    if (::isatty(1) == 1) run_interactive(session, history, environment("TERM")); else run_lines(session, stdin, true);
  }
  session.print("bye~\n");
  return 0;
}

// libedit and the widths of characters follow the locale; texts are UTF-8 whatever the user's says.
void use_utf8() {
  if (std::setlocale(LC_CTYPE, "") == nullptr || std::strcmp(::nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
}

}  // namespace

int main(int argc, char** argv) {
  use_utf8();
  auto options = parse_options({argv + 1, argv + argc});
  if (!options) {
    std::fputs(("ERR! " + options.error().text() + "\n").c_str(), stderr);
    return kUsageError;
  }
  if (options->help) {
    std::fputs(usage_text(::isatty(1) == 1).c_str(), stdout);
    return 0;
  }
  if (options->version) {
    const app::BuildInfo& build = app::build_info();
    std::fputs((std::string("Version ") + app::kVersion + ", commit " + std::string(build.commit) + ", built on " + std::string(build.date) + "\n").c_str(), stdout);
    return 0;
  }
  if (const char* host = std::getenv("RQLITE_HOST"); host != nullptr && !options->host_given) {
    if (auto applied = apply_host_variable(host, *options); !applied) {
      std::fputs((applied.error().text() + "\n").c_str(), stderr);
      return kUsageError;
    }
  }
  for (const std::string& word : options->ignored) std::fputs(("rqlite: '" + word + "' was ignored; use -e to run SQL\n").c_str(), stderr);
  return run(*options);
}
