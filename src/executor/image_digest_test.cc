#include "executor/image_digest.h"

#include <gtest/gtest.h>

#include "executor/test_rig.h"

namespace rq::executor {
namespace {

std::uint64_t digest_of(test::Rig& rig) {
  const auto snapshot = rig.executor().snapshot();
  EXPECT_TRUE(snapshot);
  ImageDigest digest(rig.executor(), *snapshot);
  for (;;) {
    const auto done = digest.step(8192);
    EXPECT_TRUE(done) << done.error().text();
    if (!done || *done) break;
  }
  EXPECT_EQ(digest.done(), digest.total());
  rig.executor().release(snapshot->id);
  return digest.value();
}

// Leaves free pages with old content behind.
const std::vector<std::string> kTexts = {"CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "CREATE TABLE u(id INTEGER PRIMARY KEY, v)",
                                         "WITH RECURSIVE c(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM c WHERE i<200) INSERT INTO u(v) SELECT 'gone '||hex(zeroblob(600)) FROM c",
                                         "INSERT INTO t(v) VALUES('here to stay')", "DELETE FROM u"};

TEST(ImageDigest, IsEqualOnReplicasThatSpillAndCheckpointAsTheyLike) {
  test::Rig one;
  test::Rig other;
  other.options().spill_pages = 10;
  other.options().cache_kib = 64;
  other.options().wal_bytes_soft = 1;
  one.open();
  other.open();
  for (const std::string& text : kTexts) {
    const auto entry = test::entry_of(one.next(), {test::execute({text})});
    ASSERT_TRUE(one.apply_entry(entry));
    ASSERT_TRUE(other.apply_entry(entry));
    other.executor().idle();
    EXPECT_EQ(digest_of(one), digest_of(other)) << text;
  }
}

TEST(ImageDigest, SeesEachByteOfPagesInUseAndNoneOfFreeOnes) {
  test::Rig rig;
  rig.open();
  for (const std::string& text : kTexts) rig.run(test::execute({text}));
  const std::uint64_t before = digest_of(rig);
  ASSERT_TRUE(rig.executor().checkpoint());
  rig.run(test::execute({"CREATE TABLE IF NOT EXISTS t(a)"}));
  rig.run(test::execute({"PRAGMA user_version=1", "PRAGMA user_version=0"}));   // the WAL begins anew: pages are read from the file
  EXPECT_EQ(digest_of(rig), before);
  const auto with_changed = [&](const std::string& what) {
    rig.close();
    const std::string good = rig.disk().contents("/data/db.sqlite");
    std::string bad = good;
    const std::size_t at = bad.rfind(what);
    EXPECT_NE(at, std::string::npos) << what;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    rig.disk().overwrite("/data/db.sqlite", bad);
    rig.open();
    const std::uint64_t value = digest_of(rig);
    rig.close();
    rig.disk().overwrite("/data/db.sqlite", good);
    rig.open();
    return value;
  };
  EXPECT_NE(with_changed("here to stay"), before);
  EXPECT_EQ(with_changed("gone 0"), before);
}

}  // namespace
}  // namespace rq::executor
