#include "config/go_flags.h"

#include <algorithm>
#include <charconv>

#include "base/go_text.h"

namespace rq::config {
namespace {

constexpr const char* kParseError = "parse error";
constexpr const char* kRangeError = "value out of range";

bool parse_bool(const std::string& text, bool& out) {
  static constexpr std::string_view kTrue[] = {"1", "t", "T", "true", "TRUE", "True"}, kFalse[] = {"0", "f", "F", "false", "FALSE", "False"};
  if (std::ranges::find(kTrue, text) != std::end(kTrue)) out = true;
  else if (std::ranges::find(kFalse, text) != std::end(kFalse)) out = false;
  else return false;
  return true;
}

bool is_word(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// Takes 0x, 0o, 0b or a leading 0 away, and _ between digits or behind the prefix. 0: wrongly written.
int take_base(std::string_view& digits, std::string& plain) {
  int base = 10;
  bool digit_before = false;              // a prefix counts as a digit before a _
  if (digits.size() > 1 && digits[0] == '0') {
    const char kind = static_cast<char>(digits[1] | 0x20);
    base = kind == 'x' ? 16 : kind == 'b' ? 2 : 8;
    digits.remove_prefix(kind == 'x' || kind == 'b' || kind == 'o' ? 2 : 1);
    digit_before = true;
  }
  for (const char c : digits) {
    if (c == '_' ? !digit_before : !is_word(c)) return 0;
    digit_before = c != '_';
    if (digit_before) plain += c;
  }
  return plain.empty() || !digit_before ? 0 : base;
}

// strconv.ParseInt and ParseUint with base 0: only the signed one takes a sign.
template <class T>
std::string parse_integer(std::string_view text, T& out) {
  std::string plain;
  if constexpr (std::is_signed_v<T>) {
    if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
      if (text[0] == '-') plain = "-";
      text.remove_prefix(1);
    }
  }
  std::string digits;
  const int base = take_base(text, digits);
  if (base == 0) return kParseError;
  plain += digits;
  T value = 0;
  const auto [end, error] = std::from_chars(plain.data(), plain.data() + plain.size(), value, base);
  if (end != plain.data() + plain.size()) return kParseError;
  if (error == std::errc::result_out_of_range) return kRangeError;
  if (error != std::errc()) return kParseError;
  out = value;
  return {};
}

}  // namespace

std::string go_quoted(std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') (out += '\\') += c;
    else if (c == '\n') out += "\\n";
    else if (c == '\t') out += "\\t";
    else if (c == '\r') out += "\\r";
    else if (byte < 0x20 || byte == 0x7f) ((out += "\\x") += kHex[byte >> 4]) += kHex[byte & 15];
    else out += c;
  }
  return out + '"';
}

void FlagSet::text(std::string_view name, std::string& out, std::string_view help) {
  add(name, {.type = "string", .help = std::string(help), .shown_default = out.empty() ? "" : go_quoted(out),
             .set = [&out](const std::string& value) {
               out = value;
               return std::string();
             },
             .is_default = [&out, standard = out] { return out == standard; }});
}

void FlagSet::boolean(std::string_view name, bool& out, std::string_view help) {
  add(name, {.type = "", .help = std::string(help), .shown_default = out ? "true" : "",
             .set = [&out](const std::string& value) { return std::string(parse_bool(value, out) ? "" : kParseError); },
             .is_default = [&out, standard = out] { return out == standard; }});
}

void FlagSet::integer(std::string_view name, std::int64_t& out, std::string_view help) {
  add(name, {.type = "int", .help = std::string(help), .shown_default = out == 0 ? "" : std::to_string(out),
             .set = [&out](const std::string& value) { return parse_integer(value, out); },
             .is_default = [&out, standard = out] { return out == standard; }});
}

void FlagSet::unsigned_integer(std::string_view name, std::uint64_t& out, std::string_view help) {
  add(name, {.type = "uint", .help = std::string(help), .shown_default = out == 0 ? "" : std::to_string(out),
             .set = [&out](const std::string& value) { return parse_integer(value, out); },
             .is_default = [&out, standard = out] { return out == standard; }});
}

void FlagSet::duration(std::string_view name, Duration& out, std::string_view help) {
  add(name, {.type = "duration", .help = std::string(help), .shown_default = out.count() == 0 ? "" : go_duration_text(out),
             .set = [&out](const std::string& value) {
               const auto parsed = parse_go_duration(value);
               if (parsed) out = *parsed;
               return std::string(parsed ? "" : kParseError);
             },
             .is_default = [&out, standard = out] { return out == standard; }});
}

std::optional<Exit> FlagSet::parse(const std::vector<std::string>& arguments) {
  std::size_t at = 0;
  while (at < arguments.size()) {
    const std::string& argument = arguments[at];
    if (argument.size() < 2 || argument[0] != '-') break;
    if (argument == "--") {
      ++at;
      break;
    }
    if (auto exit = parse_one(arguments, at)) return exit;
  }
  rest_.assign(arguments.begin() + static_cast<std::ptrdiff_t>(at), arguments.end());
  return std::nullopt;
}

std::optional<Exit> FlagSet::parse_one(const std::vector<std::string>& arguments, std::size_t& at) {
  const std::string& argument = arguments[at++];
  std::string name = argument.substr(argument[1] == '-' ? 2 : 1);
  if (name[0] == '-' || name[0] == '=') return wrong("bad flag syntax: " + argument);
  std::optional<std::string> value;
  if (const std::size_t equals = name.find('='); equals != std::string::npos) {
    value = name.substr(equals + 1);
    name.resize(equals);
  }
  const auto found = flags_.find(name);
  if (found == flags_.end()) {
    if (name == "h" || name == "help") return Exit{0, usage()};
    return wrong("flag provided but not defined: -" + name);
  }
  const Flag& flag = found->second;
  if (!given(name)) given_.push_back(name);
  if (flag.type.empty()) {
    const std::string error = flag.set(value.value_or("true"));
    if (!error.empty()) return wrong("invalid boolean value " + go_quoted(*value) + " for -" + name + ": " + error);
    return std::nullopt;
  }
  if (!value) {
    if (at >= arguments.size()) return wrong("flag needs an argument: -" + name);
    value = arguments[at++];
  }
  const std::string error = flag.set(*value);
  if (!error.empty()) return wrong("invalid value " + go_quoted(*value) + " for flag -" + name + ": " + error);
  return std::nullopt;
}

bool FlagSet::given(std::string_view name) const { return std::ranges::find(given_, name) != given_.end(); }

std::vector<std::string> FlagSet::changed() const {
  std::vector<std::string> names;
  for (const std::string& name : given_)
    if (!flags_.find(name)->second.is_default()) names.push_back(name);
  return names;
}

std::string FlagSet::usage() const {
  std::string out = head_;
  for (const auto& [name, flag] : flags_) {
    out += "  -" + name + (flag.type.empty() ? "" : " " + std::string(flag.type)) + "\n    \t" + flag.help;
    if (!flag.shown_default.empty()) out += " (default " + flag.shown_default + ")";
    out += "\n";
  }
  return out;
}

}  // namespace rq::config
