#include "app/rqlited/security.h"

#include "base/go_text.h"
#include "base/log.h"

namespace rq::app {
namespace {

std::string facts(const std::string& cert, const std::string& key, const std::string& ca, bool verify_client, const std::string& common_name) {
  return cert + ", " + key + (ca.empty() ? "" : ", CA cert " + ca) + ", mutual TLS " + (verify_client ? "enabled" : "disabled") +
         (common_name.empty() ? "" : ", required peer common name \"" + common_name + "\"");
}

}  // namespace

void PortTls::reload() const {
  for (const auto& config : {server, client})
    if (config) (void)config->reload();
}

Result<PortTls> node_tls(const config::Options& o) {
  if (o.node_cert.empty()) {
    if (!o.node_ca_cert.empty())
      return fail(Errc::BadRequest, "failed to create cluster client: failed to create certificate monitor: open : no such file or directory");
    if (o.node_verify_client || o.node_no_verify || !o.node_verify_server_name.empty())
      log::warn("rqlited", "flags of node-to-node encryption have no effect without -node-cert and -node-key");
    return PortTls{};
  }
  const std::string failed = "failed to start node mux: failed to create node-to-node mux: ";
  log::info("rqlited", "enabling node-to-node encryption with " +
                           facts("cert: " + o.node_cert, "key: " + o.node_key, o.node_ca_cert, o.node_verify_client, o.node_verify_common_name));
  PortTls out;
  auto server = tls::Config::server({.cert_file = o.node_cert, .key_file = o.node_key, .ca_file = o.node_ca_cert, .verify_client = o.node_verify_client,
                                     .common_name = o.node_verify_common_name});
  if (!server) return fail(Errc::BadRequest, failed + "cannot create cert monitor: " + server.error().text());
  auto client = tls::Config::client({.cert_file = o.node_cert, .key_file = o.node_key, .ca_file = o.node_ca_cert, .verify_server = !o.node_no_verify,
                                     .server_name = o.node_verify_server_name});
  if (!client) return fail(Errc::BadRequest, failed + client.error().text());
  return PortTls{*std::move(server), *std::move(client)};
}

Result<PortTls> http_tls(const config::Options& o) {
  if (o.http_cert.empty()) {
    if (o.http_verify_client) log::warn("http", "-http-verify-client has no effect without -http-cert and -http-key");
    return PortTls{};
  }
  auto server = tls::Config::server({.cert_file = o.http_cert, .key_file = o.http_key, .ca_file = o.http_ca_cert, .verify_client = o.http_verify_client,
                                     .common_name = o.http_verify_common_name, .protocol = "http/1.1"});
  if (!server) return fail(Errc::BadRequest, "failed to start HTTP server: " + server.error().text());
  log::info("http", "secure HTTPS server enabled with " + facts("cert " + o.http_cert, "key " + o.http_key, o.http_ca_cert, o.http_verify_client, o.http_verify_common_name));
  return PortTls{*std::move(server), nullptr};
}

Result<std::unique_ptr<auth::Authority>> authority(const config::Options& o) {
  if (o.auth.empty()) return std::unique_ptr<auth::Authority>();
  auto opened = auth::Authority::open(o.auth);
  if (!opened) return fail(Errc::BadRequest, "failed to get credential store: " + opened.error().text());
  if (!o.join_as.empty() && (*opened)->password_of(o.join_as).empty())
    log::warn("rqlited", "user " + o.join_as + " of -join-as has no password in " + o.auth);
  return opened;
}

std::string http_tls_status(const config::Options& o) {
  if (o.http_cert.empty()) return "{\"enabled\":\"false\"}";
  std::string out = "{\"ca_file\":";
  append_json_string(out, o.http_ca_cert);
  out += ",\"cert_file\":";
  append_json_string(out, o.http_cert);
  out += std::string(",\"client_auth\":\"") + (o.http_verify_client ? "RequireAndVerifyClientCert" : "NoClientCert") + "\",\"enabled\":\"true\",\"key_file\":";
  append_json_string(out, o.http_key);
  return out + ",\"next_protos\":[\"http/1.1\"]}";
}

}  // namespace rq::app
