#include "producer/client/ledger.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "producer/client/line_file.h"

namespace millrace::producer {
namespace {

using Json = nlohmann::json;

constexpr std::string_view kStart = "{\"producer\":\"";

// The lines of one file; which producer they are about stands in a line of its own.
class LedgerReader {
 public:
  explicit LedgerReader(LedgerEntries* entries) : entries_(entries) {}

  // What is wrong with the line, if something is.
  std::optional<std::string> take(std::string_view line) {
    Json json = Json::parse(line, nullptr, false);
    if (!json.is_object()) return "not a JSON object";
    try {
      return take_object(json);
    } catch (const Json::exception&) {
      return "a field is missing or of the wrong type";
    }
  }

 private:
  std::optional<std::string> take_object(const Json& json) {
    if (json.contains("producer")) {
      Uuid id;
      if (!Uuid::from_hex(json.at("producer").get<std::string>(), &id))
        return "not a producer's id";
      producer_ = id;
      entries_->producers.push_back(id);
      resumed_ = json.value("resumed", false);
      return std::nullopt;
    }
    if (!producer_) return "no line before it names a producer";
    const bool keyed = json.value("keyed", false);
    if (json.contains("sent"))
      return add_to(entries_->sent, json.at("sent"), keyed, json.value("to", ""));
    if (json.contains("rejected")) return add_to(entries_->rejected, json.at("rejected"));
    if (json.contains("confirmed")) return confirm(json);
    return "neither producer, sent, confirmed nor rejected";
  }

  std::optional<std::string> add_to(std::vector<LedgerEntries::Sent>& list, const Json& json,
                                    bool keyed = false, std::string to = {}) {
    SeqRange seqs = range_of(json);
    if (seqs.count == 0) return "not a range of sequences";
    list.push_back({*producer_, seqs, keyed, resumed_, std::move(to)});
    return std::nullopt;
  }

  std::optional<std::string> confirm(const Json& json) {
    SeqRange seqs = range_of(json.at("confirmed"));
    uint64_t first_job = json.at("confirmed").at(2).get<uint64_t>();
    auto broker = json.at("broker").get<std::string>();
    BrokerId id;
    JobId job;
    if (!parse_job_text(broker + "-0", &id, &job)) return "not a broker's id";
    if (seqs.count == 0 || first_job == 0 || first_job > UINT64_MAX - seqs.count)
      return "not a range of jobs";
    entries_->confirmed.push_back({*producer_, seqs, id, {first_job}});
    return std::nullopt;
  }

  // Empty if it is none.
  static SeqRange range_of(const Json& json) {
    if (!json.at(0).is_number_unsigned() || !json.at(1).is_number_unsigned()) return {};
    SeqRange seqs{{json.at(0).get<uint64_t>()}, json.at(1).get<uint64_t>()};
    bool fits = seqs.first.value > 0 && seqs.count <= UINT64_MAX - seqs.first.value;
    return fits ? seqs : SeqRange{};
  }

  LedgerEntries* entries_;
  std::optional<Uuid> producer_;
  bool resumed_ = false;
};

}  // namespace

Result<Ledger> Ledger::open(const std::string& path, Uuid producer, bool resumed) {
  auto file = AppendFile::open("ledger", path, kStart);
  if (!file) return file.error();
  Ledger ledger(*std::move(file));
  ledger.pending_ = fmt::format("{{\"producer\":\"{}\"{}}}\n", producer.hex(),
                                resumed ? ",\"resumed\":true" : "");
  if (auto written = ledger.write(); !written) return written.error();
  return ledger;
}

void Ledger::sent(const Sent& s, std::string_view to) {
  fmt::format_to(std::back_inserter(pending_), "{{\"sent\":[{},{}],\"queue\":\"{}\"{}{}}}\n",
                 s.seqs.first.value, s.seqs.count, s.queue, s.keyed ? ",\"keyed\":true" : "",
                 to.empty() ? "" : ",\"to\":" + Json(to).dump());
}

void Ledger::confirmed(const Confirmed& c) {
  fmt::format_to(std::back_inserter(pending_),
                 "{{\"confirmed\":[{},{},{}],\"broker\":\"{:08x}\"{}}}\n", c.seqs.first.value,
                 c.seqs.count, c.first_job.value, c.broker.value,
                 c.durability == "buffered" ? ",\"durability\":\"buffered\"" : "");
}

void Ledger::rejected(const Rejected& r) {
  fmt::format_to(std::back_inserter(pending_), "{{\"rejected\":[{},{}],\"reason\":{}}}\n",
                 r.seqs.first.value, r.seqs.count,
                 Json(std::string(r.reason)).dump(-1, ' ', true, Json::error_handler_t::replace));
}

Result<void> Ledger::restore(const LedgerEntries& lost, std::string_view queue) {
  for (const auto& entry : lost.sent) sent({entry.seqs, queue});
  for (const auto& entry : lost.confirmed) {
    Confirmed event;
    event.seqs = entry.seqs;
    event.broker = entry.broker;
    event.first_job = entry.first_job;
    confirmed(event);
  }
  return write();
}

Result<void> Ledger::write() {
  if (pending_.empty()) return {};
  auto written = file_.write(pending_);
  pending_.clear();
  return written;
}

Result<void> read_ledger(const std::string& path, LedgerEntries* entries) {
  auto file = LineFile::open(path, {"ledger", "is it a ledger of millrace-producer, unchanged?"});
  if (!file) return file.error();
  LedgerReader reader(entries);
  std::string_view line;
  for (;;) {
    auto more = file->next(&line);
    if (!more) return more.error();
    if (!*more) return {};
    if (auto wrong = reader.take(line)) return file->fault(*wrong);
  }
}

}  // namespace millrace::producer
