#include "store/integrity.h"

#include <algorithm>

#include "base/log.h"
#include "store/quarantine.h"

namespace rq::store {

void Integrity::start(replica::Replica& replica) {
  replica_ = &replica;
  scrubber_.start();
  if (Result<std::vector<RaftId>> sources = read_copy_mark(disk_, dir_)) {
    const std::lock_guard lock(mutex_);
    copy_of_ = *std::move(sources);
  } else {
    log::warn("proof", "mark of a copy: " + sources.error().text());
  }
  const Result<std::optional<std::string>> mark = read_quarantine_mark(disk_, dir_);
  if (!mark) return log::warn("proof", "quarantine mark: " + mark.error().text());
  if (!*mark) return;
  {
    const std::lock_guard lock(mutex_);
    reason_ = **mark;
  }
  quarantined_.store(true, std::memory_order_release);
  log::error("proof", "this node is in quarantine since before its start: " + **mark);
  replica.reinstall(**mark);
}

void Integrity::scrub(Index index) {
  suspected_.store(false);
  scrubber_.begin(index);
}

void Integrity::suspect() {
  if (suspected_.exchange(true)) return;
  log::error("proof", "a read found the database malformed: the nodes' databases will be compared");
}

void Integrity::quarantine(const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    if (quarantined()) return;
    reason_ = why;
    quarantined_.store(true, std::memory_order_release);
  }
  metrics_.counter("proof", "num_quarantines").add();
  log::error("proof", "this node serves nothing until it has another member's state: " + why);
  if (auto marked = write_quarantine_mark(disk_, dir_, why); !marked) log::error("proof", "quarantine mark: " + marked.error().text());
  keep_evidence();
  replica_.load()->reinstall(why);
}

void Integrity::keep_evidence() {
  const Result<std::string> folder = store::keep_evidence(disk_, dir_, clock_.wall());
  if (folder) {
    log::info("proof", "the evidence is kept, folder=" + *folder);
  } else {
    log::error("proof", "the evidence could not be kept: " + folder.error().text());
  }
}

void Integrity::damaged(const std::string& why) {
  if (std::exchange(damaged_, true)) return;
  metrics_.counter("proof", "num_divergences").add();
  log::error("proof", "the database is damaged: " + why);
  keep_evidence();
}

Result<> Integrity::will_copy(const raft::MachineSnapshot& snapshot) {
  std::vector<RaftId> sources{snapshot.source};
  for (const RaftId id : snapshot.copied_from)
    if (sources.size() < kLineageMax && std::ranges::find(sources, id) == sources.end()) sources.push_back(id);
  const std::lock_guard lock(mutex_);
  RQ_CHECK(write_copy_mark(disk_, dir_, sources));
  copy_of_ = std::move(sources);
  return {};
}

std::vector<RaftId> Integrity::copy_of() const {
  const std::lock_guard lock(mutex_);
  return copy_of_;
}

void Integrity::proven() {
  const std::lock_guard lock(mutex_);
  if (copy_of_.empty()) return;
  copy_of_.clear();
  if (const Result<> removed = write_copy_mark(disk_, dir_, {}); !removed) log::warn("proof", "mark of a copy: " + removed.error().text());
}

void Integrity::exchanged(Index index, std::uint64_t chain) {
  damaged_ = false;
  chains_.restart(index, chain);
  scrubber_.forget();
  if (auto removed = remove_quarantine_mark(disk_, dir_); !removed) log::error("proof", "quarantine mark: " + removed.error().text());
  if (!quarantined()) return;
  {
    const std::lock_guard lock(mutex_);
    reason_.clear();
  }
  quarantined_.store(false, std::memory_order_release);
  metrics_.counter("proof", "num_heals").add();
  log::info("proof", "healed: the database is another member's now, index=" + std::to_string(index.value));
}

std::optional<std::string> Integrity::quarantine_reason() const {
  if (!quarantined()) return std::nullopt;
  const std::lock_guard lock(mutex_);
  return reason_;
}

void Integrity::refuse_writes(std::optional<std::string> why) {
  const std::lock_guard lock(mutex_);
  refuses_writes_.store(why.has_value(), std::memory_order_release);
  refusal_ = std::move(why);
}

std::optional<Error> Integrity::writes_refused() const {
  if (!refuses_writes_.load(std::memory_order_acquire)) return std::nullopt;
  const std::lock_guard lock(mutex_);
  if (!refusal_) return std::nullopt;
  return Error{Errc::Busy, *refusal_};
}

}  // namespace rq::store
