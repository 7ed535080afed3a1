#include "import/snapshots.h"

#include <rapidjson/document.h>

#include <algorithm>
#include <charconv>
#include <set>
#include <tuple>

namespace rq::import {
namespace {

constexpr std::size_t kJsonBytesMax = 4u << 20;
constexpr std::string_view kImageName = "data.db";

using Json = rapidjson::Document;
using JsonValue = rapidjson::Value;

Result<Json> read_json(io::Disk& disk, const std::string& path) {
  RQ_TRY(const std::string text, io::read_file(disk, path, kJsonBytesMax));
  Json json;
  json.Parse<rapidjson::kParseIterativeFlag | rapidjson::kParseStopWhenDoneFlag>(text.data(), text.size());
  if (json.HasParseError()) return fail(Errc::Corrupt, path + " is no JSON (at byte " + std::to_string(json.GetErrorOffset()) + ")");
  return json;
}

const JsonValue* member(const JsonValue& object, const char* name) {
  if (!object.IsObject()) return nullptr;
  const auto found = object.FindMember(name);
  return found == object.MemberEnd() ? nullptr : &found->value;
}
std::string text_of(const JsonValue& object, const char* name) {
  const JsonValue* value = member(object, name);
  return value != nullptr && value->IsString() ? std::string(value->GetString(), value->GetStringLength()) : std::string();
}
std::uint64_t number_of(const JsonValue& object, const char* name) {
  const JsonValue* value = member(object, name);
  return value != nullptr && value->IsUint64() ? value->GetUint64() : 0;
}

// Of padded base64, exactly 8 bytes.
std::optional<std::uint64_t> eight_bytes_of_base64(std::string_view text) {
  constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  if (text.size() != 12 || text[11] != '=') return std::nullopt;
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < 11; ++i) {
    const std::size_t digit = kLetters.find(text[i]);
    if (digit == std::string_view::npos) return std::nullopt;
    value = i < 10 ? value << 6 | digit : value << 4 | digit >> 2;
  }
  return value;
}

struct Meta {
  std::string id;
  Index index;
  Term term;
  std::vector<Server> servers;
  std::uint64_t size = 0;
  std::optional<std::uint64_t> crc64;
  auto order() const { return std::tuple(term, index, id); }
};

Result<Meta> meta_of(const JsonValue& json, const std::string& path) {
  Meta meta{.id = text_of(json, "ID"), .index = Index{number_of(json, "Index")}, .term = Term{number_of(json, "Term")}, .servers = {},
            .size = number_of(json, "Size"), .crc64 = {}};
  if (meta.id.empty() || !meta.index || !meta.term) return fail(Errc::Corrupt, path + " lacks ID, Index or Term");
  const JsonValue* configuration = member(json, "Configuration");
  const JsonValue* servers = configuration == nullptr ? nullptr : member(*configuration, "Servers");
  if (servers != nullptr && servers->IsArray()) {
    for (const JsonValue& server : servers->GetArray())
      meta.servers.push_back({.node_id = text_of(server, "ID"), .raft_addr = text_of(server, "Address"), .voter = number_of(server, "Suffrage") == 0});
  }
  if (const std::string crc = text_of(json, "CRC"); !crc.empty()) {
    meta.crc64 = eight_bytes_of_base64(crc);
    if (!meta.crc64) return fail(Errc::Corrupt, path + " has no valid CRC");
  }
  return meta;
}

struct Found {
  std::string dir;    // absolute
  std::string name;
  Meta meta;
};

// Complete snapshots, oldest first. A missing folder has none.
Result<std::vector<Found>> snapshots_in(io::Disk& disk, const std::string& folder, const std::set<std::string>& leave_out) {
  std::vector<Found> all;
  RQ_TRY(const bool there, disk.exists(folder));
  if (!there) return all;
  RQ_TRY(const std::vector<std::string> names, disk.list(folder));
  for (const std::string& name : names) {
    const std::string meta_path = folder + "/" + name + "/meta.json";
    if (name.ends_with(".tmp") || leave_out.contains(name)) continue;
    RQ_TRY(const bool complete, disk.exists(meta_path));
    if (!complete) continue;
    RQ_TRY(const Json json, read_json(disk, meta_path));
    RQ_TRY(Meta meta, meta_of(json, meta_path));
    all.push_back({folder + "/" + name, name, std::move(meta)});
  }
  std::ranges::sort(all, {}, [](const Found& found) { return found.meta.order(); });
  return all;
}

// With the checksum of the file beside it: {"crc":"8a9dca35","type":"castagnoli"}.
Result<SnapshotFile> with_checksum(io::Disk& disk, const std::string& path) {
  SnapshotFile file{path, std::nullopt};
  RQ_TRY(const bool there, disk.exists(path + ".crc32"));
  if (!there) return file;
  RQ_TRY(const Json json, read_json(disk, path + ".crc32"));
  const JsonValue* disabled = member(json, "disabled");
  const std::string type = text_of(json, "type"), crc = text_of(json, "crc");
  if ((disabled != nullptr && disabled->IsTrue()) || (!type.empty() && type != "castagnoli")) return file;
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(crc.data(), crc.data() + crc.size(), value, 16);
  if (crc.size() != 8 || error != std::errc() || end != crc.data() + crc.size()) return fail(Errc::Corrupt, path + ".crc32 holds no checksum");
  file.crc32c = value;
  return file;
}

void take_meta(Snapshot& snapshot, const Meta& meta) {
  snapshot.id = meta.id;
  snapshot.index = meta.index;
  snapshot.term = meta.term;
  snapshot.servers = meta.servers;
}

// ---- v10: wsnapshots/<id>/{data.db, *.wal}

// A consolidation that was interrupted: WALs are being folded into a full snapshot. Its paths are of the machine it ran on.
struct ReapPlan {
  std::string base;                  // folder of the full snapshot
  std::string result;                // the same under its later name
  std::vector<std::string> wals;     // folder/file
  std::set<std::string> superseded;  // folders that it removes
  std::optional<Meta> meta;
};

// `parts` last parts of a path. Names that lead elsewhere are refused.
Result<std::string> last_parts(std::string_view path, unsigned parts, const std::string& plan) {
  std::size_t at = path.size();
  for (unsigned i = 0; i < parts; ++i) {
    at = at == 0 ? std::string_view::npos : path.rfind('/', at - 1);
    if (at == std::string_view::npos) return fail(Errc::Corrupt, plan + " names an unusable path");
  }
  std::string tail(path.substr(at + 1));
  if (tail.empty() || tail.front() == '.' || tail.find("/.") != std::string::npos || tail.back() == '/' || tail.find('\0') != std::string::npos)
    return fail(Errc::Corrupt, plan + " names an unusable path");
  return tail;
}

Result<ReapPlan> read_plan(io::Disk& disk, const std::string& path) {
  RQ_TRY(const Json json, read_json(disk, path));
  const JsonValue* ops = member(json, "ops");
  if (ops == nullptr || !ops->IsArray()) return fail(Errc::Corrupt, path + " has no operations");
  ReapPlan plan;
  for (const JsonValue& op : ops->GetArray()) {
    const std::string type = text_of(op, "type");
    if (type == "checkpoint") {
      RQ_TRY(const std::string image, last_parts(text_of(op, "db"), 2, path));
      plan.base = image.substr(0, image.find('/'));
      const JsonValue* wals = member(op, "wals");
      if (wals == nullptr || !wals->IsArray()) continue;
      for (const JsonValue& wal : wals->GetArray()) {
        if (!wal.IsString()) return fail(Errc::Corrupt, path + " names an unusable path");
        RQ_TRY(std::string name, last_parts(wal.GetString(), 2, path));
        plan.wals.push_back(std::move(name));
      }
    } else if (type == "remove_all") {
      RQ_TRY(std::string name, last_parts(text_of(op, "src"), 1, path));
      plan.superseded.insert(std::move(name));
    } else if (type == "rename") {
      RQ_TRY(plan.result, last_parts(text_of(op, "dst"), 1, path));
    } else if (type == "write_meta") {
      const JsonValue* data = member(op, "data");
      if (data == nullptr) return fail(Errc::Corrupt, path + " has no metadata");
      RQ_TRY(plan.meta, meta_of(*data, path));
    }
  }
  if (!plan.base.empty() && (plan.result.empty() || !plan.meta)) return fail(Errc::Corrupt, path + " lacks metadata or the name of its result");
  return plan;
}

Result<> add_wals(io::Disk& disk, const std::string& dir, Snapshot& snapshot) {
  // Half folded in by a consolidation that died.
  RQ_TRY(const bool begun, disk.exists(dir + "/" + std::string(kImageName) + "-wal"));
  if (begun) snapshot.wals.push_back({dir + "/" + std::string(kImageName) + "-wal", std::nullopt});
  RQ_TRY(const std::vector<std::string> names, disk.list(dir));   // sorted
  for (const std::string& name : names) {
    if (!name.ends_with(".wal")) continue;
    RQ_TRY(SnapshotFile wal, with_checksum(disk, dir + "/" + name));
    snapshot.wals.push_back(std::move(wal));
  }
  return {};
}

// The state as it will be when the plan is carried out: WALs that are still there are applied (again, if need be: frames
// are whole pages), those that are gone are in the image.
Result<Snapshot> begun_consolidation(io::Disk& disk, const std::string& folder, const ReapPlan& plan) {
  Snapshot snapshot;
  take_meta(snapshot, *plan.meta);
  const std::string dir = folder + "/" + plan.base;
  snapshot.base = {dir + "/" + std::string(kImageName), std::nullopt};   // its checksum is of before or of after
  RQ_CHECK(add_wals(disk, dir, snapshot));
  for (const std::string& name : plan.wals) {
    if (name.starts_with(plan.base + "/")) continue;
    RQ_TRY(const bool there, disk.exists(folder + "/" + name));
    if (!there) continue;
    RQ_TRY(SnapshotFile wal, with_checksum(disk, folder + "/" + name));
    snapshot.wals.push_back(std::move(wal));
  }
  return snapshot;
}

Result<std::optional<Snapshot>> newest_v10(io::Disk& disk, const std::string& folder) {
  std::optional<Snapshot> snapshot;
  std::set<std::string> leave_out;
  RQ_TRY(const bool plan_there, disk.exists(folder + "/REAP_PLAN"));
  if (plan_there) {
    RQ_TRY(const ReapPlan plan, read_plan(disk, folder + "/REAP_PLAN"));
    leave_out = plan.superseded;
    if (!plan.base.empty()) {
      RQ_TRY(const bool finished, disk.exists(folder + "/" + plan.result));
      if (!finished) {
        leave_out.insert(plan.base);
        RQ_TRY(snapshot, begun_consolidation(disk, folder, plan));
      }
    }
  }
  RQ_TRY(const std::vector<Found> all, snapshots_in(disk, folder, leave_out));
  for (const Found& found : all) {
    RQ_TRY(const bool full, disk.exists(found.dir + "/" + std::string(kImageName)));
    if (snapshot && std::tuple(found.meta.term, found.meta.index) < std::tuple(snapshot->term, snapshot->index)) continue;
    if (full) {
      snapshot.emplace();
      RQ_TRY(snapshot->base, with_checksum(disk, found.dir + "/" + std::string(kImageName)));
    }
    if (!snapshot) continue;    // increments of a full one that is gone: a full one follows, or none does
    take_meta(*snapshot, found.meta);
    const std::size_t before = snapshot->wals.size();
    RQ_CHECK(add_wals(disk, found.dir, *snapshot));
    if (!full && snapshot->wals.size() == before) return fail(Errc::Corrupt, "snapshot " + found.dir + " holds no data");
  }
  if (!snapshot && !all.empty()) return fail(Errc::Corrupt, folder + " holds no full snapshot");
  return snapshot;
}

// ---- v8, v9: rsnapshots/<id>.db beside rsnapshots/<id>/meta.json

Result<std::optional<Snapshot>> newest_v8(io::Disk& disk, const std::string& folder) {
  RQ_TRY(const std::vector<Found> all, snapshots_in(disk, folder, {}));
  if (all.empty()) return std::optional<Snapshot>();
  Snapshot snapshot;
  snapshot.wals_exact = false;
  take_meta(snapshot, all.back().meta);
  // The image has the newest name that is there: the one before when a consolidation was interrupted, which renames it and
  // folds the WAL of the newest in.
  std::size_t at = all.size();
  for (const std::size_t oldest = all.size() - std::min<std::size_t>(all.size(), 2); at > oldest && snapshot.base.path.empty();) {
    --at;
    RQ_TRY(const bool there, disk.exists(folder + "/" + all[at].name + ".db"));
    if (there) snapshot.base.path = folder + "/" + all[at].name + ".db";
  }
  if (snapshot.base.path.empty()) {
    // An upgrade to v10 that died may have moved it.
    const std::string moved = folder.substr(0, folder.rfind('/')) + "/wsnapshots.tmp/" + all.back().name + "/" + std::string(kImageName);
    RQ_TRY(const bool there, disk.exists(moved));
    if (!there) return fail(Errc::Corrupt, "snapshot " + all.back().dir + " has no database file");
    snapshot.base.path = moved;
    return std::optional(std::move(snapshot));
  }
  for (; at < all.size(); ++at) {
    const std::string wal = folder + "/" + all[at].name + ".db-wal";
    RQ_TRY(const bool there, disk.exists(wal));
    if (there) snapshot.wals.push_back({wal, std::nullopt});
  }
  return std::optional(std::move(snapshot));
}

// ---- v6, v7: snapshots/<id>/state.bin

Result<std::optional<Snapshot>> newest_v6(io::Disk& disk, const std::string& folder) {
  RQ_TRY(const std::vector<Found> all, snapshots_in(disk, folder, {}));
  if (all.empty()) return std::optional<Snapshot>();
  const Found& newest = all.back();
  Snapshot snapshot;
  take_meta(snapshot, newest.meta);
  snapshot.form = Snapshot::Form::State;
  snapshot.base.path = newest.dir + "/state.bin";
  snapshot.base_crc64 = newest.meta.crc64;
  return std::optional(std::move(snapshot));
}

}  // namespace

Result<std::optional<Snapshot>> newest_snapshot(io::Disk& disk, const std::string& data_dir) {
  RQ_TRY(std::optional<Snapshot> found, newest_v10(disk, data_dir + "/wsnapshots"));
  if (found) return found;
  RQ_TRY(found, newest_v8(disk, data_dir + "/rsnapshots"));
  if (found) return found;
  return newest_v6(disk, data_dir + "/snapshots");
}

Result<std::optional<std::vector<Server>>> peers_file(io::Disk& disk, const std::string& data_dir) {
  const std::string path = data_dir + "/raft/peers.json";
  RQ_TRY(const bool there, disk.exists(path));
  if (!there) return std::optional<std::vector<Server>>();
  RQ_TRY(const Json json, read_json(disk, path));
  if (!json.IsArray()) return fail(Errc::Corrupt, path + " is no list of members");
  std::vector<Server> servers;
  for (const JsonValue& peer : json.GetArray()) {
    const JsonValue* non_voter = member(peer, "non_voter");
    servers.push_back({.node_id = text_of(peer, "id"), .raft_addr = text_of(peer, "address"), .voter = non_voter == nullptr || !non_voter->IsTrue()});
    if (servers.back().node_id.empty()) return fail(Errc::Corrupt, path + " has a member without id");
  }
  return std::optional(std::move(servers));
}

}  // namespace rq::import
