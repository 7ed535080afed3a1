// Invariants (per connection, on its net thread)
//   1. exchanges_ holds the requests under way in the order they came; only the front's answer may be written. A request whose
//      body is not collected is in it from its head on (and is then its last: incoming_).
//   2. At most one read and one write are under way; out_ is not touched while one is.
//   3. streaming_: the answer before exchanges_.front() is not complete; its pieces go out before anything else.
//   4. After close() nothing is read or written; exchanges still running find client_gone().
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wshadow"
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/http/parser.hpp>
#pragma GCC diagnostic pop

#include <algorithm>
#include <deque>
#include <list>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_set>
#include <vector>

#include "base/localhost.h"
#include "base/log.h"
#include "base/thread_name.h"
#include "http/server.h"
#include "http/server_stream.h"

namespace rq::http {

namespace net = boost::asio;
namespace beast_http = boost::beast::http;
using Tcp = net::ip::tcp;
using boost::system::error_code;
using Socket = Stream::Socket;
using Acceptor = net::basic_socket_acceptor<Tcp, net::io_context::executor_type>;
using SteadyTime = std::chrono::steady_clock::time_point;

std::string_view reason_of(int status) {
  switch (status) {
    case 200: return "OK";
    case 204: return "No Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 413: return "Request Entity Too Large";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 505: return "HTTP Version Not Supported";
    default: return "Unknown";
  }
}

namespace {

constexpr std::size_t kReadSmall = 4096;
constexpr std::size_t kReadLarge = 256 * 1024;
constexpr std::size_t kKeptBuffer = 16 * 1024;
constexpr std::size_t kSmallRequest = 64 * 1024;     // what is within it is not counted in Limits::collected_bytes
constexpr std::size_t kScratch = 64 * 1024;
constexpr std::size_t kOverLimit = 256;              // connections beyond the limit while idle ones are being closed
constexpr std::size_t kDrained = 64u << 20;          // of what a refused client still sends
constexpr auto kParting = std::chrono::seconds(2);
constexpr auto kSweep = std::chrono::milliseconds(500);

class ServerImpl;
class NetThread;
class Http1Connection;

class HttpExchange final : public Exchange, public std::enable_shared_from_this<HttpExchange> {
 public:
  void respond(Response&& response) override;
  bool client_gone() const override { return gone.load(std::memory_order_relaxed); }
  void after(std::chrono::nanoseconds time, std::function<void()> work) override;
  void on_net_thread(std::function<void()> work) override;

  std::shared_ptr<Http1Connection> connection;
  std::atomic<bool> gone{false};
  bool keep_alive = true, head = false, http10 = false;
  bool responded = false;              // net thread
  std::optional<Response> answer;      // net thread
};

// Body of a Beast message: what was parsed since it was last taken. Unlike string_body it doesn't believe Content-Length.
struct PieceBody {
  using value_type = std::string;
  struct reader {
    template <bool isRequest, class Fields>
    reader(beast_http::header<isRequest, Fields>&, value_type& body) : piece(body) {}
    void init(const boost::optional<std::uint64_t>&, error_code& error) { error = {}; }
    template <class Buffers>
    std::size_t put(const Buffers& buffers, error_code& error) {
      error = {};
      std::size_t size = 0;
      for (auto at = net::buffer_sequence_begin(buffers); at != net::buffer_sequence_end(buffers); ++at) {
        const net::const_buffer buffer = *at;
        piece.append(static_cast<const char*>(buffer.data()), buffer.size());
        size += buffer.size();
      }
      return size;
    }
    void finish(error_code& error) { error = {}; }
    value_type& piece;
  };
};

// What one net thread owns.
class NetThread {
 public:
  NetThread(ServerImpl& owner, unsigned which) : server(owner), number(which), context(1), sweep(context) { update_date(); }

  void run();
  void schedule_sweep();
  void update_date();
  void post(std::shared_ptr<HttpExchange> exchange, Response&& response);
  void post(std::function<void()> work);
  void drain();
  void close_longest_idle();
  void handshake_failed(const std::string& who, const std::string& why);

  ServerImpl& server;
  const unsigned number;
  std::unordered_set<Http1Connection*> connections;   // outlives the context, whose handlers hold the connections
  std::list<Http1Connection*> handshaking;            // oldest first
  std::string scratch = std::string(kScratch, '\0');
  net::io_context context;
  net::steady_timer sweep;
  std::string date;
  std::thread thread;
  std::thread::id id;

 private:
  struct Handed {
    std::shared_ptr<HttpExchange> exchange;
    Response response;
    std::function<void()> work;
  };
  void hand_in(Handed&& handed);
  std::mutex mutex_;                   // guards handed_
  std::vector<Handed> handed_;
  std::vector<Handed> taken_;
  SteadyTime complained_;
};

class Http1Connection final : public std::enable_shared_from_this<Http1Connection> {
 public:
  Http1Connection(NetThread& owner, Socket&& socket, const Limits& limits, std::unique_ptr<tls::Session> session)
      : owner_(owner), stream_(std::move(socket), std::move(session), owner.scratch), limits_(limits) {}
  ~Http1Connection();

  void start();
  void answered();                     // some exchange has its answer now
  void sweep(SteadyTime now, bool stopping);
  void close();
  bool busy() const { return !exchanges_.empty() || writing_ || streaming_; }
  bool idle() const { return parting_ || (!busy() && !in_request_); }
  SteadyTime last_read() const { return last_read_; }
  NetThread& owner() { return owner_; }

 private:
  using Parser = beast_http::request_parser<PieceBody>;

  void read();
  void on_read(error_code error, std::size_t size);
  void parse();
  bool open_request();
  bool take_body();
  void finish_request();
  void sink_took();
  void refuse(const error_code& error);
  void refuse(int status, std::string_view text);
  void pull();
  void part();
  void drain();
  void compose_piece();
  void reset();
  void compose(std::string& out, const HttpExchange& exchange, const Response& response);
  void flush();
  void on_written(error_code error, std::size_t size);
  void make_parser();
  void handshake_over();
  bool charge(std::size_t bytes);
  void discharge();
  std::string client() const;

  NetThread& owner_;
  Stream stream_;
  std::optional<std::list<Http1Connection*>::iterator> handshake_;   // place in owner_.handshaking
  const Limits& limits_;
  std::string buffer_;                 // bytes read and not parsed: [begin_, end_)
  std::size_t begin_ = 0, end_ = 0;
  std::optional<Parser> parser_;
  std::shared_ptr<HttpExchange> incoming_;   // its head is parsed, its body not yet
  std::shared_ptr<BodySink> sink_;           // of incoming_
  bool sink_busy_ = false, continue_due_ = false;
  bool apart_ = false;                       // the body of incoming_ is not collected: it goes to the sink, or nowhere
  std::size_t thrown_away_ = 0;
  std::size_t received_ = 0, charged_ = 0;   // of the request that is coming in; in server.collected of it
  std::deque<std::shared_ptr<HttpExchange>> exchanges_;
  std::shared_ptr<ByteSource> streaming_;    // what is left of the answer that is being written
  bool chunked_ = false, pulling_ = false;
  std::optional<Result<Piece>> pulled_;      // the next piece of it
  std::string out_;                    // being written from out_at_ on
  std::size_t out_at_ = 0;
  bool reading_ = false, writing_ = false, closing_ = false, closed_ = false, handling_ = false;
  SteadyTime last_read_ = std::chrono::steady_clock::now(), last_write_ = last_read_, request_began_ = last_read_;
  bool in_request_ = false;
  bool refused_ = false, parting_ = false;
  std::size_t drained_ = 0;
  SteadyTime parting_since_;
};

class ServerImpl final : public Server {
 public:
  ServerImpl(unsigned net_threads, const Limits& limits, std::shared_ptr<tls::Config> tls) : limits_(limits), tls_(std::move(tls)) {
    for (unsigned i = 0; i < net_threads; ++i) threads_.push_back(std::make_unique<NetThread>(*this, i));
  }
  ~ServerImpl() override { stop(); }

  Result<> bind(const std::string& addr);
  void start(Service& service) override;
  void stop() override;
  std::size_t connections() const override { return connection_count.load(std::memory_order_relaxed); }
  unsigned net_threads() const override { return static_cast<unsigned>(threads_.size()); }
  void on_net_thread(unsigned number, std::function<void()> work) override { threads_[number % threads_.size()]->post(std::move(work)); }

  Service& service() { return *service_; }
  const Limits& limits() const { return limits_; }
  bool stopping() const { return stopping_.load(std::memory_order_relaxed); }
  std::atomic<std::size_t> connection_count{0};
  std::atomic<std::size_t> collected{0};             // bytes of large requests that are coming in

 private:
  void accept(Acceptor& acceptor);
  const Limits limits_;
  const std::shared_ptr<tls::Config> tls_;
  std::vector<std::unique_ptr<NetThread>> threads_;
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
  std::size_t next_thread_ = 0;
  Service* service_ = nullptr;
  std::atomic<bool> stopping_{false};
  bool stopped_ = false;
};

// ---- exchange

void HttpExchange::respond(Response&& response) {
  NetThread& owner = connection->owner();
  if (std::this_thread::get_id() != owner.id) return owner.post(shared_from_this(), std::move(response));
  responded = true;
  answer = std::move(response);
  connection->answered();
}

void HttpExchange::after(std::chrono::nanoseconds time, std::function<void()> work) {
  time = std::clamp<std::chrono::nanoseconds>(time, std::chrono::nanoseconds(0), std::chrono::hours(24 * 24));
  auto timer = std::make_shared<net::steady_timer>(connection->owner().context, std::chrono::duration_cast<net::steady_timer::duration>(time));
  timer->async_wait([timer, work = std::move(work)](const error_code& error) {
    if (!error) work();
  });
}

void HttpExchange::on_net_thread(std::function<void()> work) { connection->owner().post(std::move(work)); }

// ---- net thread

void NetThread::run() {
  name_this_thread(("net-" + std::to_string(number)).c_str());
  id = std::this_thread::get_id();
  schedule_sweep();
  context.run();
}

void NetThread::update_date() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[64];
  date.assign(text, std::strftime(text, sizeof text, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &parts));
}

void NetThread::schedule_sweep() {
  sweep.expires_after(kSweep);
  sweep.async_wait([this](const error_code& error) {
    if (error) return;
    update_date();
    const SteadyTime now = std::chrono::steady_clock::now();
    std::vector<std::shared_ptr<Http1Connection>> list;   // closing one changes the set
    for (Http1Connection* connection : connections) list.push_back(connection->shared_from_this());
    for (const auto& connection : list) connection->sweep(now, server.stopping());
    schedule_sweep();
  });
}

void NetThread::hand_in(Handed&& handed) {
  bool wake = false;
  {
    const std::lock_guard lock(mutex_);
    wake = handed_.empty();
    handed_.push_back(std::move(handed));
  }
  if (wake) net::post(context, [this] { drain(); });
}

void NetThread::post(std::shared_ptr<HttpExchange> exchange, Response&& response) { hand_in({std::move(exchange), std::move(response), nullptr}); }
void NetThread::post(std::function<void()> work) { hand_in({nullptr, {}, std::move(work)}); }

void NetThread::drain() {
  {
    const std::lock_guard lock(mutex_);
    taken_.swap(handed_);
  }
  for (Handed& handed : taken_) {
    if (handed.work) {
      handed.work();
      continue;
    }
    handed.exchange->responded = true;
    handed.exchange->answer = std::move(handed.response);
    handed.exchange->connection->answered();
  }
  taken_.clear();
}

// Makes room for a new connection.
void NetThread::close_longest_idle() {
  Http1Connection* longest = nullptr;
  for (Http1Connection* connection : connections)
    if (connection->idle() && (longest == nullptr || connection->last_read() < longest->last_read())) longest = connection;
  if (longest != nullptr) longest->shared_from_this()->close();
}

void NetThread::handshake_failed(const std::string& who, const std::string& why) {
  const SteadyTime now = std::chrono::steady_clock::now();
  if (now - complained_ < std::chrono::seconds(1)) return;
  complained_ = now;
  log::warn("http", "TLS handshake error from " + who + ": " + why);
}

// ---- connection

Http1Connection::~Http1Connection() {
  handshake_over();
  discharge();
  owner_.connections.erase(this);
  owner_.server.connection_count.fetch_sub(1);
}

void Http1Connection::start() {
  owner_.connections.insert(this);
  error_code ignored;
  stream_.socket().set_option(Tcp::no_delay(true), ignored);
  stream_.socket().non_blocking(true, ignored);
  make_parser();
  if (stream_.handshaking()) {
    handshake_ = owner_.handshaking.insert(owner_.handshaking.end(), this);
    if (owner_.handshaking.size() > limits_.handshakes) owner_.handshaking.front()->shared_from_this()->close();
  }
  read();
}

void Http1Connection::handshake_over() {
  if (handshake_) owner_.handshaking.erase(*handshake_);
  handshake_.reset();
}

std::string Http1Connection::client() const {
  error_code error;
  const Tcp::endpoint remote = const_cast<Stream&>(stream_).socket().remote_endpoint(error);
  return error ? "unknown" : remote.address().to_string() + ":" + std::to_string(remote.port());
}

void Http1Connection::make_parser() {
  parser_.emplace();
  parser_->eager(true);
  parser_->header_limit(static_cast<std::uint32_t>(limits_.header_bytes));
  parser_->body_limit(boost::none);          // take_body() bounds it
  in_request_ = false;
  apart_ = false;
  continue_due_ = false;
  thrown_away_ = 0;
  discharge();
}

// Notes that more of a request is held here. False: all of them together are too large.
bool Http1Connection::charge(std::size_t bytes) {
  received_ += bytes;
  if (received_ <= kSmallRequest) return true;
  const std::size_t more = received_ - kSmallRequest - charged_;
  charged_ += more;
  return owner_.server.collected.fetch_add(more, std::memory_order_relaxed) + more <= limits_.collected_bytes;
}

void Http1Connection::discharge() {
  received_ = 0;
  if (charged_ > 0) owner_.server.collected.fetch_sub(std::exchange(charged_, 0), std::memory_order_relaxed);
}

void Http1Connection::read() {
  if (reading_ || closed_ || closing_ || sink_busy_ || (!incoming_ && exchanges_.size() >= limits_.pipelined)) return;
  const std::size_t chunk = parser_->is_header_done() ? kReadLarge : kReadSmall;
  if (begin_ > 0) {
    buffer_.erase(0, begin_);
    end_ -= begin_;
    begin_ = 0;
  }
  reading_ = true;
  stream_.async_read(buffer_, end_, chunk, [self = shared_from_this()](const error_code& error, std::size_t size) { self->on_read(error, size); });
}

void Http1Connection::on_read(error_code error, std::size_t size) {
  reading_ = false;
  if (closed_) return;
  if (parting_) {
    drained_ += size;
    return error || drained_ > kDrained ? close() : drain();
  }
  if (error) {
    if (stream_.handshaking() && !stream_.failure().empty()) owner_.handshake_failed(client(), stream_.failure());
    for (const auto& exchange : exchanges_) exchange->gone.store(true, std::memory_order_relaxed);
    // A client that only shut its sending side down still waits for its answers.
    if (error == net::error::eof && busy() && !incoming_) {
      closing_ = true;
      return;
    }
    return close();
  }
  handshake_over();
  end_ += size;
  last_read_ = std::chrono::steady_clock::now();
  parse();
  read();
}

void Http1Connection::parse() {
  handling_ = true;
  while (!closed_ && !sink_busy_) {
    if (incoming_ && parser_->is_done()) {
      finish_request();
      continue;
    }
    if (closing_ || begin_ == end_ || (!incoming_ && exchanges_.size() >= limits_.pipelined)) break;
    if (!in_request_) {
      // Empty lines between requests are allowed.
      while (begin_ < end_ && (buffer_[begin_] == '\r' || buffer_[begin_] == '\n')) ++begin_;
      if (begin_ == end_) break;
      in_request_ = true;
      request_began_ = last_read_;
    }
    error_code error;
    const std::size_t used = parser_->put(net::buffer(buffer_.data() + begin_, end_ - begin_), error);
    begin_ += used;
    if (!apart_ && !charge(used)) {
      incoming_.reset();
      refuse(503, "503 Service Unavailable: too many large requests");
      break;
    }
    if (error == beast_http::error::need_more) error = {};
    if (error) {
      refuse(error);
      break;
    }
    if (!parser_->is_header_done()) break;
    if (!incoming_ && !open_request()) break;
    if (!take_body()) break;
    if (!parser_->is_done() && used == 0) break;
  }
  if (begin_ == end_) {
    begin_ = end_ = 0;
    if (buffer_.size() > kKeptBuffer) std::string().swap(buffer_);
  }
  handling_ = false;
  flush();
}

// The head is here: who takes the body? False: nothing more is to be parsed.
bool Http1Connection::open_request() {
  const auto& message = parser_->get();
  const bool http11 = message.version() >= 11;
  if (http11 && message.find(beast_http::field::host) == message.end()) {
    refuse(400, "400 Bad Request: missing required Host header");
    return false;
  }
  auto exchange = std::make_shared<HttpExchange>();
  exchange->connection = shared_from_this();
  exchange->net_thread = owner_.number;
  exchange->keep_alive = message.keep_alive() && !owner_.server.stopping();
  exchange->http10 = !http11;
  exchange->head = message.method() == beast_http::verb::head;
  exchange->request.method = std::string(message.method_string());
  exchange->request.target = std::string(message.target());
  exchange->request.content_type = std::string(message[beast_http::field::content_type]);
  exchange->request.content_encoding = std::string(message[beast_http::field::content_encoding]);
  exchange->request.authorization = std::string(message[beast_http::field::authorization]);
  exchange->request.has_content_length = message.find(beast_http::field::content_length) != message.end();
  const bool waits = !parser_->is_done() && message[beast_http::field::expect] == "100-continue";
  sink_ = owner_.server.service().open(exchange);
  apart_ = sink_ || exchange->responded;
  if (apart_) exchanges_.push_back(exchange);
  if (exchange->responded && waits) {        // the body may never come: whatever comes next can't be told from it
    exchange->keep_alive = false;
    closing_ = true;
    return false;
  }
  incoming_ = std::move(exchange);
  continue_due_ = waits;
  return true;
}

// What was parsed of the body. False: the connection ends.
bool Http1Connection::take_body() {
  std::string& body = parser_->get().body();
  if (!apart_) {
    const auto length = parser_->content_length();
    if (std::max<std::uint64_t>(body.size(), length ? *length : 0) <= limits_.body_bytes) return true;
    incoming_.reset();
    refuse(413, "413 Request Entity Too Large");
    return false;
  }
  if (incoming_->responded) sink_.reset();
  std::string piece = std::exchange(body, {});
  if (piece.empty()) return true;
  if (sink_) {
    sink_busy_ = true;
    sink_->write(std::move(piece), [self = shared_from_this()] { self->owner_.post([self] { self->sink_took(); }); });
    return true;
  }
  thrown_away_ += piece.size();
  if (thrown_away_ > limits_.body_bytes) close();
  return !closed_;
}

void Http1Connection::sink_took() {
  sink_busy_ = false;
  if (closed_) return;
  last_read_ = std::chrono::steady_clock::now();
  parse();
  read();
}

void Http1Connection::finish_request() {
  const std::shared_ptr<HttpExchange> exchange = std::exchange(incoming_, nullptr);
  const std::shared_ptr<BodySink> sink = std::exchange(sink_, nullptr);
  const bool apart = apart_;
  if (!apart) exchange->request.body = std::move(parser_->get().body());
  if (!exchange->keep_alive) closing_ = true;
  make_parser();
  if (!apart) {
    exchanges_.push_back(exchange);
    return owner_.server.service().handle(exchange);
  }
  if (sink && !exchange->responded) sink->end();
}

void Http1Connection::refuse(const error_code& error) {
  if (error == beast_http::error::header_limit) return refuse(431, "431 Request Header Fields Too Large");
  if (error == beast_http::error::bad_version) {
    // A space in the target looks like a bad version; only what calls itself HTTP gets 505.
    const std::string_view line = std::string_view(buffer_).substr(begin_, end_ - begin_);
    const std::string_view first = line.substr(0, line.find('\r'));
    const std::size_t space = first.rfind(' ');
    const bool three_words = space != std::string_view::npos && std::count(first.begin(), first.end(), ' ') == 2;
    if (three_words && first.substr(space + 1).starts_with("HTTP/")) return refuse(505, "505 HTTP Version Not Supported: unsupported protocol version");
  }
  refuse(400, "400 Bad Request");
}

// Before any request was understood: no common headers, and the connection ends.
void Http1Connection::refuse(int status, std::string_view text) {
  auto exchange = std::make_shared<HttpExchange>();
  exchange->connection = shared_from_this();
  exchange->keep_alive = false;
  exchange->answer = Response{.status = status, .headers = "Content-Type: text/plain; charset=utf-8\r\n", .body = std::string(text)};
  closing_ = true;
  refused_ = true;
  exchanges_.push_back(std::move(exchange));
}

// All answers are out. Who was refused in the midst of sending must be able to read why: closing at once would be a reset,
// which takes the answer away. So what still comes is thrown away for a while.
void Http1Connection::part() {
  if (!refused_ || parting_) return close();
  parting_ = true;
  parting_since_ = std::chrono::steady_clock::now();
  stream_.finish_sending();
  discharge();
  if (!reading_) std::string().swap(buffer_);
  begin_ = end_ = 0;
  drain();
}

void Http1Connection::drain() {
  if (reading_) return;
  reading_ = true;
  stream_.async_read(buffer_, 0, kReadLarge, [self = shared_from_this()](const error_code& error, std::size_t size) { self->on_read(error, size); });
}

void Http1Connection::answered() {
  if (!handling_) flush();
}

void Http1Connection::compose(std::string& out, const HttpExchange& exchange, const Response& response) {
  char line[64];
  const std::string_view reason = reason_of(response.status);
  out += "HTTP/1.1 ";
  out.append(line, static_cast<std::size_t>(std::snprintf(line, sizeof line, "%d ", response.status)));
  out.append(reason).append("\r\n").append(response.headers).append(owner_.date);
  if (response.more && !exchange.http10) out += "Transfer-Encoding: chunked\r\n";
  else if (response.status != 204 && !response.more)
    out.append(line, static_cast<std::size_t>(std::snprintf(line, sizeof line, "Content-Length: %zu\r\n", response.body.size())));
  if (!exchange.keep_alive) out += "Connection: close\r\n";
  else if (exchange.http10) out += "Connection: keep-alive\r\n";
  out += "\r\n";
  if (!exchange.head && !response.more) out += response.body;
}

namespace {
void append_chunk(std::string& out, std::string_view bytes, bool chunked) {
  if (bytes.empty()) return;                 // an empty chunk would be the last
  char line[24];
  if (chunked) out.append(line, static_cast<std::size_t>(std::snprintf(line, sizeof line, "%zx\r\n", bytes.size())));
  out += bytes;
  if (chunked) out += "\r\n";
}
}  // namespace

// Asks for the next piece while the one before it is on its way.
void Http1Connection::pull() {
  if (!streaming_ || pulling_ || pulled_) return;
  pulling_ = true;
  streaming_->next([self = shared_from_this()](Result<Piece> piece) {
    self->owner_.post([self, holder = std::make_shared<Result<Piece>>(std::move(piece))] {
      self->pulling_ = false;
      if (self->closed_) return;
      self->pulled_ = std::move(*holder);
      self->flush();
    });
  });
}

void Http1Connection::compose_piece() {
  const Result<Piece> piece = *std::exchange(pulled_, std::nullopt);
  if (!piece) {
    log::error("http", "an answer was cut off: " + piece.error().text());
    return reset();
  }
  append_chunk(out_, piece->bytes, chunked_);
  if (!piece->last) return;
  if (chunked_) out_ += "0\r\n\r\n";
  streaming_.reset();
}

void Http1Connection::flush() {
  const auto self = shared_from_this();      // while nothing is read, the exchange that is written may hold the last reference
  while (!closed_ && !writing_) {
    const bool full = exchanges_.size() >= limits_.pipelined;
    const bool sent = out_at_ == out_.size();
    if (pulled_ && sent) compose_piece();
    while (!closed_ && !streaming_ && !exchanges_.empty() && exchanges_.front()->answer) {
      const std::shared_ptr<HttpExchange> exchange = std::move(exchanges_.front());
      exchanges_.pop_front();
      Response answer = *std::exchange(exchange->answer, std::nullopt);
      exchange->connection.reset();
      if (answer.more && exchange->http10) {          // its end is the end of the connection
        exchange->keep_alive = false;
        closing_ = true;
      }
      compose(out_, *exchange, answer);
      if (!answer.more || exchange->head) continue;
      chunked_ = !exchange->http10;
      append_chunk(out_, answer.body, chunked_);
      streaming_ = std::move(answer.more);
    }
    if (closed_) return;
    if (continue_due_ && !streaming_ && (exchanges_.empty() || exchanges_.front() == incoming_)) {
      continue_due_ = false;
      out_ += "HTTP/1.1 100 Continue\r\n\r\n";
    }
    pull();
    const bool more_room = full && exchanges_.size() < limits_.pipelined && !handling_;
    if (out_at_ == out_.size()) {
      if (closing_ && !busy() && !incoming_) return part();
    } else {
      error_code error;
      const std::size_t size = stream_.write_some(std::string_view(out_).substr(out_at_), error);
      if (error && error != net::error::would_block && error != net::error::try_again) return close();
      out_at_ += error ? 0 : size;
      if (!error) last_write_ = std::chrono::steady_clock::now();
      if (out_at_ < out_.size()) {
        writing_ = true;
        stream_.async_write_some(std::string_view(out_).substr(out_at_),
                                 [self = shared_from_this()](const error_code& result, std::size_t done) { self->on_written(result, done); });
      } else {
        out_at_ = 0;
        if (out_.capacity() > kKeptBuffer && !streaming_) std::string().swap(out_);
        else out_.clear();
        if (closing_ && !busy() && !incoming_) return part();
      }
    }
    // Room again for requests that wait in the buffer.
    if (more_room) {
      if (begin_ < end_) parse();
      read();
    }
    if (writing_ || !pulled_) return;
  }
}

void Http1Connection::on_written(error_code error, std::size_t size) {
  writing_ = false;
  if (closed_) return;
  if (error) return close();
  out_at_ += size;
  last_write_ = std::chrono::steady_clock::now();
  flush();
}

// An end that no client takes for a good one.
void Http1Connection::reset() {
  if (closed_) return;
  stream_.reset();
  close();
}

void Http1Connection::close() {
  if (closed_) return;
  closed_ = true;
  for (const auto& exchange : exchanges_) exchange->gone.store(true, std::memory_order_relaxed);
  handshake_over();
  discharge();
  stream_.close();
  for (const auto& exchange : exchanges_) exchange->answer.reset();
  exchanges_.clear();
  incoming_.reset();
  sink_.reset();
  streaming_.reset();
  pulled_.reset();
}

void Http1Connection::sweep(SteadyTime now, bool stopping) {
  if (closed_) return;
  if (stopping && !busy()) return close();
  if (parting_ && now - parting_since_ > kParting) return close();
  if (stream_.handshaking() && now - last_read_ > limits_.handshake_time) return close();
  if (writing_ && now - last_write_ > limits_.write_stall) return close();
  if (incoming_ && apart_ && !sink_busy_ && now - last_read_ > limits_.body_stall) return close();
  if (busy()) return;                                    // the server's turn
  if (!in_request_) {
    if (now - last_read_ > limits_.idle_time) close();
    return;
  }
  const bool header_done = parser_->is_header_done();
  if (!header_done && now - request_began_ > limits_.header_time) return close();
  if (header_done && now - last_read_ > limits_.body_stall) return close();
}

// ---- server

Result<> ServerImpl::bind(const std::string& addr) {
  const auto failed = [&](const std::string& why) { return fail(Errc::Io, "failed to listen on " + addr + ": " + why); };
  const std::size_t colon = addr.rfind(':');
  if (colon == std::string::npos) return failed("missing port in address");
  std::string host = addr.substr(0, colon);
  const std::string port = addr.substr(colon + 1);
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  net::io_context& context = threads_[0]->context;
  error_code error;
  net::ip::basic_resolver<Tcp, net::io_context::executor_type> resolver(context.get_executor());
  std::vector<Tcp::endpoint> endpoints;
  if (host.empty()) {
    endpoints.emplace_back(Tcp::v6(), static_cast<unsigned short>(std::strtoul(port.c_str(), nullptr, 10)));
  } else {
    for (const auto& found : resolver.resolve(host, port, net::ip::resolver_base::passive, error)) endpoints.push_back(found.endpoint());
    if (error && is_localhost(host)) {
      endpoints.clear();
      for (const auto& found : resolver.resolve(kLoopback, port, net::ip::resolver_base::passive, error)) endpoints.push_back(found.endpoint());
    }
    if (error) return failed(error.message());
  }
  for (const Tcp::endpoint& endpoint : endpoints) {
    auto acceptor = std::make_unique<Acceptor>(context.get_executor());
    acceptor->open(endpoint.protocol(), error);
    if (error) continue;                                  // no IPv6 here: the other addresses may do
    acceptor->set_option(Acceptor::reuse_address(true), error);
    if (endpoint.address().is_v6()) acceptor->set_option(net::ip::v6_only(!host.empty()), error);
    acceptor->bind(endpoint, error);
    if (!error) acceptor->listen(4096, error);
    if (error && endpoint.address().is_v6() && endpoints.size() > 1) continue;
    if (error) return failed(error.message());
    acceptors_.push_back(std::move(acceptor));
  }
  if (acceptors_.empty()) return failed(error ? error.message() : "no address");
  return {};
}

void ServerImpl::start(Service& service) {
  service_ = &service;
  for (auto& acceptor : acceptors_) accept(*acceptor);
  for (auto& thread : threads_) thread->thread = std::thread([raw = thread.get()] { raw->run(); });
}

// One thread accepts and hands out in turn: a few busy connections spread evenly.
void ServerImpl::accept(Acceptor& acceptor) {
  NetThread& target = *threads_[next_thread_++ % threads_.size()];
  acceptor.async_accept(target.context, [this, &acceptor, &target](const error_code& error, Socket socket) {
    if (error == net::error::operation_aborted || stopping()) return;
    if (error) {
      // Out of descriptors: connections that end make room; a busy loop would not help.
      auto timer = std::make_shared<net::steady_timer>(threads_[0]->context, std::chrono::milliseconds(50));
      timer->async_wait([this, &acceptor, timer](const error_code& canceled) {
        if (!canceled && !stopping()) accept(acceptor);
      });
      return;
    }
    const std::size_t count = connection_count.load();
    if (count >= limits_.connections) net::post(target.context, [&target] { target.close_longest_idle(); });
    std::unique_ptr<tls::Session> session = tls_ ? tls_->session({}) : nullptr;
    if (count >= limits_.connections + kOverLimit || (tls_ && !session)) {
      error_code ignored;
      socket.close(ignored);
    } else {
      connection_count.fetch_add(1);
      auto connection = std::make_shared<Http1Connection>(target, std::move(socket), limits_, std::move(session));
      net::post(target.context, [connection] { connection->start(); });
    }
    accept(acceptor);
  });
}

void ServerImpl::stop() {
  if (std::exchange(stopped_, true)) return;
  if (service_ == nullptr) return;
  stopping_.store(true);
  net::post(threads_[0]->context, [this] {
    for (auto& acceptor : acceptors_) {
      error_code ignored;
      acceptor->close(ignored);
    }
  });
  const auto close_idle = [this](NetThread& thread) {
    std::vector<std::shared_ptr<Http1Connection>> list;
    for (Http1Connection* connection : thread.connections) list.push_back(connection->shared_from_this());
    for (const auto& connection : list) connection->sweep(std::chrono::steady_clock::now(), true);
  };
  const auto deadline = std::chrono::steady_clock::now() + limits_.drain;
  while (connection_count.load() > 0 && std::chrono::steady_clock::now() < deadline) {
    for (auto& thread : threads_) net::post(thread->context, [&close_idle, raw = thread.get()] { close_idle(*raw); });
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  for (auto& thread : threads_)
    net::post(thread->context, [raw = thread.get()] {
      std::vector<std::shared_ptr<Http1Connection>> list;
      for (Http1Connection* connection : raw->connections) list.push_back(connection->shared_from_this());
      for (const auto& connection : list) connection->close();
      raw->sweep.cancel();
      raw->context.stop();
    });
  for (auto& thread : threads_)
    if (thread->thread.joinable()) thread->thread.join();
}

}  // namespace

Result<std::unique_ptr<Server>> Server::listen(const std::string& addr, unsigned net_threads, const Limits& limits,
                                                std::shared_ptr<tls::Config> tls) {
  auto server = std::make_unique<ServerImpl>(std::max(1u, net_threads), limits, std::move(tls));
  RQ_CHECK(server->bind(addr));
  return std::unique_ptr<Server>(std::move(server));
}

}  // namespace rq::http
