#include "wal/format.h"

#include <cstring>

#include "base/crc32c.h"

namespace rq::wal {
namespace {

template <class T>
void put(char* at, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) at[i] = static_cast<char>(static_cast<std::uint64_t>(value) >> (8 * i) & 0xff);
}
template <class T>
T get(const char* at) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value |= std::uint64_t{static_cast<unsigned char>(at[i])} << (8 * i);
  return static_cast<T>(value);
}

void encode_header(char* out, const RecordHeader& header) {
  std::memset(out, 0, kRecordHeaderBytes);
  put<std::uint32_t>(out, header.length);
  put<std::uint32_t>(out + 4, header.checksum);
  out[8] = static_cast<char>(header.type);
  out[9] = static_cast<char>(header.entry_type);
  put<std::uint64_t>(out + 16, header.term.value);
  put<std::uint64_t>(out + 24, header.index.value);
  put<std::uint64_t>(out + 32, header.synced);
}

// Over segment seed, place, header (with checksum 0) and payload.
std::uint32_t checksum(const SegmentHeader& segment, std::uint64_t offset, const RecordHeader& header, std::string_view payload) {
  char place[12 + kRecordHeaderBytes];
  put<std::uint32_t>(place, segment.seed);
  put<std::uint64_t>(place + 4, offset);
  RecordHeader plain = header;
  plain.checksum = 0;
  encode_header(place + 12, plain);
  return crc32c(payload, crc32c({place, sizeof place}));
}

}  // namespace

std::string SegmentHeader::encode() const {
  std::string out(kSegmentHeaderBytes, '\0');
  put<std::uint64_t>(out.data(), kMagic);
  put<std::uint32_t>(out.data() + 8, kFormat);
  put<std::uint64_t>(out.data() + 16, sequence);
  put<std::uint64_t>(out.data() + 24, base_index.value);
  put<std::uint64_t>(out.data() + 32, base_term.value);
  put<std::uint64_t>(out.data() + 40, previous_end);
  put<std::uint32_t>(out.data() + 48, seed);
  put<std::uint32_t>(out.data() + 60, crc32c(std::string_view(out).substr(0, 60)));
  return out;
}

std::optional<SegmentHeader> SegmentHeader::decode(std::string_view bytes) {
  if (bytes.size() < kSegmentHeaderBytes) return std::nullopt;
  const char* at = bytes.data();
  if (get<std::uint64_t>(at) != kMagic || get<std::uint32_t>(at + 60) != crc32c(bytes.substr(0, 60))) return std::nullopt;
  if (get<std::uint32_t>(at + 8) != kFormat) return std::nullopt;
  return SegmentHeader{.sequence = get<std::uint64_t>(at + 16), .base_index = Index{get<std::uint64_t>(at + 24)},
                       .base_term = Term{get<std::uint64_t>(at + 32)}, .previous_end = get<std::uint64_t>(at + 40),
                       .seed = get<std::uint32_t>(at + 48)};
}

void append_record(std::string& out, const SegmentHeader& segment, std::uint64_t offset, RecordHeader header, std::string_view payload) {
  header.length = static_cast<std::uint32_t>(payload.size());
  header.checksum = checksum(segment, offset, header, payload);
  char bytes[kRecordHeaderBytes];
  encode_header(bytes, header);
  out.append(bytes, sizeof bytes).append(payload);
  out.append(record_bytes(payload.size()) - kRecordHeaderBytes - payload.size(), '\0');
}

Parsed parse_record(std::string_view bytes, const SegmentHeader& segment, std::uint64_t offset, std::uint64_t payload_max) {
  Parsed out;
  if (bytes.size() < kRecordHeaderBytes) {
    out.state = Parsed::State::Short;
    out.needed = kRecordHeaderBytes;
    return out;
  }
  const char* at = bytes.data();
  out.header = {.length = get<std::uint32_t>(at), .checksum = get<std::uint32_t>(at + 4), .type = static_cast<RecordType>(at[8]),
                .entry_type = static_cast<std::uint8_t>(at[9]), .term = Term{get<std::uint64_t>(at + 16)},
                .index = Index{get<std::uint64_t>(at + 24)}, .synced = get<std::uint64_t>(at + 32)};
  static constexpr char kZeros[kRecordHeaderBytes] = {};
  if (std::memcmp(at, kZeros, kRecordHeaderBytes) == 0) {
    out.state = Parsed::State::End;
    return out;
  }
  const auto type = static_cast<std::uint8_t>(out.header.type);
  if (type == 0 || type > static_cast<std::uint8_t>(RecordType::Snapshot) || out.header.length > payload_max) return out;
  if (bytes.size() < kRecordHeaderBytes + out.header.length) {
    out.state = Parsed::State::Short;
    out.needed = record_bytes(out.header.length);
    return out;
  }
  out.payload = bytes.substr(kRecordHeaderBytes, out.header.length);
  if (checksum(segment, offset, out.header, out.payload) == out.header.checksum) out.state = Parsed::State::Good;
  return out;
}

}  // namespace rq::wal
