// Time and randomness come through these two seams, so that tests and simulations rule them.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace rq {

using SteadyTime = std::chrono::steady_clock::time_point;
using WallTime = std::chrono::sys_time<std::chrono::nanoseconds>;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual SteadyTime now() const = 0;  // never goes back
  virtual WallTime wall() const = 0;   // UTC
};

class SystemClock final : public Clock {
 public:
  SteadyTime now() const override;
  WallTime wall() const override;
};

class Rng {
 public:
  virtual ~Rng() = default;
  virtual std::uint64_t next() = 0;  // uniform over all 64-bit values; called by one thread at a time
};

class SystemRng final : public Rng {  // the kernel's generator; thread-safe
 public:
  std::uint64_t next() override;
};

}  // namespace rq
