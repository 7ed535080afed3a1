#include "tls/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <arpa/inet.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <chrono>
#include <cstring>
#include <mutex>

#include "base/assert.h"
#include "base/log.h"
#include "tls/openssl.h"

namespace rq::tls {
namespace {

constexpr const char* kCiphers12 = "ECDHE+AESGCM:ECDHE+CHACHA20";
constexpr const char* kCiphers13 = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr std::size_t kRecordBytes = 16 * 1024;
// Where systems keep their CAs; OpenSSL's own places are Debian's.
constexpr const char* kSystemFiles[] = {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
                                        "/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem"};

std::string errno_text(const std::string& call, const std::string& path) {
  std::string reason = std::strerror(errno);
  reason.front() = static_cast<char>(reason.front() | 0x20);
  return call + " " + path + ": " + reason;
}

// ---- session

class SslSession final : public Session {
 public:
  SslSession(std::shared_ptr<const Config> config, SslPtr ssl, std::string host, std::string common_name, bool client);

  void begin() override;
  bool receive(std::string_view bytes, std::string& plain) override;
  bool send(std::string_view plain) override;
  void finish() override;
  bool established() const override { return established_; }
  std::string& out() override { return out_; }
  const std::string& error() const override { return error_; }

  // Called by OpenSSL for each certificate of the peer's chain.
  static int on_verify(int right, X509_STORE_CTX* context);

 private:
  static const BIO_METHOD* bio_method();
  static int bio_read(BIO* bio, char* to, int size);
  static int bio_write(BIO* bio, const char* from, int size);
  bool handshake();
  bool failed();

  const std::shared_ptr<const Config> config_;   // its callbacks are called during the handshake
  SslPtr ssl_;
  const std::string host_, common_name_;
  const bool client_;
  std::string_view in_;                // during receive() only: bytes that OpenSSL has not taken yet
  std::string out_, error_, refused_;
  bool established_ = false;
};

// OpenSSL reads from in_ and writes to out_, without buffers between.
const BIO_METHOD* SslSession::bio_method() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "session");
    RQ_ASSERT(made != nullptr);
    BIO_meth_set_read(made, &SslSession::bio_read);
    BIO_meth_set_write(made, &SslSession::bio_write);
    BIO_meth_set_ctrl(made, [](BIO*, int command, long, void*) -> long { return command == BIO_CTRL_FLUSH ? 1 : 0; });
    BIO_meth_set_create(made, [](BIO* bio) {
      BIO_set_init(bio, 1);
      return 1;
    });
    return made;
  }();
  return method;
}

int SslSession::bio_read(BIO* bio, char* to, int size) {
  auto* self = static_cast<SslSession*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  if (self->in_.empty()) {
    BIO_set_retry_read(bio);
    return -1;
  }
  const std::size_t taken = std::min(self->in_.size(), static_cast<std::size_t>(size));
  std::memcpy(to, self->in_.data(), taken);
  self->in_.remove_prefix(taken);
  return static_cast<int>(taken);
}

int SslSession::bio_write(BIO* bio, const char* from, int size) {
  static_cast<SslSession*>(BIO_get_data(bio))->out_.append(from, static_cast<std::size_t>(size));
  return size;
}

SslSession::SslSession(std::shared_ptr<const Config> config, SslPtr ssl, std::string host, std::string common_name, bool client)
    : config_(std::move(config)), ssl_(std::move(ssl)), host_(std::move(host)), common_name_(std::move(common_name)), client_(client) {
  BIO* bio = BIO_new(bio_method());
  RQ_ASSERT(bio != nullptr);
  BIO_set_data(bio, this);
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_app_data(ssl_.get(), this);
  if (client_) SSL_set_connect_state(ssl_.get());
  else SSL_set_accept_state(ssl_.get());
}

int SslSession::on_verify(int right, X509_STORE_CTX* context) {
  const auto* ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx()));
  auto* self = static_cast<SslSession*>(SSL_get_app_data(ssl));
  const bool leaf = X509_STORE_CTX_get_error_depth(context) == 0;
  if (right == 1 && leaf && !self->common_name_.empty() && common_name_of(X509_STORE_CTX_get_current_cert(context)) != self->common_name_) {
    X509_STORE_CTX_set_error(context, X509_V_ERR_CERT_REJECTED);   // the alert is "bad certificate"
    right = 0;
  }
  if (right != 1 && self->refused_.empty()) self->refused_ = refused_text(context, self->host_, self->common_name_);
  return right;
}

bool SslSession::failed() {
  in_ = {};
  error_ = take_error(ssl_.get(), refused_);
  return false;
}

bool SslSession::handshake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_.get());
  if (result == 1) {
    established_ = true;
    return true;
  }
  return SSL_get_error(ssl_.get(), result) == SSL_ERROR_WANT_READ || failed();
}

void SslSession::begin() {
  if (client_) (void)handshake();
}

bool SslSession::receive(std::string_view bytes, std::string& plain) {
  if (!error_.empty()) return false;
  in_ = bytes;
  if (!established_ && !handshake()) return false;
  while (established_) {
    const std::size_t before = plain.size();
    plain.resize(before + kRecordBytes);
    std::size_t got = 0;
    ERR_clear_error();
    const int result = SSL_read_ex(ssl_.get(), plain.data() + before, kRecordBytes, &got);
    plain.resize(before + got);
    if (result == 1) continue;
    const int why = SSL_get_error(ssl_.get(), result);
    if (why == SSL_ERROR_WANT_READ) break;
    if (why != SSL_ERROR_ZERO_RETURN) return failed();
    error_ = "EOF";
    return false;
  }
  RQ_ASSERT(in_.empty());              // OpenSSL asks for more only when it has taken all
  return true;
}

bool SslSession::send(std::string_view plain) {
  if (!error_.empty() || !established_) return false;
  while (!plain.empty()) {
    std::size_t taken = 0;
    ERR_clear_error();
    if (SSL_write_ex(ssl_.get(), plain.data(), plain.size(), &taken) != 1) return failed();
    plain.remove_prefix(taken);
  }
  return true;
}

void SslSession::finish() {
  if (!established_ || !error_.empty()) return;
  ERR_clear_error();
  (void)SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

// ---- config

struct FileTimes {
  std::array<timespec, 2> at{};
  bool operator==(const FileTimes& other) const { return std::memcmp(at.data(), other.at.data(), sizeof at) == 0; }
};

class SslConfig final : public Config, public std::enable_shared_from_this<SslConfig> {
 public:
  SslConfig(ServerOptions server, ClientOptions client, bool is_client)
      : server_(std::move(server)), client_(std::move(client)), is_client_(is_client),
        cert_file_(is_client ? client_.cert_file : server_.cert_file), key_file_(is_client ? client_.key_file : server_.key_file) {}

  Result<> open();
  std::unique_ptr<Session> session(const std::string& host) override;
  bool reload() override;

 private:
  using SharedCtx = std::shared_ptr<SSL_CTX>;
  Result<> load_authorities(const std::string& file);
  Result<FileTimes> times() const;
  Result<SharedCtx> make() const;
  void prepare_client(SSL* ssl, const std::string& host) const;
  void complain(const std::string& text);
  static int on_protocol(SSL* ssl, const unsigned char** out, unsigned char* out_size, const unsigned char* in, unsigned in_size, void* self);

  const ServerOptions server_;
  const ClientOptions client_;
  const bool is_client_;
  const std::string cert_file_, key_file_;
  StorePtr authorities_;               // shared by all contexts made here
  NamesPtr authority_names_;           // told to clients, so that they can choose a certificate
  std::mutex mutex_;                   // guards all below
  SharedCtx context_;
  FileTimes loaded_;
  std::chrono::steady_clock::time_point complained_;
};

Result<> SslConfig::open() {
  if (is_client_ ? client_.verify_server : server_.verify_client) {
    RQ_CHECK(load_authorities(is_client_ ? client_.ca_file : server_.ca_file));
    if (!is_client_ && !server_.ca_file.empty()) authority_names_.reset(SSL_load_client_CA_file(server_.ca_file.c_str()));
  } else if (const std::string& unused = is_client_ ? client_.ca_file : server_.ca_file; !unused.empty()) {
    RQ_CHECK(load_authorities(unused));            // not used, but a wrong file is told
  }
  if (!cert_file_.empty()) {
    RQ_TRY(loaded_, times());
  }
  RQ_TRY(context_, make());
  return {};
}

Result<> SslConfig::load_authorities(const std::string& file) {
  authorities_.reset(X509_STORE_new());
  RQ_ASSERT(authorities_ != nullptr);
  // A certificate that stands in the file is trusted, even if it is no CA: that is how Go has it.
  X509_STORE_set_flags(authorities_.get(), X509_V_FLAG_PARTIAL_CHAIN);
  ERR_clear_error();
  if (!file.empty()) {
    if (X509_STORE_load_file(authorities_.get(), file.c_str()) == 1) return {};
    const std::string why = take_load_error(file);
    return fail(Errc::BadRequest, why.starts_with("open ") ? why : "failed to parse root certificate(s) in \"" + file + "\"");
  }
  (void)X509_STORE_set_default_paths(authorities_.get());      // also takes SSL_CERT_FILE and SSL_CERT_DIR
  if (std::getenv(X509_get_default_cert_file_env()) != nullptr || std::getenv(X509_get_default_cert_dir_env()) != nullptr) {
    ERR_clear_error();
    return {};                         // they take the place of the system's
  }
  for (const char* path : kSystemFiles)
    if (::access(path, R_OK) == 0 && X509_STORE_load_file(authorities_.get(), path) == 1) break;
  ERR_clear_error();
  return {};
}

Result<FileTimes> SslConfig::times() const {
  FileTimes out;
  std::size_t i = 0;
  for (const std::string& path : {cert_file_, key_file_}) {
    struct stat facts {};
    if (::stat(path.c_str(), &facts) != 0) return fail(Errc::Io, errno_text("stat", path));
    out.at[i++] = facts.st_mtim;
  }
  return out;
}

int SslConfig::on_protocol(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* in, unsigned in_size, void* self) {
  const std::string& ours = static_cast<const SslConfig*>(self)->server_.protocol;
  for (unsigned at = 0; at < in_size; at += 1u + in[at]) {
    const unsigned size = in[at];
    if (at + 1 + size > in_size) break;
    if (std::string_view(reinterpret_cast<const char*>(in + at + 1), size) != ours) continue;
    *out = in + at + 1;
    *out_size = static_cast<unsigned char>(size);
    return SSL_TLSEXT_ERR_OK;
  }
  return SSL_TLSEXT_ERR_NOACK;
}

Result<SslConfig::SharedCtx> SslConfig::make() const {
  ERR_clear_error();
  SharedCtx context(SSL_CTX_new(is_client_ ? TLS_client_method() : TLS_server_method()), Freer<&SSL_CTX_free>());
  SSL_CTX* raw = context.get();
  RQ_ASSERT(raw != nullptr);
  SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  SSL_CTX_set_options(raw, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  RQ_ASSERT(SSL_CTX_set_cipher_list(raw, kCiphers12) == 1);
  RQ_ASSERT(SSL_CTX_set_ciphersuites(raw, kCiphers13) == 1);
  SSL_CTX_set_session_cache_mode(raw, SSL_SESS_CACHE_OFF);
  if (!cert_file_.empty()) {
    if (SSL_CTX_use_certificate_chain_file(raw, cert_file_.c_str()) != 1) return fail(Errc::BadRequest, take_load_error(cert_file_));
    if (SSL_CTX_use_PrivateKey_file(raw, key_file_.c_str(), SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(raw) != 1)
      return fail(Errc::BadRequest, take_load_error(key_file_));
  }
  if (authorities_) SSL_CTX_set1_cert_store(raw, authorities_.get());
  if (is_client_) {
    SSL_CTX_set_verify(raw, client_.verify_server ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, client_.verify_server ? &SslSession::on_verify : nullptr);
    return context;
  }
  if (server_.verify_client) {
    // A resumed session would not be verified again.
    SSL_CTX_set_options(raw, SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(raw, 0);
    SSL_CTX_set_verify(raw, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, &SslSession::on_verify);
    if (authority_names_) SSL_CTX_set_client_CA_list(raw, SSL_dup_CA_list(authority_names_.get()));
  }
  if (!server_.protocol.empty()) SSL_CTX_set_alpn_select_cb(raw, &SslConfig::on_protocol, const_cast<SslConfig*>(this));
  return context;
}

void SslConfig::complain(const std::string& text) {
  const auto now = std::chrono::steady_clock::now();
  if (now - complained_ < std::chrono::seconds(1)) return;
  complained_ = now;
  log::warn("cert-reloader", text);
}

bool SslConfig::reload() {
  if (cert_file_.empty()) return true;
  const std::lock_guard lock(mutex_);
  const Result<FileTimes> now = times();
  if (!now) {
    complain("failed to get latest modification time (" + now.error().text() + "), returning prior cert");
    return false;
  }
  if (*now == loaded_) return true;
  Result<SharedCtx> fresh = make();
  if (!fresh) {
    complain("failed to reload certificate (" + fresh.error().text() + "), returning prior cert");
    return false;
  }
  log::info("cert-reloader", "reloading certificate at " + cert_file_ + " and key at " + key_file_);
  context_ = *std::move(fresh);
  loaded_ = *now;
  return true;
}

void SslConfig::prepare_client(SSL* ssl, const std::string& host) const {
  unsigned char bytes[16];
  const bool address = ::inet_pton(AF_INET, host.c_str(), bytes) == 1 || ::inet_pton(AF_INET6, host.c_str(), bytes) == 1;
  if (!address) SSL_set_tlsext_host_name(ssl, host.c_str());
  if (!client_.verify_server) return;
  X509_VERIFY_PARAM* rules = SSL_get0_param(ssl);
  X509_VERIFY_PARAM_set_hostflags(rules, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
  if (address) X509_VERIFY_PARAM_set1_ip_asc(rules, host.c_str());
  else X509_VERIFY_PARAM_set1_host(rules, host.c_str(), host.size());
}

std::unique_ptr<Session> SslConfig::session(const std::string& host) {
  (void)reload();
  SharedCtx context;
  {
    const std::lock_guard lock(mutex_);
    context = context_;
  }
  SslPtr ssl(SSL_new(context.get()));
  if (!ssl) return nullptr;
  const std::string name = is_client_ && !client_.server_name.empty() ? client_.server_name : host;
  if (is_client_) prepare_client(ssl.get(), name);
  return std::make_unique<SslSession>(shared_from_this(), std::move(ssl), name, server_.common_name, is_client_);
}

Result<std::shared_ptr<Config>> opened(std::shared_ptr<SslConfig> config) {
  RQ_CHECK(config->open());
  return std::shared_ptr<Config>(std::move(config));
}

}  // namespace

Result<std::shared_ptr<Config>> Config::server(const ServerOptions& options) {
  return opened(std::make_shared<SslConfig>(options, ClientOptions{}, false));
}
Result<std::shared_ptr<Config>> Config::client(const ClientOptions& options) {
  return opened(std::make_shared<SslConfig>(ServerOptions{}, options, true));
}

}  // namespace rq::tls
