#include "replica/group.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <cstring>

namespace rq::replica {
namespace {

using google::protobuf::io::CodedInputStream;
using google::protobuf::io::CodedOutputStream;
using google::protobuf::internal::WireFormatLite;

constexpr std::uint32_t kVersion = 1;
constexpr std::uint32_t tag(std::uint32_t field, std::uint32_t wire_type) { return field << 3 | wire_type; }
constexpr std::uint32_t kVersionTag = tag(1, 0);
constexpr std::uint32_t kWallTag = tag(2, 0);
constexpr std::uint32_t kSeedTag = tag(3, 2);
constexpr std::uint32_t kProposalTag = tag(4, 2);
constexpr std::size_t kSeedBytes = 16;

void append_varint(std::string& out, std::uint64_t value) {
  std::uint8_t buffer[10];
  const std::uint8_t* const end = CodedOutputStream::WriteVarint64ToArray(value, buffer);
  out.append(reinterpret_cast<const char*>(buffer), static_cast<std::size_t>(end - buffer));
}

bool read_view(CodedInputStream& in, std::string_view& out) {
  int size = 0;
  const void* data = nullptr;
  int available = 0;
  if (!in.ReadVarintSizeAsInt(&size)) return false;
  if (size == 0) {
    out = {};
    return true;
  }
  if (!in.GetDirectBufferPointer(&data, &available) || available < size) return false;
  out = {static_cast<const char*>(data), static_cast<std::size_t>(size)};
  return in.Skip(size);
}

}  // namespace

void GroupWriter::add(std::string_view proposal) {
  append_varint(body_, kProposalTag);
  append_varint(body_, proposal.size());
  body_.append(proposal);
}

std::string GroupWriter::seal(std::int64_t wall_ms, std::uint64_t seed_high, std::uint64_t seed_low) && {
  // Protobuf fields may stand in any order: the header goes behind the proposals, so that they need not be moved.
  append_varint(body_, kVersionTag);
  append_varint(body_, kVersion);
  append_varint(body_, kWallTag);
  append_varint(body_, WireFormatLite::ZigZagEncode64(wall_ms));
  append_varint(body_, kSeedTag);
  append_varint(body_, kSeedBytes);
  char seed[kSeedBytes];
  std::memcpy(seed, &seed_high, 8);
  std::memcpy(seed + 8, &seed_low, 8);
  body_.append(seed, kSeedBytes);
  return std::move(body_);
}

Result<GroupView> read_group(std::string_view payload) {
  GroupView view;
  if (payload.empty()) return view;
  if (payload.size() > INT32_MAX) return fail(Errc::TooLarge, "group entry above 2 GiB");
  CodedInputStream in(reinterpret_cast<const std::uint8_t*>(payload.data()), static_cast<int>(payload.size()));
  std::uint32_t version = 0;
  while (const std::uint32_t field = in.ReadTag()) {
    bool good = true;
    if (field == kVersionTag) {
      good = in.ReadVarint32(&version);
    } else if (field == kWallTag) {
      std::uint64_t raw = 0;
      good = in.ReadVarint64(&raw);
      view.wall_ms = WireFormatLite::ZigZagDecode64(raw);
    } else if (field == kSeedTag) {
      good = read_view(in, view.seed);
    } else if (field == kProposalTag) {
      good = read_view(in, view.proposals.emplace_back());
    } else {
      return fail(Errc::Unsupported, "group entry with unknown field " + std::to_string(field >> 3));
    }
    if (!good) return fail(Errc::Corrupt, "group entry cut short");
  }
  if (!in.ConsumedEntireMessage()) return fail(Errc::Corrupt, "group entry cut short");
  if (version != kVersion) return fail(Errc::Unsupported, "group entry of version " + std::to_string(version));
  if (view.seed.size() != kSeedBytes) return fail(Errc::Corrupt, "group entry without seed");
  return view;
}

}  // namespace rq::replica
