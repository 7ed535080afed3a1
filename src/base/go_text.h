// Texts in the form that the reference prints and accepts: durations, times, sizes, quoted JSON strings.
// Clients parse them, so they are exact (spec http-api section 4 and 8, observability section 2).
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/clock.h"

namespace rq {

// "1h30m5.5s", ".5s", "+1s", "-1s", "0"; units ns us µs ms s m h. Nothing else, also not "".
std::optional<std::chrono::nanoseconds> parse_go_duration(std::string_view text);
// "0s", "24.757µs", "1.5ms", "30s", "1m18.04s", "24h0m0s".
std::string go_duration_text(std::chrono::nanoseconds duration);

// RFC 3339 with nanoseconds, trailing zeros of the fraction dropped, UTC ("Z").
std::string rfc3339_text(WallTime time);

// "0 B", "4.1 kB", "70 kB": factor 1000, one decimal below 10.
std::string friendly_size(std::uint64_t bytes);

bool is_utf8(std::string_view text);

// Appends `text` as a JSON string, quoted, escaped as spec http-api section 8 says (<, >, &, U+2028/9 escaped,
// invalid UTF-8 replaced by U+FFFD).
void append_json_string(std::string& out, std::string_view text);

// Shortest text that reads back to the same double, in the form of spec http-api section 8 (1 for 1.0, 1e-7, 1e+21).
// Infinite and NaN: "null".
void append_json_double(std::string& out, double value);

// Standard base64 with padding.
void append_base64(std::string& out, std::string_view bytes);
std::optional<std::string> decode_base64(std::string_view text);

// Re-indents a compact JSON text by 4 spaces a level, as Go's json.MarshalIndent does ([] and {} stay).
// Input must be valid JSON without white space between tokens.
std::string pretty_json(std::string_view compact);

}  // namespace rq
