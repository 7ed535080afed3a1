// Statistics of the HTTP API, for /metrics: one EndpointStats for each endpoint, and for each read level where it matters.
// Written by any thread without locks, read by any.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

#include "base/histogram.h"

namespace rq::http {

struct EndpointStats {
  static constexpr std::array<int, 16> kCodes = {200, 204, 301, 302, 400, 401, 404, 405, 408, 413, 431, 500, 501, 503, 505, 0};   // 0: any other

  EndpointStats(std::string name, std::string read_level) : endpoint(std::move(name)), level(std::move(read_level)) {}
  void answered(int code, std::chrono::nanoseconds took) {
    std::size_t i = 0;
    while (kCodes[i] != code && kCodes[i] != 0) ++i;
    codes[i].fetch_add(1, std::memory_order_relaxed);
    seconds.record(took);
  }

  const std::string endpoint, level;           // level: empty where there is none
  Histogram seconds;                           // from the request's arrival to its answer, ready to be sent
  std::array<std::atomic<std::uint64_t>, kCodes.size()> codes{};
  std::atomic<std::int64_t> in_flight{0};
};

}  // namespace rq::http
