// TLS without sockets: a Config makes Sessions, a Session turns bytes from the peer into plain text and plain text into
// bytes for the peer (spec cluster.md section 10). Whoever owns the socket moves the bytes.
//
// TLS 1.2 and 1.3, forward-secret AEAD ciphers only, no renegotiation, no compression.
// Config: thread-safe. Before each session it looks at the modification times of certificate and key; changed files are
// loaded, and if that fails (half replaced, missing) it says so and goes on with the pair it has. CA files are read once.
// Sessions keep the certificate they began with, and may outlive their Config.
// Session: one thread at a time. Errors are texts in the words of Go's crypto/tls, which operators know from their logs.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

namespace rq::tls {

struct ServerOptions {
  std::string cert_file, key_file;
  std::string ca_file;                 // verifies clients; empty: the system's
  bool verify_client = false;
  std::string common_name;             // the client's leaf must have it; empty: any
  std::string protocol;                // offered by ALPN; empty: none
};

struct ClientOptions {
  std::string cert_file, key_file;     // empty: without certificate
  std::string ca_file;                 // verifies servers; empty: the system's (SSL_CERT_FILE, SSL_CERT_DIR)
  bool verify_server = true;
  std::string server_name;             // expected instead of the host that is dialled
};

class Session {
 public:
  virtual ~Session() = default;
  // The first bytes of a client. Of a server: nothing to do.
  virtual void begin() = 0;
  // Takes bytes of the peer, appends the plain text in them to `plain`. False: the session has failed or ended; what is
  // in out() (an alert) should still be sent.
  virtual bool receive(std::string_view bytes, std::string& plain) = 0;
  // Only when established. False: failed.
  virtual bool send(std::string_view plain) = 0;
  // Says that nothing more will be sent.
  virtual void finish() = 0;
  virtual bool established() const = 0;
  virtual std::string& out() = 0;              // for the peer; the caller takes it away
  virtual const std::string& error() const = 0;   // why it failed; "EOF" after an orderly end
};

class Config {
 public:
  // Errors: Errc::Io or BadRequest with a text for the operator.
  static Result<std::shared_ptr<Config>> server(const ServerOptions& options);
  static Result<std::shared_ptr<Config>> client(const ClientOptions& options);
  virtual ~Config() = default;
  // `host`: whom a client dials. Null: out of memory.
  virtual std::unique_ptr<Session> session(const std::string& host) = 0;
  // Loads the files now if they changed. False: they could not be loaded (logged).
  virtual bool reload() = 0;
};

// Whether these bytes begin a TLS handshake (the first one decides).
inline bool is_handshake(std::string_view bytes) { return !bytes.empty() && bytes.front() == 0x16; }

}  // namespace rq::tls
