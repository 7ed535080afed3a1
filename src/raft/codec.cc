// ConfChange as bytes (the payload of a ConfChange entry, docs/formats/raft-log.md):
//   u8 version = 1 | u8 joint | u16 number of steps | steps: u8 type, u64 id | u32 context bytes | context
// little endian; nothing may follow.
#include <algorithm>
#include <cstring>

#include "raft/engine.h"

namespace rq::raft {
namespace {

constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kStepsMax = 64;
constexpr std::size_t kContextMax = 64 * 1024;

template <class T>
void put(std::string& out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
}

template <class T>
bool take(std::string_view& in, T& value) {
  if (in.size() < sizeof(T)) return false;
  value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value | static_cast<T>(static_cast<T>(static_cast<unsigned char>(in[i])) << (8 * i)));
  in.remove_prefix(sizeof(T));
  return true;
}

bool has(const std::vector<RaftId>& ids, RaftId id) { return std::ranges::find(ids, id) != ids.end(); }

}  // namespace

bool ConfState::contains(RaftId id) const {
  return is_voter(id) || has(learners, id) || has(learners_next, id);
}
bool ConfState::is_voter(RaftId id) const { return has(voters, id) || has(voters_outgoing, id); }

std::string encode(const ConfChange& change) {
  std::string out;
  put<std::uint8_t>(out, kVersion);
  put<std::uint8_t>(out, change.joint ? 1 : 0);
  put<std::uint16_t>(out, static_cast<std::uint16_t>(change.steps.size()));
  for (const ConfChangeStep& step : change.steps) {
    put<std::uint8_t>(out, static_cast<std::uint8_t>(step.type));
    put<std::uint64_t>(out, step.id.value);
  }
  put<std::uint32_t>(out, static_cast<std::uint32_t>(change.context.size()));
  return out + change.context;
}

Result<ConfChange> decode_conf_change(std::string_view bytes) {
  if (bytes.empty()) return ConfChange{};   // made by the engine: leaves a joint configuration
  const auto cut_short = [] { return fail(Errc::Corrupt, "membership change cut short"); };
  std::uint8_t version = 0, joint = 0;
  std::uint16_t steps = 0;
  if (!take(bytes, version)) return cut_short();
  if (version != kVersion) return fail(Errc::Unsupported, "membership change of version " + std::to_string(version));
  if (!take(bytes, joint) || !take(bytes, steps)) return cut_short();
  if (steps > kStepsMax) return fail(Errc::TooLarge, "membership change with " + std::to_string(steps) + " steps");
  ConfChange change{.joint = joint != 0};
  for (std::uint16_t i = 0; i < steps; ++i) {
    std::uint8_t type = 0;
    RaftId id;
    if (!take(bytes, type) || !take(bytes, id.value)) return cut_short();
    if (type > static_cast<std::uint8_t>(ConfChangeType::Remove) || !id) return fail(Errc::Corrupt, "membership change with an unknown step");
    change.steps.push_back({static_cast<ConfChangeType>(type), id});
  }
  std::uint32_t context = 0;
  if (!take(bytes, context)) return cut_short();
  if (context > kContextMax) return fail(Errc::TooLarge, "membership change with a context of " + std::to_string(context) + " bytes");
  if (bytes.size() != context) return fail(Errc::Corrupt, "membership change of a wrong length");
  change.context = bytes;
  return change;
}

}  // namespace rq::raft
