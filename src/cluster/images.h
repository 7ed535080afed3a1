// Images: whole databases on their way between members of the cluster.
//
//   snapshots   a Snapshot message of the leader is held back until its image lies here, complete and durable; then Raft
//               sees it
//   states      a member whose machine can't go on from the log fetches the present state of another one
//   loads       an image that a client gave to one member is spread to all, and the leader proposes it when a majority
//               has it on disk. Members that come late fetch it, or (when it is in use by then) the state behind it
//
// Threads: functions from any; each fetch has a thread of its own. stop() ends all; may be called twice. Crash: fetches go on
// from what was durable (image_fetch.h); what nobody needs any more is removed from the staging folder while the node runs.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "cluster/image_fetch.h"
#include "cluster/image_server.h"
#include "command/command.pb.h"
#include "replica/membership.h"
#include "store/store.h"
#include "transport/transport.h"

namespace rq::cluster {

struct ImageOptions {
  bool zstd = false;                          // -compress-snap-transport
  std::uint64_t bytes_per_second_max = 0;     // -snap-transport-rate; 0: no limit
};

class Images : public std::enable_shared_from_this<Images> {
 public:
  // What is known of the cluster at the moment.
  struct World {
    RaftId self;
    std::string self_addr;
    replica::MembershipRecord record;
    raft::ConfState conf;
    RaftId leader;
  };
  Images(store::Store& store, transport::Transport& transport, const Clock& clock, Metrics& metrics, ImageOptions options,
         std::function<World()> world);
  ~Images();
  void stop();

  void receive(raft::Message&& snapshot);     // a Snapshot message for this member
  void state_wanted();                        // Replica::Events: repeated while it lasts
  void on_call(transport::CallType type, std::string payload, std::shared_ptr<transport::Responder> responder);   // ReadImage, HoldState, Stage

  using Loaded = std::function<void(Result<Index>)>;
  // Here leads: spreads the image that lies staged at the member `source`, then proposes it.
  void load(const pb::LoadImage& image, const std::string& source_addr, RaftId source, SteadyTime deadline, Loaded done);
  void tidy();                                // now and then: removes what nobody needs from the staging folder

  struct Progress {
    std::string what, from;
    std::uint64_t bytes = 0, received = 0;
  };
  std::vector<Progress> progress() const;     // fetches under way
  std::uint64_t bytes_sent() const { return server_.bytes_sent(); }

 private:
  struct Spread;
  void start_install(raft::Message&& message, const ImageSource& source, std::uint64_t cluster_id);
  void installed(const Result<>& result);
  void fetch_state(const replica::Member& source, std::uint64_t cluster_id);
  void stage(std::string payload, std::shared_ptr<transport::Responder> responder);
  void stage_here(const pb::LoadImage& image, const std::string& source_addr, std::function<void(Result<>)> done);
  void spread_to(const std::shared_ptr<Spread>& spread, RaftId member, const std::string& addr);
  void spread_one(const std::shared_ptr<Spread>& spread, RaftId member, const Result<>& result);
  ImageFetchOptions fetch_options(std::uint64_t cluster_id) const;
  void collect_over();                        // locked: forgets fetches that ended

  store::Store& store_;
  transport::Transport& transport_;
  const Clock& clock_;
  Metrics& metrics_;
  const ImageOptions options_;
  const std::function<World()> world_;
  ImageServer server_;

  mutable std::mutex mutex_;                  // guards the rest
  std::unique_ptr<ImageFetch> install_;       // of the snapshot in install_message_
  std::optional<raft::Message> install_message_;
  std::unique_ptr<ImageFetch> state_;
  bool asking_state_ = false;
  SteadyTime state_again_;
  std::size_t state_turn_ = 0;
  std::map<std::string, std::unique_ptr<ImageFetch>> loads_;   // by name
  std::map<std::string, std::vector<std::function<void(Result<>)>>> load_waiters_;
  std::map<std::string, SteadyTime> seen_;    // files in the staging folder that may be left over
  bool stopped_ = false;
};

}  // namespace rq::cluster
