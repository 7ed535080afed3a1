#include "store/quarantine.h"

#include <algorithm>
#include <charconv>
#include <vector>

#include "base/go_text.h"
#include "store/node_file.h"

namespace rq::store {
namespace {

constexpr std::size_t kMarkBytesMax = 64u << 10;
constexpr std::size_t kEvidenceKept = 2;
constexpr std::string_view kEvidencePrefix = "quarantine-";

std::string copy_path(const std::string& dir) { return dir + "/copy-of"; }
std::string mark_path(const std::string& dir) { return dir + "/quarantine"; }

Result<> remove_folder(io::Disk& disk, const std::string& folder) {
  RQ_TRY(const std::vector<std::string> names, disk.list(folder));
  for (const std::string& name : names) RQ_CHECK(disk.remove(folder + "/" + name));
  return disk.remove_dir(folder);
}

}  // namespace

Result<> write_quarantine_mark(io::Disk& disk, const std::string& dir, const std::string& why) {
  return io::write_file_atomically(disk, mark_path(dir), why + "\n");
}

Result<std::optional<std::string>> read_quarantine_mark(io::Disk& disk, const std::string& dir) {
  RQ_TRY(const bool there, disk.exists(mark_path(dir)));
  if (!there) return std::optional<std::string>();
  RQ_TRY(std::string why, io::read_file(disk, mark_path(dir), kMarkBytesMax));
  while (!why.empty() && why.back() == '\n') why.pop_back();
  return std::optional(std::move(why));
}

Result<> remove_quarantine_mark(io::Disk& disk, const std::string& dir) {
  if (auto removed = disk.remove(mark_path(dir)); !removed && removed.error().code != Errc::NotFound) return removed;
  return disk.sync_dir(dir);
}

Result<> write_copy_mark(io::Disk& disk, const std::string& dir, const std::vector<RaftId>& sources) {
  std::string text;
  for (const RaftId source : sources) text += std::to_string(source.value) + "\n";
  if (!text.empty()) return io::write_file_atomically(disk, copy_path(dir), text);
  if (auto removed = disk.remove(copy_path(dir)); !removed && removed.error().code != Errc::NotFound) return removed;
  return disk.sync_dir(dir);
}

Result<std::vector<RaftId>> read_copy_mark(io::Disk& disk, const std::string& dir) {
  std::vector<RaftId> sources;
  RQ_TRY(const bool there, disk.exists(copy_path(dir)));
  if (!there) return sources;
  RQ_TRY(const std::string text, io::read_file(disk, copy_path(dir), kMarkBytesMax));
  const char* const text_end = text.data() + text.size();
  for (const char* at = text.data(); at != text_end;) {
    RaftId source;
    const auto [end, error] = std::from_chars(at, text_end, source.value);
    if (error != std::errc() || end == text_end || *end != '\n' || !source) return fail(Errc::Corrupt, copy_path(dir) + " holds no Raft ids");
    sources.push_back(source);
    at = end + 1;
  }
  return sources;
}

Result<std::string> keep_evidence(io::Disk& disk, const std::string& dir, WallTime now) {
  std::string time = rfc3339_text(now);
  std::replace(time.begin(), time.end(), ':', '-');      // sorts by time, as a name without special characters
  const std::string folder = dir + "/" + std::string(kEvidencePrefix) + time;
  RQ_CHECK(disk.make_dirs(folder));
  for (const char* name : {"db.sqlite", "db.sqlite-wal", "db.ledger"}) {
    auto linked = disk.link(dir + "/" + name, folder + "/" + name);
    if (!linked && linked.error().code != Errc::NotFound) return fail(linked.error());
  }
  RQ_CHECK(disk.sync_dir(folder));
  RQ_TRY(std::vector<std::string> names, disk.list(dir));
  std::erase_if(names, [](const std::string& name) { return !name.starts_with(kEvidencePrefix); });
  std::sort(names.begin(), names.end());
  for (std::size_t i = 0; i + kEvidenceKept < names.size(); ++i) RQ_CHECK(remove_folder(disk, dir + "/" + names[i]));
  return folder;
}

Result<> trust_node(io::Disk& disk, const std::string& dir, const std::string& node_id) {
  RQ_TRY(const std::optional<NodeFile> node, read_node_file(disk, dir));
  if (!node) return fail(Errc::NotFound, "no node in " + dir);
  if (node->node_id == node_id) return remove_quarantine_mark(disk, dir);
  return write_quarantine_mark(disk, dir, "the operator trusts node " + node_id);
}

}  // namespace rq::store
