// Counters of /debug/vars: maps of named integers, all present from the start with 0 (spec observability section 3).
// A Counter is a plain atomic; holding a reference to it is how a component counts. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <string>
#include <string_view>

namespace rq {

class Counter {
 public:
  void add(std::int64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  void set(std::int64_t n) { value_.store(n, std::memory_order_relaxed); }
  std::int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::int64_t> value_{0};
};

// All maps of the reference, made once in main() and handed to components by reference.
class Metrics {
 public:
  Metrics();  // with every name of the reference
  // The map and the name must be known; an unknown one is our bug (RQ_ASSERT).
  Counter& counter(std::string_view map, std::string_view name);
  const std::map<std::string, std::map<std::string, Counter, std::less<>>, std::less<>>& maps() const { return maps_; }

 private:
  std::map<std::string, std::map<std::string, Counter, std::less<>>, std::less<>> maps_;
};

}  // namespace rq
