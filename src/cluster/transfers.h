// Transfers: the database as a whole on its way out of this node or into it: backups for clients and for other nodes, bodies
// of /db/load and /boot.
//
// Backups between nodes are pulled: open -> id, read the next piece, close (backup_sessions.h). Limits: kBackupsMax backups,
// kUploadsMax uploads at a time; beyond them Errc::Busy.
// Threads: functions from any; completions on worker threads. stop() after the last call; may be called twice.
// Files: in the store's staging folder; what a crash left behind is removed by the constructor.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "backup/source.h"
#include "backup/workers.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "cluster/backup_sessions.h"
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
  void tidy() { sessions_.tidy(); }          // now and then

  struct Progress {
    std::uint64_t bytes = 0;
    bool checking = false;
  };
  std::vector<Progress> uploads() const;     // under way
  std::optional<WallTime> last_backup() const;

 private:
  class Writer;
  struct Incoming;
  static std::shared_ptr<void> take_place(const std::shared_ptr<std::atomic<int>>& taken, int max);   // null: none is free

  store::Store& store_;
  const Clock& clock_;
  Metrics& metrics_;
  io::Disk& disk_;
  SystemRng rng_;
  const std::string staging_dir_;
  const std::shared_ptr<std::atomic<int>> backups_ = std::make_shared<std::atomic<int>>(0), uploads_ = std::make_shared<std::atomic<int>>(0);

  BackupSessions sessions_;
  mutable std::mutex mutex_;                 // guards incoming_ and last_backup_
  mutable std::list<std::weak_ptr<Incoming>> incoming_;
  std::optional<WallTime> last_backup_;
  backup::Workers workers_;                  // ends before anything its tasks use
};

pb::BackupOpenRequest backup_message(const http::BackupQuery& query);
// A backup of the node at `addr`. `timeout` bounds each call. Errors: what the node answers, Unreachable, Timeout ...
void open_remote_backup(transport::Transport& transport, const Clock& clock, const std::string& addr, const pb::BackupOpenRequest& message,
                        std::chrono::nanoseconds timeout, Transfers::Opened done);

}  // namespace rq::cluster
