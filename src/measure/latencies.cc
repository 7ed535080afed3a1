#include "measure/latencies.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace rq::measure {

// Below 64 each value has a bucket; above, the six bits behind the highest one choose among the 64 of its octave.
std::size_t Latencies::bucket_of(std::uint64_t value) {
  if (value < kParts) return static_cast<std::size_t>(value);
  const auto octave = static_cast<unsigned>(std::bit_width(value)) - 7;
  const std::size_t bucket = std::size_t{kParts} * (octave + 1) + static_cast<std::size_t>((value >> octave) - kParts);
  return std::min(bucket, std::size_t{kParts} * kOctaves - 1);
}

std::uint64_t Latencies::upper_bound(std::size_t bucket) {
  if (bucket < kParts) return bucket;
  const std::size_t octave = bucket / kParts - 1;
  return ((bucket % kParts + kParts + 1) << octave) - 1;
}

void Latencies::record(std::chrono::nanoseconds time) {
  const std::int64_t ns = std::max<std::int64_t>(time.count(), 0);
  ++counts_[bucket_of(static_cast<std::uint64_t>(ns))];
  ++count_;
  sum_ += static_cast<std::uint64_t>(ns);
  largest_ = std::max(largest_, ns);
}

void Latencies::add(const Latencies& other) {
  for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  sum_ += other.sum_;
  largest_ = std::max(largest_, other.largest_);
}

std::chrono::nanoseconds Latencies::percentile(double part) const {
  const auto wanted = static_cast<std::uint64_t>(std::ceil(std::clamp(part, 0.0, 1.0) * static_cast<double>(count_)));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < counts_.size() && count_ != 0; ++i) {
    seen += counts_[i];
    if (seen >= std::max<std::uint64_t>(wanted, 1)) return std::chrono::nanoseconds(std::min(static_cast<std::int64_t>(upper_bound(i)), largest_));
  }
  return std::chrono::nanoseconds(0);
}

}  // namespace rq::measure
