// rqlited import [flags] OLD NEW, and the same at the start of a node.
// Exit code of the command 0: imported; 1: not, and nothing has changed; 2: wrong flags.
#include "app/rqlited/import.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "app/rqlited/commands.h"
#include "base/log.h"
#include "config/go_flags.h"
#include "import/import.h"
#include "import/placement.h"
#include "io/posix_disk.h"
#include "store/temp_folder.h"

namespace rq::app {
namespace {

constexpr auto kTellEvery = std::chrono::seconds(3);
constexpr std::size_t kMembersShown = 16;
constexpr const char* kUsage =
    "rqlited import makes a data directory of rqlite (v6 to v10) into one of rqlite++.\n"
    "Usage: rqlited import [flags] <old data directory> <new data directory>\n"
    "\n"
    "The old node must be stopped (a crash is fine). Its directory is only read. The new one must be empty or missing; it\n"
    "becomes a cluster of one node that holds all the old one had in its snapshot and its log. Of a cluster, import the node\n"
    "with the highest term and index (-look shows them), start it, and let the others join with empty directories.\n"
    "A node that is started on an old directory of a single node imports it by itself.\n"
    "\n"
    "Flags:\n";

std::string megabytes(std::uint64_t bytes) { return std::to_string(bytes >> 20) + " MB"; }

// Says now and then how far it is.
class Teller {
 public:
  Teller(const Clock& clock, std::function<void(const std::string&)> tell, std::function<bool()> canceled)
      : clock_(clock), tell_(std::move(tell)), canceled_(std::move(canceled)), again_(clock.now() + kTellEvery) {}

  import::OnProgress callback() {
    return [this](import::Stage stage, std::uint64_t done, std::uint64_t total) {
      if (clock_.now() >= again_ || (stage == import::Stage::Check && total >= kLongCheck)) {
        again_ = clock_.now() + kTellEvery;
        switch (stage) {
          case import::Stage::Image: tell_("copying the snapshot: " + megabytes(done)); break;
          case import::Stage::Check: tell_("checking the database of the snapshot, " + megabytes(total)); break;
          case import::Stage::Replay: tell_("replaying the log: entry " + std::to_string(done) + " of " + std::to_string(total)); break;
        }
      }
      return !canceled_ || !canceled_();
    };
  }

 private:
  static constexpr std::uint64_t kLongCheck = 256u << 20;
  const Clock& clock_;
  const std::function<void(const std::string&)> tell_;
  const std::function<bool()> canceled_;
  SteadyTime again_;
};

std::string what_it_holds(const import::Survey& survey) {
  const std::string snapshot = survey.snapshot.empty() ? "no snapshot" : "snapshot " + survey.snapshot;
  return snapshot + ", log up to index " + std::to_string(survey.last_index.value) + " of term " + std::to_string(survey.last_term.value);
}

std::string members_of(const import::Survey& survey) {
  std::string text;
  std::size_t shown = 0;
  for (const import::Server& server : survey.servers) {
    if (++shown > kMembersShown) return text + ", ...";
    text += (text.empty() ? "" : ", ") + server.node_id + " (" + server.raft_addr + (server.voter ? ")" : ", read replica)");
  }
  return text;
}

std::string what_it_did(const import::Report& report) {
  std::string text = what_it_holds(report.survey) + "; replayed " + std::to_string(report.replayed.entries) + " entries with " +
                     std::to_string(report.replayed.statements) + " statements";
  if (report.replayed.failed > 0)
    text += "; " + std::to_string(report.replayed.failed) + " of them failed, as writes may have done before, the first one: " + report.replayed.first_failure;
  return text;
}

import::Options options_of(io::Disk& disk, const std::string& source, const std::string& target, Rng& rng) {
  import::Options options;
  options.disk = &disk;
  options.source = source;
  options.target = target;
  options.cluster_id = rng.next() | 1;
  return options;
}

// Keeps the old node from starting as long as it is held.
Result<io::DirectoryLock> hold_stopped(const std::string& dir) {
  Result<io::DirectoryLock> lock = io::DirectoryLock::share(dir + "/raft.db");
  if (lock) return lock;
  if (lock.error().code == Errc::AlreadyExists) return fail(Errc::AlreadyExists, "a node is running on " + dir + ": stop it first");
  if (lock.error().code == Errc::NotFound) return fail(Errc::NotFound, dir + " is no data directory of rqlite: it has no raft.db");
  return lock;
}

// ---- the command

struct Arguments {
  std::string node_id, raft_addr;
  bool foreign_keys = false, look = false;
  std::string source, target;
};

void tell_next_steps(const import::Report& report, const std::string& target) {
  std::printf("Start it with: rqlited -node-id %s -raft-addr %s %s\n", report.member.node_id.c_str(), report.member.raft_addr.c_str(), target.c_str());
  if (report.survey.single()) return;
  std::printf("\nThe old cluster had %zu members: %s.\n"
              "What was imported is what this one had. If another has a higher term, or the same term and a higher index (rqlited import\n"
              "-look DIR shows them), import that one instead. Do not import more than one: they would be clusters of their own.\n"
              "Then, on each of the others: move the old data directory away, and start rqlited with an empty one and\n"
              "-join %s (a read replica with -raft-non-voter, too).\n",
              report.survey.servers.size(), members_of(report.survey).c_str(), report.member.raft_addr.c_str());
}

Result<> require_empty(io::Disk& disk, const std::string& dir) {
  RQ_TRY(const std::vector<std::string> names, disk.list(dir));
  constexpr std::array kNoData = {"lock", "lost+found", "import.staging", store::kTempFolder};
  for (const std::string& name : names)
    if (std::find(kNoData.begin(), kNoData.end(), name) == kNoData.end()) return fail(Errc::BadRequest, dir + " is not empty (it holds " + name + ")");
  return {};
}

Result<> look(io::Disk& disk, const Arguments& arguments) {
  RQ_TRY(const io::DirectoryLock lock, hold_stopped(arguments.source));
  RQ_TRY(const import::Survey survey, import::survey(disk, arguments.source));
  std::printf("%s: %s\nmembers: %s\n", arguments.source.c_str(), what_it_holds(survey).c_str(), members_of(survey).c_str());
  return {};
}

Result<> run_import(io::Disk& disk, const Arguments& arguments) {
  const auto inside = [](const std::string& path, const std::string& dir) { return path == dir || path.starts_with(dir + "/"); };
  if (inside(arguments.target, arguments.source))
    return fail(Errc::BadRequest, "the new directory lies in the old one, which is only read; to import in place, start rqlited on it");
  RQ_TRY(const io::DirectoryLock source_lock, hold_stopped(arguments.source));
  RQ_CHECK(disk.make_dirs(arguments.target));
  RQ_TRY(const io::DirectoryLock lock, io::DirectoryLock::take(arguments.target));
  RQ_TRY(const bool pending, import::placement_pending(disk, arguments.target));
  if (pending) {
    RQ_CHECK(import::finish_placement(disk, arguments.target));
    std::printf("finished the import into %s that was interrupted\n", arguments.target.c_str());
    return {};
  }
  RQ_CHECK(require_empty(disk, arguments.target));
  RQ_CHECK(store::set_temp_folder(disk, arguments.target, std::getenv("SQLITE_TMPDIR")));
  SystemClock clock;
  SystemRng rng;
  Teller teller(clock, [](const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); }, nullptr);
  import::Options options = options_of(disk, arguments.source, arguments.target, rng);
  options.member = {.raft_id = RaftId{rng.next() | 1}, .node_id = arguments.node_id, .raft_addr = arguments.raft_addr};
  options.foreign_keys = arguments.foreign_keys;
  options.take_one_of_several = true;
  options.on_progress = teller.callback();
  RQ_TRY(const import::Report report, import::build(options));
  RQ_CHECK(import::finish_placement(disk, arguments.target));
  std::printf("imported %s into %s: %s\n", arguments.source.c_str(), arguments.target.c_str(), what_it_did(report).c_str());
  tell_next_steps(report, arguments.target);
  return {};
}

}  // namespace

int import_command(int argc, char** argv) {
  Arguments arguments;
  config::FlagSet flags(kUsage);
  flags.text("node-id", arguments.node_id, "Node ID that the new node begins with. Default: the old one");
  flags.text("raft-addr", arguments.raft_addr, "Raft address that it begins with. Default: the old one; a later start with another one changes it");
  flags.boolean("fk", arguments.foreign_keys, "The old node ran with -fk: foreign keys were enforced");
  flags.boolean("look", arguments.look, "Show what the old directory holds, import nothing");
  if (const auto exit = flags.parse({argv + 1, argv + argc})) {
    std::fputs(exit->text.c_str(), stderr);
    return exit->code;
  }
  if (flags.rest().size() != (arguments.look ? 1u : 2u)) {
    std::fputs(flags.usage().c_str(), stderr);
    return 2;
  }
  const auto resolved = [](const std::string& path) {
    std::error_code failed;
    const auto full = std::filesystem::weakly_canonical(std::filesystem::absolute(path), failed);
    std::string text = failed ? std::filesystem::absolute(path).string() : full.string();
    while (text.size() > 1 && text.ends_with('/')) text.pop_back();
    return text;
  };
  arguments.source = resolved(flags.rest()[0]);
  if (!arguments.look) arguments.target = resolved(flags.rest()[1]);
  io::PosixDisk disk;
  const Result<> done = arguments.look ? look(disk, arguments) : run_import(disk, arguments);
  if (done) return 0;
  std::fprintf(stderr, "import failed: %s\n", done.error().text().c_str());
  return 1;
}

// ---- the start of a node

Result<bool> settle_imports(io::Disk& disk, const std::string& data_dir, Metrics& metrics) {
  RQ_TRY(const bool pending, import::placement_pending(disk, data_dir));
  if (pending) {
    RQ_CHECK(import::finish_placement(disk, data_dir));
    metrics.counter("snapshot", "upgrade_ok").add();
    log::info("import", "finished the import of rqlite's data that was interrupted; the old files are in " + data_dir + "/" + import::kSetAside);
  }
  RQ_CHECK(import::discard_staging(disk, data_dir));
  return import::is_reference_directory(disk, data_dir);
}

Result<> import_at_start(io::Disk& disk, const config::Options& options, const replica::Member& self, Rng& rng, const Clock& clock, Metrics& metrics,
                         const std::function<bool()>& canceled) {
  const std::string& dir = options.data_dir;
  const auto import_it = [&]() -> Result<> {
    RQ_TRY(const io::DirectoryLock source_lock, hold_stopped(dir));
    RQ_TRY(const import::Survey survey, import::survey(disk, dir));
    if (!survey.single())
      return fail(Errc::BadRequest, dir + " is of an rqlite cluster with " + std::to_string(survey.servers.size()) + " members: " + members_of(survey) +
                                        ". One of them is to be imported by `rqlited import`, the others join it with empty directories");
    log::info("import", "data directory is of rqlite, importing it: " + what_it_holds(survey));
    Teller teller(clock, [](const std::string& text) { log::info("import", text); }, canceled);
    import::Options build = options_of(disk, dir, dir, rng);
    build.member = self;
    build.foreign_keys = options.fk;
    build.on_progress = teller.callback();
    RQ_TRY(const import::Report report, import::build(build));
    RQ_CHECK(import::finish_placement(disk, dir));
    log::info("import", "imported " + what_it_did(report) + "; the old files are in " + dir + "/" + import::kSetAside + " and may be removed");
    return {};
  };
  const Result<> done = import_it();
  metrics.counter("snapshot", done ? "upgrade_ok" : "upgrade_fail").add();
  return done;
}

}  // namespace rq::app
