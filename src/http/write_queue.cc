#include "http/write_queue.h"

#include <algorithm>
#include <future>

#include "base/log.h"
#include "base/thread_name.h"

namespace rq::http {
namespace {

constexpr auto kLook = std::chrono::milliseconds(50);
constexpr auto kRetryEvery = std::chrono::seconds(1);
constexpr std::size_t kBatchBytes = 1u << 20;

}  // namespace

// One batch as the backend sees it.
class WriteQueue::BatchCall final : public SqlCall {
 public:
  void done(SqlReply&& reply) override { promise.set_value(std::move(reply)); }
  bool canceled() const override { return false; }
  std::promise<SqlReply> promise;
};

WriteQueue::WriteQueue(const QueueOptions& options, Backend& backend, Clock& clock, Metrics& metrics)
    : options_(options), backend_(backend), clock_(clock), metrics_(metrics), sequence_(clock.wall().time_since_epoch().count()),
      thread_([this] { run(); }) {}

WriteQueue::~WriteQueue() { stop(std::chrono::milliseconds(0)); }

Result<std::int64_t> WriteQueue::add(google::protobuf::RepeatedPtrField<pb::Statement>& statements, const Credentials& credentials, const Done& done) {
  Item item{.credentials = credentials, .since = clock_.now()};
  for (const pb::Statement& statement : statements) item.bytes += statement.ByteSizeLong();
  const std::lock_guard lock(mutex_);
  if (stopping_) return fail(Errc::NotOpen);
  if (items_.size() >= options_.capacity || bytes_ + item.bytes > options_.bytes_max) return fail(Errc::Busy, "write queue is full");
  item.statements = std::move(statements);
  item.done = done;
  item.sequence = ++sequence_;
  bytes_ += item.bytes;
  metrics_.counter("queue", "objects_rx").add(item.statements.size());
  items_.push_back(std::move(item));
  // The thread sleeps by the first item's time; only a new first, a full batch or a checkpoint need wake it.
  if (items_.size() == 1 || items_.size() >= options_.batch_size || items_.back().statements.empty()) changed_.notify_one();
  return items_.back().sequence;
}

std::size_t WriteQueue::waiting() const {
  const std::lock_guard lock(mutex_);
  return items_.size();
}

std::int64_t WriteQueue::written_sequence() const {
  const std::lock_guard lock(mutex_);
  return written_;
}

// Waits for a batch to be due; empty when stopping and nothing is left.
std::vector<WriteQueue::Item> WriteQueue::take_batch(std::unique_lock<std::mutex>& lock) {
  while (true) {
    if (items_.empty()) {
      if (stopping_) return {};
      changed_.wait(lock);
      continue;
    }
    const SteadyTime due = items_.front().since + std::chrono::duration_cast<SteadyTime::duration>(options_.timeout);
    const bool full = items_.size() >= options_.batch_size;
    const bool checkpoint = std::ranges::any_of(items_, [](const Item& item) { return item.statements.empty(); });
    if (!full && !checkpoint && !stopping_ && clock_.now() < due) {
      changed_.wait_until(lock, due);
      continue;
    }
    metrics_.counter("queue", full ? "num_flush" : "num_timeout").add();
    std::vector<Item> batch;
    std::size_t bytes = 0;
    while (!items_.empty() && batch.size() < options_.batch_size) {
      const Item& next = items_.front();
      const bool same = batch.empty() || (next.credentials.username == batch.front().credentials.username &&
                                          next.credentials.password == batch.front().credentials.password);
      if (!batch.empty() && (!same || bytes + next.bytes > kBatchBytes)) break;
      bytes += next.bytes;
      bytes_ -= next.bytes;
      batch.push_back(std::move(items_.front()));
      items_.pop_front();
    }
    return batch;
  }
}

void WriteQueue::run() {
  name_this_thread("queue");
  std::unique_lock lock(mutex_);
  while (true) {
    idle_ = items_.empty();
    changed_.notify_all();
    std::vector<Item> batch = take_batch(lock);
    if (batch.empty()) break;
    idle_ = false;
    const bool in_time = !stopping_ || clock_.now() < stop_by_;
    lock.unlock();
    bool sent = in_time && send(batch);
    lock.lock();
    while (!sent) {
      const SteadyTime again = clock_.now() + kRetryEvery;
      while (clock_.now() < again && !stopping_) changed_.wait_until(lock, again);
      if (stopping_ && clock_.now() >= stop_by_) break;
      lock.unlock();
      sent = send(batch);
      lock.lock();
      if (!sent && stopping_) break;
    }
    if (!sent) {
      log::error("http", std::to_string(batch.size()) + " queued write requests were not executed before the stop");
      continue;
    }
    written_ = batch.back().sequence;
    lock.unlock();
    for (Item& item : batch)
      if (item.done) item.done(item.sequence);
    lock.lock();
  }
  idle_ = true;
  changed_.notify_all();
}

bool WriteQueue::stop_time_is_over() const {
  const std::lock_guard lock(mutex_);
  return stopping_ && clock_.now() >= stop_by_;
}

bool WriteQueue::send(std::vector<Item>& batch) {
  auto call = std::make_shared<BatchCall>();
  call->request.set_kind(pb::Request::EXECUTE);
  call->request.set_transaction(options_.transaction);
  for (const Item& item : batch) call->request.mutable_statements()->MergeFrom(item.statements);
  const int statements = call->request.statements_size();
  if (statements == 0) return true;                         // checkpoints only
  call->routing.credentials = batch.front().credentials;
  auto future = call->promise.get_future();
  backend_.sql(call);
  while (future.wait_for(kLook) != std::future_status::ready)
    if (stop_time_is_over()) return false;                  // its fate is open; the process ends
  const SqlReply reply = future.get();
  metrics_.counter("http", "queued_executions_num_stmts_tx").add(statements);
  if (!reply.failure) {
    metrics_.counter("http", "queued_executions_ok").add();
    metrics_.counter("queue", "objects_tx").add(statements);
    return true;
  }
  note_failure(reply);
  return false;
}

void WriteQueue::note_failure(const SqlReply& reply) {
  metrics_.counter("http", "queued_executions_failed").add();
  const char* kind = "queued_executions_unknown_error";
  if (reply.failure->code == Errc::LeaderNotFound) kind = "queued_executions_no_leader";
  if (reply.failure->code == Errc::NotLeader) kind = "queued_executions_not_leader";
  if (reply.failure->code == Errc::LeadershipLost) kind = "queued_executions_leadership_lost";
  metrics_.counter("http", kind).add();
  log::warn("http", "execute queue write failed, will retry: " + reply.failure->text());
}

void WriteQueue::stop(std::chrono::milliseconds within) {
  {
    std::unique_lock lock(mutex_);
    if (!stopping_) {
      stopping_ = true;
      stop_by_ = clock_.now() + within;
      changed_.notify_all();
    }
  }
  if (thread_.joinable()) thread_.join();
}

}  // namespace rq::http
