// Damaged sources: cut anywhere, bytes flipped anywhere. An error that names the place or (where nothing checks the byte) an
// import; never a crash, never a change of the source, never a half-made target.
#include "import/bbolt.h"
#include "import/command_reader.h"
#include "import/msgpack.h"
#include "import/raft_log.h"
#include "import/snapshots.h"
#include "import/test_rig.h"

namespace rq::import {
namespace {

using namespace rq::import::test;

bool expected_error(const Error& error) {
  return error.code == Errc::Corrupt || error.code == Errc::Unsupported || error.code == Errc::TooLarge || error.code == Errc::BadRequest;
}

// Everything the readers do with a raft.db, without SQLite.
Result<std::uint64_t> read_everything(MemoryDisk& disk) {
  RQ_TRY(const ReferenceLog log, ReferenceLog::open(disk, "/raft.db"));
  std::uint64_t statements = 0;
  RQ_CHECK(log.read(log.first(), [&](const LogEntry& entry) -> Result<> {
    if (entry.kind == LogEntry::Kind::Configuration) {
      RQ_TRY(const auto servers, decode_configuration(entry.data));
      return {};
    }
    if (entry.kind != LogEntry::Kind::Command) return {};
    RQ_TRY(const Command command, read_command(entry.data, "entry"));
    if (command.kind == Command::Kind::Execute) {
      RQ_TRY(const pb::Request request, read_request(command, "entry"));
      statements += static_cast<std::uint64_t>(request.statements_size());
    } else if (command.kind == Command::Kind::Load) {
      RQ_TRY(const auto input, read_load(command, "entry"));
      RQ_TRY(const std::string image, read_all(*input, 64u << 20, "entry"));
    } else if (command.kind == Command::Kind::LoadChunk) {
      RQ_TRY(const auto chunk, read_load_chunk(command, "entry"));
    }
    return {};
  }));
  return statements;
}

TEST(Damage, RaftLogWithFlippedBytesNeverCrashes) {
  for (const char* name : {"v10-logonly", "v10-load", "v10-crash"}) {
    const std::string good = fixture(name).at("raft.db");
    SeededRng rng(1);
    int refused = 0;
    MemoryDisk disk;
    for (int i = 0; i < 1200; ++i) {
      std::string bad = good;
      for (std::uint64_t n = 1 + rng.below(4); n > 0; --n) bad[rng.below(bad.size())] = static_cast<char>(rng.next());
      disk.overwrite("/raft.db", bad);
      if (const auto read = read_everything(disk); !read) {
        ++refused;
        ASSERT_TRUE(expected_error(read.error())) << read.error().text();
      }
    }
    EXPECT_GT(refused, 0);
  }
}

// Numbers that lie are what breaks readers: each 16-bit word of the structures becomes small, large, and negative.
TEST(Damage, RaftLogWithLyingNumbersNeverCrashes) {
  const std::string good = fixture("v10-load").at("raft.db");
  MemoryDisk disk;
  for (std::size_t at = 0; at + 2 <= good.size(); at += 2) {
    if (at % 4096 > 160) continue;      // page heads and element tables
    for (const char value : {'\x00', '\x01', '\xff'}) {
      std::string bad = good;
      bad[at] = bad[at + 1] = value;
      disk.overwrite("/raft.db", bad);
      const auto read = read_everything(disk);
      if (!read) { ASSERT_TRUE(expected_error(read.error())) << read.error().text(); }
    }
  }
}

TEST(Damage, RaftLogCutAnywhereIsRefused) {
  const std::string good = fixture("v10-logonly").at("raft.db");
  MemoryDisk disk;
  disk.overwrite("/raft.db", good);
  const auto all = read_everything(disk);
  ASSERT_TRUE(all) << all.error().text();
  EXPECT_GT(*all, 0u);
  for (std::size_t size = 0; size < good.size(); size += size < 9000 ? 61 : 1021) {
    disk.overwrite("/raft.db", good.substr(0, size));
    const auto read = read_everything(disk);
    if (!read) { ASSERT_TRUE(expected_error(read.error())) << read.error().text(); }
    if (size < 4096 * 4) { EXPECT_FALSE(read); }
  }
}

TEST(Damage, WholeDirectoriesWithFlippedBytesAreImportedOrRefused) {
  SeededRng rng(3);
  int imported = 0, refused = 0;
  for (int i = 0; i < 250; ++i) {
    const std::string& name = kFixtures[rng.below(kFixtures.size())];
    static std::map<std::string, Files> cache;
    if (!cache.contains(name)) cache[name] = fixture(name);
    Files files = cache[name];
    auto victim = files.begin();
    std::advance(victim, static_cast<std::ptrdiff_t>(rng.below(files.size())));
    if (victim->second.empty()) continue;
    if (rng.below(3) == 0)
      victim->second.resize(rng.below(victim->second.size()));
    else
      for (std::uint64_t n = 1 + rng.below(8); n > 0; --n) victim->second[rng.below(victim->second.size())] ^= static_cast<char>(1u << rng.below(8));
    SCOPED_TRACE(name + " " + victim->first + ", try " + std::to_string(i));
    MemoryDisk disk;
    const DiskVfs vfs(disk);
    put(disk, "/old", files);
    const auto report = build(options_for(disk, vfs, "/old", "/new"));
    if (report) ++imported; else ++refused;
    if (!report) {
      EXPECT_TRUE(expected_error(report.error())) << report.error().text();
      EXPECT_NE(report.error().text().find("/old"), std::string::npos) << report.error().text();
      EXPECT_FALSE(placement_pending(disk, "/new").value_or(true));
    }
    for (const auto& [path, contents] : files) ASSERT_EQ(disk.contents("/old/" + path), contents) << path;
  }
  EXPECT_GT(imported, 0);      // the live database and the like don't matter
  EXPECT_GT(refused, 50);
}

// What the reference protects by a checksum is checked: one flipped bit is found.
TEST(Damage, SnapshotFilesWithAChecksumAreRefusedWhenABitIsWrong) {
  const std::vector<std::pair<std::string, std::string>> victims = {
      {"v10-clean", "wsnapshots/2-7-1795417385815/data.db"},
      {"v10-clean", "wsnapshots/2-12-1795417385860/000001795417385852159180-000001.wal"},
      {"v7-crash", "snapshots/2-10-1795417383997/state.bin"}};
  SeededRng rng(5);
  for (const auto& [name, path] : victims) {
    for (int i = 0; i < 20; ++i) {
      MemoryDisk disk;
      const DiskVfs vfs(disk);
      Files files = fixture(name);
      std::string& bytes = files[path];
      bytes[rng.below(bytes.size())] ^= static_cast<char>(1u << rng.below(8));
      put(disk, "/old", files);
      const auto report = build(options_for(disk, vfs, "/old", "/new"));
      ASSERT_FALSE(report) << path;
      EXPECT_EQ(report.error().code, Errc::Corrupt);
      EXPECT_NE(report.error().text().find(path.substr(0, path.rfind('/'))), std::string::npos) << report.error().text();
    }
  }
}

// Without checksum (v8, v9): frames are checked one by one, and a WAL that ends within a transaction is refused.
TEST(Damage, WalsWithoutChecksumAreCheckedFrameByFrame) {
  const Files v10 = fixture("v10-crash");
  const std::string wal = v10.at("wsnapshots/2-10-1795417383997/000001795417383991824219-000001.wal");
  const auto import_with = [&](const std::string& bytes) {
    MemoryDisk disk;
    const DiskVfs vfs(disk);
    put(disk, "/old", {{"raft.db", v10.at("raft.db")},
                       {"rsnapshots/2-7-1795417383967.db", v10.at("wsnapshots/2-7-1795417383967/data.db")},
                       {"rsnapshots/2-7-1795417383967/meta.json", v10.at("wsnapshots/2-7-1795417383967/meta.json")},
                       {"rsnapshots/2-10-1795417383997/meta.json", v10.at("wsnapshots/2-10-1795417383997/meta.json")},
                       {"rsnapshots/2-10-1795417383997.db-wal", bytes}});
    return build(options_for(disk, vfs, "/old", "/new"));
  };
  EXPECT_TRUE(import_with(wal));
  EXPECT_FALSE(import_with(wal.substr(0, wal.size() - 1)));
  EXPECT_FALSE(import_with(wal.substr(0, wal.size() - 4120)));     // ends within a transaction
  EXPECT_FALSE(import_with(wal.substr(0, 20)));
  std::string flipped = wal;
  flipped[wal.size() - 100] ^= 1;
  EXPECT_FALSE(import_with(flipped));
}

std::string packed(std::uint64_t depth) { return std::string(depth, '\x91') + '\xc0'; }

TEST(Damage, MessagePackIsBounded) {
  MemoryDisk disk;
  const auto entry_of = [&disk](const std::string& bytes) {
    disk.overwrite("/m", bytes);
    return decode_log_entry(*FileRange::whole(disk, "/m"));
  };
  const std::string index = "\xa5" "Index\x07\xa4" "Term\x02\xa4" "Type";
  ASSERT_TRUE(entry_of("\x83" + index + std::string(1, '\0')));
  EXPECT_EQ(entry_of("\x83" + index + std::string(1, '\0'))->index, Index{7});
  EXPECT_EQ(entry_of("\x83" + index + "\x09").error().code, Errc::Unsupported);
  EXPECT_FALSE(entry_of("\x82" + index.substr(0, 12)));                                  // no type
  EXPECT_FALSE(entry_of("\x83" + index));                                                // cut short
  EXPECT_FALSE(entry_of("\x83" + index + std::string(2, '\0')));                         // bytes behind
  EXPECT_FALSE(entry_of("\x84\xa1" "Z" + packed(100000) + index + std::string(1, '\0')));  // too deep
  EXPECT_TRUE(entry_of("\x84\xa1" "Z" + packed(10) + index + std::string(1, '\0')));
  EXPECT_FALSE(entry_of("\xdf\xff\xff\xff\xff"));
  EXPECT_FALSE(entry_of("\x84\xa1" "Z\xdd\xff\xff\xff\xff" + index));
  EXPECT_FALSE(entry_of("\x84\xa4" "Data\xdb\xff\xff\xff\xff" + index + std::string(1, '\0')));
  EXPECT_FALSE(entry_of(""));
}

TEST(Damage, MessagePackReadsEveryFormOfTheReference) {
  MemoryDisk disk;
  const auto entry_of = [&disk](const std::string& bytes) {
    disk.overwrite("/m", bytes);
    return decode_log_entry(*FileRange::whole(disk, "/m"));
  };
  const std::string rest = "\xa4" "Term\xcd\x01\x02\xa5" "Index\xce\x01\x02\x03\x04\xa4" "Type\x05";
  for (const std::string& data : {std::string("\xa3" "abc"), std::string("\xd9\x03" "abc"), std::string("\xda\0\x03" "abc", 6), std::string("\xdb\0\0\0\x03" "abc", 8),
                                  std::string("\xc4\x03" "abc"), std::string("\xc5\0\x03" "abc", 6), std::string("\xc6\0\0\0\x03" "abc", 8)}) {
    const auto entry = entry_of("\x84\xa4" "Data" + data + rest);
    ASSERT_TRUE(entry) << entry.error().text();
    EXPECT_EQ(entry->data.read(0, 3).value_or(""), "abc");
    EXPECT_EQ(entry->term, Term{0x102});
    EXPECT_EQ(entry->index, Index{0x1020304});
    EXPECT_EQ(entry->kind, LogEntry::Kind::Configuration);
  }
  // (nanoseconds << 34) | seconds: 1.5 s after the epoch's first million seconds.
  const auto stamped = entry_of("\x84\xaa" "AppendedAt\xa8" + std::string("\x77\x35\x94\x00\x00\x0f\x42\x41", 8) + rest);
  ASSERT_TRUE(stamped) << stamped.error().text();
  EXPECT_EQ(stamped->appended_ms, 1000001 * 1000 + 500);
}

}  // namespace
}  // namespace rq::import
