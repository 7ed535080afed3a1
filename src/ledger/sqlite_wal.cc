#include "ledger/sqlite_wal.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace rq::ledger {
namespace {

constexpr std::uint32_t kMagic = 0x377f0682;  // the lowest bit tells the byte order of the checksums
constexpr std::uint32_t kVersion = 3007000;

std::uint32_t big_endian_at(std::string_view bytes, std::size_t at) {
  std::uint32_t value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return __builtin_bswap32(value);
}

// The running checksum over an even number of 32-bit words.
void add_checksum(std::string_view bytes, bool big_endian, std::uint32_t (&sum)[2]) {
  std::uint32_t first = sum[0];
  std::uint32_t second = sum[1];
  for (std::size_t at = 0; at + 8 <= bytes.size(); at += 8) {
    std::uint32_t words[2];
    std::memcpy(words, bytes.data() + at, sizeof words);
    if (big_endian) {
      words[0] = __builtin_bswap32(words[0]);
      words[1] = __builtin_bswap32(words[1]);
    }
    first += words[0] + second;
    second += words[1] + first;
  }
  sum[0] = first;
  sum[1] = second;
}

}  // namespace

static_assert(std::endian::native == std::endian::little);

std::optional<WalHeader> parse_wal_header(std::string_view bytes) {
  if (bytes.size() < kWalHeaderBytes) return std::nullopt;
  const std::uint32_t magic = big_endian_at(bytes, 0);
  if ((magic & ~1u) != kMagic || big_endian_at(bytes, 4) != kVersion) return std::nullopt;
  WalHeader header;
  header.big_endian = (magic & 1) != 0;
  header.page_bytes = big_endian_at(bytes, 8);
  if (header.page_bytes < 512 || header.page_bytes > 65536 || !std::has_single_bit(header.page_bytes)) {
    return std::nullopt;
  }
  header.salts = {big_endian_at(bytes, 16), big_endian_at(bytes, 20)};
  add_checksum(bytes.substr(0, 24), header.big_endian, header.checksum);
  if (header.checksum[0] != big_endian_at(bytes, 24) || header.checksum[1] != big_endian_at(bytes, 28)) {
    return std::nullopt;
  }
  return header;
}

FrameHeader parse_frame_header(std::string_view bytes) {
  FrameHeader header;
  header.page = big_endian_at(bytes, 0);
  header.pages_after_commit = big_endian_at(bytes, 4);
  header.salts = {big_endian_at(bytes, 8), big_endian_at(bytes, 12)};
  header.checksum[0] = big_endian_at(bytes, 16);
  header.checksum[1] = big_endian_at(bytes, 20);
  return header;
}

Result<WalScan> scan_wal(const io::File& file) {
  WalScan scan;
  RQ_TRY(const std::string head, file.read_at(0, kWalHeaderBytes));
  scan.header = parse_wal_header(head);
  if (!scan.header) return scan;
  const WalHeader& header = *scan.header;
  std::uint32_t sum[2] = {header.checksum[0], header.checksum[1]};
  const std::size_t frame_bytes = kFrameHeaderBytes + header.page_bytes;
  const std::size_t frames_per_read = std::max<std::size_t>(1, (1u << 20) / frame_bytes);
  for (std::uint32_t number = 1;;) {
    RQ_TRY(const std::string bytes, file.read_at(frame_offset(number, header.page_bytes), frames_per_read * frame_bytes));
    std::string_view left = bytes;
    for (; left.size() >= frame_bytes; left.remove_prefix(frame_bytes), ++number) {
      const FrameHeader frame = parse_frame_header(left.substr(0, kFrameHeaderBytes));
      add_checksum(left.substr(0, 8), header.big_endian, sum);
      add_checksum(left.substr(kFrameHeaderBytes, header.page_bytes), header.big_endian, sum);
      if (frame.salts != header.salts || frame.page == 0 || frame.checksum[0] != sum[0] || frame.checksum[1] != sum[1]) {
        return scan;
      }
      if (frame.pages_after_commit != 0) scan.commits.push_back({number, {sum[0], sum[1]}});
    }
    if (bytes.size() < frames_per_read * frame_bytes) return scan;
  }
}

}  // namespace rq::ledger
