// The target of a request, taken apart: path and query parameters with the rules and texts of spec http-api section 4.
// Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "command/command.pb.h"

namespace rq::http {

struct Parameters {
  std::optional<std::string> q;
  bool pretty = false, timings = false, associative = false, blob_array = false, qualify_columns = false, raft_index = false;
  bool transaction = false, redirect = false, queue = false, wait = false, no_leader = false, sync = false, non_voters = false;
  bool freshness_strict = false;
  bool scrub = false;
  std::optional<std::string> trust;
  pb::Request::Level level = pb::Request::WEAK;
  std::chrono::nanoseconds timeout = std::chrono::seconds(30);
  std::chrono::nanoseconds freshness{0}, db_timeout{0};
  std::chrono::nanoseconds linearizable_timeout = std::chrono::seconds(10);
  std::int64_t retries = 0, trailing_logs = 0;
  std::string key, ver, fmt, tables;
  bool vacuum = false, compress = false;
};

struct Target {
  std::string path;          // percent-decoded
  std::string_view raw_path, raw_query;   // of the text that was parsed
  Parameters parameters;
  std::optional<Error> bad_parameters;    // Errc::BadRequest; told after OPTIONS, before routing
};

// `text` is what stands in the request line: origin form or absolute form. Errc::BadRequest: not a target at all.
// The views point into `text`.
Result<Target> parse_target(std::string_view text);

}  // namespace rq::http
