#include "ops/metrics_page.h"

#include <gtest/gtest.h>

namespace rq::ops {
namespace {

TEST(MetricsPage, NamesCountersOfDebugVars) {
  EXPECT_EQ(counter_name("http", "queries"), "rqlite_vars_http_queries");
  EXPECT_EQ(counter_name("snapshot.plan", "checkpoint_duration_ms"), "rqlite_vars_snapshot_plan_checkpoint_duration_ms");
}

TEST(MetricsPage, KnowsWhichOfThemOnlyGrow) {
  EXPECT_TRUE(only_grows("store", "num_joins"));
  EXPECT_TRUE(only_grows("uploader", "total_upload_bytes"));
  EXPECT_FALSE(only_grows("uploader", "last_upload_bytes"));
  EXPECT_FALSE(only_grows("store", "fsm_apply_duration_us"));
  EXPECT_FALSE(only_grows("cdc.service", "fifo_size"));
  EXPECT_FALSE(only_grows("db.wal", "compact_frames_input"));
  EXPECT_FALSE(only_grows("snapshot", "reap_wals"));
  EXPECT_TRUE(only_grows("snapshot", "reap_total"));
}

}  // namespace
}  // namespace rq::ops
