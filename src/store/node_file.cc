#include "store/node_file.h"

#include <rapidjson/document.h>

#include <charconv>

#include "base/go_text.h"

namespace rq::store {
namespace {

constexpr int kFormat = 1;
constexpr std::size_t kFileBytesMax = 64 * 1024;

std::string path_of(const std::string& data_dir) { return data_dir + "/node.json"; }

std::string hex(std::uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

std::optional<std::uint64_t> member_hex(const rapidjson::Document& document, const char* name) {
  const auto found = document.FindMember(name);
  if (found == document.MemberEnd() || !found->value.IsString()) return std::nullopt;
  const std::string_view text(found->value.GetString(), found->value.GetStringLength());
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

Result<std::optional<NodeFile>> read_node_file(io::Disk& disk, const std::string& data_dir) {
  const std::string path = path_of(data_dir);
  RQ_TRY(const bool exists, disk.exists(path));
  if (!exists) return std::optional<NodeFile>();
  RQ_TRY(const std::string text, io::read_file(disk, path, kFileBytesMax));
  rapidjson::Document document;
  document.Parse(text.data(), text.size());
  if (document.HasParseError() || !document.IsObject()) return fail(Errc::Corrupt, path + " is not a JSON object");
  const auto format = document.FindMember("format");
  if (format == document.MemberEnd() || !format->value.IsInt()) return fail(Errc::Corrupt, path + " has no format");
  if (format->value.GetInt() > kFormat)
    return fail(Errc::Unsupported, path + " was written by a newer version (format " + std::to_string(format->value.GetInt()) + ")");
  const auto cluster_id = member_hex(document, "cluster_id");
  const auto raft_id = member_hex(document, "raft_id");
  const auto node_id = document.FindMember("node_id");
  if (!cluster_id || !raft_id || *raft_id == 0 || node_id == document.MemberEnd() || !node_id->value.IsString())
    return fail(Errc::Corrupt, path + " lacks cluster_id, raft_id or node_id");
  return std::optional(NodeFile{*cluster_id, RaftId{*raft_id}, std::string(node_id->value.GetString(), node_id->value.GetStringLength())});
}

Result<> write_node_file(io::Disk& disk, const std::string& data_dir, const NodeFile& node) {
  std::string text = "{\"format\":" + std::to_string(kFormat) + ",\"cluster_id\":\"" + hex(node.cluster_id) +
                     "\",\"raft_id\":\"" + hex(node.raft_id.value) + "\",\"node_id\":";
  append_json_string(text, node.node_id);
  text += "}\n";
  return io::write_file_atomically(disk, path_of(data_dir), text);
}

}  // namespace rq::store
