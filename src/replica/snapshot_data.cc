#include "replica/snapshot_data.h"

#include "command/command.pb.h"

namespace rq::replica {

namespace {

void fill(pb::SnapshotData& out, const SnapshotData& data) {
  fill(*out.mutable_record(), data.record);
  out.set_source(data.source.value);
  out.set_image_id(data.machine.id);
  out.set_image_bytes(data.machine.bytes);
  out.set_machine(data.machine.data);
  for (const RaftId id : data.machine.copied_from) out.add_copied_from(id.value);
}

}  // namespace

std::string encode(const SnapshotData& data) {
  pb::SnapshotData out;
  fill(out, data);
  return out.SerializeAsString();
}

std::string encode_note(const raft::SnapshotDescriptor& descriptor) {
  pb::SnapshotData out;
  if (!out.ParseFromString(descriptor.data)) out.Clear();
  out.set_index(descriptor.index.value);
  out.set_term(descriptor.term.value);
  fill(*out.mutable_conf(), descriptor.conf_state);
  return out.SerializeAsString();
}

Result<raft::SnapshotDescriptor> decode_note(std::string_view bytes) {
  pb::SnapshotData in;
  if (!in.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())) || in.index() == 0) return fail(Errc::Corrupt, "note of an image cut short");
  raft::SnapshotDescriptor out{.index = Index{in.index()}, .term = Term{in.term()}, .conf_state = from(in.conf())};
  in.clear_index();
  in.clear_term();
  in.clear_conf();
  out.data = in.SerializeAsString();
  return out;
}

Result<SnapshotData> decode_snapshot_data(const raft::SnapshotDescriptor& descriptor) {
  pb::SnapshotData in;
  if (!in.ParseFromArray(descriptor.data.data(), static_cast<int>(descriptor.data.size()))) return fail(Errc::Corrupt, "snapshot data cut short");
  SnapshotData out{.record = from(in.record()), .source = RaftId{in.source()},
                   .machine = {.index = descriptor.index, .term = descriptor.term, .id = in.image_id(), .bytes = in.image_bytes(),
                               .data = in.machine(), .source = RaftId{in.source()}}};
  for (const std::uint64_t id : in.copied_from()) out.machine.copied_from.push_back(RaftId{id});
  return out;
}

std::string staged_image_name(Index index) { return "snapshot-" + std::to_string(index.value); }

}  // namespace rq::replica
