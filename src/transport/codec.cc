#include "transport/codec.h"

#include <array>

#include "transport/wire.pb.h"

namespace rq::transport {
namespace {

namespace wire = pb::wire;
constexpr std::uint32_t kVersion = 1;

// Places are the numbers on the wire, from 1: only ever append.
constexpr std::array kErrors = {
    Errc::NotLeader, Errc::LeaderNotFound, Errc::LeadershipLost, Errc::TransferInProgress, Errc::Timeout, Errc::Busy, Errc::NotOpen,
    Errc::NotReady, Errc::StaleRead, Errc::Unauthorized, Errc::AlreadyExists, Errc::NotFound, Errc::BadRequest, Errc::DisallowedPragma,
    Errc::DeadlineExceeded, Errc::OpenTransaction, Errc::Sql, Errc::Io, Errc::NoSpace, Errc::Corrupt, Errc::Truncated,
    Errc::Unsupported, Errc::TooLarge, Errc::Canceled, Errc::Internal,
};

std::uint32_t number_of(Errc code) {
  for (std::size_t i = 0; i < kErrors.size(); ++i)
    if (kErrors[i] == code) return static_cast<std::uint32_t>(i + 1);
  return static_cast<std::uint32_t>(kErrors.size());   // Internal
}

template <class Message>
bool parse(Message& message, std::string_view bytes) {
  return bytes.size() <= INT32_MAX && message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()));
}

template <class Repeated>
std::vector<RaftId> ids(const Repeated& in) {
  std::vector<RaftId> out;
  for (const std::uint64_t id : in) out.push_back(RaftId{id});
  return out;
}

void fill(wire::Snapshot& out, const raft::SnapshotDescriptor& in) {
  out.set_index(in.index.value);
  out.set_term(in.term.value);
  out.set_data(in.data);
  wire::Conf& conf = *out.mutable_conf();
  for (const RaftId id : in.conf_state.voters) conf.add_voters(id.value);
  for (const RaftId id : in.conf_state.learners) conf.add_learners(id.value);
  for (const RaftId id : in.conf_state.voters_outgoing) conf.add_voters_outgoing(id.value);
  for (const RaftId id : in.conf_state.learners_next) conf.add_learners_next(id.value);
  conf.set_auto_leave(in.conf_state.auto_leave);
}

raft::SnapshotDescriptor from(wire::Snapshot& in) {
  return {.index = Index{in.index()}, .term = Term{in.term()},
          .conf_state = {.voters = ids(in.conf().voters()), .learners = ids(in.conf().learners()),
                         .voters_outgoing = ids(in.conf().voters_outgoing()), .learners_next = ids(in.conf().learners_next()),
                         .auto_leave = in.conf().auto_leave()},
          .data = std::move(*in.mutable_data())};
}

bool known(std::uint32_t type) {
  using raft::MessageType;
  switch (static_cast<MessageType>(type)) {
    case MessageType::Append: case MessageType::AppendResponse: case MessageType::RequestVote:
    case MessageType::RequestVoteResponse: case MessageType::Snapshot: case MessageType::Heartbeat:
    case MessageType::HeartbeatResponse: case MessageType::TransferLeader: case MessageType::TimeoutNow:
    case MessageType::ReadIndex: case MessageType::ReadIndexResponse: case MessageType::RequestPreVote:
    case MessageType::RequestPreVoteResponse:
      return type <= UINT8_MAX;
  }
  return false;
}

}  // namespace

std::string encode(const raft::Message& message) {
  wire::Message out;
  out.set_type(static_cast<std::uint32_t>(message.type));
  out.set_from(message.from.value);
  out.set_to(message.to.value);
  out.set_term(message.term.value);
  out.set_log_term(message.log_term.value);
  out.set_index(message.index.value);
  out.set_commit(message.commit.value);
  out.set_commit_term(message.commit_term.value);
  out.set_reject(message.reject);
  out.set_reject_hint(message.reject_hint.value);
  out.set_request_snapshot(message.request_snapshot.value);
  out.set_priority(message.priority);
  out.set_context(message.context);
  for (const raft::Entry& entry : message.entries) {
    wire::Entry& one = *out.add_entries();
    one.set_type(static_cast<std::uint32_t>(entry.type));
    one.set_term(entry.term.value);
    one.set_index(entry.index.value);
    one.set_payload(*entry.payload);
  }
  if (message.snapshot) fill(*out.mutable_snapshot(), *message.snapshot);
  return out.SerializeAsString();
}

Result<raft::Message> decode_message(std::string_view bytes) {
  wire::Message in;
  if (!parse(in, bytes)) return fail(Errc::Corrupt, "unreadable raft message");
  if (!known(in.type())) return fail(Errc::Unsupported, "raft message of type " + std::to_string(in.type()));
  raft::Message out{.type = static_cast<raft::MessageType>(in.type()), .from = RaftId{in.from()}, .to = RaftId{in.to()},
                    .term = Term{in.term()}, .log_term = Term{in.log_term()}, .index = Index{in.index()},
                    .commit = Index{in.commit()}, .reject_hint = Index{in.reject_hint()}, .commit_term = Term{in.commit_term()},
                    .reject = in.reject(), .request_snapshot = Index{in.request_snapshot()}, .priority = in.priority(),
                    .context = std::move(*in.mutable_context())};
  out.entries.reserve(static_cast<std::size_t>(in.entries_size()));
  std::uint64_t expected = out.index.value + 1;
  for (wire::Entry& entry : *in.mutable_entries()) {
    if (entry.type() != 0 && entry.type() != 2) return fail(Errc::Unsupported, "log entry of type " + std::to_string(entry.type()));
    // The engine takes gaps for its own bug and stops: they end here.
    if (out.type == raft::MessageType::Append && entry.index() != expected++) return fail(Errc::Corrupt, "entries with a gap");
    out.entries.push_back({.type = static_cast<raft::EntryType>(entry.type()), .term = Term{entry.term()}, .index = Index{entry.index()},
                           .payload = std::make_shared<const std::string>(std::move(*entry.mutable_payload()))});
  }
  if (in.has_snapshot()) out.snapshot = from(*in.mutable_snapshot());
  if ((out.type == raft::MessageType::Snapshot) != out.snapshot.has_value()) return fail(Errc::Corrupt, "snapshot message without snapshot");
  return out;
}

std::string encode(const Hello& hello) {
  wire::Hello out;
  out.set_version(kVersion);
  out.set_channel(static_cast<std::uint32_t>(hello.channel));
  out.set_cluster_id(hello.cluster_id);
  out.set_from(hello.from.value);
  out.set_to(hello.to.value);
  out.set_from_addr(hello.from_addr);
  return out.SerializeAsString();
}

Result<Hello> decode_hello(std::string_view bytes) {
  wire::Hello in;
  if (!parse(in, bytes)) return fail(Errc::Corrupt, "unreadable hello");
  if (in.version() != kVersion) return fail(Errc::Unsupported, "peer speaks version " + std::to_string(in.version()));
  if (in.channel() != 1 && in.channel() != 2) return fail(Errc::Unsupported, "unknown channel");
  return Hello{static_cast<Channel>(in.channel()), in.cluster_id(), RaftId{in.from()}, RaftId{in.to()}, std::move(*in.mutable_from_addr())};
}

std::string encode(CallRequest&& request) {
  wire::CallRequest out;
  out.set_type(static_cast<std::uint32_t>(request.type));
  out.set_remaining_ms(request.remaining_ms);
  *out.mutable_payload() = std::move(request.payload);
  return out.SerializeAsString();
}

Result<CallRequest> decode_request(std::string_view bytes) {
  wire::CallRequest in;
  if (!parse(in, bytes)) return fail(Errc::Corrupt, "unreadable call");
  if (in.type() > UINT8_MAX) return fail(Errc::Unsupported, "call of type " + std::to_string(in.type()));
  return CallRequest{static_cast<CallType>(in.type()), in.remaining_ms(), std::move(*in.mutable_payload())};
}

std::string encode_response(const Result<std::string>& result) {
  wire::CallResponse out;
  if (result) {
    out.set_payload(*result);
  } else {
    out.set_error(number_of(result.error().code));
    out.set_detail(result.error().detail);
  }
  return out.SerializeAsString();
}

Result<std::string> decode_response(std::string_view bytes) {
  wire::CallResponse in;
  if (!parse(in, bytes)) return fail(Errc::Corrupt, "unreadable answer");
  if (in.error() == 0) return std::move(*in.mutable_payload());
  const Errc code = in.error() <= kErrors.size() ? kErrors[in.error() - 1] : Errc::Internal;
  return fail(code, std::move(*in.mutable_detail()));
}

}  // namespace rq::transport
