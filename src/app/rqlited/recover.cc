// rqlited recover [flags] DIR: where a stopped node stands, and what to do when a majority is lost or an entry can't be
// applied. Exit code 0: shown or done; 1: not, and nothing has changed; 2: wrong flags.
#include <cstdio>
#include <filesystem>

#include "app/rqlited/commands.h"
#include "config/go_flags.h"
#include "executor/attempt.h"
#include "io/posix_disk.h"
#include "store/quarantine.h"
#include "store/recover.h"

namespace rq::app {
namespace {

constexpr const char* kUsage =
    "rqlited recover helps when the other nodes are lost for good, or when an entry of the log can't be applied.\n"
    "Usage: rqlited recover [flags] <data directory>\n"
    "\n"
    "The node must be stopped. Without flags it shows how far the node is: of several survivors the one with the highest last\n"
    "term and index knows most. With -peers it gives the node the membership in FILE, a list such as\n"
    "  [{\"id\":\"n1\",\"address\":\"host1:4002\",\"non_voter\":false}]\n"
    "Use the same file on every node in it, then start them all. Nodes that are not in it can't come back without being emptied\n"
    "first. The same happens at start when the file lies in the data directory as raft/peers.json.\n"
    "With -trust the node that is named holds the right state: run it on every stopped node with the same name when the nodes\n"
    "differ and none has a majority. The others give their own state up (it is kept aside) and take that one.\n"
    "With -skip the node asks its cluster, when it runs again, to pass over the entry: it has no effect on any node.\n"
    "\n"
    "Flags:\n";

std::string id_text(std::uint64_t id) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(id));
  return text;
}

Result<> show(io::Disk& disk, const std::string& dir, const store::NodeFile& node) {
  RQ_TRY(const store::LogPosition position, store::look_at_log(disk, dir));
  std::printf("node id       %s\n", node.node_id.c_str());
  if (position.empty) {
    std::printf("this node belongs to no cluster yet\n");
    return {};
  }
  std::printf("cluster       %s\n", id_text(position.record.cluster_id).c_str());
  std::printf("term          %llu\n", static_cast<unsigned long long>(position.term.value));
  std::printf("log           first index %llu, last index %llu of term %llu, known as committed up to %llu\n",
              static_cast<unsigned long long>(position.first.value), static_cast<unsigned long long>(position.last.value),
              static_cast<unsigned long long>(position.last_term.value), static_cast<unsigned long long>(position.commit.value));
  std::printf("database      applied up to %llu\n", static_cast<unsigned long long>(position.applied.value));
  for (const replica::Member& member : position.record.members.all())
    std::printf("member        %s at %s, %s\n", member.node_id.c_str(), member.raft_addr.c_str(), position.conf.is_voter(member.raft_id) ? "voter" : "no voter");
  if (const auto note = executor::AttemptNote::open(disk, dir + "/apply.attempt", position.applied); note && note->poison())
    std::printf("stuck         the entry at index %llu was begun %u times and never survived; -skip %llu passes over it\n",
                static_cast<unsigned long long>(note->poison().value), note->attempts(note->poison()), static_cast<unsigned long long>(note->poison().value));
  RQ_TRY(const std::optional<std::string> quarantine, store::read_quarantine_mark(disk, dir));
  if (quarantine) std::printf("quarantine    %s: at its next start this node takes the state of another one\n", quarantine->c_str());
  RQ_TRY(const Index skip, store::asked_to_skip(disk, dir));
  if (skip > position.applied) std::printf("asked         to pass over the entry at index %llu\n", static_cast<unsigned long long>(skip.value));
  return {};
}

Result<> run(const std::string& dir, const std::string& peers_file, const std::string& trusted, std::uint64_t skip) {
  io::PosixDisk disk;
  RQ_TRY(const io::DirectoryLock lock, io::DirectoryLock::take(dir));
  RQ_TRY(std::optional<store::NodeFile> node, store::read_node_file(disk, dir));
  if (!node) return fail(Errc::NotFound, dir + " is no data directory of a node");
  if (!peers_file.empty()) {
    RQ_TRY(const std::string text, io::read_file(disk, std::filesystem::absolute(peers_file).string(), 1u << 20));
    RQ_TRY(const std::vector<store::Peer> peers, store::parse_peers(text));
    RQ_CHECK(io::write_file_atomically(disk, store::peers_path(dir), store::peers_text(peers)));
    const Result<bool> done = store::recover_membership(disk, dir, *node);
    if (!done) {
      (void)disk.remove(store::peers_path(dir));
      return fail(done.error());
    }
  }
  if (!trusted.empty()) {
    RQ_TRY(const store::LogPosition position, store::look_at_log(disk, dir));
    if (position.empty || position.record.members.find_node(trusted) == nullptr)
      return fail(Errc::BadRequest, "no member of this cluster is named " + trusted);
    RQ_CHECK(store::trust_node(disk, dir, trusted));
  }
  if (skip != 0) {
    RQ_TRY(const store::LogPosition position, store::look_at_log(disk, dir));
    if (position.empty || skip <= position.applied.value)
      return fail(Errc::BadRequest, "the entry at index " + std::to_string(skip) + " is applied here: there is nothing to pass over");
    RQ_CHECK(store::ask_to_skip(disk, dir, Index{skip}));
  }
  return show(disk, dir, *node);
}

}  // namespace

int recover(int argc, char** argv) {
  std::string peers, trusted;
  std::uint64_t skip = 0;
  config::FlagSet flags(kUsage);
  flags.text("peers", peers, "Give the node the membership in this file");
  flags.text("trust", trusted, "Name of the node whose state is the right one");
  flags.unsigned_integer("skip", skip, "Ask the cluster to pass over the entry at this index");
  if (const auto exit = flags.parse({argv + 1, argv + argc})) {
    std::fputs(exit->text.c_str(), stderr);
    return exit->code;
  }
  if (flags.rest().size() != 1) {
    std::fputs(flags.usage().c_str(), stderr);
    return 2;
  }
  std::error_code failed;
  const auto dir = std::filesystem::canonical(flags.rest()[0], failed);
  const Result<> done = failed ? Result<>(fail(Errc::NotFound, flags.rest()[0] + " does not exist")) : run(dir.string(), peers, trusted, skip);
  if (done) return 0;
  std::fprintf(stderr, "recover failed: %s\n", done.error().text().c_str());
  return 1;
}

}  // namespace rq::app
