#include "cluster/transfers.h"

#include <array>

#include "backup/upload.h"
#include "base/log.h"

namespace rq::cluster {
namespace {

using transport::CallType;

constexpr unsigned kWorkers = 8;

backup::Query query_of(const http::BackupQuery& query) {
  static constexpr std::array kFormats = {backup::Format::Image, backup::Format::DeleteImage, backup::Format::Sql};
  return {.format = kFormats[static_cast<std::size_t>(query.format)], .vacuum = query.vacuum, .compress = query.compress, .tables = query.tables};
}

std::string hex(std::uint64_t value) {
  char text[17];
  return {text, static_cast<std::size_t>(std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value)))};
}

// A source that keeps its place among the backups under way.
class Placed final : public ByteSource {
 public:
  Placed(std::shared_ptr<ByteSource> source, std::shared_ptr<void> place) : place_(std::move(place)), source_(std::move(source)) {}
  void next(std::function<void(Result<Piece>)> done) override { source_->next(std::move(done)); }

 private:
  const std::shared_ptr<void> place_;
  const std::shared_ptr<ByteSource> source_;
};

}  // namespace

struct Transfers::Incoming {
  Incoming(backup::UploadOptions options, std::shared_ptr<void> taken) : place(std::move(taken)), upload(std::move(options)) {}
  const std::shared_ptr<void> place;
  backup::Upload upload;
};

// Bridges a request's body to a worker. What was staged is removed by a worker too.
class Transfers::Writer final : public http::UploadWriter {
 public:
  Writer(std::shared_ptr<Incoming> incoming, backup::Workers& workers) : incoming_(std::move(incoming)), workers_(workers) {}
  ~Writer() override {
    incoming_->upload.cancel();
    workers_.post([incoming = std::move(incoming_)]() mutable { incoming.reset(); });
  }
  void write(std::string&& piece, std::function<void(Result<>)> done) override {
    const bool posted = workers_.post([incoming = incoming_, bytes = std::move(piece), done] { done(incoming->upload.write(bytes)); });
    if (!posted) done(fail(Errc::NotOpen));
  }
  void finish(std::function<void(Result<http::Upload>)> done) override {
    const bool posted = workers_.post([incoming = incoming_, done] {
      Result<backup::Received> received = incoming->upload.finish();
      if (!received) return done(fail(received.error()));
      http::Upload upload{.is_image = received->is_image, .sql = std::move(received->sql)};
      upload.image.set_name(received->name);
      upload.image.set_size(received->bytes);
      upload.image.set_digest(received->digest);
      done(std::move(upload));
    });
    if (!posted) done(fail(Errc::NotOpen));
  }

 private:
  std::shared_ptr<Incoming> incoming_;
  backup::Workers& workers_;
};

Transfers::Transfers(store::Store& store, const Clock& clock, Metrics& metrics)
    : store_(store), clock_(clock), metrics_(metrics), disk_(store.disk()), staging_dir_(store.staging_dir()), sessions_(clock), workers_(kWorkers) {
  const auto warn = [](const Error& error) { log::warn("backup", "staging folder: " + error.text()); };
  const Result<std::vector<std::string>> names = disk_.list(staging_dir_);
  if (!names) warn(names.error());
  for (const std::string& name : names.value_or(std::vector<std::string>())) {
    if (!keeps(name)) continue;
    if (const Result<> removed = disk_.remove(staging_dir_ + "/" + name); !removed) warn(removed.error());
  }
}

Transfers::~Transfers() { stop(); }

void Transfers::stop() {
  std::vector<std::shared_ptr<Incoming>> incoming;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& one : incoming_)
      if (auto alive = one.lock()) incoming.push_back(std::move(alive));
  }
  for (const auto& one : incoming) one->upload.cancel();
  sessions_.close_all();
  incoming.clear();
  workers_.stop();
}

std::shared_ptr<void> Transfers::take_place(const std::shared_ptr<std::atomic<int>>& taken, int max) {
  if (taken->fetch_add(1) >= max) {
    taken->fetch_sub(1);
    return nullptr;
  }
  return {taken.get(), [taken](void*) { taken->fetch_sub(1); }};
}

void Transfers::backup(const http::BackupQuery& query, Opened done) {
  std::shared_ptr<void> place = take_place(backups_, kBackupsMax);
  if (!place) return done(fail(Errc::Busy, "too many backups at a time"));
  const bool posted = workers_.post([this, query = query_of(query), done, place] {
    const backup::Database database{.path = store_.data_dir() + "/db.sqlite", .staging_dir = staging_dir_, .disk = &disk_, .clock = &clock_};
    Result<std::unique_ptr<backup::Source>> source = fail(Errc::NotOpen);
    store_.with_database([&] { source = backup::open_source(database, query); });
    if (!source) return done(fail(source.error()));
    metrics_.counter("store", "num_backups").add();
    {
      const std::lock_guard lock(mutex_);
      last_backup_ = clock_.wall();
    }
    done(std::make_shared<Placed>(backup::stream(*std::move(source), workers_), place));
  });
  if (!posted) done(fail(Errc::NotOpen));
}

Result<std::shared_ptr<http::UploadWriter>> Transfers::begin_upload(const http::UploadOptions& options) {
  std::shared_ptr<void> place = take_place(uploads_, kUploadsMax);
  if (!place) return fail(Errc::Busy, "too many uploads at a time");
  auto incoming = std::make_shared<Incoming>(
      backup::UploadOptions{.disk = &disk_, .clock = &clock_, .staging_dir = staging_dir_, .name = "load-" + hex(rng_.next()), .gzip = options.gzip,
                            .images_only = options.images_only},
      std::move(place));
  const std::lock_guard lock(mutex_);
  std::erase_if(incoming_, [](const auto& one) { return one.expired(); });
  incoming_.push_back(incoming);
  return std::make_shared<Writer>(std::move(incoming), workers_);
}

void Transfers::discard(const std::string& name) {
  workers_.post([this, name] {
    const Result<> gone = disk_.remove(staging_dir_ + "/" + name);
    if (!gone && gone.error().code != Errc::NotFound) log::warn("backup", "staged image was not removed: " + gone.error().text());
  });
}

bool Transfers::keeps(std::string_view name) { return name.starts_with(backup::kUploadPrefix) || name.starts_with(backup::kCopyPrefix); }

std::vector<Transfers::Progress> Transfers::uploads() const {
  std::vector<Progress> out;
  const std::lock_guard lock(mutex_);
  for (const auto& one : incoming_)
    if (const auto incoming = one.lock()) out.push_back({incoming->upload.received(), incoming->upload.checking()});
  return out;
}

std::optional<WallTime> Transfers::last_backup() const {
  const std::lock_guard lock(mutex_);
  return last_backup_;
}

// ---- between nodes

pb::BackupOpenRequest backup_message(const http::BackupQuery& query) {
  pb::BackupOpenRequest message;
  message.set_format(static_cast<std::uint32_t>(query.format));
  message.set_vacuum(query.vacuum);
  message.set_compress(query.compress);
  for (const std::string& table : query.tables) message.add_tables(table);
  return message;
}

void Transfers::open_session(const pb::BackupOpenRequest& message, std::shared_ptr<transport::Responder> responder) {
  if (message.format() > 2) return responder->reply(fail(Errc::Unsupported, "unknown format of a backup"));
  http::BackupQuery query{.format = static_cast<http::BackupQuery::Format>(message.format()), .vacuum = message.vacuum(), .compress = message.compress()};
  query.tables.assign(message.tables().begin(), message.tables().end());
  backup(query, [this, responder = std::move(responder)](Result<std::shared_ptr<ByteSource>> source) {
    if (!source) return responder->reply(fail(source.error()));
    pb::BackupOpenResponse answer;
    answer.set_id(rng_.next());
    sessions_.open(answer.id(), *std::move(source));
    responder->reply(answer.SerializeAsString());
  });
}

void Transfers::on_call(CallType type, const std::string& payload, std::shared_ptr<transport::Responder> responder) {
  if (type == CallType::BackupClose) {
    pb::BackupCloseRequest message;
    if (!message.ParseFromString(payload)) return responder->reply(fail(Errc::BadRequest, "unreadable request"));
    sessions_.close(message.id());
    return responder->reply(std::string());
  }
  pb::BackupReadRequest message;
  if (!message.ParseFromString(payload)) return responder->reply(fail(Errc::BadRequest, "unreadable request"));
  sessions_.read(message.id(), message.number(), [responder = std::move(responder)](Result<Piece> piece) {
    if (!piece) return responder->reply(fail(piece.error()));
    pb::BackupReadResponse answer;
    *answer.mutable_data() = std::move(piece->bytes);
    answer.set_last(piece->last);
    responder->reply(answer.SerializeAsString());
  });
}

namespace {

class RemoteBackup final : public ByteSource, public std::enable_shared_from_this<RemoteBackup> {
 public:
  RemoteBackup(transport::Transport& transport, const Clock& clock, std::string addr, std::uint64_t id, std::chrono::nanoseconds timeout)
      : transport_(transport), clock_(clock), addr_(std::move(addr)), id_(id), timeout_(timeout) {}
  ~RemoteBackup() override {
    if (over_) return;
    pb::BackupCloseRequest message;
    message.set_id(id_);
    transport_.call(addr_, CallType::BackupClose, message.SerializeAsString(), clock_.now() + timeout_, [](const Result<std::string>&) {});
  }
  void next(std::function<void(Result<Piece>)> done) override {
    pb::BackupReadRequest message;
    message.set_id(id_);
    message.set_number(number_++);
    transport_.call(addr_, CallType::BackupRead, message.SerializeAsString(), clock_.now() + timeout_,
                    [self = shared_from_this(), done = std::move(done)](const Result<std::string>& response) {
                      pb::BackupReadResponse answer;
                      if (!response) return done(fail(response.error()));
                      if (!answer.ParseFromString(*response)) return done(fail(Errc::Corrupt, "unreadable answer"));
                      self->over_ = answer.last();
                      done(Piece{std::move(*answer.mutable_data()), answer.last()});
                    });
  }

 private:
  transport::Transport& transport_;
  const Clock& clock_;
  const std::string addr_;
  const std::uint64_t id_;
  const std::chrono::nanoseconds timeout_;
  std::uint64_t number_ = 0;
  std::atomic<bool> over_{false};
};

}  // namespace

void open_remote_backup(transport::Transport& transport, const Clock& clock, const std::string& addr, const pb::BackupOpenRequest& message,
                        std::chrono::nanoseconds timeout, Transfers::Opened done) {
  transport.call(addr, CallType::BackupOpen, message.SerializeAsString(), clock.now() + timeout,
                 [&transport, &clock, addr, timeout, done = std::move(done)](const Result<std::string>& response) {
                   pb::BackupOpenResponse answer;
                   if (!response) return done(fail(response.error()));
                   if (!answer.ParseFromString(*response)) return done(fail(Errc::Corrupt, "unreadable answer"));
                   done(std::make_shared<RemoteBackup>(transport, clock, addr, answer.id(), timeout));
                 });
}

}  // namespace rq::cluster
