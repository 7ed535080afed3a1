#include "ops/exposition.h"

#include <charconv>
#include <cmath>

namespace rq::ops {
namespace {

std::string number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  char text[32];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value);
  return {text, end};
}

void append_escaped(std::string& out, std::string_view text, bool quotes) {
  for (const char c : text) {
    if (c == '\\') out += "\\\\";
    else if (c == '\n') out += "\\n";
    else if (c == '"' && quotes) out += "\\\"";
    else out += c;
  }
}

constexpr double kNanosecondsPerSecond = 1e9;
constexpr std::size_t kLastTold = 2 * 26;      // 2^36 ns: 69 s

}  // namespace

void Exposition::head(std::string_view name, std::string_view type, std::string_view help) {
  name_ = name;
  out_.append("# HELP ").append(name).append(" ");
  append_escaped(out_, help, false);
  out_.append("\n# TYPE ").append(name).append(" ").append(type).append("\n");
}

void Exposition::line(std::string_view suffix, const Labels& labels, std::string_view extra_name, std::string_view extra_value, std::string_view value) {
  out_.append(name_).append(suffix);
  char before = '{';
  const auto add = [&](std::string_view name, std::string_view text) {
    out_ += std::exchange(before, ',');
    out_.append(name).append("=\"");
    append_escaped(out_, text, true);
    out_ += '"';
  };
  for (const auto& [name, text] : labels) add(name, text);
  if (!extra_name.empty()) add(extra_name, extra_value);
  if (before == ',') out_ += '}';
  out_.append(" ").append(value).append("\n");
}

void Exposition::sample(std::uint64_t value, const Labels& labels) { line({}, labels, {}, {}, std::to_string(value)); }
void Exposition::sample(std::int64_t value, const Labels& labels) { line({}, labels, {}, {}, std::to_string(value)); }
void Exposition::sample(double value, const Labels& labels) { line({}, labels, {}, {}, number(value)); }

void Exposition::times(const Histogram& histogram, const Labels& labels) {
  const Histogram::Snapshot seen = histogram.snapshot();
  std::uint64_t count = 0;
  for (std::size_t i = 0; i <= kLastTold; ++i) {
    count += seen.counts[i];
    if (i % 2 == 0) line("_bucket", labels, "le", number(static_cast<double>(Histogram::upper_bound(i)) / kNanosecondsPerSecond), std::to_string(count));
  }
  line("_bucket", labels, "le", "+Inf", std::to_string(seen.count));
  line("_sum", labels, {}, {}, number(static_cast<double>(seen.sum) / kNanosecondsPerSecond));
  line("_count", labels, {}, {}, std::to_string(seen.count));
}

}  // namespace rq::ops
