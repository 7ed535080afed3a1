// Latencies: how long requests took, for percentiles. Buckets of 1/64 octave: a percentile is at most 1.6 % too high, whatever
// the number of values; 16 KiB. Not for several threads at once: each has its own, add() brings them together.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

namespace rq::measure {

class Latencies {
 public:
  void record(std::chrono::nanoseconds time);
  void add(const Latencies& other);

  std::uint64_t count() const { return count_; }
  std::chrono::nanoseconds largest() const { return std::chrono::nanoseconds(largest_); }
  std::chrono::nanoseconds mean() const { return std::chrono::nanoseconds(count_ == 0 ? 0 : static_cast<std::int64_t>(sum_ / count_)); }
  // What that part of all values (0 to 1) doesn't exceed; 0 when there is none.
  std::chrono::nanoseconds percentile(double part) const;

 private:
  static constexpr unsigned kParts = 64;                    // of an octave
  static constexpr unsigned kOctaves = 40;                  // up to 18 minutes; what is longer counts as the last bucket
  static std::size_t bucket_of(std::uint64_t value);
  static std::uint64_t upper_bound(std::size_t bucket);

  std::array<std::uint64_t, std::size_t{kParts} * kOctaves> counts_{};
  std::uint64_t count_ = 0, sum_ = 0;
  std::int64_t largest_ = 0;
};

}  // namespace rq::measure
