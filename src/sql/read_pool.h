// ReadPool: read connections with threads of their own (read-N), made when they are needed.
//
// Busy threads: at most max(4, 2 x cores); connections: at most `connections_max`. Jobs wait in a bounded queue
// (Errc::Busy beyond). Threads: all functions from any thread. stop() interrupts what runs and fails what waits; may be
// called twice.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/result.h"
#include "sql/reader.h"

namespace rq::sql {

class ReadPool;

// A connection whose read transaction was opened at a certain moment. Ends it and gives it back when destroyed.
class PinnedRead {
 public:
  PinnedRead(ReadPool& pool, std::unique_ptr<Reader> reader) : pool_(&pool), reader_(std::move(reader)) {}
  PinnedRead(PinnedRead&&) = default;
  PinnedRead& operator=(PinnedRead&&) = delete;
  ~PinnedRead();
  Reader& reader() { return *reader_; }

 private:
  ReadPool* pool_;
  std::unique_ptr<Reader> reader_;
};

class ReadPool {
 public:
  struct Options {
    ReaderOptions reader;
    int connections_max = 256;      // <= 0: no limit
    std::size_t queue_max = 10'000;
    unsigned threads_max = 4;
  };
  struct Stats {
    std::size_t connections = 0, busy = 0, waiting = 0;
    std::uint64_t waits = 0;
  };
  // Gets a reader, or nullptr and why: stopped, or no connection could be opened.
  using Job = std::function<void(Reader* reader, const Error* error)>;

  explicit ReadPool(Options options) : options_(std::move(options)) {}
  ~ReadPool() { stop(); }

  Result<> submit(Job job);         // Errc::Busy, NotOpen: the job is dropped uncalled
  // Opens a read transaction on the calling thread, now; waits for nobody. Errc::Busy: no connection is free; Io ...
  Result<PinnedRead> pin();
  Result<> submit_pinned(std::shared_ptr<PinnedRead> pinned, std::function<void(Reader&)> job);
  // The database file is exchanged: between the two nobody gets a connection; those in use show the old file until they are
  // given back, and are closed then.
  void begin_exchange();
  void end_exchange();
  // Keeps new readers waiting until admit(): true when nobody reads any more within that time. False at once while a long read
  // goes on.
  bool drain(std::chrono::milliseconds within);
  void admit();
  void interrupt();                 // what runs now
  void stop();
  Stats stats() const;

 private:
  friend class PinnedRead;
  void run();
  enum class IfNone : std::uint8_t { Wait, Fail };
  Result<std::unique_ptr<Reader>> take_reader(IfNone if_none);
  void interrupt_readers();         // locked
  void give_back(std::unique_ptr<Reader> reader);
  Result<> enqueue(std::function<void(const Error*)> work);

  const Options options_;
  mutable std::mutex mutex_;        // guards all below
  std::condition_variable ready_, freed_;
  std::deque<std::function<void(const Error*)>> queue_;
  std::vector<std::unique_ptr<Reader>> idle_;
  struct InUse {
    Reader* reader;                 // null: it is being opened
    std::uint64_t exchanges;        // at that time
    SteadyTime since;
  };
  std::vector<InUse> in_use_;
  std::vector<std::thread> threads_;
  std::size_t sleeping_ = 0;
  std::uint64_t waits_ = 0;
  std::uint64_t exchanges_ = 0;     // of the file: a connection from before is closed when it is free
  bool exchanging_ = false, draining_ = false;
  bool stopping_ = false;
};

}  // namespace rq::sql
