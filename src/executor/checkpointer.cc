#include "executor/checkpointer.h"

#include "base/thread_name.h"

namespace rq::executor {

Checkpointer::Checkpointer(std::string path, ledger::ShimVfs& shim, const Clock* clock)
    : path_(std::move(path)), shim_(shim), clock_(clock) {}

Checkpointer::~Checkpointer() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  if (sql::Connection* connection = open_) connection->interrupt();
  if (thread_.joinable()) thread_.join();
}

Result<> Checkpointer::connect() {
  if (connection_) return {};
  sql::OpenOptions open;
  open.path = path_;
  open.vfs = shim_.name();
  open.clock = clock_;
  open.cache_kib = 64;
  open.statements_cached = 0;
  open.busy_timeout_ms = 0;
  RQ_TRY(connection_, sql::Connection::open(open));
  int keep_wal = 1;
  sqlite3_file_control(connection_->handle(), "main", SQLITE_FCNTL_PERSIST_WAL, &keep_wal);
  sqlite3_wal_autocheckpoint(connection_->handle(), 0);
  RQ_CHECK(connection_->run("PRAGMA synchronous=NORMAL"));
  RQ_TRY(const std::int64_t objects, connection_->number("SELECT count(*) FROM sqlite_schema"));
  (void)objects;
  open_ = connection_.get();
  return {};
}

Result<Checkpointer::Progress> Checkpointer::run() {
  RQ_CHECK(connect());
  int frames = 0;
  int moved = 0;
  const int rc =
      sqlite3_wal_checkpoint_v2(connection_->handle(), "main", SQLITE_CHECKPOINT_PASSIVE, &frames, &moved);
  if (rc != SQLITE_OK && rc != SQLITE_BUSY) return fail(connection_->error(rc));
  if (rc == SQLITE_BUSY || frames < 0) return Progress{};
  return Progress{static_cast<std::uint32_t>(frames), static_cast<std::uint32_t>(moved)};
}

Result<Checkpointer::Progress> Checkpointer::pass() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !wanted_ && !running_; });
  running_ = true;
  lock.unlock();
  auto result = run();
  lock.lock();
  running_ = false;
  return result;
}

Result<bool> Checkpointer::move_all(Wal wal) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !wanted_ && !running_; });
  RQ_CHECK(connect());
  const int rc = sqlite3_wal_checkpoint_v2(connection_->handle(), "main",
                                           wal == Wal::Emptied ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_RESTART, nullptr, nullptr);
  if (rc == SQLITE_BUSY) return false;
  if (rc != SQLITE_OK) return fail(connection_->error(rc));
  return true;
}

void Checkpointer::begin_pass() {
  const std::lock_guard lock(mutex_);
  if (wanted_ || running_) return;
  wanted_ = true;
  if (!thread_.joinable()) thread_ = std::thread([this] { loop(); });
  changed_.notify_all();
}

bool Checkpointer::busy() const {
  const std::lock_guard lock(mutex_);
  return wanted_ || running_;
}

std::optional<Result<Checkpointer::Progress>> Checkpointer::take_result() {
  const std::lock_guard lock(mutex_);
  return std::exchange(result_, std::nullopt);
}

void Checkpointer::loop() {
  name_this_thread("snapshot");
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return wanted_ || stop_; });
    if (stop_) return;
    wanted_ = false;
    running_ = true;
    lock.unlock();
    auto result = run();
    lock.lock();
    running_ = false;
    result_ = std::move(result);
    changed_.notify_all();
  }
}

}  // namespace rq::executor
