#include "transport/frames.h"

#include "base/crc32c.h"

namespace rq::transport {
namespace {

void put_u32(char* at, std::uint32_t value) {
  for (int i = 0; i < 4; ++i) at[i] = static_cast<char>(value >> (8 * i) & 0xff);
}
std::uint32_t get_u32(const char* at) {
  std::uint32_t value = 0;
  for (int i = 0; i < 4; ++i) value |= std::uint32_t{static_cast<unsigned char>(at[i])} << (8 * i);
  return value;
}

bool known(std::uint8_t type) {
  switch (static_cast<FrameType>(type)) {
    case FrameType::Hello:
    case FrameType::Refused:
    case FrameType::Raft:
    case FrameType::Request:
    case FrameType::Response:
      return true;
  }
  return false;
}

constexpr std::size_t kStreamsMax = 1024;

}  // namespace

void append_frames(std::string& out, FrameType type, std::uint32_t stream, std::string_view payload) {
  do {
    const std::string_view part = payload.substr(0, kFramePayloadMax);
    payload.remove_prefix(part.size());
    char header[kFrameHeaderBytes] = {};
    put_u32(header, static_cast<std::uint32_t>(part.size()));
    header[8] = static_cast<char>(type);
    header[9] = payload.empty() ? 0 : kMore;
    put_u32(header + 12, stream);
    put_u32(header + 4, crc32c(part, crc32c({header + 8, kFrameHeaderBytes - 8})));
    out.append(header, sizeof header).append(part);
  } while (!payload.empty());
}

Result<std::optional<MessageFrame>> FrameReader::next(std::string_view& in) {
  while (true) {
    const auto fill = [&](std::size_t size) {
      const std::size_t take = std::min(in.size(), size - std::min(size, partial_.size()));
      partial_.append(in.substr(0, take));
      in.remove_prefix(take);
      return partial_.size() >= size;
    };
    // A whole frame in the input is read where it stands.
    std::string_view frame;
    bool direct = false;
    if (partial_.empty() && in.size() >= kFrameHeaderBytes && in.size() - kFrameHeaderBytes >= get_u32(in.data())) {
      frame = in;
      direct = true;
    } else {
      if (!fill(kFrameHeaderBytes)) return std::optional<MessageFrame>();
      frame = partial_;
    }
    const std::uint32_t length = get_u32(frame.data());
    const auto type = static_cast<std::uint8_t>(frame[8]);
    if (!known(type) || frame[10] != 0 || frame[11] != 0) return fail(Errc::Corrupt, "not a frame");
    if (length > kFramePayloadMax || length > message_max_) return fail(Errc::TooLarge, "frame of " + std::to_string(length) + " bytes");
    const std::size_t size = kFrameHeaderBytes + length;
    if (!direct) {
      if (!fill(size)) return std::optional<MessageFrame>();
      frame = partial_;
    }
    frame = frame.substr(0, size);
    if (crc32c(frame.substr(8)) != get_u32(frame.data() + 4)) return fail(Errc::Corrupt, "frame with a wrong checksum");
    const bool more = (static_cast<std::uint8_t>(frame[9]) & kMore) != 0;
    const std::uint32_t stream = get_u32(frame.data() + 12);
    const std::string_view payload = frame.substr(kFrameHeaderBytes);

    MessageFrame message{.type = static_cast<FrameType>(type), .stream = stream, .payload = {}};
    const auto begun = streams_.find(stream);
    if (begun != streams_.end()) {
      if (begun->second.type != message.type) return fail(Errc::Corrupt, "frames of one stream with two types");
      message.payload = std::move(begun->second.payload);
      streams_bytes_ -= message.payload.size();
      streams_.erase(begun);
    }
    if (message.payload.size() + payload.size() + streams_bytes_ > message_max_) return fail(Errc::TooLarge, "message above the limit");
    message.payload.append(payload);
    if (direct) in.remove_prefix(size);
    else partial_.clear();
    if (!more) return std::optional<MessageFrame>(std::move(message));
    if (streams_.size() >= kStreamsMax) return fail(Errc::TooLarge, "too many unfinished messages");
    streams_bytes_ += message.payload.size();
    streams_.emplace(stream, std::move(message));
  }
}

}  // namespace rq::transport
