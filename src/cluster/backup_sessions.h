// BackupSessions: backups that other nodes pull from this one, piece by piece.
//
// A session is forgotten when nobody reads from it for kIdle, with its last piece, and after an error. Pieces are numbered
// from 0 and each is given once: an answer that got lost ends the session, nothing is sent twice or left out.
// Threads: functions from any; completions as the sources call them. How many there are the owner of the sources bounds.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>

#include "base/byte_source.h"
#include "base/clock.h"

namespace rq::cluster {

class BackupSessions {
 public:
  static constexpr auto kIdle = std::chrono::seconds(30);

  explicit BackupSessions(const Clock& clock) : clock_(clock) {}
  void open(std::uint64_t id, std::shared_ptr<ByteSource> source);
  // Errc::NotFound: forgotten, or not the piece whose turn it is; or the source's error.
  void read(std::uint64_t id, std::uint64_t number, std::function<void(Result<Piece>)> done);
  void close(std::uint64_t id);
  void close_all();
  void tidy();                               // now and then: forgets those that nobody reads

 private:
  struct Session {
    std::shared_ptr<ByteSource> source;
    std::uint64_t next = 0;
    bool busy = false;
    SteadyTime used;
  };
  void note(std::uint64_t id, const Result<Piece>& piece);

  const Clock& clock_;
  std::mutex mutex_;                         // guards sessions_; sources are called and dropped outside
  std::map<std::uint64_t, Session> sessions_;
};

}  // namespace rq::cluster
