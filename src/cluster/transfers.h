// Transfers: the database as a whole on its way out of this node or into it: backups for clients and for other nodes, bodies
// of /db/load and /boot.
//
// Backups between nodes are pulled: open -> id, read the next piece, close. A session is forgotten when nobody reads from it for
// 30 s; an answer that got lost ends it too (pieces are numbered, none is sent twice). Limits: kBackupsMax backups, kUploadsMax
// uploads at a time; beyond them Errc::Busy.
// Threads: functions from any; completions on worker threads. stop() after the last call; may be called twice.
// Files: in the store's staging folder; what a crash left behind is removed by the constructor.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "backup/source.h"
#include "backup/workers.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "cluster/cluster.pb.h"
#include "http/backend.h"
#include "io/disk.h"
#include "store/store.h"
#include "transport/transport.h"

namespace rq::cluster {

class Transfers {
 public:
  static constexpr int kBackupsMax = 16, kUploadsMax = 8;

  Transfers(store::Store& store, const Clock& clock, Metrics& metrics);
  ~Transfers();
  void stop();

  using Opened = std::function<void(Result<std::shared_ptr<ByteSource>>)>;
  void backup(const http::BackupQuery& query, Opened done);
  Result<std::shared_ptr<http::UploadWriter>> begin_upload(const http::UploadOptions& options);

  void discard(const std::string& name);     // of a staged image that nobody will load
  // Files in the staging folder that are looked after here.
  static bool keeps(std::string_view name);

  // Calls of another node, which may have it.
  void open_session(const pb::BackupOpenRequest& message, std::shared_ptr<transport::Responder> responder);
  void on_call(transport::CallType type, const std::string& payload, std::shared_ptr<transport::Responder> responder);   // BackupRead, BackupClose
  void tidy();                               // now and then: forgets sessions that nobody reads

  struct Progress {
    std::uint64_t bytes = 0;
    bool checking = false;
  };
  std::vector<Progress> uploads() const;     // under way
  std::optional<WallTime> last_backup() const;

 private:
  class Writer;
  struct Session {
    std::shared_ptr<ByteSource> source;
    std::uint64_t next = 0;
    bool busy = false;
    SteadyTime used;
  };
  struct Incoming;
  static std::shared_ptr<void> take_place(const std::shared_ptr<std::atomic<int>>& taken, int max);   // null: none is free
  void read(const pb::BackupReadRequest& message, const std::shared_ptr<transport::Responder>& responder);

  store::Store& store_;
  const Clock& clock_;
  Metrics& metrics_;
  io::Disk& disk_;
  SystemRng rng_;
  const std::string staging_dir_;
  const std::shared_ptr<std::atomic<int>> backups_ = std::make_shared<std::atomic<int>>(0), uploads_ = std::make_shared<std::atomic<int>>(0);

  mutable std::mutex mutex_;                 // guards what follows, but for workers_
  std::map<std::uint64_t, Session> sessions_;
  mutable std::list<std::weak_ptr<Incoming>> incoming_;
  std::optional<WallTime> last_backup_;
  backup::Workers workers_;                  // ends before anything its tasks use
};

pb::BackupOpenRequest backup_message(const http::BackupQuery& query);
// A backup of the node at `addr`. `timeout` bounds each call. Errors: what the node answers, Unreachable, Timeout ...
void open_remote_backup(transport::Transport& transport, const Clock& clock, const std::string& addr, const pb::BackupOpenRequest& message,
                        std::chrono::nanoseconds timeout, Transfers::Opened done);

}  // namespace rq::cluster
