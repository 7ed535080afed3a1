// The database as a whole: GET /db/backup, POST /db/load, POST /boot (spec backup-restore sections 1 to 3).
#include <algorithm>
#include <mutex>

#include "base/go_text.h"
#include "http/api_answers.h"

namespace rq::http {
namespace {

constexpr std::string_view kPlainText = "Content-Type: text/plain; charset=utf-8\r\n";
constexpr std::size_t kBootHeader = 32;      // so much shows whether it is an image

std::string lower(std::string text) {
  std::ranges::transform(text, text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return text;
}

std::vector<std::string> items_of(std::string_view list) {
  std::vector<std::string> out;
  while (!list.empty()) {
    std::string_view item = list.substr(0, list.find(','));
    list.remove_prefix(std::min(item.size() + 1, list.size()));
    constexpr std::string_view kSpace = " \t\r\n";
    item.remove_prefix(std::min(item.find_first_not_of(kSpace), item.size()));
    if (!item.empty()) out.emplace_back(item.substr(0, item.find_last_not_of(kSpace) + 1));
  }
  return out;
}

BackupQuery query_of(const Parameters& parameters) {
  const std::string format = lower(parameters.fmt);
  BackupQuery query{.vacuum = parameters.vacuum, .compress = parameters.compress, .here = parameters.no_leader, .tables = items_of(parameters.tables)};
  if (format == "sql") query.format = BackupQuery::Format::Sql;
  if (format == "delete") query.format = BackupQuery::Format::Delete;
  return query;
}

constexpr auto kGoneEvery = std::chrono::milliseconds(500);

// A backup whose first piece isn't here yet. That may take long (a VACUUM): it is given up when nobody waits for it any more.
class FirstPiece : public std::enable_shared_from_this<FirstPiece> {
 public:
  explicit FirstPiece(std::shared_ptr<ByteSource> source) : source_(std::move(source)) {}
  // Null: given up.
  std::shared_ptr<ByteSource> take() {
    const std::lock_guard lock(mutex_);
    over_ = true;
    return std::move(source_);
  }
  void watch(const std::shared_ptr<Exchange>& exchange) {       // net thread
    {
      const std::lock_guard lock(mutex_);
      if (over_) return;
    }
    if (exchange->client_gone()) return void(take());
    exchange->after(kGoneEvery, [weak = weak_from_this(), exchange] {
      if (const auto self = weak.lock()) self->watch(exchange);
    });
  }

 private:
  std::mutex mutex_;                   // guards what follows
  std::shared_ptr<ByteSource> source_;
  bool over_ = false;
};

int status_of_backup(const Error& error, bool redirect) {
  switch (error.code) {
    case Errc::LeaderNotFound: return redirect ? 500 : 503;
    case Errc::Unauthorized: return 401;
    case Errc::Busy: return 503;
    default: return 500;
  }
}

}  // namespace

void Api::backup(Context& context) {
  metrics_.counter("http", "backups").add();
  const BackupQuery query = query_of(context.target.parameters);
  const std::string_view type =
      query.format == BackupQuery::Format::Sql ? "Content-Type: application/sql\r\n" : "Content-Type: application/octet-stream\r\n";
  const bool redirect = context.target.parameters.redirect;
  const auto failed = [this, exchange = context.exchange, redirect](const Error& error) {
    if (error.code == Errc::LeaderNotFound) metrics_.counter("http", "leader_not_found").add();
    respond_error(*exchange, status_of_backup(error, redirect), error.text());
  };
  // Nothing is sent before the first piece is here: what fails until then is an answer like any other, and a backup of one
  // piece gets a length.
  backend_.backup(query, routing(context), [this, exchange = context.exchange, path = context.target.raw_path, raw_query = context.target.raw_query,
                                            type, failed](BackupReply&& reply) {
    if (!reply.redirect_to.empty()) return respond(*exchange, 301, type, {}, location_of(reply.redirect_to, path, raw_query));
    if (reply.failure) return failed(*reply.failure);
    const std::shared_ptr<ByteSource> opened = std::move(reply.source);
    const auto waiting = std::make_shared<FirstPiece>(opened);
    exchange->on_net_thread([waiting, exchange] { waiting->watch(exchange); });
    opened->next([this, exchange, waiting, type, failed](Result<Piece> first) {
      std::shared_ptr<ByteSource> source = waiting->take();
      if (!first) return failed(first.error());
      Response response{.status = 200, .headers = common_headers_ + std::string(type), .body = std::move(first->bytes)};
      if (!first->last) response.more = std::move(source);
      exchange->respond(std::move(response));
    });
  });
}

// The body of a load or a boot on its way to the staging folder, and what becomes of it.
class Api::Replacement final : public BodySink, public std::enable_shared_from_this<Replacement> {
 public:
  Replacement(Api& api, Context context, bool boot, std::shared_ptr<UploadWriter> upload)
      : api_(api), context_(std::move(context)), boot_(boot), upload_(std::move(upload)) {}

  void write(std::string&& piece, std::function<void()> taken) override {
    const bool decides = boot_ && bytes_ < kBootHeader && bytes_ + piece.size() >= kBootHeader;
    bytes_ += piece.size();
    upload_->write(std::move(piece), [self = shared_from_this(), decides, taken](const Result<>& result) {
      if (!result) self->refuse(result.error());
      else if (decides) self->may_boot();
      taken();
    });
  }

  void end() override {
    if (boot_ && bytes_ >= kBootHeader && !may_boot()) return;      // again: much time may have passed
    upload_->finish([self = shared_from_this()](Result<Upload> upload) {
      if (!upload) return self->refuse(upload.error());
      if (upload->is_image) return self->load(upload->image);
      self->run(std::move(upload->sql));
    });
  }

 private:
  Exchange& exchange() const { return *context_.exchange; }
  bool may_boot() {
    const Result<> may = api_.backend_.may_boot();
    if (!may) api_.respond_error(exchange(), 503, may.error().text());
    return may.has_value();
  }

  void refuse(const Error& error) {
    switch (error.code) {
      case Errc::Truncated: return api_.respond_error(exchange(), 503, error.text());
      case Errc::Corrupt: return api_.respond_error(exchange(), boot_ ? 400 : 500, (boot_ ? "" : "error swapping databases: ") + error.text());
      case Errc::BadRequest: return api_.respond_error(exchange(), 400, error.text());
      case Errc::TooLarge: return api_.respond_error(exchange(), 413, error.text());
      default: return api_.respond_error(exchange(), 500, error.text());
    }
  }

  void load(const pb::LoadImage& image) {
    api_.backend_.load_image(image, api_.routing(context_), [self = shared_from_this()](const Result<Index>& result, const std::string& served_by) {
      if (!result) return self->load_failed(result.error());
      if (self->boot_) {
        self->api_.metrics_.counter("store", "num_boots").add();
        return self->api_.respond(self->exchange(), 200, {}, {});
      }
      const std::uint32_t render = render_of(self->context_.target.parameters) & command::kPretty;
      self->api_.respond(self->exchange(), 200, kPlainText, command::render_body({}, render), "X-Rqlite-Served-By: " + header_value(served_by) + "\r\n");
    });
  }

  void load_failed(const Error& error) {
    switch (error.code) {
      case Errc::LeaderNotFound:
      case Errc::NotLeader:
        return api_.respond_error(exchange(), 503, boot_ ? "not leader" : "leader not found");
      case Errc::Unauthorized: return api_.respond_error(exchange(), 401, "remote load not authorized");
      case Errc::Busy: return api_.respond_error(exchange(), 503, error.text());
      default: return api_.respond_error(exchange(), 500, error.text());
    }
  }

  void run(std::string&& sql) {
    const Parameters& parameters = context_.target.parameters;
    const std::uint32_t render = render_of(parameters) & (command::kPretty | command::kTimings);
    if (!is_utf8(sql))
      return api_.respond(exchange(), 200, kPlainText, command::render_body({.error = "string field contains invalid UTF-8"}, render));
    auto call = std::make_shared<DbCall>(api_, context_, kPlainText);
    call->request.set_kind(pb::Request::EXECUTE);
    call->request.set_load(true);
    call->request.set_render(render);
    if (!sql.empty()) call->request.add_statements()->set_sql(std::move(sql));
    call->routing = api_.routing(context_);
    call->net_thread = exchange().net_thread;
    api_.backend_.sql(std::move(call));
  }

  Api& api_;
  const Context context_;
  const bool boot_;
  const std::shared_ptr<UploadWriter> upload_;
  std::size_t bytes_ = 0;
};

std::shared_ptr<BodySink> Api::load(Context& context) {
  metrics_.counter("http", "loads").add();
  const Result<std::string> url = backend_.leader_url();
  const bool redirect = context.target.parameters.redirect;
  if (!url && url.error().code == Errc::NotOpen)
    return respond(*context.exchange, 200, kJson, command::render_body({.error = url.error().text()}, 0)), nullptr;
  if (!url) {
    metrics_.counter("http", "leader_not_found").add();
    return respond_error(*context.exchange, redirect ? 500 : 503, url.error().text()), nullptr;
  }
  if (redirect && !url->empty())
    return respond(*context.exchange, 301, {}, {}, location_of(*url, context.target.raw_path, context.target.raw_query)), nullptr;
  return replace(context, false);
}

std::shared_ptr<BodySink> Api::boot(Context& context) {
  metrics_.counter("http", "boot").add();
  return replace(context, true);
}

// gzip is what the client says, by Content-Encoding or `compress`: unsaid, the reference's answers to it are kept.
std::shared_ptr<BodySink> Api::replace(Context& context, bool boot) {
  const std::string encoding = lower(context.exchange->request.content_encoding);
  const bool gzip = encoding == "gzip" || encoding == "x-gzip" || context.target.parameters.compress;
  Result<std::shared_ptr<UploadWriter>> upload = backend_.begin_upload({.gzip = gzip, .images_only = boot});
  if (upload) return std::make_shared<Replacement>(*this, std::move(context), boot, *std::move(upload));
  const Error& error = upload.error();
  if (error.code == Errc::NotOpen) return respond_error(*context.exchange, boot ? 503 : 500, boot ? error.text() : "store not ready"), nullptr;
  return respond_error(*context.exchange, error.code == Errc::Busy ? 503 : 500, error.text()), nullptr;
}

}  // namespace rq::http
