#include "sim/world.h"

#include <cmath>
#include <cstdio>

namespace rq::sim {

void World::run_until(Instant end, const std::function<bool()>& stop) {
  while (!events_.empty() && !violation_) {
    const auto next = events_.begin();
    if (next->first.first > end) break;
    now_ = next->first.first;
    const auto event = std::move(next->second);
    events_.erase(next);
    ++run_;
    event();
    if (stop && stop()) return;
  }
  if (!violation_) now_ = std::max(now_, end);
}

Instant World::around(Instant mean) {
  const double chance = (static_cast<double>(rng_.below(1u << 20)) + 1) / (1u << 20);
  return Instant(static_cast<std::int64_t>(-std::log(chance) * static_cast<double>(mean.count())));
}

void World::note(const std::string& text) {
  trace(text);
  if (print_) std::printf("%9.3f s  %s\n", static_cast<double>(now_.count()) / 1e6, text.c_str());
}

void World::violated(const std::string& what) {
  if (violation_) return;
  violation_ = what;
  note("VIOLATED: " + what);
}

}  // namespace rq::sim
