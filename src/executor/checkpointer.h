// Moves frames of SQLite's WAL into the database file, on a connection and (mostly) a thread of its own.
//
// Passive checkpoints with synchronous=NORMAL: SQLite syncs the WAL (the shim: ledger first), copies, syncs the
// database. While entries are applied all the time, a pass in the background ends with newer frames left, and the WAL
// can't begin anew; so the apply thread lets the bulk be moved beside it and moves the small rest itself.
// Readers that stand in the past keep frames from being moved; nothing is wrong then but the WAL's size.
// Threads: all functions on the apply thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "base/clock.h"
#include "base/result.h"
#include "ledger/shim_vfs.h"
#include "sql/connection.h"

namespace rq::executor {

class Checkpointer {
 public:
  struct Progress {
    std::uint32_t frames = 0;   // in the WAL
    std::uint32_t moved = 0;    // all of them: the next commit begins the WAL anew, unless a reader is in it
  };

  Checkpointer(std::string path, ledger::ShimVfs& shim, const Clock* clock);
  ~Checkpointer();              // interrupts the pass under way

  Result<Progress> pass();      // here and now; waits for the one in the background
  void begin_pass();            // in the background
  // All of the WAL is in the database file, for good, and nobody reads from the WAL: it is emptied, or begins anew with the
  // next commit. False: somebody reads.
  enum class Wal : std::uint8_t { Kept, Emptied };
  Result<bool> move_all(Wal wal);
  bool busy() const;
  std::optional<Result<Progress>> take_result();   // of the last background pass

 private:
  Result<> connect();
  Result<Progress> run();
  void loop();

  const std::string path_;
  ledger::ShimVfs& shim_;
  const Clock* const clock_;
  std::unique_ptr<sql::Connection> connection_;   // of whoever runs a pass
  std::atomic<sql::Connection*> open_{nullptr};   // it, to be interrupted

  mutable std::mutex mutex_;    // guards the rest
  std::condition_variable changed_;
  bool wanted_ = false, running_ = false, stop_ = false;
  std::optional<Result<Progress>> result_;
  std::thread thread_;          // made with the first background pass
};

}  // namespace rq::executor
