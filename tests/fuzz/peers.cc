#include <algorithm>
#include <string>

#include "base/assert.h"
#include "cluster/cluster.pb.h"
#include "command/command.pb.h"
#include "fuzz/targets.h"
#include "raft/engine.h"
#include "replica/group.h"
#include "replica/membership.h"
#include "replica/snapshot_data.h"
#include "transport/codec.h"
#include "transport/frames.h"

namespace rq::fuzz {
namespace {

// The messages that the bytes hold, when they arrive `step` at a time; false: refused.
bool read_all(std::string_view input, std::size_t step, std::vector<transport::MessageFrame>& out) {
  transport::FrameReader reader;
  reader.set_limit(1u << 16);
  while (!input.empty()) {
    std::string_view piece = input.substr(0, step);
    input.remove_prefix(piece.size());
    while (true) {
      Result<std::optional<transport::MessageFrame>> next = reader.next(piece);
      if (!next) return false;
      if (!*next) break;
      out.push_back(**std::move(next));
    }
    RQ_ASSERT(piece.empty());
  }
  return true;
}

}  // namespace

void peer_frames(std::string_view input) {
  std::vector<transport::MessageFrame> whole, pieces;
  const bool good = read_all(input, input.size() + 1, whole);
  const bool good_in_pieces = read_all(input, 1 + input.size() / 7, pieces);
  RQ_ASSERT(good == good_in_pieces);
  RQ_ASSERT(whole.size() == pieces.size());
  std::string again;
  for (std::size_t i = 0; i < whole.size(); ++i) {
    RQ_ASSERT(whole[i].payload == pieces[i].payload);
    transport::append_frames(again, whole[i].type, whole[i].stream, whole[i].payload);
  }
}

void peer_messages(std::string_view input) {
  if (const auto message = transport::decode_message(input)) {
    const auto again = transport::decode_message(transport::encode(*message));
    RQ_ASSERT(again.has_value());
    RQ_ASSERT(again->entries.size() == message->entries.size());
  }
  (void)transport::decode_hello(input);
  (void)transport::decode_request(input);
  (void)transport::decode_response(input);
  if (const auto change = raft::decode_conf_change(input)) RQ_ASSERT(raft::decode_conf_change(raft::encode(*change)).has_value());
  (void)replica::decode_member(input);
  if (const auto record = replica::decode_membership_record(input)) {
    RQ_ASSERT(replica::decode_membership_record(replica::encode(*record)).has_value());
  }
  (void)replica::decode_note(input);
  (void)replica::decode_snapshot_data({.index = Index{2}, .term = Term{1}, .data = std::string(input)});
  if (const auto group = replica::read_group(input)) {
    for (const std::string_view bytes : group->proposals) {
      RQ_ASSERT(bytes.data() >= input.data());
      RQ_ASSERT(bytes.data() + bytes.size() <= input.data() + input.size());
      pb::Proposal proposal;
      (void)proposal.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
    }
  }
  pb::ProofRequest question;
  (void)question.ParseFromArray(input.data(), static_cast<int>(input.size()));
  pb::SqlRequest request;
  (void)request.ParseFromArray(input.data(), static_cast<int>(input.size()));
}

}  // namespace rq::fuzz
