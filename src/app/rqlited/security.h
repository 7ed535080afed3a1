// What protects the two ports, made of the command line (docs/design/0005-security.md).
#pragma once

#include <memory>
#include <string>

#include "auth/authority.h"
#include "base/result.h"
#include "config/options.h"
#include "tls/tls.h"

namespace rq::app {

struct PortTls {
  std::shared_ptr<tls::Config> server, client;   // null: plain text
  void reload() const;
};

// Errors: the whole text of the line that the process ends with. Says in the log what is switched on.
Result<PortTls> node_tls(const config::Options& options);
Result<PortTls> http_tls(const config::Options& options);
// Null: without -auth.
Result<std::unique_ptr<auth::Authority>> authority(const config::Options& options);
// The member `tls` of /status's `http`.
std::string http_tls_status(const config::Options& options);

}  // namespace rq::app
