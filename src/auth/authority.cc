#include "auth/authority.h"

#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <sys/stat.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "base/assert.h"
#include "base/log.h"
#include "base/thread_name.h"

namespace rq::auth {
namespace {

constexpr std::size_t kFileBytesMax = 64u << 20;
constexpr std::size_t kJobsMax = 64;             // different questions that wait
constexpr std::size_t kWaitersMax = 4096;        // callers with the same question
constexpr std::size_t kWrongRemembered = 4096;

constexpr auto kLookEvery = std::chrono::seconds(1);     // whether the file was changed

using Digest = std::array<unsigned char, 32>;
using Done = std::function<void(Result<Caller>)>;

std::string last_error() {
  std::string reason = std::strerror(errno);
  reason.front() = static_cast<char>(reason.front() | 0x20);
  return reason;
}

struct FileState {
  timespec changed{};
  off_t size = 0;
  ino_t inode = 0;
  bool operator==(const FileState& other) const {
    return changed.tv_sec == other.changed.tv_sec && changed.tv_nsec == other.changed.tv_nsec && size == other.size && inode == other.inode;
  }
};

std::optional<FileState> state_of(const std::string& path) {
  struct stat facts {};
  if (::stat(path.c_str(), &facts) != 0) return std::nullopt;
  return FileState{facts.st_mtim, facts.st_size, facts.st_ino};
}

Result<CredentialStore> load(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return fail(Errc::Io, "open " + path + ": " + last_error());
  std::string text;
  for (char piece[16384]; file.read(piece, sizeof piece) || file.gcount() > 0;) {
    text.append(piece, static_cast<std::size_t>(file.gcount()));
    if (text.size() > kFileBytesMax) return fail(Errc::TooLarge, path + " is larger than 64 MiB");
  }
  if (file.bad()) return fail(Errc::Io, "read " + path + ": " + last_error());
  return CredentialStore::parse(text);
}

class FileAuthority final : public Authority {
 public:
  FileAuthority(std::string path, std::optional<FileState> seen, CredentialStore store)
      : path_(std::move(path)), seen_(seen), store_(std::make_shared<const CredentialStore>(std::move(store))) {
    RQ_ASSERT(RAND_bytes(key_.data(), static_cast<int>(key_.size())) == 1);
    thread_ = std::thread([this] { run(); });
  }
  ~FileAuthority() override { stop(); }

  Caller anybody() const override { return {current(), nullptr}; }
  std::optional<Caller> identify(std::string_view username, std::string_view password) override;
  void identify(const std::string& username, const std::string& password, Done done) override;
  std::string password_of(std::string_view username) const override {
    const auto store = current();
    const User* user = store->find(username);
    return user == nullptr ? std::string() : user->password;
  }
  bool reload() override;
  void reload_if_changed() override;
  void stop() override;

 private:
  struct Job {
    std::shared_ptr<const CredentialStore> store;
    const User* user = nullptr;
    std::string password;
    std::vector<Done> waiters;
  };
  std::shared_ptr<const CredentialStore> current() const {
    const std::lock_guard lock(mutex_);
    return store_;
  }
  Digest digest(const User& user, std::string_view password) const;
  void run();

  const std::string path_;
  std::array<unsigned char, 32> key_{};          // of the digests: they mean nothing outside of this process
  mutable std::mutex mutex_;                     // guards all below
  std::optional<FileState> seen_;
  std::shared_ptr<const CredentialStore> store_;
  std::map<std::string, Digest, std::less<>> right_;   // of the password that matched the user's hash last
  std::set<Digest> wrong_;
  std::map<Digest, Job> jobs_;
  std::deque<Digest> order_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread thread_;
};

Digest FileAuthority::digest(const User& user, std::string_view password) const {
  // The hash is part of it: what was found out about one means nothing for another.
  std::string text = user.hash + '\0' + user.name + '\0';
  text += password;
  Digest out{};
  unsigned size = 0;
  HMAC(EVP_sha256(), key_.data(), static_cast<int>(key_.size()), reinterpret_cast<const unsigned char*>(text.data()), text.size(), out.data(), &size);
  RQ_ASSERT(size == out.size());
  return out;
}

std::optional<Caller> FileAuthority::identify(std::string_view username, std::string_view password) {
  const auto store = current();
  if (username.empty()) return Caller(store, nullptr);
  const User* user = store->find(username);
  if (user == nullptr || user->hash.empty()) {
    const bool right = equal_in_constant_time(password, user != nullptr ? std::string_view(user->password) : std::string_view("\x01"));
    return Caller(store, right ? user : nullptr);
  }
  const Digest question = digest(*user, password);
  const std::lock_guard lock(mutex_);
  if (wrong_.contains(question)) return Caller(store, nullptr);
  const auto right = right_.find(username);
  if (right != right_.end() && right->second == question) return Caller(store, user);
  return std::nullopt;
}

void FileAuthority::identify(const std::string& username, const std::string& password, Done done) {
  if (std::optional<Caller> caller = identify(username, password)) return done(*std::move(caller));
  {
    const std::lock_guard lock(mutex_);
    const User* user = store_->find(username);
    if (!stopping_ && user != nullptr && !user->hash.empty()) {
      const Digest question = digest(*user, password);
      const auto same = jobs_.find(question);
      if (same != jobs_.end() ? same->second.waiters.size() < kWaitersMax : jobs_.size() < kJobsMax) {
        if (same == jobs_.end()) order_.push_back(question);
        Job& job = jobs_[question];
        if (same == jobs_.end()) {
          job.store = store_;
          job.user = user;
          job.password = password;
        }
        job.waiters.push_back(std::move(done));
        changed_.notify_one();
        return;
      }
    }
  }
  done(fail(Errc::Busy, "too many passwords are being checked"));
}

void FileAuthority::run() {
  name_this_thread("auth");
  std::unique_lock lock(mutex_);
  while (true) {
    const bool asked = changed_.wait_for(lock, kLookEvery, [this] { return stopping_ || !order_.empty(); });
    if (stopping_) return;
    if (!asked) {
      lock.unlock();
      reload_if_changed();
      lock.lock();
      continue;
    }
    const Digest question = order_.front();
    order_.pop_front();
    const auto store = jobs_.at(question).store;
    const User* user = jobs_.at(question).user;
    const std::string password = jobs_.at(question).password;
    lock.unlock();
    const bool right = matches_hash(password, user->hash);
    lock.lock();
    std::vector<Done> waiters = std::move(jobs_.at(question).waiters);
    jobs_.erase(question);
    if (wrong_.size() >= kWrongRemembered) wrong_.clear();
    if (right && store == store_) right_[user->name] = question;
    else if (!right) wrong_.insert(question);
    lock.unlock();
    for (Done& done : waiters) done(Caller(store, right ? user : nullptr));
    lock.lock();
  }
}

bool FileAuthority::reload() {
  const std::optional<FileState> seen = state_of(path_);
  Result<CredentialStore> fresh = load(path_);
  const std::lock_guard lock(mutex_);
  seen_ = seen;
  if (!fresh) {
    log::error("rqlited", "failed to reload credentials (" + fresh.error().text() + "), keeping those loaded before");
    return false;
  }
  store_ = std::make_shared<const CredentialStore>(*std::move(fresh));
  right_.clear();
  wrong_.clear();
  log::info("rqlited", "reloaded credentials from " + path_);
  return true;
}

void FileAuthority::reload_if_changed() {
  const std::optional<FileState> seen = state_of(path_);
  {
    const std::lock_guard lock(mutex_);
    if (seen == seen_) return;
    if (!seen) {                                 // it may be on its way: between the two steps of a replacement
      seen_ = seen;
      return;
    }
  }
  (void)reload();
}

void FileAuthority::stop() {
  std::map<Digest, Job> left;
  {
    const std::lock_guard lock(mutex_);
    if (!std::exchange(stopping_, true)) changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
  left.swap(jobs_);
  order_.clear();
  for (auto& [question, job] : left)
    for (Done& done : job.waiters) done(fail(Errc::Busy, "node is stopping"));
}

}  // namespace

Result<std::unique_ptr<Authority>> Authority::open(const std::string& path) {
  const std::optional<FileState> seen = state_of(path);
  RQ_TRY(CredentialStore store, load(path));
  return std::unique_ptr<Authority>(std::make_unique<FileAuthority>(path, seen, std::move(store)));
}

}  // namespace rq::auth
