// Bytes of a segment (docs/formats/raft-log.md). Private to this folder. Little endian.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/types.h"

namespace rq::wal {

inline constexpr std::uint64_t kMagic = 0x31304c4157305152;   // "RQ0WAL01"
inline constexpr std::uint32_t kFormat = 1;
inline constexpr std::size_t kSegmentHeaderBytes = 64;
inline constexpr std::size_t kRecordHeaderBytes = 40;
inline constexpr std::size_t kAlign = 8;

enum class RecordType : std::uint8_t { End = 0, Entry = 1, HardState = 2, Membership = 3, Snapshot = 4 };

struct SegmentHeader {
  std::uint64_t sequence = 0;
  Index base_index;               // everything up to it lies before this segment
  Term base_term;
  std::uint64_t previous_end = 0; // bytes of the segment before it that are valid; 0: there is none
  std::uint32_t seed = 0;         // goes into every checksum: records of a recycled file's earlier life never fit

  std::string encode() const;
  static std::optional<SegmentHeader> decode(std::string_view bytes);   // nullopt: not a (whole) header of this format
};

struct RecordHeader {
  std::uint32_t length = 0;       // of the payload
  std::uint32_t checksum = 0;
  RecordType type = RecordType::End;
  std::uint8_t entry_type = 0;
  Term term;
  Index index;
  std::uint64_t synced = 0;       // bytes of this segment known to be durable when this record was written
};

inline std::uint64_t record_bytes(std::uint64_t payload) { return (kRecordHeaderBytes + payload + kAlign - 1) / kAlign * kAlign; }

// Appends one record that will stand at `offset` of its segment.
void append_record(std::string& out, const SegmentHeader& segment, std::uint64_t offset, RecordHeader header, std::string_view payload);

// The record at the front of `bytes`, which stand at `offset`. Bad: a checksum or a field is wrong. Short: `needed` bytes
// are needed to tell.
struct Parsed {
  enum class State : std::uint8_t { Good, End, Bad, Short } state = State::Bad;
  RecordHeader header;
  std::string_view payload;
  std::uint64_t needed = 0;
};
Parsed parse_record(std::string_view bytes, const SegmentHeader& segment, std::uint64_t offset, std::uint64_t payload_max);

}  // namespace rq::wal
