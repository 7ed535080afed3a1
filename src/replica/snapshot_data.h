// What a snapshot message says beside index, term and ConfState: the membership, and where the image is. Pure.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "raft/engine.h"
#include "raft/state_machine.h"
#include "replica/membership.h"

namespace rq::replica {

struct SnapshotData {
  MembershipRecord record;
  RaftId source;                   // who holds the image
  raft::MachineSnapshot machine;   // id 0: no image, the state of a new cluster
};

std::string encode(const SnapshotData& data);   // index and term of `machine` are those of the descriptor
Result<SnapshotData> decode_snapshot_data(const raft::SnapshotDescriptor& descriptor);   // Errc::Corrupt

// The whole descriptor as one text: what lies beside a staged image.
std::string encode_note(const raft::SnapshotDescriptor& descriptor);
Result<raft::SnapshotDescriptor> decode_note(std::string_view bytes);   // Errc::Corrupt

// The name of an image below a staging folder.
std::string staged_image_name(Index index);

}  // namespace rq::replica
