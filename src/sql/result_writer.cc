#include "sql/result_writer.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <vector>

#include "base/go_text.h"
#include "sql/dates.h"

namespace rq::sql {

// How a column's values are shown; follows from its declared type, or from the first row where there is none.
enum class Show : std::uint8_t { Plain, Date, Boolean };

struct ColumnPlan {
  int reprepares = 0;                      // of the statement when this was made: a schema change makes it anew
  std::uint32_t render = 0;
  struct Column {
    std::string name;                      // quoted JSON
    std::string type;                      // declared, lower case; empty: none
    Show show = Show::Plain;
    bool text_like = false;                // BLOBs are shown as text
  };
  std::vector<Column> columns;
  std::vector<int> sorted;                 // associative form: columns by name, the last of equal names only
};

namespace {

std::string lower(const char* text) {
  std::string out = text == nullptr ? "" : text;
  std::ranges::transform(out, out.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

bool is_text_like(std::string_view type) {
  if (type.empty() || type == "text" || type == "json") return true;
  static constexpr std::string_view kPrefixes[] = {"varchar", "varying character", "nchar", "native character", "nvarchar", "clob"};
  return std::ranges::any_of(kPrefixes, [&](std::string_view prefix) { return type.starts_with(prefix); });
}

Show show_of(std::string_view type) {
  if (type == "date" || type == "datetime" || type == "timestamp") return Show::Date;
  return type == "boolean" ? Show::Boolean : Show::Plain;
}

std::string quoted(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

std::shared_ptr<ColumnPlan> make_plan(sqlite3_stmt* statement, std::uint32_t render) {
  auto plan = std::make_shared<ColumnPlan>();
  plan->reprepares = sqlite3_stmt_status(statement, SQLITE_STMTSTATUS_REPREPARE, 0);
  plan->render = render;
  const int count = sqlite3_column_count(statement);
  std::map<std::string, int> by_name;      // of the plain names: sorted by bytes
  for (int i = 0; i < count; ++i) {
    const char* name = sqlite3_column_name(statement, i);
    std::string shown = name == nullptr ? "" : name;
    if ((render & command::kQualifyColumns) != 0)
      if (const char* table = sqlite3_column_table_name(statement, i)) shown = std::string(table) + "." + shown;
    ColumnPlan::Column column{.name = quoted(shown), .type = lower(sqlite3_column_decltype(statement, i))};
    column.show = show_of(column.type);
    column.text_like = is_text_like(column.type);
    by_name[shown] = i;
    plan->columns.push_back(std::move(column));
  }
  for (const auto& [name, column] : by_name) plan->sorted.push_back(column);
  return plan;
}

void append_integer(std::string& out, std::int64_t value) {
  char text[24];
  out.append(text, static_cast<std::size_t>(std::to_chars(text, text + sizeof text, value).ptr - text));
}

std::string_view bytes_of(sqlite3_stmt* statement, int column) {
  const void* data = sqlite3_column_blob(statement, column);
  return {static_cast<const char*>(data == nullptr ? "" : data), static_cast<std::size_t>(sqlite3_column_bytes(statement, column))};
}

std::string_view text_of(sqlite3_stmt* statement, int column) {
  const auto* data = sqlite3_column_text(statement, column);
  return {data == nullptr ? "" : reinterpret_cast<const char*>(data), static_cast<std::size_t>(sqlite3_column_bytes(statement, column))};
}

// The rows of one statement on their way out.
class RowWriter {
 public:
  RowWriter(std::string& out, std::uint32_t render, sqlite3_stmt* statement, const ColumnPlan& plan)
      : out_(out), render_(render), statement_(statement), plan_(plan) {}

  // Types that no declaration gives come from the first row; without one (no rows) they are empty.
  void settle_types(bool has_row) {
    types_.reserve(plan_.columns.size());
    for (std::size_t i = 0; i < plan_.columns.size(); ++i) {
      const ColumnPlan::Column& column = plan_.columns[i];
      types_.push_back({column.show, column.text_like, column.type});
      if (!column.type.empty() || !has_row) continue;
      Type& type = types_.back();
      switch (sqlite3_column_type(statement_, static_cast<int>(i))) {
        case SQLITE_INTEGER: type.name = "integer"; break;
        case SQLITE_FLOAT: type.name = "real"; break;
        case SQLITE_TEXT:
        case SQLITE_BLOB: type.name = "text"; break;     // untyped counts as text-like in the first row
        default: break;
      }
    }
  }

  void header() {
    const bool associative = (render_ & command::kAssociative) != 0;
    const std::size_t count = plan_.columns.size();
    if (associative) {
      out_ += "\"types\":{";
      for (const int i : plan_.sorted) {
        comma(i != plan_.sorted.front());
        out_ += plan_.columns[static_cast<std::size_t>(i)].name;
        out_ += ':';
        append_json_string(out_, types_[static_cast<std::size_t>(i)].name);
      }
      out_ += '}';
      return;
    }
    out_ += "\"columns\":[";
    for (std::size_t i = 0; i < count; ++i) {
      comma(i != 0);
      out_ += plan_.columns[i].name;
    }
    out_ += "],\"types\":[";
    for (std::size_t i = 0; i < count; ++i) {
      comma(i != 0);
      append_json_string(out_, types_[i].name);
    }
    out_ += ']';
  }

  Result<> row() {
    if ((render_ & command::kAssociative) != 0) {
      out_ += '{';
      for (const int i : plan_.sorted) {
        comma(i != plan_.sorted.front());
        out_ += plan_.columns[static_cast<std::size_t>(i)].name;
        out_ += ':';
        RQ_CHECK(value(i));
      }
      out_ += '}';
      return {};
    }
    out_ += '[';
    const int count = static_cast<int>(plan_.columns.size());
    for (int i = 0; i < count; ++i) {
      comma(i != 0);
      RQ_CHECK(value(i));
    }
    out_ += ']';
    return {};
  }

  // Behind the first row: "a later BLOB" is judged by the type found there.
  void first_row_done() {
    for (Type& type : types_)
      if (!type.name.empty()) type.text_like = is_text_like(type.name);
  }

 private:
  struct Type {
    Show show;
    bool text_like;
    std::string name;
  };
  void comma(bool wanted) {
    if (wanted) out_ += ',';
  }

  Result<> value(int column) {
    const Type& type = types_[static_cast<std::size_t>(column)];
    switch (sqlite3_column_type(statement_, column)) {
      case SQLITE_INTEGER: {
        const std::int64_t number = sqlite3_column_int64(statement_, column);
        if (type.show == Show::Date) return append_date(out_, number);
        if (type.show == Show::Boolean) out_ += number > 0 ? "true" : "false";
        else append_integer(out_, number);
        return {};
      }
      case SQLITE_FLOAT:
        append_json_double(out_, sqlite3_column_double(statement_, column));
        return {};
      case SQLITE_TEXT:
        if (type.show == Show::Date) return append_date(out_, text_of(statement_, column));
        append_json_string(out_, text_of(statement_, column));
        return {};
      case SQLITE_BLOB:
        blob(type, bytes_of(statement_, column));
        return {};
      default:
        out_ += "null";
        return {};
    }
  }

  void blob(const Type& type, std::string_view bytes) {
    if (type.text_like) return append_json_string(out_, bytes);
    if ((render_ & command::kBlobArray) == 0) {
      out_ += '"';
      append_base64(out_, bytes);
      out_ += '"';
      return;
    }
    out_ += '[';
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      comma(i != 0);
      append_integer(out_, static_cast<unsigned char>(bytes[i]));
    }
    out_ += ']';
  }

  std::string& out_;
  const std::uint32_t render_;
  sqlite3_stmt* const statement_;
  const ColumnPlan& plan_;
  std::vector<Type> types_;
};

void append_time(std::string& out, const Stopwatch& watch, bool comma) {
  if (!watch.running()) return;
  const double seconds = watch.seconds();
  if (seconds == 0) return;
  out += comma ? ",\"time\":" : "\"time\":";
  append_json_double(out, seconds);
}

void begin_element(std::string& out) { out += out.empty() ? "{" : ",{"; }

}  // namespace

void ResultWriter::changes(std::int64_t last_insert_id, std::int64_t rows_affected, const Stopwatch& watch) {
  begin_element(out_);
  const std::size_t begin = out_.size();
  if (last_insert_id != 0) {
    out_ += "\"last_insert_id\":";
    append_integer(out_, last_insert_id);
  }
  if (rows_affected != 0) {
    out_ += out_.size() == begin ? "\"rows_affected\":" : ",\"rows_affected\":";
    append_integer(out_, rows_affected);
  }
  append_time(out_, watch, out_.size() != begin);
  if ((render_ & command::kAssociative) != 0) out_ += out_.size() == begin ? "\"rows\":null" : ",\"rows\":null";
  out_ += '}';
}

Result<> ResultWriter::rows(Statement& statement, const Stopwatch& watch) {
  const std::size_t begin = out_.size();
  const bool associative = (render_ & command::kAssociative) != 0;
  sqlite3_stmt* const handle = statement.handle();
  const auto undo = [&](Error error) {
    out_.resize(begin);
    return fail(std::move(error));
  };
  int code = statement.step();
  if (code != SQLITE_ROW && code != SQLITE_DONE)
    return undo({errc_of(code), sqlite3_errmsg(sqlite3_db_handle(handle))});
  // A schema change is noticed by the first step: the plan is looked at behind it.
  constexpr std::uint32_t kPlanBits = command::kQualifyColumns;
  std::shared_ptr<ColumnPlan>& plan = statement.plan();
  if (!plan || plan->render != (render_ & kPlanBits) || plan->reprepares != sqlite3_stmt_status(handle, SQLITE_STMTSTATUS_REPREPARE, 0))
    plan = make_plan(handle, render_ & kPlanBits);
  if (plan->columns.empty()) {
    nothing(watch);
    return {};
  }
  begin_element(out_);
  RowWriter writer(out_, render_, handle, *plan);
  writer.settle_types(code == SQLITE_ROW);
  writer.header();
  if (associative) out_ += ",\"rows\":[";
  bool first = true;
  for (; code == SQLITE_ROW; code = statement.step()) {
    out_ += first ? (associative ? "" : ",\"values\":[") : ",";
    if (const Result<> written = writer.row(); !written) return undo(written.error());
    if (first) writer.first_row_done();
    first = false;
    if (out_.size() > kResultMax) return undo({Errc::TooLarge, "result above 1 GiB"});
  }
  if (code != SQLITE_DONE) return undo({errc_of(code), sqlite3_errmsg(sqlite3_db_handle(handle))});
  if (!first || associative) out_ += ']';
  append_time(out_, watch, true);
  out_ += '}';
  return {};
}

void ResultWriter::nothing(const Stopwatch& watch) {
  begin_element(out_);
  const bool associative = (render_ & command::kAssociative) != 0;
  if (associative) out_ += "\"rows\":[]";
  append_time(out_, watch, associative);
  out_ += '}';
}

void ResultWriter::error(std::string_view text, Failed failed) {
  begin_element(out_);
  if (failed == Failed::Read && (render_ & command::kAssociative) != 0) out_ += "\"rows\":[],";
  out_ += "\"error\":";
  append_json_string(out_, text);
  out_ += '}';
}

}  // namespace rq::sql
