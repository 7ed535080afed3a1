// Frames: {u32 length, u32 CRC32C, u8 type, u8 flags, u16 0, u32 stream} and the payload, little endian; the checksum
// covers everything behind it. A message longer than a frame is several frames of one stream, all but the last with kMore.
// Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace rq::transport {

inline constexpr std::size_t kFrameHeaderBytes = 16;
inline constexpr std::size_t kFramePayloadMax = 1u << 20;
inline constexpr std::size_t kMessageMax = 512u << 20;
inline constexpr std::size_t kHelloMax = 4096;
inline constexpr std::uint8_t kMore = 1;

enum class FrameType : std::uint8_t { Hello = 1, Refused = 3, Raft = 10, Request = 20, Response = 21 };

struct MessageFrame {
  FrameType type = FrameType::Hello;
  std::uint32_t stream = 0;
  std::string payload;
};

// Appends `payload` as one or more frames.
void append_frames(std::string& out, FrameType type, std::uint32_t stream, std::string_view payload);

// Bytes in, whole messages out. After an error it is not used any more.
class FrameReader {
 public:
  // Until the hello was accepted messages are at most kHelloMax.
  void set_limit(std::size_t message_max) { message_max_ = message_max; }
  // Takes bytes off the front of `in` and gives the next message; nullopt: more bytes are needed. Errc::Corrupt, TooLarge.
  Result<std::optional<MessageFrame>> next(std::string_view& in);
  std::size_t held() const { return partial_.size() + streams_bytes_; }   // bytes of what is not whole yet

 private:
  std::size_t message_max_ = kHelloMax;
  std::string partial_;                            // a frame that is not whole yet
  std::map<std::uint32_t, MessageFrame> streams_;  // messages of which frames are missing
  std::size_t streams_bytes_ = 0;
};

}  // namespace rq::transport
