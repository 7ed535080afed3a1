// /db/backup, /db/load and /boot over a backend that does as it is told: what clients are answered, and when.
#include <gtest/gtest.h>

#include "http/api.h"

namespace rq::http {
namespace {

class FakeExchange final : public Exchange {
 public:
  FakeExchange(std::string method, std::string target) {
    request.method = std::move(method);
    request.target = std::move(target);
  }
  void respond(Response&& response) override {
    ++answers;
    answer = std::move(response);
    later = nullptr;                         // it holds this exchange
  }
  bool client_gone() const override { return gone; }
  void after(std::chrono::nanoseconds, std::function<void()> work) override { later = std::move(work); }
  void on_net_thread(std::function<void()> work) override { work(); }
  int answers = 0;
  Response answer;
  bool gone = false;
  std::function<void()> later;
};

class TwoPieces final : public ByteSource {
 public:
  explicit TwoPieces(std::vector<Result<Piece>> pieces) : pieces_(std::move(pieces)) {}
  void next(std::function<void(Result<Piece>)> done) override { done(pieces_.at(at_++)); }

 private:
  std::vector<Result<Piece>> pieces_;
  std::size_t at_ = 0;
};

class NeverReady final : public ByteSource {
 public:
  NeverReady(bool& given_up, std::function<void(Result<Piece>)>& done) : given_up_(given_up), done_(done) {}
  ~NeverReady() override { given_up_ = true; }
  void next(std::function<void(Result<Piece>)> done) override { done_ = std::move(done); }

 private:
  bool& given_up_;
  std::function<void(Result<Piece>)>& done_;
};

class FakeBackend final : public Backend {
 public:
  // What is answered next.
  BackupReply backup_reply;
  Result<std::string> url = std::string();
  Result<> boot = Result<>();
  std::optional<Error> write_error, finish_error, load_error, begin_error;
  SqlReply sql_reply{.rendered = "{\"results\":[{}]}", .served_by = "leader:1"};
  // What came.
  BackupQuery asked;
  UploadOptions options;
  std::string body, staged;
  int loads = 0, writers = 0;
  pb::Request sql_request;

  class Writer final : public UploadWriter {
   public:
    explicit Writer(FakeBackend& backend) : backend_(backend) { ++backend_.writers; }
    ~Writer() override { --backend_.writers; }
    void write(std::string&& piece, std::function<void(Result<>)> done) override {
      backend_.body += piece;
      done(backend_.write_error ? Result<>(fail(*backend_.write_error)) : Result<>());
    }
    void finish(std::function<void(Result<Upload>)> done) override {
      if (backend_.finish_error) return done(fail(*backend_.finish_error));
      Upload upload{.is_image = backend_.body.starts_with("SQLite format"), .sql = backend_.body};
      upload.image.set_name("load-1");
      done(std::move(upload));
    }

   private:
    FakeBackend& backend_;
  };

  void backup(const BackupQuery& query, const Routing&, std::function<void(BackupReply&&)> done) override {
    asked = query;
    done(std::move(backup_reply));
  }
  Result<std::string> leader_url() const override { return url; }
  Result<std::shared_ptr<UploadWriter>> begin_upload(const UploadOptions& given) override {
    options = given;
    if (begin_error) return fail(*begin_error);
    return std::make_shared<Writer>(*this);
  }
  Result<> may_boot() const override { return boot; }
  void load_image(const pb::LoadImage& image, const Routing&, std::function<void(Result<Index>, std::string)> done) override {
    ++loads;
    staged = image.name();
    if (load_error) return done(fail(*load_error), {});
    done(Index{7}, "leader:2");
  }
  void sql(std::shared_ptr<SqlCall> call) override {
    sql_request = call->request;
    call->done(SqlReply(sql_reply));
  }
  bool has_leader() const override { return true; }
  std::string status_json() override { return "{}"; }
  void nodes(const NodesQuery&, ReplyFn) override {}
  void leader(bool, std::chrono::nanoseconds, ReplyFn) override {}
  void step_down(std::string, bool, const Routing&, ReplyFn) override {}
  void remove_node(std::string, const Routing&, ReplyFn) override {}
  void snapshot(std::uint64_t, ReplyFn) override {}
  void reap(ReplyFn) override {}
  void ready(const ReadyQuery&, ReplyFn) override {}
  void proof(const ProofQuery&, const Routing&, ReplyFn) override {}
};

class ApiTransfer : public ::testing::Test {
 protected:
  // As the server does it: the head, the body in two pieces, the end.
  std::shared_ptr<FakeExchange> send(const std::string& method, const std::string& target, const std::string& body, const std::string& encoding = {}) {
    backend_.body.clear();
    auto exchange = std::make_shared<FakeExchange>(method, target);
    exchange->request.content_encoding = encoding;
    const auto sink = api_.open(exchange);
    if (!sink) {
      if (exchange->answers == 0) api_.handle(exchange);
      return exchange;
    }
    int taken = 0;
    for (const std::string& piece : {body.substr(0, body.size() / 2), body.substr(body.size() / 2)}) {
      if (piece.empty() || exchange->answers > 0) continue;
      sink->write(std::string(piece), [&] { --taken; });
      ++taken;
    }
    EXPECT_EQ(taken, 0);
    if (exchange->answers == 0) sink->end();
    EXPECT_EQ(exchange->answers, 1) << target;
    return exchange;
  }
  std::string status_and_body(const std::string& target, const std::string& body) {
    const auto exchange = send("POST", target, body);
    return std::to_string(exchange->answer.status) + " " + exchange->answer.body;
  }
  std::string get(const std::string& target) {
    const auto exchange = send("GET", target, "");
    return std::to_string(exchange->answer.status) + " " + exchange->answer.body;
  }

  FakeBackend backend_;
  SystemClock clock_;
  Metrics metrics_;
  Api api_{{}, backend_, clock_, metrics_};
  const std::string image_ = "SQLite format 3" + std::string(100, '\0');
};

TEST_F(ApiTransfer, BackupUnderstandsItsParameters) {
  backend_.backup_reply.failure = Error{Errc::Busy, "x"};
  get("/db/backup");
  EXPECT_EQ(backend_.asked.format, BackupQuery::Format::Binary);
  EXPECT_FALSE(backend_.asked.vacuum || backend_.asked.compress || backend_.asked.here);
  get("/db/backup/anything?fmt=SQL&tables=%20a%20,,b,&compress=false&noleader");
  EXPECT_EQ(backend_.asked.format, BackupQuery::Format::Sql);
  EXPECT_EQ(backend_.asked.tables, (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(backend_.asked.compress && backend_.asked.here);
  get("/db/backup?fmt=Delete&vacuum");
  EXPECT_TRUE(backend_.asked.format == BackupQuery::Format::Delete && backend_.asked.vacuum);
  get("/db/backup?fmt=bogus");
  EXPECT_EQ(backend_.asked.format, BackupQuery::Format::Binary);
}

TEST_F(ApiTransfer, BackupOfOnePieceHasALengthLongerOnesAStream) {
  backend_.backup_reply.source = std::make_shared<TwoPieces>(std::vector<Result<Piece>>{Piece{"all", true}});
  auto exchange = send("GET", "/db/backup?fmt=sql", "");
  EXPECT_EQ(exchange->answer.body, "all");
  EXPECT_EQ(exchange->answer.more, nullptr);
  EXPECT_NE(exchange->answer.headers.find("Content-Type: application/sql\r\n"), std::string::npos);
  backend_.backup_reply.source = std::make_shared<TwoPieces>(std::vector<Result<Piece>>{Piece{"part", false}, Piece{"rest", true}});
  exchange = send("GET", "/db/backup", "");
  EXPECT_EQ(exchange->answer.body, "part");
  EXPECT_NE(exchange->answer.more, nullptr);
  EXPECT_NE(exchange->answer.headers.find("Content-Type: application/octet-stream\r\n"), std::string::npos);
}

TEST_F(ApiTransfer, BackupThatNobodyWaitsForIsGivenUp) {
  bool given_up = false;
  std::function<void(Result<Piece>)> done;
  backend_.backup_reply.source = std::make_shared<NeverReady>(given_up, done);
  const auto exchange = send("GET", "/db/backup?vacuum", "");
  std::exchange(exchange->later, nullptr)();
  EXPECT_FALSE(given_up);
  exchange->gone = true;
  std::exchange(exchange->later, nullptr)();
  EXPECT_TRUE(given_up);
  EXPECT_EQ(exchange->later, nullptr);
  done(fail(Errc::Canceled));
  EXPECT_EQ(exchange->answers, 1);
}

TEST_F(ApiTransfer, BackupThatFailsBeforeItsFirstByteIsAnError) {
  backend_.backup_reply.source = std::make_shared<TwoPieces>(std::vector<Result<Piece>>{fail(Errc::Corrupt, "page 7")});
  EXPECT_EQ(get("/db/backup").substr(0, 4), "500 ");
  const std::vector<std::pair<Error, std::string>> cases = {{{Errc::LeaderNotFound, {}}, "503 leader not found\n"},
                                                            {{Errc::Unauthorized, "remote backup not authorized"}, "401 remote backup not authorized\n"},
                                                            {{Errc::BadRequest, "invalid backup format"}, "500 invalid backup format\n"},
                                                            {{Errc::NotOpen, {}}, "500 store not open\n"}};
  for (const auto& [error, wanted] : cases) {
    backend_.backup_reply = {.failure = error};
    EXPECT_EQ(get("/db/backup"), wanted);
  }
  backend_.backup_reply = {.failure = Error{Errc::LeaderNotFound, {}}};
  EXPECT_EQ(get("/db/backup?redirect"), "500 leader not found\n");
  backend_.backup_reply = {.redirect_to = "http://l:4001"};
  const auto exchange = send("GET", "/db/backup?redirect&fmt=sql", "");
  EXPECT_EQ(exchange->answer.status, 301);
  EXPECT_NE(exchange->answer.headers.find("Location: http://l:4001/db/backup?redirect&fmt=sql\r\n"), std::string::npos);
  EXPECT_EQ(get("/db/backup?timeout=abc"), "400 timeout is not a valid duration\n");
}

TEST_F(ApiTransfer, LoadOfAnImageStagesItAndThenReplacesTheDatabase) {
  const auto exchange = send("POST", "/db/load?pretty", image_);
  EXPECT_EQ(exchange->answer.body, "{\n    \"results\": []\n}");
  EXPECT_NE(exchange->answer.headers.find("Content-Type: text/plain; charset=utf-8\r\nX-Rqlite-Served-By: leader:2\r\n"), std::string::npos);
  EXPECT_EQ(backend_.body, image_);
  EXPECT_EQ(backend_.staged, "load-1");
  EXPECT_EQ(backend_.writers, 0);
  EXPECT_FALSE(backend_.options.gzip || backend_.options.images_only);
  send("POST", "/db/load", image_, "gzip");
  EXPECT_TRUE(backend_.options.gzip);
  send("POST", "/db%2Floa%64?compress", image_);
  EXPECT_TRUE(backend_.options.gzip);
  EXPECT_EQ(backend_.loads, 3);
}

TEST_F(ApiTransfer, LoadOfTextIsOneStatementOfALoadRequest) {
  EXPECT_EQ(status_and_body("/db/load", "CREATE TABLE t(a); INSERT INTO t VALUES(1)"), "200 {\"results\":[{}]}");
  EXPECT_TRUE(backend_.sql_request.load());
  ASSERT_EQ(backend_.sql_request.statements_size(), 1);
  EXPECT_EQ(backend_.sql_request.statements(0).sql(), "CREATE TABLE t(a); INSERT INTO t VALUES(1)");
  send("POST", "/db/load", "");
  EXPECT_EQ(backend_.sql_request.statements_size(), 0);
  EXPECT_EQ(status_and_body("/db/load", "\x1f\x8b\x08"), "200 {\"results\":[],\"error\":\"string field contains invalid UTF-8\"}");
  backend_.sql_reply = {.failure = Error{Errc::Unauthorized, "remote load not authorized"}};
  EXPECT_EQ(status_and_body("/db/load", "SELECT 1"), "401 remote load not authorized\n");
}

TEST_F(ApiTransfer, LoadSaysWhatIsWrong) {
  const std::vector<std::pair<Error, std::string>> bodies = {
      {{Errc::Corrupt, "invalid SQLite data: Tree 2"}, "500 error swapping databases: invalid SQLite data: Tree 2\n"},
      {{Errc::TooLarge, "SQL text is longer"}, "413 SQL text is longer\n"},
      {{Errc::BadRequest, "invalid gzip data"}, "400 invalid gzip data\n"},
      {{Errc::NoSpace, "write: no space left on device"}, "500 write: no space left on device\n"}};
  for (const auto& [error, wanted] : bodies) {
    backend_.write_error = error;
    EXPECT_EQ(status_and_body("/db/load", image_), wanted);
    backend_.write_error.reset();
    backend_.finish_error = error;
    EXPECT_EQ(status_and_body("/db/load", image_), wanted);
    backend_.finish_error.reset();
  }
  EXPECT_EQ(backend_.loads, 0);
  const std::vector<std::pair<Error, std::string>> loads = {{{Errc::LeaderNotFound, {}}, "503 leader not found\n"},
                                                            {{Errc::Unauthorized, {}}, "401 remote load not authorized\n"},
                                                            {{Errc::Timeout, "timeout"}, "500 timeout\n"}};
  for (const auto& [error, wanted] : loads) {
    backend_.load_error = error;
    EXPECT_EQ(status_and_body("/db/load", image_).substr(0, 4), wanted.substr(0, 4));
  }
  EXPECT_EQ(backend_.writers, 0);
}

TEST_F(ApiTransfer, LoadIsRefusedBeforeItsBody) {
  backend_.url = fail(Errc::LeaderNotFound);
  EXPECT_EQ(status_and_body("/db/load", image_), "503 leader not found\n");
  EXPECT_EQ(status_and_body("/db/load?redirect", image_), "500 leader not found\n");
  backend_.url = std::string("http://l:4001");
  const auto exchange = send("POST", "/db/load?redirect", image_);
  EXPECT_EQ(exchange->answer.status, 301);
  EXPECT_NE(exchange->answer.headers.find("Location: http://l:4001/db/load?redirect\r\n"), std::string::npos);
  backend_.begin_error = Error{Errc::NotOpen, {}};
  EXPECT_EQ(status_and_body("/db/load", image_), "500 store not ready\n");
  backend_.begin_error = Error{Errc::Busy, "too many uploads at a time"};
  EXPECT_EQ(status_and_body("/db/load", image_), "503 too many uploads at a time\n");
  EXPECT_EQ(backend_.body, "");
  EXPECT_EQ(get("/db/load"), "405 ");
  EXPECT_EQ(status_and_body("/db/load?timeout=x", image_), "400 timeout is not a valid duration\n");
}

TEST_F(ApiTransfer, BootTakesOnlyImagesOnALoneLeader) {
  EXPECT_EQ(status_and_body("/boot", image_), "200 ");
  EXPECT_TRUE(backend_.options.images_only);
  backend_.finish_error = Error{Errc::Truncated, "EOF"};
  EXPECT_EQ(status_and_body("/boot", "short"), "503 EOF\n");
  backend_.finish_error.reset();
  backend_.write_error = Error{Errc::Corrupt, "invalid SQLite data"};
  EXPECT_EQ(status_and_body("/boot", image_), "400 invalid SQLite data\n");
  backend_.write_error.reset();
  for (const char* why : {"not leader", "not single-node"}) {
    backend_.boot = fail(Errc::BadRequest, why);
    EXPECT_EQ(status_and_body("/boot?redirect", image_), std::string("503 ") + why + "\n");
    EXPECT_LT(backend_.body.size(), image_.size());      // said as soon as it is known
  }
  EXPECT_EQ(backend_.loads, 1);
  EXPECT_EQ(status_and_body("/boot/", image_), "404 ");
}

}  // namespace
}  // namespace rq::http
