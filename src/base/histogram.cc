#include "base/histogram.h"

#include <cmath>

namespace rq {

Histogram::Snapshot Histogram::snapshot() const {
  Snapshot out;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    out.counts[i] = buckets_[i].load(std::memory_order_relaxed);
    out.count += out.counts[i];
  }
  out.sum = sum_.load(std::memory_order_relaxed);
  return out;
}

std::uint64_t Histogram::Snapshot::quantile(double part) const {
  if (count == 0) return 0;
  const auto wanted = static_cast<std::uint64_t>(std::ceil(part * static_cast<double>(count)));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    seen += counts[i];
    if (seen >= wanted && seen > 0) return upper_bound(i);
  }
  return UINT64_MAX;
}

}  // namespace rq
