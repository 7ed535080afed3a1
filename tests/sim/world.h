// World: virtual time, chance, the story and the verdict of one simulated run. One thread.
//
// Everything that happens is an event at an instant; events of one instant run in the order in which they were made. All
// chance comes from one generator, so a seed is a whole run; the trace hash tells two runs apart. The first violation ends
// the run; a story line is a sentence for people and part of the trace.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "support/memory_disk.h"

namespace rq::sim {

using Instant = std::chrono::microseconds;   // since the run began
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

class World {
 public:
  World(std::uint64_t seed_value, bool print_story) : seed(seed_value), rng_(seed_value), print_(print_story) {}

  Instant now() const { return now_; }
  void at(Instant when, std::function<void()> event) { events_.emplace(std::pair(std::max(when, now_), ++made_), std::move(event)); }
  void after(Instant delay, std::function<void()> event) { at(now_ + delay, std::move(event)); }
  // Runs what is due until then, or until something is violated or `stop` says so.
  void run_until(Instant end, const std::function<bool()>& stop = nullptr);

  test::SeededRng& rng() { return rng_; }
  std::uint64_t below(std::uint64_t bound) { return rng_.below(bound); }
  bool one_in(std::uint64_t n) { return n != 0 && rng_.below(n) == 0; }
  Instant between(Instant low, Instant high) {
    return low + Instant(static_cast<std::int64_t>(rng_.below(static_cast<std::uint64_t>((high - low).count()) + 1)));
  }
  // Times between events that come by themselves: mostly short, now and then long.
  Instant around(Instant mean);

  void note(const std::string& text);              // of the story
  void trace(std::uint64_t value) { hash_ = (hash_ ^ value) * 1099511628211u; }
  void trace(std::string_view text) {
    for (const char c : text) trace(static_cast<unsigned char>(c));
  }
  std::uint64_t trace_hash() const { return hash_; }
  std::uint64_t events_run() const { return run_; }

  void violated(const std::string& what);
  const std::optional<std::string>& violation() const { return violation_; }

  const std::uint64_t seed;

 private:
  test::SeededRng rng_;
  const bool print_;
  Instant now_{0};
  std::uint64_t made_ = 0, run_ = 0;
  std::map<std::pair<Instant, std::uint64_t>, std::function<void()>> events_;
  std::uint64_t hash_ = 14695981039346656037u;
  std::optional<std::string> violation_;
};

}  // namespace rq::sim
