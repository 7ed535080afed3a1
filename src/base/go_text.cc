#include "base/go_text.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>

namespace rq {
namespace {

constexpr std::int64_t kMicro = 1'000;
constexpr std::int64_t kMilli = 1'000'000;
constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kMinute = 60 * kSecond;
constexpr std::int64_t kHour = 60 * kMinute;

// Takes the unit at the front of `text` away; 0: none.
std::int64_t take_unit(std::string_view& text) {
  struct Unit {
    std::string_view name;
    std::int64_t nanoseconds;
  };
  static constexpr Unit kUnits[] = {{"ns", 1},           {"us", kMicro}, {"\u00b5s", kMicro}, {"\u03bcs", kMicro},
                                    {"ms", kMilli},      {"s", kSecond}, {"m", kMinute},      {"h", kHour}};
  for (const Unit& unit : kUnits) {
    if (!text.starts_with(unit.name)) continue;
    text.remove_prefix(unit.name.size());
    return unit.nanoseconds;
  }
  return 0;
}

// Digits, optionally a dot and digits, at least one digit; the fraction is given in units of 1/scale.
struct Decimal {
  std::uint64_t whole = 0;
  std::uint64_t fraction = 0;
  double scale = 1;
};
std::optional<Decimal> take_decimal(std::string_view& text) {
  constexpr std::uint64_t kMax = std::uint64_t{1} << 63;
  Decimal number;
  std::size_t digits = 0;
  std::size_t i = 0;
  for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i, ++digits) {
    if (number.whole > kMax / 10) return std::nullopt;
    number.whole = number.whole * 10 + static_cast<std::uint64_t>(text[i] - '0');
    if (number.whole > kMax) return std::nullopt;
  }
  if (i < text.size() && text[i] == '.') {
    bool full = false;
    for (++i; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i, ++digits) {
      if (full || number.fraction > (kMax - 1) / 10) {
        full = true;
        continue;
      }
      number.fraction = number.fraction * 10 + static_cast<std::uint64_t>(text[i] - '0');
      number.scale *= 10;
    }
  }
  if (digits == 0) return std::nullopt;
  text.remove_prefix(i);
  return number;
}

std::string fraction_text(std::uint64_t value, std::uint64_t unit, std::string_view suffix) {
  std::string out = std::to_string(value / unit);
  std::uint64_t rest = value % unit;
  if (rest != 0) {
    out += '.';
    for (std::uint64_t place = unit / 10; place > 0 && rest > 0; place /= 10) {
      out += static_cast<char>('0' + rest / place);
      rest %= place;
    }
  }
  return out.append(suffix);
}

// ---- JSON strings

constexpr char kHex[] = "0123456789abcdef";

constexpr std::array<bool, 256> kPlain = [] {
  std::array<bool, 256> plain{};
  for (int c = 0x20; c < 0x80; ++c) plain[static_cast<std::size_t>(c)] = true;
  for (const char c : {'"', '\\', '<', '>', '&'}) plain[static_cast<unsigned char>(c)] = false;
  return plain;
}();

void append_escaped(std::string& out, unsigned char c) {
  switch (c) {
    case '"': out += "\\\""; return;
    case '\\': out += "\\\\"; return;
    case '\b': out += "\\b"; return;
    case '\f': out += "\\f"; return;
    case '\n': out += "\\n"; return;
    case '\r': out += "\\r"; return;
    case '\t': out += "\\t"; return;
    default:
      out += "\\u00";
      out += kHex[c >> 4];
      out += kHex[c & 15];
  }
}

// Length of the valid UTF-8 sequence at the front (2 to 4), or 0.
std::size_t utf8_length(std::string_view text) {
  const auto at = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto follows = [&](std::size_t i) { return (at(i) & 0xc0) == 0x80; };
  const unsigned first = at(0);
  if (first >= 0xc2 && first <= 0xdf) return follows(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    if (!follows(1) || !follows(2)) return 0;
    if (first == 0xe0 && at(1) < 0xa0) return 0;      // overlong
    if (first == 0xed && at(1) > 0x9f) return 0;      // surrogates
    return 3;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    if (!follows(1) || !follows(2) || !follows(3)) return 0;
    if (first == 0xf0 && at(1) < 0x90) return 0;
    if (first == 0xf4 && at(1) > 0x8f) return 0;
    return 4;
  }
  return 0;
}

void append_wide(std::string& out, std::string_view text, std::size_t& i) {
  const std::size_t length = utf8_length(text.substr(i));
  if (length == 0) {
    out += "\\ufffd";
    ++i;
    return;
  }
  const std::string_view sequence = text.substr(i, length);
  if (sequence == "\u2028") out += "\\u2028";
  else if (sequence == "\u2029") out += "\\u2029";
  else out += sequence;
  i += length;
}

constexpr char kBase64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

}  // namespace

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    if (static_cast<unsigned char>(text[i]) < 0x80) {
      ++i;
      continue;
    }
    const std::size_t length = utf8_length(text.substr(i, 4));
    if (length == 0) return false;
    i += length;
  }
  return true;
}

std::optional<std::chrono::nanoseconds> parse_go_duration(std::string_view text) {
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  if (text == "0") return std::chrono::nanoseconds(0);
  if (text.empty()) return std::nullopt;
  constexpr std::uint64_t kMax = std::uint64_t{1} << 63;
  std::uint64_t total = 0;
  while (!text.empty()) {
    const std::optional<Decimal> number = take_decimal(text);
    if (!number) return std::nullopt;
    const auto unit = static_cast<std::uint64_t>(take_unit(text));
    if (unit == 0 || number->whole > kMax / unit) return std::nullopt;
    total += number->whole * unit;
    total += static_cast<std::uint64_t>(static_cast<double>(number->fraction) * (static_cast<double>(unit) / number->scale));
    if (total > kMax) return std::nullopt;
  }
  if (negative) return std::chrono::nanoseconds(static_cast<std::int64_t>(~total + 1));
  if (total > kMax - 1) return std::nullopt;
  return std::chrono::nanoseconds(static_cast<std::int64_t>(total));
}

std::string go_duration_text(std::chrono::nanoseconds duration) {
  const std::int64_t count = duration.count();
  if (count == 0) return "0s";
  const bool negative = count < 0;
  const std::uint64_t value = negative ? ~static_cast<std::uint64_t>(count) + 1 : static_cast<std::uint64_t>(count);
  std::string out = negative ? "-" : "";
  if (value < kMicro) return out + std::to_string(value) + "ns";
  if (value < kMilli) return out + fraction_text(value, kMicro, "\u00b5s");
  if (value < kSecond) return out + fraction_text(value, kMilli, "ms");
  const std::uint64_t hours = value / kHour;
  const std::uint64_t minutes = value / kMinute % 60;
  if (hours > 0) out += std::to_string(hours) + "h";
  if (hours > 0 || minutes > 0) out += std::to_string(minutes) + "m";
  return out + fraction_text(value % kMinute, kSecond, "s");
}

std::string rfc3339_text(WallTime time) {
  const std::int64_t nanoseconds = time.time_since_epoch().count();
  std::int64_t seconds = nanoseconds / kSecond;
  std::int64_t rest = nanoseconds % kSecond;
  if (rest < 0) {
    rest += kSecond;
    --seconds;
  }
  const std::time_t at = seconds;
  std::tm parts{};
  gmtime_r(&at, &parts);
  char text[40];
  std::string out(text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts));
  if (rest != 0) out += fraction_text(static_cast<std::uint64_t>(rest), kSecond, "").substr(1);
  return out + "Z";
}

std::string friendly_size(std::uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
  if (bytes < 10) return std::to_string(bytes) + " B";
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1000 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  value = std::floor(value * 10 + 0.5) / 10;
  char text[32];
  std::snprintf(text, sizeof text, value < 10 && unit > 0 ? "%.1f %s" : "%.0f %s", value, kUnits[unit]);
  return text;
}

void append_json_string(std::string& out, std::string_view text) {
  out += '"';
  std::size_t begin = 0;
  std::size_t i = 0;
  while (i < text.size()) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (kPlain[c]) {
      ++i;
      continue;
    }
    out.append(text, begin, i - begin);
    if (c < 0x80) {
      append_escaped(out, c);
      ++i;
    } else {
      append_wide(out, text, i);
    }
    begin = i;
  }
  out.append(text, begin, i - begin);
  out += '"';
}

void append_json_double(std::string& out, double value) {
  if (!std::isfinite(value)) {
    out += "null";
    return;
  }
  char text[400];
  const double size = std::fabs(value);
  const bool exponent = size != 0 && (size < 1e-6 || size >= 1e21);
  if (!exponent && size >= 1e15) {
    // Fixed notation would show the exact integer; the reference shows the shortest digits, filled up with zeros.
    const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::scientific).ptr;
    const std::string_view shown(text, static_cast<std::size_t>(end - text));
    const std::size_t e = shown.find('e');
    int places = 0;
    std::from_chars(shown.data() + e + 2, shown.data() + shown.size(), places);
    std::size_t digits = 0;
    for (const char c : shown.substr(0, e)) {
      if (c == '.') continue;
      if (c != '-' && digits++ == static_cast<std::size_t>(places) + 1) out += '.';
      out += c;
    }
    for (; digits <= static_cast<std::size_t>(places); ++digits) out += '0';
    return;
  }
  const auto end = std::to_chars(text, text + sizeof text, value, exponent ? std::chars_format::scientific : std::chars_format::fixed).ptr;
  std::string_view digits(text, static_cast<std::size_t>(end - text));
  if (!exponent) {
    out += digits;
    return;
  }
  // "1e-07" -> "1e-7", as Go writes it.
  const std::size_t e = digits.find('e');
  out.append(digits.substr(0, e + 2));
  digits.remove_prefix(e + 2);
  while (digits.size() > 1 && digits.front() == '0') digits.remove_prefix(1);
  out += digits;
}

void append_base64(std::string& out, std::string_view bytes) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned>(static_cast<unsigned char>(bytes[i])); };
  std::size_t i = 0;
  out.reserve(out.size() + (bytes.size() + 2) / 3 * 4);
  for (; i + 2 < bytes.size(); i += 3) {
    const unsigned group = at(i) << 16 | at(i + 1) << 8 | at(i + 2);
    out += kBase64[group >> 18];
    out += kBase64[group >> 12 & 63];
    out += kBase64[group >> 6 & 63];
    out += kBase64[group & 63];
  }
  if (i == bytes.size()) return;
  const bool two = i + 1 < bytes.size();
  const unsigned group = at(i) << 16 | (two ? at(i + 1) << 8 : 0);
  out += kBase64[group >> 18];
  out += kBase64[group >> 12 & 63];
  out += two ? kBase64[group >> 6 & 63] : '=';
  out += '=';
}

std::optional<std::string> decode_base64(std::string_view text) {
  static constexpr auto kValues = [] {
    std::array<std::int8_t, 256> values{};
    for (auto& value : values) value = -1;
    for (int i = 0; i < 64; ++i) values[static_cast<unsigned char>(kBase64[i])] = static_cast<std::int8_t>(i);
    return values;
  }();
  if (text.size() % 4 != 0) return std::nullopt;
  std::size_t padding = 0;
  while (padding < 2 && !text.empty() && text.back() == '=') {
    text.remove_suffix(1);
    ++padding;
  }
  std::string out;
  unsigned group = 0;
  int bits = 0;
  for (const char c : text) {
    const int value = kValues[static_cast<unsigned char>(c)];
    if (value < 0) return std::nullopt;
    group = group << 6 | static_cast<unsigned>(value);
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    out += static_cast<char>(group >> bits & 0xff);
  }
  return out;
}

std::string pretty_json(std::string_view compact) {
  std::string out;
  out.reserve(compact.size() * 2);
  std::size_t depth = 0;
  bool in_string = false;
  const auto line = [&] { out.append("\n").append(depth * 4, ' '); };
  for (std::size_t i = 0; i < compact.size(); ++i) {
    const char c = compact[i];
    if (in_string) {
      out += c;
      if (c == '\\' && i + 1 < compact.size()) out += compact[++i];
      else if (c == '"') in_string = false;
      continue;
    }
    const char next = i + 1 < compact.size() ? compact[i + 1] : '\0';
    switch (c) {
      case '"':
        in_string = true;
        out += c;
        break;
      case '{':
      case '[':
        out += c;
        if (next == (c == '{' ? '}' : ']')) {
          out += compact[++i];
          break;
        }
        ++depth;
        line();
        break;
      case '}':
      case ']':
        depth -= depth > 0 ? 1 : 0;
        line();
        out += c;
        break;
      case ',':
        out += c;
        line();
        break;
      case ':':
        out += ": ";
        break;
      default:
        out += c;
    }
  }
  return out;
}

}  // namespace rq
