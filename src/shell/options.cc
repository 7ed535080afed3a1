#include "shell/options.h"

#include <algorithm>
#include <charconv>
#include <functional>

#include "base/go_text.h"

namespace rq::shell {
namespace {

using Setter = std::function<std::string(const std::string&)>;    // what is wrong, or empty

struct Flag {
  char letter;                 // 0: only the long form
  std::string_view name;
  std::string_view shown_default;
  std::string_view help;
  bool takes_value;
  Setter set;
};

Setter text(std::string& out) {
  return [&out](const std::string& value) { out = value; return std::string(); };
}

Setter boolean(bool& out) {
  return [&out](const std::string& value) -> std::string {
    constexpr std::string_view kTrue = " 1 t T true TRUE True ", kFalse = " 0 f F false FALSE False ";
    const std::string word = " " + value + " ";
    if (value.empty() || value.find(' ') != std::string::npos) return "`" + value + "' couldn't converted to a bool";
    if (kTrue.find(word) != std::string_view::npos) out = true;
    else if (kFalse.find(word) != std::string_view::npos) out = false;
    else return "`" + value + "' couldn't converted to a bool";
    return {};
  };
}

Setter port_number(std::uint64_t& out) {
  return [&out](const std::string& value) -> std::string {
    std::uint64_t number = 0;
    const auto read = std::from_chars(value.data(), value.data() + value.size(), number);
    if (read.ec == std::errc::result_out_of_range) return "value overflow";
    if (value.empty() || read.ec != std::errc() || read.ptr != value.data() + value.size()) return "`" + value + "' couldn't converted to an uint";
    if (number > 65535) return "value overflow";
    out = number;
    return {};
  };
}

Setter duration(std::chrono::nanoseconds& out) {
  return [&out](const std::string& value) -> std::string {
    const auto parsed = parse_go_duration(value);
    if (!parsed) return "time: invalid duration \"" + value + "\"";
    out = *parsed;
    return {};
  };
}

Setter script(std::vector<std::pair<bool, std::string>>& out, bool is_file) {
  return [&out, is_file](const std::string& value) { out.emplace_back(is_file, value); return std::string(); };
}

std::vector<Flag> flags_of(Options& o) {
  return {
      {'h', "help", "", "Show help.", false, boolean(o.help)},
      {'a', "alternatives", "", "Comma separated list of 'host:port' pairs to use as fallback.", true, text(o.alternatives)},
      {'s', "scheme", "http", "Protocol scheme (http or https).", true, text(o.scheme)},
      {'H', "host", "127.0.0.1", "rqlited host address.", true, text(o.host)},
      {'p', "port", "4001", "rqlited host port.", true, port_number(o.port)},
      {'P', "prefix", "/", "rqlited HTTP URL prefix.", true, text(o.prefix)},
      {'i', "insecure", "false", "Do not verify rqlited HTTPS certificate.", false, boolean(o.insecure)},
      {'c', "ca-cert", "", "Path to trusted X.509 root CA certificate.", true, text(o.ca_cert)},
      {'d', "client-cert", "", "Path to client X.509 certificate for mTLS.", true, text(o.client_cert)},
      {'k', "client-key", "", "Path to client X.509 key for mTLS.", true, text(o.client_key)},
      {'u', "user", "", "Set basic auth credentials in form username:password. Without a password it is asked for.", true, text(o.user)},
      {'v', "version", "", "Display CLI version.", false, boolean(o.version)},
      {'t', "http-timeout", "30s", "Timeout for HTTP requests (a Go duration).", true, duration(o.http_timeout)},
      {'e', "execute", "", "Run this SQL or command and leave: no banner, no prompt. May be given several times.", true, script(o.scripts, false)},
      {'f', "file", "", "Run the statements and commands of this file ('-': standard input) and leave.", true, script(o.scripts, true)},
      {'q', "quiet", "false", "No banner, prompts and farewell; exit code 1 after an SQL error, 2 without a connection.", false, boolean(o.quiet)},
      {'m', "mode", "column", "Output mode: column, csv, json, line, box, table, markdown, html, insert, tabs or list.", true, text(o.mode)},
      {'o', "output", "", "Write results to this file.", true, text(o.output)},
      {0, "bail", "false", "Stop at the first error (with -e, -f and -q).", false, boolean(o.bail)},
      {0, "consistency", "", "Read level for all queries: auto, none, weak, linearizable or strong.", true, text(o.consistency)},
      {0, "timer", "false", "Show how long statements took.", false, boolean(o.timer)},
  };
}

const Flag* find_long(const std::vector<Flag>& flags, std::string_view name) {
  const auto found = std::find_if(flags.begin(), flags.end(), [&](const Flag& flag) { return flag.name == name; });
  return found == flags.end() ? nullptr : &*found;
}
const Flag* find_short(const std::vector<Flag>& flags, char letter) {
  const auto found = std::find_if(flags.begin(), flags.end(), [&](const Flag& flag) { return flag.letter == letter; });
  return found == flags.end() ? nullptr : &*found;
}

bool is_scheme(std::string_view text) {
  if (text.empty() || !((text[0] >= 'a' && text[0] <= 'z') || (text[0] >= 'A' && text[0] <= 'Z'))) return false;
  return text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.") == std::string_view::npos;
}

}  // namespace

Result<Options> parse_options(const std::vector<std::string>& arguments) {
  Options options;
  const std::vector<Flag> flags = flags_of(options);
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    if (word == "--") {
      options.ignored.insert(options.ignored.end(), arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1, arguments.end());
      break;
    }
    if (word.size() < 2 || word[0] != '-') {
      options.ignored.push_back(word);
      continue;
    }
    const bool is_long = word.starts_with("--");
    const std::size_t equals = word.find('=');
    std::optional<std::string> value;
    if (equals != std::string::npos && (is_long || equals == 2)) value = word.substr(equals + 1);
    else if (!is_long && word.size() > 2) value = word.substr(2);
    const Flag* flag = is_long ? find_long(flags, std::string_view(word).substr(2, equals == std::string::npos ? equals : equals - 2)) : find_short(flags, word[1]);
    if (flag == nullptr) return fail(Errc::BadRequest, "undefined option " + (is_long ? word.substr(0, equals) : word.substr(0, 2)));
    if (!value && !flag->takes_value) value = "true";
    if (!value) {
      if (i + 1 >= arguments.size()) return fail(Errc::BadRequest, "option " + word + " needs a value");
      value = arguments[++i];
    }
    if (std::string wrong = flag->set(*value); !wrong.empty()) return fail(Errc::BadRequest, std::move(wrong));
    if (flag->name == "host" || flag->name == "port" || flag->name == "scheme") options.host_given = true;
  }
  return options;
}

std::string usage_text(bool bold) {
  Options defaults;
  std::string out = "Options:\n";
  for (const Flag& flag : flags_of(defaults)) {
    out += bold ? "\n  \x1b[1m" : "\n  ";
    if (flag.letter != 0) out.append("-").append(1, flag.letter).append(", ");
    out.append("--").append(flag.name);
    if (!flag.shown_default.empty()) out.append("[=").append(flag.shown_default).append("]");
    if (bold) out += "\x1b[0m";
    out.append("\n      ").append(flag.help) += '\n';
  }
  return out;
}

Result<> apply_host_variable(std::string_view value, Options& options) {
  const std::string whole(value);
  const std::size_t colon = value.find(':');
  std::string_view scheme;
  if (colon != std::string_view::npos && is_scheme(value.substr(0, colon))) {
    scheme = value.substr(0, colon);
    value.remove_prefix(colon + 1);
  } else if (colon == 0) {
    return fail(Errc::BadRequest, "parse \"" + whole + "\": missing protocol scheme");
  } else if (colon != std::string_view::npos && !value.starts_with('/') && value.find('/') > colon) {
    return fail(Errc::BadRequest, "parse \"" + whole + "\": first path segment in URL cannot contain colon");
  }
  if (!scheme.empty() && scheme != "http" && scheme != "https") return fail(Errc::BadRequest, "unsupported protocol " + std::string(scheme));
  std::string_view authority = value.starts_with("//") ? value.substr(2) : "";
  authority = authority.substr(0, authority.find_first_of("/?#"));
  std::string host, port;
  if (authority.starts_with('[')) {
    const std::size_t close = authority.find(']');
    host = authority.substr(1, close == std::string_view::npos ? close : close - 1);
    if (close != std::string_view::npos && close + 2 < authority.size()) port = authority.substr(close + 2);
  } else {
    const std::size_t at = authority.rfind(':');
    host = authority.substr(0, at);
    if (at != std::string_view::npos) port = authority.substr(at + 1);
  }
  if (host.empty()) return fail(Errc::BadRequest, "RQLITE_HOST does not contain a hostname");
  if (!port.empty()) {
    if (port.find_first_not_of("0123456789") != std::string::npos)
      return fail(Errc::BadRequest, "parse \"" + whole + "\": invalid port \":" + port + "\" after host");
    if (port.size() > 9 || std::stoul(port) > 65535) return fail(Errc::BadRequest, "port number " + port + " is outside of valid range [0, 65535]");
    options.port = std::stoul(port);
  }
  options.host = host;
  if (!scheme.empty()) options.scheme = scheme;
  return {};
}

std::string proxy_url(bool tls, std::string_view host, std::uint16_t port, const std::function<std::string(const char*)>& environment) {
  const auto either = [&](const char* upper, const char* lower) {
    std::string value = environment(upper);
    return value.empty() ? environment(lower) : value;
  };
  if (host == "localhost" || host.starts_with("127.") || host == "::1") return {};
  std::string url = tls ? either("HTTPS_PROXY", "https_proxy") : either("HTTP_PROXY", "http_proxy");
  if (url.empty()) return {};
  std::string list = either("NO_PROXY", "no_proxy");
  std::size_t begin = 0;
  while (begin <= list.size()) {
    std::string entry = list.substr(begin, list.find(',', begin) - begin);
    begin += entry.size() + 1;
    entry.erase(0, entry.find_first_not_of(' '));
    entry.erase(entry.find_last_not_of(' ') + 1);
    if (entry.empty()) continue;
    if (entry == "*") return {};
    if (const std::string own_port = ":" + std::to_string(port); entry.ends_with(own_port)) entry.resize(entry.size() - own_port.size());
    if (entry.starts_with("*.")) entry.erase(0, 1);
    // ".example.com" means what is below it, "example.com" itself too.
    if (host == entry || (entry.starts_with('.') ? host.ends_with(entry) : host.ends_with("." + entry))) return {};
  }
  return url;
}

}  // namespace rq::shell
