// Invariants
//   1. frames_[i] is frame first_ + i; all are of one transaction, or of nothing when it was rolled back.
//   2. A sum of hashes per page: no order, and a page that was written twice counts once.
#include "ledger/effect.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/assert.h"

namespace rq::ledger {
namespace {

constexpr std::size_t kHeadBytes = 96;                    // of page 1: holds both counters
constexpr std::size_t kCounters[2] = {24, 92};
constexpr std::size_t kFirstTrunkAt = 32;

std::uint32_t big_endian(std::string_view bytes, std::size_t at) {
  std::uint32_t value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return __builtin_bswap32(value);
}

std::uint64_t never_unknown(std::uint64_t chain) { return chain == kUnknownChain ? kFirstChain : chain; }

std::uint64_t mix(const Position& after, std::uint64_t effect, std::uint64_t pages) {
  const Registers& r = after.registers;
  const std::array<std::uint64_t, 10> fields = {after.chain,
                                                after.index.value,
                                                effect,
                                                pages,
                                                static_cast<std::uint64_t>(r.last_insert_rowid),
                                                static_cast<std::uint64_t>(r.changes),
                                                static_cast<std::uint64_t>(r.total_changes),
                                                r.settings,
                                                r.analysis_limit,
                                                r.max_page_count};
  return never_unknown(XXH3_64bits(fields.data(), sizeof fields));
}

}  // namespace

std::uint64_t page_hash(std::uint32_t page, std::string_view content) {
  if (page != 1) return XXH3_64bits_withSeed(content.data(), content.size(), page);
  RQ_ASSERT(content.size() > kHeadBytes);
  char head[kHeadBytes];
  std::memcpy(head, content.data(), sizeof head);
  for (const std::size_t at : kCounters) std::memset(head + at, 0, 4);
  return XXH3_64bits_withSeed(content.data() + kHeadBytes, content.size() - kHeadBytes, XXH3_64bits(head, sizeof head));
}

std::uint64_t database_hash(std::uint64_t sum, std::uint64_t pages) {
  const std::array<std::uint64_t, 2> fields = {sum, pages};
  return never_unknown(XXH3_64bits(fields.data(), sizeof fields));
}

std::uint32_t first_trunk(std::string_view page1) { return big_endian(page1, kFirstTrunkAt); }

Trunk parse_trunk(std::string_view content) {
  Trunk trunk;
  trunk.next = big_endian(content, 0);
  const std::size_t count = std::min<std::size_t>(big_endian(content, 4), content.size() / 4 - 2);
  trunk.leaves.reserve(count);
  for (std::size_t i = 0; i < count; ++i) trunk.leaves.push_back(big_endian(content, 8 + 4 * i));
  return trunk;
}

std::uint64_t trunk_hash(std::uint32_t page, const Trunk& trunk) {
  return XXH3_64bits_withSeed(trunk.leaves.data(), trunk.leaves.size() * sizeof trunk.leaves[0],
                              std::uint64_t{page} << 32 | trunk.next);
}

std::uint64_t chain_of_replacement(const Position& after, std::string_view digest) {
  if (after.chain == kUnknownChain) return kUnknownChain;
  return mix(after, XXH3_64bits(digest.data(), digest.size()), 0);
}

std::uint64_t chain_anew(Index index) { return never_unknown(XXH3_64bits(&index.value, sizeof index.value)); }

void Effect::appended(std::uint32_t frame, std::uint32_t page, std::string_view content) {
  if (frames_.empty() || frame < first_) {
    frames_.clear();
    first_ = frame;
  }
  const std::size_t at = frame - first_;
  RQ_ASSERT(at <= frames_.size());
  frames_.resize(at);                  // those behind it were rolled back
  frames_.push_back({page, frame, page_hash(page, content)});
}

void Effect::overwritten(std::uint32_t frame, std::string_view content) {
  RQ_ASSERT(frame >= first_);
  RQ_ASSERT(frame - first_ < frames_.size());
  Written& written = frames_[frame - first_];
  written.hash = page_hash(written.page, content);
}

void Effect::clear() {
  frames_.clear();
  if (frames_.capacity() > (1u << 16)) frames_.shrink_to_fit();
}

// Ascending by page.
std::vector<Effect::Written> Effect::last_versions(std::uint32_t pages) const {
  std::vector<Written> written = frames_;
  const auto before = [](const Written& a, const Written& b) { return a.page != b.page ? a.page < b.page : a.frame > b.frame; };
  if (!std::is_sorted(written.begin(), written.end(), before)) std::sort(written.begin(), written.end(), before);
  written.erase(std::unique(written.begin(), written.end(), [](const Written& a, const Written& b) { return a.page == b.page; }),
                written.end());
  while (!written.empty() && written.back().page > pages) written.pop_back();
  return written;
}

Result<std::uint64_t> Effect::chain(const Position& after, std::uint32_t pages, const ReadFrame& read) const {
  if (after.chain == kUnknownChain) return kUnknownChain;
  std::uint64_t sum = 0;
  // Most commits write each page once, in order, and leave page 1 alone.
  const auto out_of_order = [](const Written& a, const Written& b) { return a.page >= b.page; };
  if (!frames_.empty() && frames_.front().page != 1 && frames_.back().page <= pages &&
      std::adjacent_find(frames_.begin(), frames_.end(), out_of_order) == frames_.end()) {
    for (const Written& one : frames_) sum += one.hash;
    return mix(after, sum, pages);
  }
  std::vector<Written> written = last_versions(pages);
  // A transaction that frees or reuses pages writes page 1 and the trunks it changed, which stand at the front of the
  // list: SQLite takes from there and adds there.
  if (!written.empty() && written.front().page == 1) {
    std::string content;
    const auto find = [&written](std::uint32_t page) {
      const auto at = std::lower_bound(written.begin(), written.end(), page,
                                       [](const Written& one, std::uint32_t number) { return one.page < number; });
      return at != written.end() && at->page == page && at->frame != 0 ? &*at : nullptr;
    };
    const auto take_out = [](Written& one) { one.hash = one.frame = 0; };
    if (!read(written.front().frame, content)) return fail(Errc::Io, "a frame of the transaction can't be read back");
    std::uint32_t number = first_trunk(content);
    for (Written* trunk = find(number); trunk && number > 1; trunk = find(number)) {
      if (!read(trunk->frame, content)) return fail(Errc::Io, "a frame of the transaction can't be read back");
      const Trunk list = parse_trunk(content);
      take_out(*trunk);
      sum += trunk_hash(number, list);
      std::uint64_t likely = 0;        // most pages of the list were free before: one look tells so
      for (const Written& one : written) likely |= std::uint64_t{1} << (one.page & 63);
      for (const std::uint32_t leaf : list.leaves) {
        if ((likely >> (leaf & 63) & 1) == 0) continue;
        if (Written* one = find(leaf); one && leaf > 1) take_out(*one);
      }
      number = list.next;
    }
  }
  for (const Written& one : written) sum += one.hash;
  return mix(after, sum, pages);
}

}  // namespace rq::ledger
