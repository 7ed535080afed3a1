// Reads SQLite's write-ahead log as a file format (sqlite.org/fileformat2.html, section 4), without SQLite.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"
#include "io/disk.h"
#include "ledger/ledger.h"

namespace rq::ledger {

inline constexpr std::size_t kWalHeaderBytes = 32;
inline constexpr std::size_t kFrameHeaderBytes = 24;

struct WalHeader {
  std::uint32_t page_bytes = 0;
  Salts salts;
  std::uint32_t checksum[2] = {0, 0};
  bool big_endian = false;     // of the checksums' words
};

// None: not a valid header (short file, magic, version, page size or checksum).
std::optional<WalHeader> parse_wal_header(std::string_view bytes);

struct FrameHeader {
  std::uint32_t page = 0;
  std::uint32_t pages_after_commit = 0;   // 0: not the last frame of a transaction
  Salts salts;
  std::uint32_t checksum[2] = {0, 0};
};
FrameHeader parse_frame_header(std::string_view bytes);   // of 24 bytes

inline std::uint64_t frame_offset(std::uint32_t number, std::uint32_t page_bytes) {
  return kWalHeaderBytes + (number - 1) * (kFrameHeaderBytes + std::uint64_t{page_bytes});
}

struct WalScan {
  std::optional<WalHeader> header;
  std::vector<CommitFrame> commits;   // all valid ones, ascending
};
// Walks the frames from the start as long as salts and running checksum are right. Errc::Io.
Result<WalScan> scan_wal(const io::File& file);

}  // namespace rq::ledger
