// Stats: how long the stages of writes and reads take in a Replica, for /metrics. Written by its threads, read by any.
#pragma once

#include "base/histogram.h"
#include "base/metrics.h"

namespace rq::replica {

struct Stats {
  Histogram queue;             // a proposal: from its arrival until it is part of a group
  Histogram commit;            // a group, on the leader: from then until it is committed
  Histogram append, fsync;     // a batch of the log: its writes; its sync
  Histogram apply;             // an entry in the state machine
  Histogram read_index;        // a batch of linearizable reads: until a majority confirmed the leader
  Counter groups, proposals, group_bytes;      // what went into the log here, as leader
  Counter entries_applied;
  Counter elections;           // begun here
  Counter last_apply_us, last_read_index_us;
  Counter expired;             // proposals that found no place in the log in time
};

}  // namespace rq::replica
