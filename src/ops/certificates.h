// What is wrong with certificate files, for the doctor. Reads PEM files; no network.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace rq::ops {

struct CertificateFacts {
  std::string subject;                          // common name
  std::vector<std::string> names;               // subject alternative names: DNS and IP
  WallTime not_before, not_after;               // of the leaf; not_after the earliest of the chain in the file
  bool self_signed = false;
};
// Errc::Io: cannot be read; BadRequest: not PEM, or no certificate in it.
Result<CertificateFacts> read_certificate(const std::string& path);
// Whether the key is that of the certificate. Errc::BadRequest with the reason.
Result<> key_fits(const std::string& cert_path, const std::string& key_path);
// Whether the certificates in `ca_path` vouch for the one in `cert_path` now. Errc::BadRequest with OpenSSL's reason.
Result<> is_vouched_for(const std::string& cert_path, const std::string& ca_path);
// Whether clients that dial `host` accept the certificate's names.
bool names_host(const std::string& cert_path, const std::string& host);

}  // namespace rq::ops
