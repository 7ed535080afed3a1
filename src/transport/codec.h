// Messages as bytes and back (wire.proto). Pure; decoders take anything and answer Errc::Corrupt or Unsupported.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "raft/engine.h"
#include "transport/transport.h"

namespace rq::transport {

std::string encode(const raft::Message& message);
Result<raft::Message> decode_message(std::string_view bytes);

enum class Channel : std::uint8_t { Raft = 1, Call = 2 };
struct Hello {
  Channel channel = Channel::Call;
  std::uint64_t cluster_id = 0;
  RaftId from, to;
  std::string from_addr;
};
std::string encode(const Hello& hello);
Result<Hello> decode_hello(std::string_view bytes);

struct CallRequest {
  CallType type = CallType::NodeMeta;
  std::uint64_t remaining_ms = 0;
  std::string payload;
};
std::string encode(CallRequest&& request);
Result<CallRequest> decode_request(std::string_view bytes);

std::string encode_response(const Result<std::string>& result);
Result<std::string> decode_response(std::string_view bytes);

}  // namespace rq::transport
