#include "ops/doctor.h"

#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/timex.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <optional>
#include <set>

#include <rapidjson/document.h>

#include "base/go_text.h"
#include "io/posix_disk.h"
#include "ops/certificates.h"
#include "ops/probe.h"
#include "store/node_file.h"

namespace rq::ops {
namespace {

using namespace std::chrono_literals;
using Level = Finding::Level;

constexpr int kSyncs = 40;
constexpr auto kProbeTime = 2s;
constexpr std::uint64_t kFreeBytesMin = 1u << 30;

class Doctor {
 public:
  Doctor(const config::Options& options, io::Disk& disk, const Clock& clock, const std::function<void(const Finding&)>& told)
      : options_(options), disk_(disk), clock_(clock), told_(told) {}

  void run() {
    look_at_clock();
    look_at_names();
    look_at_directory();
    look_at_disk();
    look_at_ports();
    look_at_certificates("http", options_.http_cert, options_.http_key, options_.http_ca_cert, split_address(options_.http_adv_addr).host,
                         options_.http_verify_client);
    look_at_certificates("node", options_.node_cert, options_.node_key, options_.node_ca_cert,
                         options_.node_verify_server_name.empty() ? split_address(options_.raft_adv_addr).host : options_.node_verify_server_name, true);
    look_at_cluster();
  }

 private:
  void tell(Level level, std::string text, std::string advice = {}) { told_({level, area_, std::move(text), std::move(advice)}); }

  void look_at_clock();
  void look_at_names();
  void look_at_directory();
  void look_at_disk();
  void look_at_ports();
  void look_at_port(const char* what, const char* flag, const std::string& addr);
  void look_at_certificates(const char* side, const std::string& cert, const std::string& key, const std::string& ca, const std::string& host,
                            bool verified_by_ca);
  void look_at_cluster();
  void look_at_members(const std::string& nodes_json);
  void compare_clocks(const std::string& peer, const std::string& date);

  const config::Options& options_;
  io::Disk& disk_;
  const Clock& clock_;
  const std::function<void(const Finding&)>& told_;
  std::string area_;
  bool running_ = false;             // a node holds the directory
};

void Doctor::look_at_clock() {
  area_ = "clock";
  timex state{};
  const int code = ::adjtimex(&state);
  const std::string now = rfc3339_text(std::chrono::time_point_cast<std::chrono::seconds>(clock_.wall()));
  if (clock_.wall() < WallTime(std::chrono::hours(24) * 365 * 55)) return tell(Level::Bad, "the clock says " + now, "set the clock; run chrony or ntpd");
  if (code == TIME_ERROR || (state.status & STA_UNSYNC) != 0)
    return tell(Level::Warning, "the clock says " + now + "; the kernel doesn't know whether it is right",
                "run chrony, ntpd or systemd-timesyncd on all nodes: CURRENT_TIMESTAMP is the leader's time");
  tell(Level::Ok, "synchronised, " + now);
}

void Doctor::look_at_names() {
  area_ = "names";
  std::set<std::string> hosts;
  for (const std::string* addr : {&options_.http_addr, &options_.http_adv_addr, &options_.raft_addr, &options_.raft_adv_addr}) hosts.insert(split_address(*addr).host);
  for (const std::string& addr : options_.join) hosts.insert(split_address(addr).host);
  hosts.erase("");
  for (const std::string& host : hosts) {
    const SteadyTime begun = clock_.now();
    const Result<std::vector<std::string>> found = resolve(host);
    const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(clock_.now() - begun);
    if (!found) {
      tell(Level::Bad, "'" + host + "' cannot be resolved: " + found.error().detail, "correct the name, /etc/hosts, or the name server in /etc/resolv.conf");
      continue;
    }
    std::string list;
    for (const std::string& address : *found) list += (list.empty() ? "" : ", ") + address;
    if (took > 500ms)
      tell(Level::Warning, "'" + host + "' is " + list + "; that took " + std::to_string(took.count()) + " ms",
           "look at the name server: names are resolved at each new connection between nodes");
    else if (list != host) tell(Level::Ok, "'" + host + "' is " + list);
  }
  const std::string raft_host = split_address(options_.raft_adv_addr).host;
  const bool loopback = raft_host == "localhost" || raft_host.starts_with("127.") || raft_host == "::1";
  if (loopback)
    tell(Level::Warning, "other machines cannot reach the advertised Raft address " + options_.raft_adv_addr,
         "for a cluster on several machines give -raft-addr and -http-addr (or the -adv- flags) an address of the network");
}

void Doctor::look_at_directory() {
  area_ = "directory";
  const std::string& dir = options_.data_dir;
  struct stat info {};
  if (::stat(dir.c_str(), &info) != 0) return tell(Level::Ok, dir + " doesn't exist yet; the first start makes it");
  if (!S_ISDIR(info.st_mode)) return tell(Level::Bad, dir + " is not a directory", "name another data directory");
  if (::access(dir.c_str(), R_OK | W_OK | X_OK) != 0)
    return tell(Level::Bad, dir + " cannot be written by user " + std::to_string(::geteuid()), "chown or chmod it, or run the doctor as the user of the node");
  {
    const Result<io::DirectoryLock> lock = io::DirectoryLock::take(dir);
    running_ = !lock && lock.error().code == Errc::AlreadyExists;
    if (!lock && !running_) return tell(Level::Bad, "the lock cannot be taken: " + lock.error().text(), "chown or chmod the files in " + dir);
  }
  if (running_) tell(Level::Ok, "a node is running on " + dir);
  const Result<std::optional<store::NodeFile>> node = store::read_node_file(disk_, dir);
  if (!node) return tell(Level::Bad, node.error().text(), "restore node.json from a copy of this directory, or empty the directory and let the node join anew");
  if (!*node && disk_.exists(dir + "/raft.db").value_or(false))
    return tell(Level::Bad, dir + " holds the data of rqlite v10 or older, which is in another format", "import it first: rqlited import");
  if (!*node) return tell(Level::Ok, dir + " holds no node yet");
  if ((*node)->node_id != options_.node_id)
    tell(Level::Warning, "the directory belongs to node " + (*node)->node_id + ", the flags say " + options_.node_id,
         "name the directory of this node, or give -node-id " + (*node)->node_id);
  tell(Level::Ok, dir + " is that of node " + (*node)->node_id);
}

// The time of a small synced write is the time of a commit.
void Doctor::look_at_disk() {
  area_ = "disk";
  std::string dir = options_.data_dir;
  while (dir.size() > 1 && ::access(dir.c_str(), F_OK) != 0) dir = dir.substr(0, std::max<std::size_t>(1, dir.rfind('/')));
  struct statfs system {};
  if (::statfs(dir.c_str(), &system) == 0) {
    const auto kind = static_cast<unsigned long>(system.f_type);
    if (kind == 0x01021994) tell(Level::Warning, dir + " is in memory (tmpfs): nothing survives a restart of the machine", "use a disk");
    if (kind == 0x6969 || kind == 0xff534d42 || kind == 0xfe534d42)
      tell(Level::Warning, dir + " is on a network file system", "use a local disk: locks and syncs of network file systems are slow and often wrong");
  }
  if (const Result<std::uint64_t> free = disk_.free_bytes(dir); free) {
    const std::string text = friendly_size(*free) + " free";
    if (*free < kFreeBytesMin) tell(Level::Bad, text, "make room: writes are refused when the disk is full");
    else tell(Level::Ok, text);
  }
  const std::string path = dir + "/.rqlited-doctor-" + std::to_string(::getpid());
  std::vector<std::chrono::nanoseconds> times;
  {
    Result<std::unique_ptr<io::File>> file = disk_.open(path, io::OpenMode::CreateNew);
    if (!file) return tell(Level::Bad, "no file can be made in " + dir + ": " + file.error().text(), "chown or chmod the directory");
    const std::string page(4096, 'd');
    Result<> done = (*file)->extend_with_zeros(page.size() * kSyncs);
    if (done) done = (*file)->sync();
    for (int i = 0; done && i < kSyncs; ++i) {
      const SteadyTime begun = clock_.now();
      done = (*file)->write_at(static_cast<std::uint64_t>(i) * page.size(), page);
      if (done) done = (*file)->sync();
      times.push_back(clock_.now() - begun);
    }
    (void)disk_.remove(path);
    if (!done) return tell(Level::Bad, "a synced write failed: " + done.error().text(), "look at the kernel log; replace the disk");
  }
  std::ranges::sort(times);
  const auto median = times[times.size() / 2], worst = times.back();
  const std::string text = "a synced write takes " + go_duration_text(median) + " (median of " + std::to_string(kSyncs) + "), " + go_duration_text(worst) + " at worst";
  if (median > 20ms) tell(Level::Warning, text, "each commit waits for one: use an SSD, or a disk with a write cache that survives power loss");
  else if (worst > 500ms) tell(Level::Warning, text, "look for other users of this disk: such pauses make leaders lose their followers");
  else tell(Level::Ok, text);
  if (median < 5us)
    tell(Level::Warning, "syncs this fast don't reach a disk",
         "check that the file system isn't mounted with nobarrier, and that the virtual disk isn't set to ignore flushes");
}

void Doctor::look_at_port(const char* what, const char* flag, const std::string& addr) {
  const Result<> bound = can_bind(addr);
  const std::string whose = std::string(what) + " address " + addr;
  if (bound && running_) return tell(Level::Warning, whose + " is free although a node runs on this directory", "give the doctor the flags of that node");
  if (bound) return tell(Level::Ok, whose + " is free");
  if (bound.error().code != Errc::AlreadyExists)
    return tell(Level::Bad, whose + " cannot be bound: " + bound.error().detail, std::string("name an address of this machine with ") + flag);
  if (running_) return tell(Level::Ok, whose + " is in use, by the node it seems");
  tell(Level::Bad, whose + " is in use by another program", std::string("stop it (ss -ltnp shows it), or choose another port with ") + flag);
}

void Doctor::look_at_ports() {
  area_ = "ports";
  look_at_port("HTTP", "-http-addr", options_.http_addr);
  look_at_port("Raft", "-raft-addr", options_.raft_addr);
}

void Doctor::look_at_certificates(const char* side, const std::string& cert, const std::string& key, const std::string& ca, const std::string& host,
                                  bool verified_by_ca) {
  if (cert.empty()) return;
  area_ = "certificates";
  const std::string flag = std::string("-") + side + "-";
  const Result<CertificateFacts> facts = read_certificate(cert);
  if (!facts) return tell(Level::Bad, facts.error().text(), "give " + flag + "cert a PEM file");
  const auto left = std::chrono::duration_cast<std::chrono::hours>(facts->not_after - clock_.wall());
  const std::string who = cert + " (CN " + facts->subject + ")";
  static constexpr const char* kRenew = "renew it; a running node takes the new files without restart";
  if (left.count() < 0) tell(Level::Bad, who + " expired " + rfc3339_text(facts->not_after), kRenew);
  else if (left < 24h * 21) tell(Level::Warning, who + " expires in " + std::to_string(left.count() / 24) + " days", kRenew);
  else tell(Level::Ok, who + " is valid for " + std::to_string(left.count() / 24) + " days");
  if (facts->not_before > clock_.wall()) tell(Level::Bad, who + " is not valid before " + rfc3339_text(facts->not_before), "set the clock, or wait");
  if (const Result<> fits = key_fits(cert, key); !fits) tell(Level::Bad, fits.error().detail, "give " + flag + "key the key of that certificate");
  if (!ca.empty() && verified_by_ca) {
    if (const Result<> good = is_vouched_for(cert, ca); !good)
      tell(Level::Bad, ca + " doesn't vouch for " + cert + ": " + good.error().detail, "sign the certificates of all nodes by the CA in " + flag + "ca-cert");
  }
  if (!host.empty() && !names_host(cert, host)) {
    std::string names;
    for (const std::string& name : facts->names) names += (names.empty() ? "" : ", ") + name;
    tell(Level::Warning, who + " doesn't name '" + host + "' (it names: " + (names.empty() ? "nothing" : names) + ")",
         std::string("put the host into the certificate's subject alternative names") + (side[0] == 'n' ? ", or set -node-verify-server-name" : ""));
  }
}

// HTTP dates have whole seconds, and the answer took a while.
void Doctor::compare_clocks(const std::string& peer, const std::string& date) {
  std::tm parts{};
  if (::strptime(date.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &parts) == nullptr) return;
  const auto theirs = WallTime(std::chrono::seconds(::timegm(&parts)));
  const auto apart = std::chrono::abs(std::chrono::duration_cast<std::chrono::seconds>(clock_.wall() - theirs));
  if (apart > 3s) tell(Level::Warning, "the clock of " + peer + " is " + std::to_string(apart.count()) + " s apart from this one", "run chrony or ntpd on all nodes");
}

void Doctor::look_at_members(const std::string& nodes_json) {
  rapidjson::Document document;
  document.Parse(nodes_json.data(), nodes_json.size());
  if (document.HasParseError() || !document.IsObject()) return tell(Level::Warning, "the node's answer to /nodes cannot be read");
  std::size_t voters = 0, reached = 0;
  std::string leader;
  for (const auto& [id, node] : document.GetObject()) {
    const auto is = [&node = node](const char* name) { return node.IsObject() && node.HasMember(name) && node[name].IsBool() && node[name].GetBool(); };
    const auto text = [&node = node](const char* name) {
      return node.IsObject() && node.HasMember(name) && node[name].IsString() ? std::string(node[name].GetString()) : std::string();
    };
    voters += is("voter") ? 1 : 0;
    reached += is("voter") && is("reachable") ? 1 : 0;
    if (is("leader")) leader = id.GetString();
    if (!is("reachable"))
      tell(Level::Warning, std::string("node ") + id.GetString() + " at " + text("addr") + " cannot be reached: " + text("error"),
           "start it, or open the port between the machines; a node that is gone for good is removed by DELETE /remove");
    const std::string api = text("api_addr");
    if (api.starts_with("http://"))
      if (const Result<HttpAnswer> answer = http_get(api.substr(7), "/readyz?noleader", kProbeTime)) compare_clocks(id.GetString(), answer->date);
  }
  const std::size_t quorum = voters / 2 + 1;
  const std::string seen = std::to_string(reached) + " of " + std::to_string(voters) + " voters reachable, " + std::to_string(quorum) + " needed";
  if (reached < quorum)
    tell(Level::Bad, "no quorum: " + seen,
         "start the missing nodes; if they are lost for good, put raft/peers.json into each data directory that is left and restart");
  else if (leader.empty()) tell(Level::Warning, seen + ", but no leader", "wait a few seconds and look again; then read the logs of the nodes");
  else if (voters > 1 && reached == quorum) tell(Level::Warning, seen + ", leader " + leader + ": one more lost node stops writes", "bring the missing nodes back");
  else tell(Level::Ok, seen + ", leader " + leader);
  if (voters == 2 || voters == 4) tell(Level::Warning, std::to_string(voters) + " voters stand no more losses than " + std::to_string(voters - 1), "use an odd number of voters");
}

void Doctor::look_at_cluster() {
  area_ = "cluster";
  for (const std::string& addr : options_.join) {
    if (addr == options_.raft_adv_addr || addr == options_.raft_addr) continue;
    const Result<> reached = reach(addr, kProbeTime);
    if (reached) tell(Level::Ok, "join address " + addr + " takes connections");
    else tell(Level::Bad, "join address " + addr + " cannot be reached: " + reached.error().detail, "start that node first, or open its Raft port in the firewall");
  }
  if (!running_) return;
  if (!options_.http_cert.empty()) return tell(Level::Ok, "the node speaks HTTPS: ask https://" + options_.http_adv_addr + "/nodes and /readyz for its cluster");
  const Result<HttpAnswer> ready = http_get(options_.http_adv_addr, "/readyz", 2 * kProbeTime);
  if (!ready)
    return tell(Level::Bad, "the node doesn't answer at http://" + options_.http_adv_addr + ": " + ready.error().detail, "read its log; give the doctor its flags");
  if (ready->status == 503) tell(Level::Bad, "the node is not ready: " + ready->body.substr(ready->body.rfind('\n') + 1), "see the lines below, and the node's log");
  if (ready->status == 200) tell(Level::Ok, "the node is ready");
  const Result<HttpAnswer> nodes = http_get(options_.http_adv_addr, "/nodes?nonvoters&timeout=2s", 2 * kProbeTime);
  if (nodes && nodes->status == 401) return tell(Level::Warning, "the node wants credentials for /nodes", "ask it yourself, with a user that has the permission status");
  if (nodes && nodes->status == 200) return look_at_members(nodes->body);
  tell(Level::Warning, "the node doesn't say who its members are: " + (nodes ? "status " + std::to_string(nodes->status) : nodes.error().detail), "read its log");
}

}  // namespace

void examine(const config::Options& options, io::Disk& disk, const Clock& clock, const std::function<void(const Finding&)>& told) {
  Doctor(options, disk, clock, told).run();
}

std::string finding_text(const Finding& finding) {
  static constexpr const char* kMarks[] = {"[ ok ] ", "[warn] ", "[BAD!] "};
  std::string out = kMarks[static_cast<int>(finding.level)] + finding.area + ": " + finding.text + "\n";
  if (!finding.advice.empty()) out += "       -> " + finding.advice + "\n";
  return out;
}

}  // namespace rq::ops
