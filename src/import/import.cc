// Invariants
//   1. Nothing below the source is opened for writing, and nothing outside of the target's staging folder is written.
//   2. mark_ready() comes after every file and folder in staging is durable.
#include "import/import.h"

#include <algorithm>

#include "base/assert.h"
#include "executor/executor.h"
#include "executor/settings.h"
#include "import/image.h"
#include "import/placement.h"
#include "import/snapshots.h"
#include "ledger/effect.h"
#include "ledger/recovery.h"
#include "store/node_file.h"
#include "wal/log.h"

namespace rq::import {
namespace {

constexpr const char* kLogName = "/raft.db";

struct Source {
  Survey survey;
  std::optional<Snapshot> snapshot;
  ReferenceLog log;
};

// The term of the last entry, and the members of the newest configuration. Only the entries behind the snapshot are looked at.
Result<> read_tail(const ReferenceLog& log, Index from, Survey& survey) {
  return log.read(from, [&](const LogEntry& entry) -> Result<> {
    survey.last_index = entry.index;
    survey.last_term = entry.term;
    if (entry.kind == LogEntry::Kind::Configuration) {
      RQ_TRY(survey.servers, decode_configuration(entry.data));
    }
    return {};
  });
}

Result<Source> look_at(io::Disk& disk, const std::string& dir) {
  RQ_TRY(const bool there, disk.exists(dir + kLogName));
  if (!there) return fail(Errc::NotFound, dir + " is no data directory of rqlite: it has no raft.db");
  RQ_TRY(ReferenceLog log, ReferenceLog::open(disk, dir + kLogName));
  RQ_TRY(std::optional<Snapshot> snapshot, newest_snapshot(disk, dir));
  Survey survey{.snapshot = {}, .current_term = log.current_term(), .servers = {}};
  if (snapshot) {
    survey.snapshot = snapshot->id;
    survey.snapshot_index = survey.last_index = snapshot->index;
    survey.last_term = snapshot->term;
    survey.servers = snapshot->servers;
  }
  const Index next = survey.last_index.next();
  if (log.last() >= next) {
    if (log.first() > next)
      return fail(Errc::Corrupt, dir + kLogName + ": the log begins at entry " + std::to_string(log.first().value) + ", but " +
                                     (snapshot ? "the newest snapshot ends at " + std::to_string(snapshot->index.value) : "there is no snapshot"));
    RQ_CHECK(read_tail(log, next, survey));
  }
  RQ_TRY(const auto peers, peers_file(disk, dir));
  if (peers) survey.servers = *peers;
  return Source{std::move(survey), std::move(snapshot), std::move(log)};
}

// The member of ours: what wasn't given comes from the old configuration.
replica::Member member_of(const Options& options, const Survey& survey) {
  replica::Member member = options.member;
  const auto same = std::ranges::find(survey.servers, member.node_id, &Server::node_id);
  const auto voter = std::ranges::find(survey.servers, true, &Server::voter);
  const Server* old = same != survey.servers.end() ? &*same : voter != survey.servers.end() && member.node_id.empty() ? &*voter : nullptr;
  if (member.raft_addr.empty()) member.raft_addr = old != nullptr ? old->raft_addr : "localhost:4002";
  if (member.node_id.empty()) member.node_id = old != nullptr ? old->node_id : member.raft_addr;
  member.read_replica = false;
  return member;
}

Result<> make_database(const Options& options, const Source& source, const std::string& path, ReplayCounts& counts) {
  io::Disk& disk = *options.disk;
  if (source.snapshot) {
    const Progress progress = [&](std::uint64_t bytes) { return !options.on_progress || options.on_progress(Stage::Image, bytes, 0); };
    RQ_CHECK(build_image(disk, options.base_vfs, *source.snapshot, path, progress));
    RQ_TRY(const auto file, disk.open(path, io::OpenMode::ReadOnly));
    RQ_TRY(const std::uint64_t bytes, file->size());
    if (options.on_progress && !options.on_progress(Stage::Check, 0, bytes)) return fail(Errc::Canceled, "stopped");
    RQ_CHECK(check_image(options.base_vfs, path, "the database in " + source.snapshot->base.path));
  }
  const Survey& survey = source.survey;
  const Index from = survey.snapshot_index.next();
  const std::uint64_t total = survey.last_index.value - survey.snapshot_index.value;
  RQ_TRY(const auto replay, Replay::open({.disk = &disk, .base_vfs = options.base_vfs, .path = path, .foreign_keys = options.foreign_keys}));
  if (total > 0) {
    Index at;
    const Progress progress = [&](std::uint64_t) { return !options.on_progress || options.on_progress(Stage::Replay, at.value - from.value, total); };
    RQ_CHECK(source.log.read(from, [&](const LogEntry& entry) {
      at = entry.index;
      return replay->apply(entry, progress);
    }));
  }
  RQ_CHECK(replay->finish());
  counts = replay->counts();
  return settle_image(disk, options.base_vfs, path);
}

// A log that begins behind the imported state, with the one member.
Result<> make_log(io::Disk& disk, const std::string& dir, const Survey& survey, const Options& options, const replica::Member& member) {
  replica::MembershipRecord record{.cluster_id = options.cluster_id};   // no base: an empty database is not where this log begins
  record.members.put(member);
  const raft::ConfState conf{.voters = {member.raft_id}};
  RQ_TRY(const wal::Log::Opened opened, wal::Log::open(disk, dir, {}));
  const Term term = std::max(survey.current_term, survey.last_term);
  RQ_CHECK(opened.log->append({.snapshot = wal::SnapshotMark{survey.last_index, survey.last_term},
                               .entries = {},
                               .hard_state = raft::HardState{.term = term, .vote = {}, .commit = survey.last_index},
                               .membership = wal::Membership{survey.last_index, conf, replica::encode(record)}}));
  return opened.log->sync();
}

Result<Report> build_staging(const Options& options) {
  io::Disk& disk = *options.disk;
  RQ_TRY(const Source source, look_at(disk, options.source));
  const Survey& survey = source.survey;
  if (!survey.single() && !options.take_one_of_several)
    return fail(Errc::BadRequest, options.source + " belongs to a cluster of " + std::to_string(survey.servers.size()) + " members");
  RQ_TRY(const bool aside, disk.exists(options.target + "/" + kSetAside));
  if (aside) return fail(Errc::BadRequest, options.target + "/" + kSetAside + " is there already, from another import: move it away first");

  const std::string staging = staging_in(options.target);
  RQ_CHECK(discard_staging(disk, options.target));
  RQ_CHECK(disk.make_dirs(staging));
  Report report{.survey = survey, .member = member_of(options, survey), .replayed = {}};
  // Without any entry the old node belonged to no cluster yet; neither does the new one.
  if (survey.last_index) {
    const ledger::Paths paths = ledger::paths_in(staging);
    RQ_CHECK(make_database(options, source, paths.database, report.replayed));
    ledger::Position position{.index = survey.last_index, .term = survey.last_term, .chain = ledger::chain_anew(survey.last_index), .registers = {},
                              .engine = executor::engine_fingerprint(executor::Options{}.spill_pages)};
    executor::set_foreign_keys(position.registers, options.foreign_keys);
    RQ_TRY(const auto ledger, ledger::Ledger::create(disk, paths.ledger, {}, position, {}, position));
    RQ_CHECK(make_log(disk, staging + "/raft", survey, options, report.member));
  }
  RQ_CHECK(store::write_node_file(disk, staging, {.cluster_id = survey.last_index ? options.cluster_id : 0, .raft_id = report.member.raft_id,
                                                  .node_id = report.member.node_id}));
  RQ_CHECK(disk.sync_dir(staging));
  RQ_CHECK(mark_ready(disk, options.target));
  return report;
}

}  // namespace

Result<bool> is_reference_directory(io::Disk& disk, const std::string& dir) {
  RQ_TRY(const bool theirs, disk.exists(dir + kLogName));
  RQ_TRY(const bool ours, disk.exists(dir + "/node.json"));
  return theirs && !ours;
}

Result<Survey> survey(io::Disk& disk, const std::string& source) {
  RQ_TRY(Source found, look_at(disk, source));
  return std::move(found.survey);
}

Result<Report> build(const Options& options) {
  RQ_ASSERT(options.disk != nullptr);
  RQ_ASSERT(options.member.raft_id);
  auto report = build_staging(options);
  // Its space is given back; what stays when that fails is discarded by the next start.
  if (!report) (void)discard_staging(*options.disk, options.target);
  return report;
}

}  // namespace rq::import
