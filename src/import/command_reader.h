// The commands in the reference's log entries: protobuf, partly compressed. A command is looked at where it lies in the
// file; requests are decoded whole (they came in one HTTP body), database images only pass through.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "import/file_range.h"
#include "import/input.h"
#include "import/reference.pb.h"

namespace rq::import {

struct Command {
  enum class Kind : std::uint8_t { Query = 1, Execute = 2, Noop = 3, Load = 4, Join = 5, ExecuteQuery = 6, LoadChunk = 7 };
  Kind kind = Kind::Noop;
  bool compressed = false;
  FileRange body;
};

inline constexpr std::uint64_t kRequestBytesMax = 1u << 30;   // unpacked

// `what` names the entry in messages. Errors: Errc::Corrupt, TooLarge, Unsupported, Io.
Result<Command> read_command(const FileRange& data, const std::string& what);
Result<pb::Request> read_request(const Command& command, const std::string& what);
Result<pb::LoadChunk> read_load_chunk(const Command& command, const std::string& what);
// The bytes of the database image of a load.
Result<std::unique_ptr<Input>> read_load(const Command& command, const std::string& what);

}  // namespace rq::import
