#include "tls/openssl.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <vector>

namespace rq::tls {
namespace {

std::string alert_text(int alert) {
  switch (alert) {
    case SSL_AD_UNEXPECTED_MESSAGE: return "unexpected message";
    case SSL_AD_BAD_RECORD_MAC: return "bad record MAC";
    case SSL_AD_HANDSHAKE_FAILURE: return "handshake failure";
    case SSL_AD_BAD_CERTIFICATE: return "bad certificate";
    case SSL_AD_UNSUPPORTED_CERTIFICATE: return "unsupported certificate";
    case SSL_AD_CERTIFICATE_REVOKED: return "revoked certificate";
    case SSL_AD_CERTIFICATE_EXPIRED: return "expired certificate";
    case SSL_AD_CERTIFICATE_UNKNOWN: return "unknown certificate";
    case SSL_AD_ILLEGAL_PARAMETER: return "illegal parameter";
    case SSL_AD_UNKNOWN_CA: return "unknown certificate authority";
    case SSL_AD_DECODE_ERROR: return "error decoding message";
    case SSL_AD_DECRYPT_ERROR: return "error decrypting message";
    case SSL_AD_PROTOCOL_VERSION: return "protocol version not supported";
    case SSL_AD_INSUFFICIENT_SECURITY: return "insufficient security level";
    case SSL_AD_INTERNAL_ERROR: return "internal error";
    case SSL_AD_UNRECOGNIZED_NAME: return "unrecognized name";
    case SSL_AD_CERTIFICATE_REQUIRED: return "certificate required";
    case SSL_AD_NO_APPLICATION_PROTOCOL: return "no application protocol";
    default: return "alert(" + std::to_string(alert) + ")";
  }
}

std::string time_text(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return "?";
  char text[64];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

std::string now_text() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[64];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

bool is_address(const std::string& host) {
  unsigned char bytes[16];
  return ::inet_pton(AF_INET, host.c_str(), bytes) == 1 || ::inet_pton(AF_INET6, host.c_str(), bytes) == 1;
}

// The subject's alternative names of one kind.
std::vector<std::string> names_of(X509* certificate, bool addresses) {
  std::vector<std::string> out;
  auto* names = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  for (int i = 0; i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    if (addresses && name->type == GEN_IPADD) {
      char text[INET6_ADDRSTRLEN] = "?";
      ::inet_ntop(ASN1_STRING_length(name->d.ip) == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(name->d.ip), text, sizeof text);
      out.emplace_back(text);
    } else if (!addresses && name->type == GEN_DNS) {
      out.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)),
                       static_cast<std::size_t>(ASN1_STRING_length(name->d.dNSName)));
    }
  }
  GENERAL_NAMES_free(names);
  return out;
}

std::string wrong_name_text(X509* certificate, const std::string& host) {
  const bool address = is_address(host);
  const std::vector<std::string> names = certificate == nullptr ? std::vector<std::string>() : names_of(certificate, address);
  if (names.empty() && address) return "cannot validate certificate for " + host + " because it doesn't contain any IP SANs";
  if (names.empty()) return "certificate is not valid for any names, but wanted to match " + host;
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return "certificate is valid for " + list + ", not " + host;
}

}  // namespace

std::string common_name_of(X509* certificate) {
  X509_NAME* subject = X509_get_subject_name(certificate);
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at < 0) return {};
  unsigned char* text = nullptr;
  const int size = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
  if (size < 0) return {};
  std::string out(reinterpret_cast<char*>(text), static_cast<std::size_t>(size));
  OPENSSL_free(text);
  return out;
}

std::string refused_text(X509_STORE_CTX* context, const std::string& host, const std::string& common_name) {
  const std::string failed = "tls: failed to verify certificate: x509: ";
  X509* leaf = X509_STORE_CTX_get0_cert(context);
  const int error = X509_STORE_CTX_get_error(context);
  switch (error) {
    case X509_V_ERR_CERT_REJECTED:
      return "client did not provide any valid certificate that matches CN \"" + common_name + "\"";
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
    case X509_V_ERR_CERT_UNTRUSTED:
      return failed + "certificate signed by unknown authority";
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return failed + "certificate has expired or is not yet valid: current time " + now_text() + " is after " + time_text(X509_get0_notAfter(leaf));
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return failed + "certificate has expired or is not yet valid: current time " + now_text() + " is before " + time_text(X509_get0_notBefore(leaf));
    case X509_V_ERR_INVALID_PURPOSE:
      return failed + "certificate specifies an incompatible key usage";
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return failed + wrong_name_text(leaf, host);
    default:
      return failed + X509_verify_cert_error_string(error);
  }
}

std::string take_error(const SSL* ssl, const std::string& refused) {
  const unsigned long code = ERR_peek_last_error();   // those before are of the layers below
  ERR_clear_error();
  if (code == 0) return "EOF";
  const int reason = ERR_GET_REASON(code);
  if (ERR_GET_LIB(code) == ERR_LIB_SSL && reason > SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256)
    return "remote error: tls: " + alert_text(reason - SSL_AD_REASON_OFFSET);
  switch (reason) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
      return refused.empty() ? "tls: failed to verify certificate" : refused;
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
      return "tls: client didn't provide a certificate";
    case SSL_R_HTTP_REQUEST:
    case SSL_R_HTTPS_PROXY_REQUEST:
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_BAD_RECORD_TYPE:
      return "tls: first record does not look like a TLS handshake";
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_VERSION_TOO_LOW:
      return SSL_is_server(ssl) ? "tls: client offered only unsupported versions" : "tls: server selected unsupported protocol version";
    case SSL_R_NO_SHARED_CIPHER:
      return "tls: no cipher suite supported by both client and server";
    case SSL_R_UNEXPECTED_EOF_WHILE_READING:
      return "EOF";
    default:
      return std::string("tls: ") + (ERR_reason_error_string(code) ? ERR_reason_error_string(code) : "unknown error");
  }
}

std::string take_load_error(const std::string& path) {
  // A missing or unreadable file shows up as an error of the system somewhere in the queue.
  std::string text;
  for (unsigned long code = ERR_get_error(); code != 0; code = ERR_get_error()) {
    if (ERR_SYSTEM_ERROR(code)) text = "open " + path + ": " + [&] {
      std::string reason = std::strerror(ERR_GET_REASON(code));
      reason.front() = static_cast<char>(reason.front() | 0x20);
      return reason;
    }();
    if (!text.empty()) continue;
    const int reason = ERR_GET_REASON(code);
    if (ERR_GET_LIB(code) == ERR_LIB_PEM && reason == PEM_R_NO_START_LINE) text = "tls: failed to find any PEM data in " + path;
    else if (ERR_GET_LIB(code) == ERR_LIB_X509 && (reason == X509_R_KEY_VALUES_MISMATCH || reason == X509_R_KEY_TYPE_MISMATCH))
      text = "tls: private key does not match public key";
  }
  return text.empty() ? "tls: failed to parse " + path : text;
}

}  // namespace rq::tls
