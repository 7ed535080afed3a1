#include "http/request_target.h"

#include <algorithm>
#include <charconv>
#include <utility>
#include <vector>

#include "base/go_text.h"

namespace rq::http {
namespace {

using Pairs = std::vector<std::pair<std::string, std::string>>;

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

Result<std::string> percent_decode(std::string_view text, bool plus_is_space) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus_is_space) {
      out += ' ';
    } else if (text[i] != '%') {
      out += text[i];
    } else {
      const int high = i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
      const int low = i + 2 < text.size() ? hex_value(text[i + 2]) : -1;
      if (high < 0 || low < 0) return fail(Errc::BadRequest, "invalid URL escape \"" + std::string(text.substr(i, 3)) + "\"");
      out += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  return out;
}

Result<Pairs> parse_query(std::string_view query) {
  Pairs out;
  if (query.find(';') != std::string_view::npos) return fail(Errc::BadRequest, "invalid semicolon separator in query");
  while (!query.empty()) {
    const std::size_t end = std::min(query.find('&'), query.size());
    const std::string_view part = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    if (part.empty()) continue;
    const std::size_t equals = std::min(part.find('='), part.size());
    RQ_TRY(std::string key, percent_decode(part.substr(0, equals), true));
    RQ_TRY(std::string value, percent_decode(part.substr(std::min(equals + 1, part.size())), true));
    out.emplace_back(std::move(key), std::move(value));
  }
  return out;
}

const std::string* find(const Pairs& pairs, std::string_view key) {
  const auto found = std::ranges::find(pairs, key, [](const auto& pair) -> std::string_view { return pair.first; });
  return found == pairs.end() ? nullptr : &found->second;   // the first value counts
}

Result<> read_duration(const Pairs& pairs, const char* key, std::chrono::nanoseconds& out) {
  const std::string* text = find(pairs, key);
  if (text == nullptr) return {};
  const auto value = parse_go_duration(*text);
  if (!value) return fail(Errc::BadRequest, std::string(key) + " is not a valid duration");
  out = *value;
  return {};
}

Result<> read_integer(const Pairs& pairs, const char* key, std::int64_t& out) {
  const std::string* text = find(pairs, key);
  if (text == nullptr) return {};
  std::string_view digits = *text;
  if (digits.starts_with('+') && digits.size() > 1 && digits[1] != '-') digits.remove_prefix(1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out);
  if (error != std::errc() || end != digits.data() + digits.size() || digits.empty())
    return fail(Errc::BadRequest, std::string(key) + " is not a valid integer");
  return {};
}

pb::Request::Level level_of(const std::string* text) {
  if (text == nullptr) return pb::Request::WEAK;
  std::string lower = *text;
  std::ranges::transform(lower, lower.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (lower == "none") return pb::Request::NONE;
  if (lower == "linearizable") return pb::Request::LINEARIZABLE;
  if (lower == "strong") return pb::Request::STRONG;
  if (lower == "auto") return pb::Request::AUTO;
  return pb::Request::WEAK;
}

// In the order in which the reference checks.
Result<> read_parameters(const Pairs& pairs, Parameters& out) {
  const auto flag = [&](std::string_view key) { return find(pairs, key) != nullptr; };
  if (const std::string* q = find(pairs, "q")) {
    if (q->empty()) return fail(Errc::BadRequest, "query parameter not set");
    out.q = *q;
  }
  out.freshness_strict = flag("freshness_strict");
  if (out.freshness_strict && !flag("freshness")) return fail(Errc::BadRequest, "freshness_strict requires freshness");
  RQ_CHECK(read_duration(pairs, "timeout", out.timeout));
  RQ_CHECK(read_duration(pairs, "freshness", out.freshness));
  RQ_CHECK(read_duration(pairs, "db_timeout", out.db_timeout));
  RQ_CHECK(read_duration(pairs, "linearizable_timeout", out.linearizable_timeout));
  RQ_CHECK(read_integer(pairs, "retries", out.retries));
  RQ_CHECK(read_integer(pairs, "trailing_logs", out.trailing_logs));
  out.pretty = flag("pretty");
  out.timings = flag("timings");
  out.associative = flag("associative");
  out.blob_array = flag("blob_array");
  out.qualify_columns = flag("qualify_columns");
  out.raft_index = flag("raft_index");
  out.transaction = flag("transaction");
  out.redirect = flag("redirect");
  out.queue = flag("queue");
  out.wait = flag("wait");
  out.no_leader = flag("noleader");
  out.sync = flag("sync");
  out.non_voters = flag("nonvoters");
  out.scrub = flag("scrub");
  if (const std::string* node = find(pairs, "trust")) out.trust = *node;
  out.level = level_of(find(pairs, "level"));
  const auto text = [&](std::string_view key) {
    const std::string* value = find(pairs, key);
    return value == nullptr ? std::string() : *value;
  };
  out.key = text("key");
  out.ver = text("ver");
  out.fmt = text("fmt");
  out.tables = text("tables");
  out.vacuum = flag("vacuum");
  out.compress = flag("compress");
  return {};
}

}  // namespace

Result<Target> parse_target(std::string_view text) {
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!text.starts_with(scheme)) continue;
    const std::size_t path = text.find_first_of("/?", scheme.size());
    text = path == std::string_view::npos ? std::string_view("/") : text.substr(path);
  }
  const std::size_t question = text.find('?');
  Target out;
  out.raw_path = text.substr(0, question);
  out.raw_query = question == std::string_view::npos ? std::string_view() : text.substr(question + 1);
  RQ_TRY(out.path, percent_decode(out.raw_path, false));
  if (out.raw_query.empty()) return out;
  const Result<Pairs> pairs = parse_query(out.raw_query);
  const Result<> read = pairs ? read_parameters(*pairs, out.parameters) : Result<>(fail(pairs.error()));
  if (!read) out.bad_parameters = read.error();
  return out;
}

}  // namespace rq::http
