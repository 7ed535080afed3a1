// ChainRing: the effect chains after the newest entries, to be compared with those of other nodes. Any thread.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "base/types.h"

namespace rq::store {

class ChainRing {
 public:
  static constexpr std::size_t kEntries = 16384;

  void note(Index index, std::uint64_t chain) {
    const std::lock_guard lock(mutex_);
    slots_[index.value % kEntries] = newest_ = {index, chain};
  }
  // The state was exchanged: what came before is none of its past.
  void restart(Index index, std::uint64_t chain) {
    const std::lock_guard lock(mutex_);
    slots_.assign(kEntries, {});
    slots_[index.value % kEntries] = newest_ = {index, chain};
  }
  // None: not applied here yet, too long ago, or before this process began.
  std::optional<std::uint64_t> at(Index index) const {
    const std::lock_guard lock(mutex_);
    const auto& [there, chain] = slots_[index.value % kEntries];
    return there == index && index.value != 0 ? std::optional(chain) : std::nullopt;
  }
  std::pair<Index, std::uint64_t> newest() const {
    const std::lock_guard lock(mutex_);
    return newest_;
  }

 private:
  mutable std::mutex mutex_;   // guards both below
  std::vector<std::pair<Index, std::uint64_t>> slots_ = std::vector<std::pair<Index, std::uint64_t>>(kEntries);
  std::pair<Index, std::uint64_t> newest_;
};

}  // namespace rq::store
