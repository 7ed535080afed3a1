#include "import/raft_log.h"

#include "import/msgpack.h"

namespace rq::import {
namespace {

constexpr std::string_view kLogs = "logs", kConf = "conf";
constexpr std::uint64_t kNameMax = 64;
constexpr std::uint64_t kAddressMax = 4096;
constexpr std::uint64_t kServersMax = 4096;

std::string key_of(Index index) {
  std::string key(8, '\0');
  for (unsigned i = 0; i < 8; ++i) key[i] = static_cast<char>(index.value >> (56 - 8 * i));
  return key;
}

Result<Index> index_of(std::string_view key, const FileRange& value) {
  if (key.size() != 8) return value.corrupt("a log entry has a key of " + std::to_string(key.size()) + " bytes");
  return Index{big_endian(key)};
}

// 8 bytes: nanoseconds << 34 | seconds; 12 bytes: nanoseconds, seconds.
std::optional<std::int64_t> unix_ms(std::string_view stamp) {
  std::uint64_t seconds = 0, nanoseconds = 0;
  if (stamp.size() == 8) {
    seconds = big_endian(stamp) & ((std::uint64_t{1} << 34) - 1);
    nanoseconds = big_endian(stamp) >> 34;
  } else if (stamp.size() == 12) {
    nanoseconds = big_endian(stamp.substr(0, 4));
    seconds = big_endian(stamp.substr(4));
  } else {
    return std::nullopt;
  }
  constexpr std::uint64_t kYear10000 = 253402300800;
  if (seconds == 0 || seconds >= kYear10000 || nanoseconds >= 1'000'000'000) return std::nullopt;
  return static_cast<std::int64_t>(seconds * 1000 + nanoseconds / 1'000'000);
}

Result<Server> read_server(MsgpackReader& reader, const FileRange& data) {
  Server server;
  bool id_seen = false;
  RQ_TRY(const std::uint64_t fields, reader.map_size());
  for (std::uint64_t i = 0; i < fields; ++i) {
    RQ_TRY(const std::string name, reader.text(kNameMax));
    if (name == "ID") {
      RQ_TRY(server.node_id, reader.text(kAddressMax));
      id_seen = true;
    } else if (name == "Address") {
      RQ_TRY(server.raft_addr, reader.text(kAddressMax));
    } else if (name == "Suffrage") {
      RQ_TRY(const std::uint64_t suffrage, reader.number());
      server.voter = suffrage == 0;
    } else {
      RQ_CHECK(reader.skip());
    }
  }
  if (!id_seen) return data.corrupt("a member without an id");
  return server;
}

}  // namespace

Result<LogEntry> decode_log_entry(const FileRange& value) {
  MsgpackReader reader(value);
  LogEntry entry;
  RQ_TRY(entry.data, value.part(0, 0));    // an entry without data has none, of this file
  std::optional<std::uint64_t> kind;
  RQ_TRY(const std::uint64_t fields, reader.map_size());
  for (std::uint64_t i = 0; i < fields; ++i) {
    RQ_TRY(const std::string name, reader.text(kNameMax));
    if (name == "Index") {
      RQ_TRY(entry.index.value, reader.number());
    } else if (name == "Term") {
      RQ_TRY(entry.term.value, reader.number());
    } else if (name == "Type") {
      RQ_TRY(kind, reader.number());
    } else if (name == "Data") {
      RQ_TRY(std::optional<FileRange> data, reader.raw());
      if (data) entry.data = *std::move(data);
    } else if (name == "AppendedAt") {
      RQ_TRY(const std::optional<FileRange> stamp, reader.raw());
      if (stamp && stamp->size() <= 12) {
        RQ_TRY(const std::string bytes, stamp->read(0, stamp->size()));
        entry.appended_ms = unix_ms(bytes);
      }
    } else {
      RQ_CHECK(reader.skip());
    }
  }
  if (!entry.index || !entry.term || !kind) return value.corrupt("a log entry without index, term or type");
  if (*kind > static_cast<std::uint64_t>(LogEntry::Kind::Configuration))
    return fail(Errc::Unsupported, value.path() + ": log entry " + std::to_string(entry.index.value) + " is of an unknown type (" + std::to_string(*kind) + ")");
  entry.kind = static_cast<LogEntry::Kind>(*kind);
  if (!reader.at_end()) return value.corrupt("bytes behind log entry " + std::to_string(entry.index.value));
  return entry;
}

Result<std::vector<Server>> decode_configuration(const FileRange& data) {
  MsgpackReader reader(data);
  std::vector<Server> servers;
  RQ_TRY(const std::uint64_t fields, reader.map_size());
  for (std::uint64_t i = 0; i < fields; ++i) {
    RQ_TRY(const std::string name, reader.text(kNameMax));
    if (name != "Servers") {
      RQ_CHECK(reader.skip());
      continue;
    }
    RQ_TRY(const std::uint64_t count, reader.array_size());
    if (count > kServersMax) return data.corrupt("a configuration with too many members");
    for (std::uint64_t n = 0; n < count; ++n) {
      RQ_TRY(Server server, read_server(reader, data));
      servers.push_back(std::move(server));
    }
  }
  return servers;
}

Result<ReferenceLog> ReferenceLog::open(io::Disk& disk, const std::string& path) {
  RQ_TRY(FileRange whole, FileRange::whole(disk, path));
  RQ_TRY(BoltFile file, BoltFile::open(std::move(whole)));
  ReferenceLog log(std::move(file));
  // A process that died at its very first start leaves a file without buckets: an empty log.
  if (const Result<> found = log.find_ends(); !found && found.error().code != Errc::NotFound) return fail(found.error());
  return log;
}

Result<> ReferenceLog::find_ends() {
  RQ_TRY(const std::optional<FileRange> term, file_.find(kConf, "CurrentTerm"));
  if (term) {
    if (term->size() != 8) return term->corrupt("the term has " + std::to_string(term->size()) + " bytes");
    RQ_TRY(const std::string bytes, term->read(0, 8));
    current_term_.value = big_endian(bytes);
  }
  RQ_CHECK(file_.walk(kLogs, {}, [&](std::string_view key, const FileRange& value) -> Result<bool> {
    RQ_TRY(const Index index, index_of(key, value));
    if (!index) return value.corrupt("a log entry with index 0");
    if (!first_) first_ = index;
    if (last_ && index != last_.next())
      return fail(Errc::Corrupt, value.path() + ": the log has no entry " + std::to_string(last_.next().value) + ", but entry " + std::to_string(index.value));
    last_ = index;
    return true;
  }));
  return {};
}

Result<> ReferenceLog::read(Index from, const std::function<Result<>(const LogEntry&)>& visit) const {
  if (!last_ || from > last_) return {};
  Index expected = from;
  Term term;
  return file_.walk(kLogs, key_of(from), [&](std::string_view key, const FileRange& value) -> Result<bool> {
    RQ_TRY(const LogEntry entry, decode_log_entry(value));
    RQ_TRY(const Index index, index_of(key, value));
    if (index != expected || entry.index != expected)
      return value.corrupt("entry " + std::to_string(entry.index.value) + " stands where entry " + std::to_string(expected.value) + " should be");
    if (entry.term < term) return value.corrupt("the term falls at entry " + std::to_string(entry.index.value));
    term = entry.term;
    expected = expected.next();
    RQ_CHECK(visit(entry));
    return true;
  });
}

}  // namespace rq::import
