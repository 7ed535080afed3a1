#include "store/quarantine.h"

#include <gtest/gtest.h>

#include "store/node_file.h"
#include "support/memory_disk.h"

namespace rq::store {
namespace {

class QuarantineTest : public ::testing::Test {
 protected:
  void put(const std::string& name, const std::string& bytes) { ASSERT_TRUE(io::write_file_atomically(disk_, "/data/" + name, bytes)); }
  std::vector<std::string> evidence() {
    std::vector<std::string> names = *disk_.list("/data");
    std::erase_if(names, [](const std::string& name) { return !name.starts_with("quarantine-"); });
    return names;
  }
  WallTime at(int second) { return WallTime(std::chrono::seconds(1800000000 + second)); }
  test::MemoryDisk disk_;
};

TEST_F(QuarantineTest, MarkIsThereUntilItIsRemoved) {
  EXPECT_EQ(*read_quarantine_mark(disk_, "/data"), std::nullopt);
  ASSERT_TRUE(write_quarantine_mark(disk_, "/data", "differs at index 7"));
  test::SeededRng rng(1);
  disk_.lose_power(rng, test::MemoryDisk::Loss::All);
  EXPECT_EQ(*read_quarantine_mark(disk_, "/data"), "differs at index 7");
  ASSERT_TRUE(remove_quarantine_mark(disk_, "/data"));
  ASSERT_TRUE(remove_quarantine_mark(disk_, "/data"));
  EXPECT_EQ(*read_quarantine_mark(disk_, "/data"), std::nullopt);
}

TEST_F(QuarantineTest, WhoseCopyItIsIsThereUntilItIsRemoved) {
  using Ids = std::vector<RaftId>;
  EXPECT_EQ(*read_copy_mark(disk_, "/data"), Ids{});
  const Ids lineage{RaftId{18446744073709551615u}, RaftId{7}};
  ASSERT_TRUE(write_copy_mark(disk_, "/data", lineage));
  test::SeededRng rng(1);
  disk_.lose_power(rng, test::MemoryDisk::Loss::All);
  EXPECT_EQ(*read_copy_mark(disk_, "/data"), lineage);
  ASSERT_TRUE(write_copy_mark(disk_, "/data", {}));
  ASSERT_TRUE(write_copy_mark(disk_, "/data", {}));
  EXPECT_EQ(*read_copy_mark(disk_, "/data"), Ids{});
  for (const char* bad : {"x\n", "7", "7\n8", "7\n\n", "0\n", "18446744073709551616\n"}) {
    put("copy-of", bad);
    EXPECT_EQ(read_copy_mark(disk_, "/data").error().code, Errc::Corrupt) << bad;
  }
}

TEST_F(QuarantineTest, EvidenceOutlivesTheFilesAndIsBounded) {
  put("db.sqlite", "the wrong database");
  put("db.ledger", "its ledger");
  const auto folder = keep_evidence(disk_, "/data", at(0));
  ASSERT_TRUE(folder) << folder.error().text();
  put("db.sqlite", "the right database");
  EXPECT_EQ(disk_.contents(*folder + "/db.sqlite"), "the wrong database");
  EXPECT_EQ(disk_.contents(*folder + "/db.ledger"), "its ledger");
  EXPECT_FALSE(*disk_.exists(*folder + "/db.sqlite-wal"));
  ASSERT_TRUE(keep_evidence(disk_, "/data", at(1)));
  ASSERT_TRUE(keep_evidence(disk_, "/data", at(2)));
  EXPECT_FALSE(*disk_.exists(*folder + "/db.sqlite")) << "the two newest stay";
}

TEST_F(QuarantineTest, TrustMarksTheOthersAndClearsTheTrusted) {
  EXPECT_EQ(trust_node(disk_, "/data", "n1").error().code, Errc::NotFound);
  ASSERT_TRUE(write_node_file(disk_, "/data", {.raft_id = RaftId{5}, .node_id = "n2"}));
  ASSERT_TRUE(trust_node(disk_, "/data", "n1"));
  EXPECT_TRUE(read_quarantine_mark(disk_, "/data")->has_value());
  ASSERT_TRUE(trust_node(disk_, "/data", "n2"));
  EXPECT_FALSE(read_quarantine_mark(disk_, "/data")->has_value());
}

}  // namespace
}  // namespace rq::store
