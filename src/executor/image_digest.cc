#include "executor/image_digest.h"

#include <algorithm>
#include <string>

#include "ledger/effect.h"

namespace rq::executor {
namespace {

constexpr std::size_t kPageBytesMax = 65536;
constexpr std::size_t kPageSizeAt = 16, kVersionAt = 96;

std::uint32_t page_size_of(std::string_view page1) {
  const auto byte = [&](std::size_t at) { return static_cast<std::uint32_t>(static_cast<unsigned char>(page1[at])); };
  const std::uint32_t size = byte(kPageSizeAt) << 8 | byte(kPageSizeAt + 1);
  return size == 1 ? kPageBytesMax : size;
}

}  // namespace

Result<> ImageDigest::begin() {
  RQ_TRY(const std::string head, machine_.persist(id_, 0, kPageBytesMax));
  if (head.size() < 512) return fail(Errc::Corrupt, "the database has no first page");
  page_bytes_ = page_size_of(head);
  if (page_bytes_ < 512 || (page_bytes_ & (page_bytes_ - 1)) != 0 || head.size() < page_bytes_) return fail(Errc::Corrupt, "the database has no page size");
  free_.resize(total_ / page_bytes_ + 1);
  return read_free_list(ledger::first_trunk(head));
}

Result<> ImageDigest::read_free_list(std::uint32_t trunk) {
  while (trunk > 1 && trunk < free_.size() && !free_[trunk]) {
    RQ_TRY(const std::string content, machine_.persist(id_, std::uint64_t{trunk - 1} * page_bytes_, page_bytes_));
    const ledger::Trunk list = ledger::parse_trunk(content);
    sum_ += ledger::trunk_hash(trunk, list);
    free_[trunk] = true;
    for (const std::uint32_t leaf : list.leaves)
      if (leaf > 1 && leaf < free_.size()) free_[leaf] = true;
    trunk = list.next;
  }
  return {};
}

void ImageDigest::add(std::uint32_t page, std::string_view content) {
  if (free_[page]) return;
  if (page != 1) {
    sum_ += ledger::page_hash(page, content);
    return;
  }
  std::string first(content);              // the version of whoever wrote page 1 last: differs after a rolling upgrade
  first.replace(kVersionAt, 4, 4, '\0');
  sum_ += ledger::page_hash(page, first);
}

Result<bool> ImageDigest::step(std::size_t bytes) {
  if (page_bytes_ == 0) RQ_CHECK(begin());
  if (done_ >= total_) return true;
  const std::size_t size = std::max<std::size_t>(bytes / page_bytes_, 1) * page_bytes_;
  RQ_TRY(const std::string piece, machine_.persist(id_, done_, size));
  if (piece.empty() || piece.size() % page_bytes_ != 0) return fail(Errc::Corrupt, "the database ends early");
  for (std::size_t at = 0; at < piece.size(); at += page_bytes_)
    add(static_cast<std::uint32_t>((done_ + at) / page_bytes_ + 1), std::string_view(piece).substr(at, page_bytes_));
  done_ += piece.size();
  return done_ >= total_;
}

std::uint64_t ImageDigest::value() const { return ledger::database_hash(sum_, total_ / page_bytes_); }

}  // namespace rq::executor
