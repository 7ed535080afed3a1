#include "base/clock.h"

#include <sys/random.h>

#include "base/assert.h"

namespace rq {

SteadyTime SystemClock::now() const { return std::chrono::steady_clock::now(); }
WallTime SystemClock::wall() const {
  return std::chrono::time_point_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now());
}

std::uint64_t SystemRng::next() {
  std::uint64_t value = 0;
  const ssize_t got = getrandom(&value, sizeof value, 0);
  RQ_ASSERT(got == static_cast<ssize_t>(sizeof value));
  return value;
}

}  // namespace rq
