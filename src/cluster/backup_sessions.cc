#include "cluster/backup_sessions.h"

#include <vector>

namespace rq::cluster {

void BackupSessions::open(std::uint64_t id, std::shared_ptr<ByteSource> source) {
  const std::lock_guard lock(mutex_);
  sessions_[id] = {.source = std::move(source), .used = clock_.now()};
}

void BackupSessions::read(std::uint64_t id, std::uint64_t number, std::function<void(Result<Piece>)> done) {
  std::shared_ptr<ByteSource> source;
  {
    const std::lock_guard lock(mutex_);
    const auto found = sessions_.find(id);
    if (found != sessions_.end() && !found->second.busy && found->second.next == number) {
      found->second.busy = true;
      source = found->second.source;
    }
  }
  if (!source) return done(fail(Errc::NotFound, "the backup is over: it was not read for too long"));
  source->next([this, id, done = std::move(done)](Result<Piece> piece) {
    note(id, piece);
    done(std::move(piece));
  });
}

void BackupSessions::note(std::uint64_t id, const Result<Piece>& piece) {
  std::shared_ptr<ByteSource> over;
  const std::lock_guard lock(mutex_);
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;      // closed meanwhile
  found->second.busy = false;
  found->second.used = clock_.now();
  ++found->second.next;
  if (piece && !piece->last) return;
  over = std::move(found->second.source);
  sessions_.erase(found);
}

void BackupSessions::close(std::uint64_t id) {
  std::shared_ptr<ByteSource> over;
  const std::lock_guard lock(mutex_);
  if (const auto found = sessions_.find(id); found != sessions_.end()) {
    over = std::move(found->second.source);
    sessions_.erase(found);
  }
}

void BackupSessions::close_all() {
  std::map<std::uint64_t, Session> over;
  const std::lock_guard lock(mutex_);
  over.swap(sessions_);
}

void BackupSessions::tidy() {
  std::vector<std::shared_ptr<ByteSource>> over;
  const std::lock_guard lock(mutex_);
  for (auto at = sessions_.begin(); at != sessions_.end();) {
    if (at->second.busy || clock_.now() - at->second.used < kIdle) {
      ++at;
      continue;
    }
    over.push_back(std::move(at->second.source));
    at = sessions_.erase(at);
  }
}

}  // namespace rq::cluster
