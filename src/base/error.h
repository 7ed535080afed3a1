// Errors: a code decides behaviour, a detail informs. Texts that clients see stand in error.cc only.
#pragma once

#include <string>
#include <string_view>

namespace rq {

enum class Errc {
  // leadership and cluster
  NotLeader,             // the operation needs the leader and this node is not it (a leader may be known)
  LeaderNotFound,        // no leader is known
  LeadershipLost,        // the proposal's fate is unknown: leadership went away before it was committed
  TransferInProgress,    // leadership is being handed over
  Timeout,               // a deadline passed
  Busy,                  // a bounded queue is full
  NotOpen,               // the store is not open yet, or is closed
  NotReady,
  StaleRead,             // freshness bound not met
  Unauthorized,
  AlreadyExists,
  NotFound,
  // requests
  BadRequest,            // detail: the whole text for the client
  DisallowedPragma,
  DeadlineExceeded,      // an already expired db_timeout
  OpenTransaction,       // the request ended with a transaction open
  Sql,                   // an SQL error that concerns the whole request; detail: SQLite's text
  // devices and peers
  Io,                    // a system call failed; detail: operation, path, reason
  NoSpace,               // the disk (or the file size limit) is full
  Corrupt,               // stored bytes contradict themselves; detail: where
  Truncated,
  Unsupported,           // unknown version of a format or a message
  TooLarge,              // a limit was exceeded
  Closed,                // the other side, or we, closed
  Unreachable,           // a peer could not be dialled; detail: Go-like text for the client
  Canceled,
  Internal,
};

struct Error {
  Errc code = Errc::Internal;
  std::string detail;

  // The text for people and clients: the code's fixed text, or the detail where the code has none.
  std::string text() const;
  bool operator==(const Error&) const = default;
};

std::string_view fixed_text(Errc code);  // empty: the detail is the text

}  // namespace rq
