// StateMachine: what a replicated application gives the engine. Five functions: apply, snapshot, persist, release,
// restore. The SQL store implements them, and examples/kv shows them on a key-value map.
//
// Thread: all are called by the one `apply` thread, one after the other, except persist() and release(), which any thread
// may call beside apply().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/types.h"
#include "raft/engine.h"

namespace rq::raft {

// Whoever waits for a proposal on the node that proposed it. done() is called exactly once, from any thread.
class Waiter {
 public:
  virtual ~Waiter() = default;
  // The fate is known not to be "applied here": Errc::LeadershipLost (unknown outcome), NotLeader, LeaderNotFound,
  // Busy, NotOpen, TooLarge (had no effect).
  virtual void failed(const Error& error) = 0;
};

// One committed group entry, decoded: the proposals that were waiting together (design section 3).
struct Group {
  Index index;
  Term term;
  std::int64_t wall_ms = 0;                    // the leader's clock when it sealed the group, ms since 1970 UTC
  std::string_view seed;                       // 16 bytes
  std::span<const std::string_view> proposals; // opaque bytes, in order
  // Same length as proposals on the node that proposed the group in this term, else empty. The state machine answers
  // through them (each must be answered or dropped exactly once) after the effects are visible to readers.
  std::span<const std::shared_ptr<Waiter>> waiters;
};

// A state of the machine, held fast: everything up to and including `index`.
struct MachineSnapshot {
  Index index;
  Term term;
  // Names the image on the node that made it, never 0. No other image has it, nor has one of an earlier or later start: whoever
  // has read a part of this one may not go on with another.
  std::uint64_t id = 0;
  std::uint64_t bytes = 0;   // of the image
  std::string data;          // the machine's own, small: what restore() needs beside the image
  RaftId source;             // who holds the image; set where it is received
  std::vector<RaftId> copied_from;   // whose images the state stems from in turn, nearest first, while nobody has compared it
};

class StateMachine {
 public:
  virtual ~StateMachine() = default;

  // Index of the newest entry whose effects survived the last stop: apply() begins behind it.
  virtual Index applied_index() const = 0;
  // Applies one entry. Deterministic: equal entries on equal states give equal states on all nodes. An error (disk
  // full, I/O, out of memory) means: nothing of it took effect; the engine stops applying and retries later.
  virtual Result<> apply(const Group& group) = 0;
  // An entry without effect on the application (a new leader's own entry, a membership change) took this index.
  virtual Result<> skip(Index index, Term term) = 0;
  // No more committed entries wait: a chance to flush what apply() left for batches.
  virtual void idle() {}

  // Holds the present state fast; cheap, no copy. It stays readable beside apply() until release().
  virtual Result<MachineSnapshot> snapshot() = 0;
  // A piece of its image: `size` bytes from `offset` on, fewer at the end. Errc::NotFound: released, or of another start.
  virtual Result<std::string> persist(std::uint64_t id, std::uint64_t offset, std::size_t size) = 0;
  virtual void release(std::uint64_t id) = 0;
  // Replaces the whole state by a snapshot, whose image lies complete and durable in the file `image`; the machine may
  // take the file. Empty: the state of a new cluster, without data. All or nothing, also when the process dies in it.
  virtual Result<> restore(const MachineSnapshot& snapshot, const std::string& image) = 0;
  // apply() could not do the entry at `stuck`; a later one of the committed log is shown. True: it says what to do with
  // it, try again.
  virtual bool look_ahead(const Group& later, Index stuck) { return (void)later, (void)stuck, false; }
};

}  // namespace rq::raft
