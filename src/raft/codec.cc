// ConfChange as bytes, the payload of a ConfChange entry:
//   u8 version = 1 | u8 flags (1: joint) | u16 number of steps | steps: u8 type, u64 id | u32 context bytes | context
// little endian; nothing may follow. No bytes at all: the empty change, which the engine itself appends to leave a joint
// configuration.
#include <algorithm>

#include "raft/conf_change.h"
#include "raft/engine.h"

namespace rq::raft {
namespace {

constexpr std::uint8_t kVersion = 1;
constexpr std::uint8_t kJoint = 1;
constexpr std::size_t kStepsMax = 64;
constexpr std::size_t kContextMax = 64 * 1024;

template <class T>
void put(std::string& out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
}

template <class T>
bool take(std::string_view& in, T& value) {
  if (in.size() < sizeof(T)) return false;
  std::uint64_t wide = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) wide |= std::uint64_t{static_cast<unsigned char>(in[i])} << (8 * i);
  value = static_cast<T>(wide);
  in.remove_prefix(sizeof(T));
  return true;
}

bool has(const std::vector<RaftId>& ids, RaftId id) { return std::ranges::find(ids, id) != ids.end(); }

tl::unexpected<Error> cut_short() { return fail(Errc::Corrupt, "membership change cut short"); }

Result<ConfChangeStep> take_step(std::string_view& bytes) {
  std::uint8_t type = 0;
  RaftId id;
  if (!take(bytes, type) || !take(bytes, id.value)) return cut_short();
  if (type > static_cast<std::uint8_t>(ConfChangeType::Remove) || !id)
    return fail(Errc::Corrupt, "membership change with an unknown step");
  return ConfChangeStep{static_cast<ConfChangeType>(type), id};
}

}  // namespace

bool ConfState::is_voter(RaftId id) const { return has(voters, id) || has(voters_outgoing, id); }
bool ConfState::contains(RaftId id) const { return is_voter(id) || has(learners, id); }

Result<> check_limits(const ConfChange& change) {
  if (change.steps.size() > kStepsMax)
    return fail(Errc::TooLarge, "membership change with " + std::to_string(change.steps.size()) + " steps");
  if (change.context.size() > kContextMax)
    return fail(Errc::TooLarge, "membership change with a context of " + std::to_string(change.context.size()) + " bytes");
  if (!std::ranges::all_of(change.steps, [](const ConfChangeStep& step) { return bool(step.id); }))
    return fail(Errc::BadRequest, "membership change of member 0");
  return {};
}

std::string encode(const ConfChange& change) {
  std::string out;
  put<std::uint8_t>(out, kVersion);
  put<std::uint8_t>(out, change.joint ? kJoint : 0);
  put<std::uint16_t>(out, static_cast<std::uint16_t>(change.steps.size()));
  for (const ConfChangeStep& step : change.steps) {
    put<std::uint8_t>(out, static_cast<std::uint8_t>(step.type));
    put<std::uint64_t>(out, step.id.value);
  }
  put<std::uint32_t>(out, static_cast<std::uint32_t>(change.context.size()));
  return out + change.context;
}

Result<ConfChange> decode_conf_change(std::string_view bytes) {
  if (bytes.empty()) return ConfChange{};
  std::uint8_t version = 0, flags = 0;
  std::uint16_t steps = 0;
  if (!take(bytes, version)) return cut_short();
  if (version != kVersion) return fail(Errc::Unsupported, "membership change of version " + std::to_string(version));
  if (!take(bytes, flags) || !take(bytes, steps)) return cut_short();
  if ((flags & ~kJoint) != 0) return fail(Errc::Unsupported, "membership change with unknown flags");
  if (steps > kStepsMax) return fail(Errc::TooLarge, "membership change with " + std::to_string(steps) + " steps");
  ConfChange change{.joint = flags == kJoint};
  for (std::uint16_t i = 0; i < steps; ++i) {
    RQ_TRY(const ConfChangeStep step, take_step(bytes));
    change.steps.push_back(step);
  }
  std::uint32_t context = 0;
  if (!take(bytes, context)) return cut_short();
  if (context > kContextMax)
    return fail(Errc::TooLarge, "membership change with a context of " + std::to_string(context) + " bytes");
  if (bytes.size() != context) return fail(Errc::Corrupt, "membership change of a wrong length");
  change.context = bytes;
  return change;
}

}  // namespace rq::raft
