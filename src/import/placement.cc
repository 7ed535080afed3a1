#include "import/placement.h"

#include <array>

namespace rq::import {
namespace {

constexpr const char* kReady = "/import.ready";
constexpr const char* kPlacing = "/import.placing";
constexpr const char* kLogFolder = "/raft";

// Of the reference, in every version. Unknown files, unpacked extensions and its scratch stay where they are.
constexpr std::array kOld = {"raft.db", "snapshots", "rsnapshots", "wsnapshots", "snapshots.tmp", "rsnapshots.tmp", "wsnapshots.tmp", "wal-staging",
                             "clean_snapshot", "UPGRADE_8_10_PLAN", "db.sqlite", "db.sqlite-wal", "db.sqlite-shm", "raft", "cdc"};
// Ours. The node file comes last: a directory that has it has all.
constexpr std::array kNew = {"raft", "db.sqlite", "db.ledger", "node.json"};

Result<> gone(const Result<>& removed) {
  if (!removed && removed.error().code != Errc::NotFound) return removed;
  return {};
}

Result<> move_if_there(io::Disk& disk, const std::string& from, const std::string& to) {
  RQ_TRY(const bool there, disk.exists(from));
  return there ? disk.rename(from, to) : Result<>();
}

Result<> set_old_aside(io::Disk& disk, const std::string& dir) {
  const std::string aside = dir + "/" + kSetAside;
  // Also of a process that died: what it moved may be durable here only when it is there.
  RQ_TRY(bool any, disk.exists(aside));
  for (const char* name : kOld) {
    RQ_TRY(const bool there, disk.exists(dir + "/" + name));
    any = any || there;
  }
  if (!any) return {};
  RQ_CHECK(disk.make_dirs(aside));
  for (const char* name : kOld) RQ_CHECK(move_if_there(disk, dir + "/" + name, aside + "/" + name));
  RQ_CHECK(disk.sync_dir(aside));
  return disk.sync_dir(dir);
}

}  // namespace

std::string staging_in(const std::string& dir) { return dir + "/import.staging"; }

Result<> discard_staging(io::Disk& disk, const std::string& dir) {
  const std::string staging = staging_in(dir);
  RQ_TRY(const bool there, disk.exists(staging));
  if (!there) return {};
  for (const std::string& folder : {staging + kLogFolder, staging}) {
    RQ_TRY(const bool folder_there, disk.exists(folder));
    if (!folder_there) continue;
    RQ_TRY(const std::vector<std::string> names, disk.list(folder));
    for (const std::string& name : names) RQ_CHECK(gone(disk.remove(folder + "/" + name)));
    RQ_CHECK(gone(disk.remove_dir(folder)));
  }
  return disk.sync_dir(dir);
}

Result<> mark_ready(io::Disk& disk, const std::string& dir) {
  RQ_CHECK(disk.rename(staging_in(dir), dir + kReady));
  return disk.sync_dir(dir);
}

Result<bool> placement_pending(io::Disk& disk, const std::string& dir) {
  RQ_TRY(const bool ready, disk.exists(dir + kReady));
  RQ_TRY(const bool placing, disk.exists(dir + kPlacing));
  return ready || placing;
}

Result<> finish_placement(io::Disk& disk, const std::string& dir) {
  RQ_TRY(const bool ready, disk.exists(dir + kReady));
  if (ready) {
    RQ_CHECK(disk.sync_dir(dir));     // the name may be of a process that died before it was durable
    RQ_CHECK(set_old_aside(disk, dir));
    RQ_CHECK(disk.rename(dir + kReady, dir + kPlacing));
    RQ_CHECK(disk.sync_dir(dir));
  }
  RQ_TRY(const bool placing, disk.exists(dir + kPlacing));
  if (!placing) return {};
  const std::string from = dir + kPlacing + std::string("/");
  for (const char* name : kNew) RQ_CHECK(move_if_there(disk, from + name, dir + "/" + name));
  RQ_CHECK(disk.sync_dir(dir));
  RQ_CHECK(disk.sync_dir(dir + kPlacing));
  RQ_CHECK(gone(disk.remove_dir(dir + kPlacing)));
  return disk.sync_dir(dir);
}

}  // namespace rq::import
