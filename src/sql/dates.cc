#include "sql/dates.h"

#include <cstdio>

namespace rq::sql {
namespace {

struct Date {
  int year = 1, month = 1, day = 1, hour = 0, minute = 0, second = 0;
  std::string_view fraction;          // digits
  int offset_minutes = 0;
  bool has_offset = false;
};

bool is_leap(int year) { return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0; }
int days_of(int year, int month) {
  static constexpr int kDays[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  return month == 2 && is_leap(year) ? 29 : kDays[month - 1];
}

bool digits(std::string_view& in, int count, int& out) {
  if (in.size() < static_cast<std::size_t>(count)) return false;
  out = 0;
  for (int i = 0; i < count; ++i) {
    const char c = in[static_cast<std::size_t>(i)];
    if (c < '0' || c > '9') return false;
    out = out * 10 + (c - '0');
  }
  in.remove_prefix(static_cast<std::size_t>(count));
  return true;
}

bool symbol(std::string_view& in, char wanted) {
  if (in.empty() || in.front() != wanted) return false;
  in.remove_prefix(1);
  return true;
}

bool parse_offset(std::string_view& in, Date& date) {
  const bool minus = in.front() == '-';
  in.remove_prefix(1);
  int hours = 0, minutes = 0;
  if (!digits(in, 2, hours) || !symbol(in, ':') || !digits(in, 2, minutes) || hours > 24 || minutes > 59) return false;
  date.has_offset = true;
  date.offset_minutes = (minus ? -1 : 1) * (hours * 60 + minutes);
  return true;
}

bool parse(std::string_view in, Date& date) {
  if (!in.empty() && in.back() == 'Z') in.remove_suffix(1);
  if (!digits(in, 4, date.year) || !symbol(in, '-') || !digits(in, 2, date.month) || !symbol(in, '-') || !digits(in, 2, date.day)) return false;
  if (date.month < 1 || date.month > 12 || date.day < 1 || date.day > days_of(date.year, date.month)) return false;
  if (in.empty()) return true;
  if (!symbol(in, ' ') && !symbol(in, 'T')) return false;
  const bool one_digit = in.size() > 1 && in[1] == ':';
  if (!digits(in, one_digit ? 1 : 2, date.hour) || !symbol(in, ':') || !digits(in, 2, date.minute)) return false;
  if (date.hour > 23 || date.minute > 59) return false;
  if (in.empty()) return true;
  if (!symbol(in, ':') || !digits(in, 2, date.second) || date.second > 59) return false;
  if (!in.empty() && (in.front() == '.' || in.front() == ',')) {
    in.remove_prefix(1);
    std::size_t count = 0;
    while (count < in.size() && in[count] >= '0' && in[count] <= '9') ++count;
    if (count == 0) return false;
    date.fraction = in.substr(0, std::min<std::size_t>(count, 9));
    in.remove_prefix(count);
  }
  if (!in.empty() && (in.front() == '+' || in.front() == '-') && !parse_offset(in, date)) return false;
  return in.empty();
}

Result<> append(std::string& out, const Date& date) {
  if (date.year < 0 || date.year > 9999) return fail(Errc::BadRequest, "Time.MarshalText: year outside of range [0,9999]");
  const int offset = date.offset_minutes < 0 ? -date.offset_minutes : date.offset_minutes;
  if (offset >= 24 * 60) return fail(Errc::BadRequest, "Time.MarshalText: timezone hour outside of range [0,23]");
  char text[48];
  const int size = std::snprintf(text, sizeof text, "\"%04d-%02d-%02dT%02d:%02d:%02d", date.year, date.month, date.day, date.hour, date.minute, date.second);
  out.append(text, static_cast<std::size_t>(size));
  std::string_view fraction = date.fraction;
  while (!fraction.empty() && fraction.back() == '0') fraction.remove_suffix(1);
  if (!fraction.empty()) out.append(".").append(fraction);
  if (date.offset_minutes == 0) {
    out += "Z\"";
    return {};
  }
  const int tail = std::snprintf(text, sizeof text, "%c%02d:%02d\"", date.offset_minutes < 0 ? '-' : '+', offset / 60, offset % 60);
  out.append(text, static_cast<std::size_t>(tail));
  return {};
}

// Days since 1970-01-01 to a date (Howard Hinnant's civil_from_days, in 64 bits).
void civil(std::int64_t days, Date& date, bool& in_range) {
  days += 719468;
  const std::int64_t era = (days >= 0 ? days : days - 146096) / 146097;
  const auto day_of_era = static_cast<unsigned>(days - era * 146097);
  const unsigned year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const unsigned shifted = (5 * day_of_year + 2) / 153;
  date.day = static_cast<int>(day_of_year - (153 * shifted + 2) / 5 + 1);
  date.month = static_cast<int>(shifted < 10 ? shifted + 3 : shifted - 9);
  const std::int64_t year = static_cast<std::int64_t>(year_of_era) + era * 400 + (date.month <= 2 ? 1 : 0);
  in_range = year >= 0 && year <= 9999;
  date.year = in_range ? static_cast<int>(year) : 10000;
}

}  // namespace

Result<> append_date(std::string& out, std::int64_t value) {
  constexpr std::int64_t kMillisecondsFrom = 1'000'000'000'000;
  const bool milliseconds = value > kMillisecondsFrom || value < -kMillisecondsFrom;
  std::int64_t seconds = milliseconds ? value / 1000 : value;
  std::int64_t rest = milliseconds ? value % 1000 : 0;
  if (rest < 0) {
    rest += 1000;
    --seconds;
  }
  std::int64_t days = seconds / 86400;
  std::int64_t of_day = seconds % 86400;
  if (of_day < 0) {
    of_day += 86400;
    --days;
  }
  Date date;
  bool in_range = true;
  civil(days, date, in_range);
  date.hour = static_cast<int>(of_day / 3600);
  date.minute = static_cast<int>(of_day / 60 % 60);
  date.second = static_cast<int>(of_day % 60);
  char fraction[8];
  if (rest != 0) date.fraction = {fraction, static_cast<std::size_t>(std::snprintf(fraction, sizeof fraction, "%03d", static_cast<int>(rest)))};
  return append(out, date);
}

Result<> append_date(std::string& out, std::string_view text) {
  Date date;
  if (!parse(text, date)) date = {};
  return append(out, date);
}

}  // namespace rq::sql
