#include "store/recover.h"

#include <rapidjson/document.h>
#include <rapidjson/error/en.h>
#include <xxhash.h>

#include <algorithm>
#include <set>

#include "base/go_text.h"
#include "base/log.h"
#include "ledger/ledger.h"
#include "ledger/recovery.h"
#include "wal/log.h"

namespace rq::store {
namespace {

constexpr std::size_t kPeersBytesMax = 1u << 20;
constexpr std::size_t kPeersMax = 1000;

tl::unexpected<Error> unreadable(const std::string& why) { return fail(Errc::BadRequest, "failed to read peers file: " + why); }

std::string json_problem(std::string_view text, const rapidjson::Document& document) {
  const std::size_t at = document.GetErrorOffset();
  if (at >= text.size()) return "unexpected end of JSON input";
  return std::string("invalid character '") + text[at] + "' in " + rapidjson::GetParseError_En(document.GetParseError());
}

Result<> check_address(const std::string& address) {
  if (address.find("://") != std::string::npos) return fail(Errc::BadRequest, "failed to recover node: protocol specified in address: " + address);
  const std::size_t colon = address.rfind(':');
  const bool numeric = colon != std::string::npos && colon > 0 && colon + 1 < address.size() &&
                       std::ranges::all_of(address.substr(colon + 1), [](char c) { return c >= '0' && c <= '9'; });
  if (!numeric) return fail(Errc::BadRequest, "failed to recover node: invalid address in configuration: " + address);
  return {};
}

// Never 0: that means "unknown" everywhere.
std::uint64_t id_of(std::string_view bytes, std::uint64_t seed) { return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed) | 1; }

replica::MembershipRecord record_of(std::vector<Peer> peers, raft::ConfState& conf) {
  std::ranges::sort(peers, {}, &Peer::id);
  replica::MembershipRecord record{.cluster_id = id_of(peers_text(peers), 0)};
  for (const Peer& peer : peers) {
    const RaftId raft_id{id_of(peer.id, record.cluster_id)};
    record.members.put({.raft_id = raft_id, .node_id = peer.id, .raft_addr = peer.address, .read_replica = peer.non_voter});
    (peer.non_voter ? conf.learners : conf.voters).push_back(raft_id);
  }
  return record;                       // no base: nobody may begin from an empty database and replay the whole log
}

}  // namespace

std::string peers_text(const std::vector<Peer>& peers) {
  std::string out = "[";
  for (const Peer& peer : peers) {
    out += out.size() > 1 ? ",\n {\"id\":" : "\n {\"id\":";
    append_json_string(out, peer.id);
    out += ",\"address\":";
    append_json_string(out, peer.address);
    out += std::string(",\"non_voter\":") + (peer.non_voter ? "true" : "false") + "}";
  }
  return out + "\n]\n";
}

Result<std::vector<Peer>> parse_peers(std::string_view text) {
  rapidjson::Document document;
  document.Parse(text.data(), text.size());
  if (document.HasParseError()) return unreadable(json_problem(text, document));
  if (!document.IsArray() || document.Size() > kPeersMax) return unreadable("a list of at most " + std::to_string(kPeersMax) + " members is expected");
  std::vector<Peer> peers;
  for (const rapidjson::Value& item : document.GetArray()) {
    if (!item.IsObject()) return unreadable("a member is not an object");
    Peer peer;
    for (const auto& member : item.GetObject()) {
      const std::string_view name(member.name.GetString(), member.name.GetStringLength());
      if (name == "non_voter") {
        if (!member.value.IsBool()) return unreadable("non_voter is not true or false");
        peer.non_voter = member.value.GetBool();
      } else if (name == "id" || name == "address") {
        if (!member.value.IsString()) return unreadable(std::string(name) + " is not a text");
        (name == "id" ? peer.id : peer.address).assign(member.value.GetString(), member.value.GetStringLength());
      }
    }
    peers.push_back(std::move(peer));
  }
  std::set<std::string> ids, addresses;
  for (const Peer& peer : peers) {
    if (peer.id.empty()) return unreadable("empty ID in configuration: " + std::string(text));
    if (!ids.insert(peer.id).second) return unreadable("found duplicate ID in configuration: " + peer.id);
    if (!addresses.insert(peer.address).second) return unreadable("found duplicate address in configuration: " + peer.address);
  }
  if (std::ranges::all_of(peers, &Peer::non_voter)) return unreadable("need at least one voter in configuration: " + std::string(text));
  for (const Peer& peer : peers) RQ_CHECK(check_address(peer.address));
  return peers;
}

Result<bool> recover_membership(io::Disk& disk, const std::string& data_dir, NodeFile& node) {
  const std::string path = peers_path(data_dir);
  RQ_TRY(const bool there, disk.exists(path));
  if (!there) return false;
  log::info("store", "attempting node recovery using " + path);
  RQ_TRY(const std::string text, io::read_file(disk, path, kPeersBytesMax));
  RQ_TRY(const std::vector<Peer> peers, parse_peers(text));
  raft::ConfState conf;
  const replica::MembershipRecord record = record_of(peers, conf);
  const replica::Member* self = record.members.find_node(node.node_id);
  if (self == nullptr) return fail(Errc::BadRequest, "failed to recover node: this node, " + node.node_id + ", is not in the configuration");

  RQ_TRY(wal::Log::Opened opened, wal::Log::open(disk, data_dir + "/raft", {}));
  const wal::Recovered& in = opened.recovered;
  const bool empty = in.snapshot.index.value == 0;
  const Index commit = empty ? Index{1} : std::max({in.hard_state.commit, in.snapshot.index, in.membership.index});
  // A vote of before must not count twice: no member has voted in the next term yet.
  const raft::HardState hard_state{.term = Term{in.hard_state.term.value + 1}, .vote = {}, .commit = commit};
  RQ_CHECK(opened.log->append({.snapshot = empty ? std::optional(wal::SnapshotMark{Index{1}, Term{1}}) : std::nullopt,
                               .hard_state = hard_state,
                               .membership = wal::Membership{commit, conf, encode(record)}}));
  RQ_CHECK(opened.log->sync());
  node.raft_id = self->raft_id;
  node.cluster_id = record.cluster_id;
  RQ_CHECK(write_node_file(disk, data_dir, node));
  RQ_CHECK(disk.rename(path, data_dir + "/raft/peers.info"));
  RQ_CHECK(disk.sync_dir(data_dir + "/raft"));
  log::info("store", "node recovered successfully using " + path);
  return true;
}

Result<> ask_to_skip(io::Disk& disk, const std::string& data_dir, Index index) {
  return io::write_file_atomically(disk, skip_path(data_dir), "{\"skip_index\":" + std::to_string(index.value) + "}\n");
}

Result<Index> asked_to_skip(io::Disk& disk, const std::string& data_dir) {
  const Result<std::string> text = io::read_file(disk, skip_path(data_dir), 4096);
  if (!text && text.error().code == Errc::NotFound) return Index{};
  if (!text) return fail(text.error());
  rapidjson::Document document;
  document.Parse(text->data(), text->size());
  const bool good = document.IsObject() && document.HasMember("skip_index") && document["skip_index"].IsUint64();
  if (!good) return fail(Errc::BadRequest, skip_path(data_dir) + " is not {\"skip_index\":N}");
  return Index{document["skip_index"].GetUint64()};
}

Result<LogPosition> look_at_log(io::Disk& disk, const std::string& data_dir) {
  RQ_TRY(const wal::Log::Opened opened, wal::Log::open(disk, data_dir + "/raft", {}));
  const wal::Recovered& in = opened.recovered;
  LogPosition out;
  out.empty = in.snapshot.index.value == 0;
  if (out.empty) return out;
  out.first = in.first;
  out.last = std::max(in.last, in.snapshot.index);
  out.last_term = in.last_term;
  out.commit = std::max(in.hard_state.commit, in.snapshot.index);
  out.term = in.hard_state.term;
  out.conf = in.membership.conf_state;
  RQ_TRY(out.record, replica::decode_membership_record(in.membership.members));
  if (const Result<ledger::Contents> contents = ledger::read(disk, ledger::paths_in(data_dir).ledger)) {
    out.applied = contents->epoch.position.index;
    for (const ledger::Line& line : contents->lines)
      if (line.kind == ledger::Line::Kind::Commit) out.applied = std::max(out.applied, line.position.index);
  }
  return out;
}

}  // namespace rq::store
