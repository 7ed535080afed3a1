// Histogram: how often and how long, in fixed buckets, for /metrics. Recording is two relaxed atomic additions: no lock, no
// allocation, no float; any thread. Readers may see a value counted and not yet summed: statistics, not accounts.
//
// Two buckets an octave: the upper bounds are 2^k and 1.5 * 2^k, so a percentile read from it is at most a third too high.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>

namespace rq {

class Histogram {
 public:
  static constexpr unsigned kFirstOctave = 10;                // values up to 2^10 (ns: about 1 us) share the first bucket
  static constexpr unsigned kOctaves = 27;                    // up to 2^37 (ns: 137 s); what is larger goes into the last one
  static constexpr std::size_t kBuckets = 2 * kOctaves + 2;

  void record(std::uint64_t value) {
    buckets_[bucket_of(value)].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(value, std::memory_order_relaxed);
  }
  void record(std::chrono::nanoseconds time) { record(static_cast<std::uint64_t>(time.count() > 0 ? time.count() : 0)); }

  struct Snapshot {
    std::array<std::uint64_t, kBuckets> counts{};
    std::uint64_t count = 0, sum = 0;
    // Upper bound of the bucket in which that part of all values ends; 0 when there is none.
    std::uint64_t quantile(double part) const;
  };
  Snapshot snapshot() const;

  // Bucket i holds what is above upper_bound(i - 1) and at most upper_bound(i); the last one has none (UINT64_MAX).
  static constexpr std::uint64_t upper_bound(std::size_t bucket) {
    if (bucket + 1 >= kBuckets) return UINT64_MAX;
    const std::uint64_t base = std::uint64_t{1} << (kFirstOctave + bucket / 2);
    return bucket % 2 == 0 ? base : base + base / 2;
  }
  static constexpr std::size_t bucket_of(std::uint64_t value) {
    if (value <= (std::uint64_t{1} << kFirstOctave)) return 0;
    const auto octave = static_cast<unsigned>(std::bit_width(value - 1)) - 1;        // 2^octave < value <= 2^(octave+1)
    if (octave >= kFirstOctave + kOctaves) return kBuckets - 1;
    const std::uint64_t middle = (std::uint64_t{3} << octave) / 2;
    return 2 * std::size_t{octave - kFirstOctave} + (value <= middle ? 1 : 2);
  }

 private:
  std::array<std::atomic<std::uint64_t>, kBuckets> buckets_{};
  std::atomic<std::uint64_t> sum_{0};
};

}  // namespace rq
