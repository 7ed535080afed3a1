#include "import/import.h"

#include "executor/executor.h"
#include "import/test_rig.h"
#include "ledger/recovery.h"
#include "replica/membership.h"
#include "store/node_file.h"
#include "wal/log.h"

namespace rq::import {
namespace {

using namespace rq::import::test;

Result<Report> import_and_place(MemoryDisk& disk, const Options& options) {
  RQ_TRY(Report report, build(options));
  RQ_CHECK(finish_placement(disk, options.target));
  return report;
}

TEST(Import, GivesExactlyTheReferencesOwnDumpForEveryVersion) {
  for (const std::string& name : kFixtures) {
    SCOPED_TRACE(name);
    MemoryDisk disk;
    const DiskVfs vfs(disk);
    const Files files = fixture(name);
    put(disk, "/old", files);
    const auto report = import_and_place(disk, options_for(disk, vfs, "/old", "/new"));
    ASSERT_TRUE(report) << report.error().text();
    EXPECT_TRUE(same(lines_of_file(vfs, "/new/db.sqlite"), lines_of_sql(expected_sql(name))));
    for (const auto& [path, contents] : files) EXPECT_EQ(disk.contents("/old/" + path), contents) << path;
  }
}

TEST(Import, TakesOverIndexTermMemberAndAddress) {
  MemoryDisk disk;
  const DiskVfs vfs(disk);
  put(disk, "/old", fixture("v10-crash"));
  const auto report = import_and_place(disk, options_for(disk, vfs, "/old", "/new"));
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_EQ(report->survey.snapshot_index, Index{10});
  EXPECT_EQ(report->survey.last_index, Index{12});
  EXPECT_EQ(report->replayed.entries, 2u);

  auto opened = wal::Log::open(disk, "/new/raft", {});
  ASSERT_TRUE(opened) << opened.error().text();
  EXPECT_EQ(opened->recovered.snapshot.index, Index{12});
  EXPECT_EQ(opened->recovered.snapshot.term, Term{2});
  EXPECT_EQ(opened->recovered.hard_state.commit, Index{12});
  const auto record = replica::decode_membership_record(opened->recovered.membership.members);
  ASSERT_TRUE(record);
  EXPECT_EQ(record->cluster_id, 77u);
  const auto members = record->members.all();
  ASSERT_EQ(members.size(), 1u);
  EXPECT_EQ(members[0].node_id, "v10-crash");
  EXPECT_EQ(members[0].raft_addr, "127.0.0.1:13072");
  EXPECT_EQ(opened->recovered.membership.conf_state.voters, std::vector{RaftId{4711}});
  const auto node = store::read_node_file(disk, "/new");
  ASSERT_TRUE(node && *node);
  EXPECT_EQ((*node)->node_id, "v10-crash");
  EXPECT_EQ((*node)->raft_id, RaftId{4711});
}

class NoClock final : public Clock {
 public:
  SteadyTime now() const override { return {}; }
  WallTime wall() const override { return {}; }
};

TEST(Import, IsWhereTheExecutorGoesOn) {
  for (const bool foreign_keys : {false, true}) {
    MemoryDisk disk;
    const DiskVfs vfs(disk);
    put(disk, "/old", fixture("v7-crash"));
    Options options = options_for(disk, vfs, "/old", "/old");
    options.foreign_keys = foreign_keys;
    ASSERT_TRUE(import_and_place(disk, options));
    const NoClock clock;
    executor::Options open;
    open.disk = &disk;
    open.clock = &clock;
    open.dir = "/old";
    open.base_vfs = vfs.name();
    open.checkpoint_inline = true;
    auto executor = executor::Executor::open(open);
    ASSERT_TRUE(executor) << executor.error().text();
    EXPECT_EQ((*executor)->applied_index(), Index{12});
    const auto contents = ledger::read(disk, "/old/db.ledger");
    ASSERT_TRUE(contents);
    EXPECT_EQ(contents->epoch.position.registers.settings != 0, foreign_keys);
  }
}

TEST(Import, InPlaceSetsTheOldFilesAsideUntouched) {
  MemoryDisk disk;
  const DiskVfs vfs(disk);
  const Files files = fixture("v10-reap");
  put(disk, "/data", files);
  disk.overwrite("/data/notes.txt", "an operator's own file");
  ASSERT_TRUE(is_reference_directory(disk, "/data").value_or(false));
  const auto report = import_and_place(disk, options_for(disk, vfs, "/data", "/data"));
  ASSERT_TRUE(report) << report.error().text();
  for (const auto& [path, contents] : files) EXPECT_EQ(disk.contents("/data/pre-import/" + path), contents) << path;
  EXPECT_EQ(disk.contents("/data/notes.txt"), "an operator's own file");
  EXPECT_FALSE(is_reference_directory(disk, "/data").value_or(true));
  EXPECT_TRUE(same(lines_of_file(vfs, "/data/db.sqlite"), lines_of_sql(expected_sql("v10-reap"))));
}

TEST(Import, RefusesASecondImportBesideTheFilesOfTheFirst) {
  MemoryDisk disk;
  const DiskVfs vfs(disk);
  put(disk, "/data", fixture("v10-clean"));
  disk.overwrite("/data/pre-import/raft.db", "from before");
  const auto report = build(options_for(disk, vfs, "/data", "/data"));
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().code, Errc::BadRequest);
  EXPECT_EQ(disk.contents("/data/pre-import/raft.db"), "from before");
}

// A moved consolidation at each of its later steps: WALs gone, metadata written, renamed with the plan left over.
TEST(Import, FinishesAConsolidationAtAnyStep) {
  const auto wanted = lines_of_sql(expected_sql("v10-reap"));
  const std::string base = "wsnapshots/2-4-1795418879378", result = "wsnapshots/2-6-1795418881074";
  const std::string second = "wsnapshots/2-6-1795418879450/";
  const std::string wal = second + "000001795418879447683705-000002.wal";
  const Files start = fixture("v10-reap");
  // The second WAL moved to the image, not folded in yet.
  Files renamed = start;
  renamed[base + "/data.db-wal"] = renamed[wal];
  renamed.erase(wal);
  // Folded in, and both increments removed.
  Files folded;
  {
    MemoryDisk disk;
    const DiskVfs vfs(disk);
    disk.overwrite("/x/db", start.at(base + "/data.db"));
    disk.overwrite("/x/db-wal", start.at(wal));
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open_v2("/x/db", &db, SQLITE_OPEN_READWRITE, vfs.name().c_str()), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(db, "PRAGMA schema_version", nullptr, nullptr, nullptr), SQLITE_OK);
    ASSERT_EQ(sqlite3_wal_checkpoint_v2(db, "main", SQLITE_CHECKPOINT_TRUNCATE, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(db);
    for (const auto& [path, contents] : start)
      if (!path.starts_with("wsnapshots/2-5-") && !path.starts_with("wsnapshots/2-6-")) folded[path] = contents;
    folded[base + "/data.db"] = disk.contents("/x/db");
    folded.erase(base + "/data.db.crc32");
  }
  Files done;
  for (const auto& [path, contents] : folded) done[path.starts_with(base) ? result + path.substr(base.size()) : path] = contents;
  done[result + "/meta.json"] = R"({"Version":1,"ID":"2-6-1795418881074","Index":6,"Term":2,"Configuration":{"Servers":[]}})";
  for (const Files& files : {start, renamed, folded, done}) {
    MemoryDisk disk;
    const DiskVfs vfs(disk);
    put(disk, "/old", files);
    const auto report = import_and_place(disk, options_for(disk, vfs, "/old", "/new"));
    ASSERT_TRUE(report) << report.error().text();
    EXPECT_EQ(report->survey.snapshot_index, Index{6});
    EXPECT_TRUE(same(lines_of_file(vfs, "/new/db.sqlite"), wanted));
  }
}

// v8, v9: the image still has the name of the snapshot before, the newest one's WAL lies beside it.
TEST(Import, FoldsTheWalOfAnInterruptedV8Snapshot) {
  const Files v10 = fixture("v10-crash");
  const std::string full = "wsnapshots/2-7-1795417383967", increment = "wsnapshots/2-10-1795417383997";
  Files files = {{"raft.db", v10.at("raft.db")},
                 {"rsnapshots/2-7-1795417383967.db", v10.at(full + "/data.db")},
                 {"rsnapshots/2-7-1795417383967/meta.json", v10.at(full + "/meta.json")},
                 {"rsnapshots/2-10-1795417383997/meta.json", v10.at(increment + "/meta.json")},
                 {"rsnapshots/2-10-1795417383997.db-wal", v10.at(increment + "/000001795417383991824219-000001.wal")}};
  for (const bool renamed : {false, true}) {
    if (renamed) {
      auto image = files.extract("rsnapshots/2-7-1795417383967.db");
      image.key() = "rsnapshots/2-10-1795417383997.db";
      files.insert(std::move(image));
    }
    MemoryDisk disk;
    const DiskVfs vfs(disk);
    put(disk, "/old", files);
    const auto report = import_and_place(disk, options_for(disk, vfs, "/old", "/new"));
    ASSERT_TRUE(report) << report.error().text();
    EXPECT_TRUE(same(lines_of_file(vfs, "/new/db.sqlite"), lines_of_sql(expected_sql("v10-crash"))));
  }
}

// v10: a snapshot that came over the network has its WALs beside the image.
TEST(Import, FoldsTheWalsOfASnapshotThatWasInstalled) {
  const Files v10 = fixture("v10-crash");
  const std::string full = "wsnapshots/2-7-1795417383967", increment = "wsnapshots/2-10-1795417383997";
  const std::string installed = "wsnapshots/2-10-1795417399999";
  MemoryDisk disk;
  const DiskVfs vfs(disk);
  put(disk, "/old", {{"raft.db", v10.at("raft.db")},
                     {full + "/meta.json", v10.at(full + "/meta.json")},
                     {full + "/data.db", "older ones don't matter"},
                     {installed + "/meta.json", v10.at(increment + "/meta.json")},
                     {installed + "/data.db", v10.at(full + "/data.db")},
                     {installed + "/data.db.crc32", v10.at(full + "/data.db.crc32")},
                     {installed + "/data-00000000.wal", v10.at(increment + "/000001795417383991824219-000001.wal")},
                     {installed + "/data-00000000.wal.crc32", v10.at(increment + "/000001795417383991824219-000001.wal.crc32")}});
  const auto report = import_and_place(disk, options_for(disk, vfs, "/old", "/new"));
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_TRUE(same(lines_of_file(vfs, "/new/db.sqlite"), lines_of_sql(expected_sql("v10-crash"))));
}

TEST(Import, FindsTheImageThatAnInterruptedUpgradeMoved) {
  Files files = fixture("v9-crash");
  auto image = files.extract("rsnapshots/2-10-1795417383997.db");
  image.key() = "wsnapshots.tmp/2-10-1795417383997/data.db";
  files.insert(std::move(image));
  MemoryDisk disk;
  const DiskVfs vfs(disk);
  put(disk, "/old", files);
  const auto report = import_and_place(disk, options_for(disk, vfs, "/old", "/new"));
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_TRUE(same(lines_of_file(vfs, "/new/db.sqlite"), lines_of_sql(expected_sql("v9-crash"))));
}

// v6 and v7 wrote empty databases as a mere header; before v5.8 images weren't compressed.
TEST(Import, ReadsEmptyAndUncompressedStates) {
  const std::string meta = R"({"Version":1,"ID":"2-10-1","Index":10,"Term":2,"Configuration":{"Servers":[{"Suffrage":0,"ID":"n","Address":"h:1"}]},"Size":0})";
  const Files v10 = fixture("v10-crash"), v9 = fixture("v9-crash");
  std::string plain(8, '\0');
  const std::string image = v9.at("rsnapshots/2-10-1795417383997.db");
  for (std::size_t i = 0; i < 8; ++i) plain[i] = static_cast<char>(image.size() >> 8 * i);
  const std::string empty = std::string(8, '\xff') + std::string(8, '\0');
  for (const std::string& state : {plain + image, empty, std::string(8, '\0')}) {
    MemoryDisk disk;
    const DiskVfs vfs(disk);
    put(disk, "/old", {{"raft.db", v10.at("raft.db")}, {"snapshots/2-10-1/meta.json", meta}, {"snapshots/2-10-1/state.bin", state}});
    const auto report = import_and_place(disk, options_for(disk, vfs, "/old", "/new"));
    ASSERT_TRUE(report) << report.error().text();
    if (state.size() > 16) {
      EXPECT_TRUE(same(lines_of_file(vfs, "/new/db.sqlite"), lines_of_sql(expected_sql("v10-crash"))));
    } else {
      EXPECT_GT(report->replayed.failed, 0u);     // what was written to tables that an empty database hasn't
    }
  }
}

TEST(Import, OntoAFullDiskGivesTheSpaceBack) {
  const Files files = fixture("v10-crash");
  int refused = 0;
  for (std::uint64_t room = 0;; room += 40'000) {
    MemoryDisk disk;
    const DiskVfs vfs(disk);
    put(disk, "/data", files);
    disk.set_capacity(room);
    const auto report = build(options_for(disk, vfs, "/data", "/data"));
    if (report) break;
    ++refused;
    ASSERT_EQ(report.error().code, Errc::NoSpace) << report.error().text();
    EXPECT_FALSE(disk.exists("/data/import.staging").value_or(true));
    disk.set_capacity(UINT64_MAX);
    ASSERT_TRUE(import_and_place(disk, options_for(disk, vfs, "/data", "/data")));
  }
  EXPECT_GT(refused, 3);
}

TEST(Import, PrefersTheNewerLayout) {
  MemoryDisk disk;
  const DiskVfs vfs(disk);
  put(disk, "/old", fixture("v10-crash"));
  for (const auto& [path, contents] : fixture("v7-crash"))
    if (path.starts_with("snapshots/")) disk.overwrite("/old/" + path, "not looked at");
  ASSERT_TRUE(import_and_place(disk, options_for(disk, vfs, "/old", "/new")));
  EXPECT_TRUE(same(lines_of_file(vfs, "/new/db.sqlite"), lines_of_sql(expected_sql("v10-crash"))));
}

TEST(Import, LeavesOutUnfinishedSnapshots) {
  MemoryDisk disk;
  const DiskVfs vfs(disk);
  put(disk, "/old", fixture("v10-crash"));
  disk.overwrite("/old/wsnapshots/2-12-1795417399999.tmp/meta.json", "half");
  disk.overwrite("/old/wsnapshots/2-13-1795417399999/data.db", "without metadata");
  ASSERT_TRUE(import_and_place(disk, options_for(disk, vfs, "/old", "/new")));
  EXPECT_TRUE(same(lines_of_file(vfs, "/new/db.sqlite"), lines_of_sql(expected_sql("v10-crash"))));
}

TEST(Import, RefusesOneOfSeveralMembersUnlessTold) {
  MemoryDisk disk;
  const DiskVfs vfs(disk);
  put(disk, "/old", fixture("v10-crash"));
  disk.overwrite("/old/raft/peers.json", R"([{"id":"n1","address":"h1:4002"},{"id":"n2","address":"h2:4002"},{"id":"n3","address":"h3:4002","non_voter":true}])");
  Options options = options_for(disk, vfs, "/old", "/new");
  const auto refused = build(options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::BadRequest);
  options.take_one_of_several = true;
  options.member.node_id = "n2";
  const auto report = build(options);
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_EQ(report->survey.servers.size(), 3u);
  EXPECT_EQ(report->member.raft_addr, "h2:4002");
}

TEST(Import, OfANodeThatJoinedNothingIsAnEmptyNode) {
  MemoryDisk disk;
  const DiskVfs vfs(disk);
  // Pages 0 to 3 of a fresh raft.db: two headers, an empty list of free pages, an empty root.
  std::string file(4 * 4096, '\0');
  const std::string full = fixture("v10-clean").at("raft.db");
  const auto number = [&file](std::size_t at, std::uint64_t value, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) file[at + i] = static_cast<char>(value >> 8 * i);
  };
  for (const std::size_t page : {0u, 1u}) {
    file.replace(page * 4096, 80, full, 0, 80);
    number(page * 4096, page, 8);
    number(page * 4096 + 16 + 16, 3, 8);
    number(page * 4096 + 16 + 40, 4, 8);
    std::uint64_t hash = 0xcbf29ce484222325;
    for (std::size_t i = 0; i < 56; ++i) hash = (hash ^ static_cast<unsigned char>(file[page * 4096 + 16 + i])) * 0x100000001b3;
    number(page * 4096 + 16 + 56, hash, 8);
  }
  number(3 * 4096, 3, 8);
  number(3 * 4096 + 8, 2, 2);
  disk.overwrite("/data/raft.db", file);
  const auto report = import_and_place(disk, options_for(disk, vfs, "/data", "/data"));
  ASSERT_TRUE(report) << report.error().text();
  EXPECT_EQ(report->survey.last_index, Index{0});
  EXPECT_TRUE(disk.exists("/data/node.json").value_or(false));
  EXPECT_FALSE(disk.exists("/data/db.sqlite").value_or(true));
  EXPECT_TRUE(disk.exists("/data/pre-import/raft.db").value_or(false));
}

TEST(Import, StopsWhenToldTo) {
  MemoryDisk disk;
  const DiskVfs vfs(disk);
  put(disk, "/old", fixture("v10-crash"));
  for (int stop_at = 0;; ++stop_at) {
    Options options = options_for(disk, vfs, "/old", "/new");
    int calls = 0;
    options.on_progress = [&](Stage, std::uint64_t, std::uint64_t) { return calls++ < stop_at; };
    const auto report = build(options);
    if (report) break;
    EXPECT_EQ(report.error().code, Errc::Canceled);
    EXPECT_FALSE(placement_pending(disk, "/new").value_or(true));
  }
}

}  // namespace
}  // namespace rq::import
