#include "base/error.h"

namespace rq {

std::string_view fixed_text(Errc code) {
  switch (code) {
    case Errc::NotLeader: return "not leader";
    case Errc::LeaderNotFound: return "leader not found";
    case Errc::LeadershipLost: return "leadership lost while committing log";
    case Errc::TransferInProgress: return "leadership transfer in progress";
    case Errc::NotOpen: return "store not open";
    case Errc::NotReady: return "store not ready";
    case Errc::StaleRead: return "stale read";
    case Errc::Unauthorized: return "unauthorized";
    case Errc::DisallowedPragma: return "disallowed pragma";
    case Errc::DeadlineExceeded: return "context deadline exceeded";
    case Errc::OpenTransaction: return "transaction left open by the request was rolled back";
    case Errc::Timeout:
    case Errc::Busy:
    case Errc::AlreadyExists:
    case Errc::NotFound:
    case Errc::BadRequest:
    case Errc::Sql:
    case Errc::Io:
    case Errc::NoSpace:
    case Errc::Corrupt:
    case Errc::Truncated:
    case Errc::Unsupported:
    case Errc::TooLarge:
    case Errc::Closed:
    case Errc::Unreachable:
    case Errc::Canceled:
    case Errc::Internal:
      return "";
  }
  return "";
}

namespace {
std::string_view name_of(Errc code) {
  switch (code) {
    case Errc::Timeout: return "timeout";
    case Errc::Busy: return "busy";
    case Errc::Canceled: return "canceled";
    case Errc::Closed: return "closed";
    case Errc::NoSpace: return "no space left on device";
    default: return "internal error";
  }
}
}  // namespace

std::string Error::text() const {
  if (code == Errc::Unauthorized && !detail.empty()) return detail;     // where and what: "remote Execute not authorized"
  const std::string_view fixed = fixed_text(code);
  if (!fixed.empty()) return std::string(fixed);
  return detail.empty() ? std::string(name_of(code)) : detail;
}

}  // namespace rq
