#include "producer/audit/reconciliation.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

namespace millrace::producer {
namespace {

// Numbers from first to end, exclusive.
struct Span {
  uint64_t first;
  uint64_t end;
};
using Spans = std::vector<Span>;
using OnOverlap = std::function<void(Span)>;

Span span_of(SeqRange seqs) { return {seqs.first.value, seqs.end().value}; }

std::string text_of(std::string_view one, std::string_view many, Span span) {
  if (span.end - span.first == 1) return fmt::format("{} {}", one, span.first);
  return fmt::format("{} {}–{}", many, span.first, span.end - 1);
}
std::string sequences(Span span) { return text_of("sequence", "sequences", span); }

uint64_t total(const Spans& spans) {
  uint64_t count = 0;
  for (Span span : spans) count += span.end - span.first;
  return count;
}

// Sorted and joined; what stands there more than once is reported.
Spans join(Spans spans, const OnOverlap& on_overlap) {
  std::sort(spans.begin(), spans.end(), [](Span a, Span b) { return a.first < b.first; });
  Spans joined;
  for (Span span : spans) {
    if (joined.empty() || span.first > joined.back().end) {
      joined.push_back(span);
      continue;
    }
    Span& last = joined.back();
    if (span.first < last.end) on_overlap({span.first, std::min(span.end, last.end)});
    last.end = std::max(last.end, span.end);
  }
  return joined;
}

// `spans` joined.
bool contains(const Spans& spans, uint64_t number) {
  auto next = std::upper_bound(spans.begin(), spans.end(), number,
                               [](uint64_t n, Span span) { return n < span.first; });
  return next != spans.begin() && number < std::prev(next)->end;
}

// What is in `spans` and not in `others`, both joined.
Spans without(const Spans& spans, const Spans& others) {
  Spans left;
  auto other = others.begin();
  for (Span span : spans) {
    while (other != others.end() && other->end <= span.first) ++other;
    for (auto cut = other; cut != others.end() && cut->first < span.end; ++cut) {
      if (cut->first > span.first) left.push_back({span.first, cut->first});
      span.first = std::max(span.first, std::min(cut->end, span.end));
    }
    if (span.first < span.end) left.push_back(span);
  }
  return left;
}

// One producer's side of the ledgers.
struct Account {
  Spans sent, sent_again, confirmed, rejected, keyed;
};

}  // namespace

Reconciliation::Reconciliation(const LedgerEntries& entries) {
  std::map<Uuid, Account> accounts;
  for (const auto& entry : entries.sent) {
    Account& account = accounts[entry.producer];
    (entry.resumed ? account.sent_again : account.sent).push_back(span_of(entry.seqs));
    if (entry.keyed) accounts[entry.producer].keyed.push_back(span_of(entry.seqs));
  }
  for (const auto& entry : entries.rejected)
    accounts[entry.producer].rejected.push_back(span_of(entry.seqs));
  for (const auto& entry : entries.confirmed) {
    accounts[entry.producer].confirmed.push_back(span_of(entry.seqs));
  }

  for (auto& [producer, account] : accounts) {
    std::string of = " of producer " + producer.hex();
    auto report = [this, &of](std::string_view what) {
      return [this, &of, what](Span span) { hole(sequences(span) + of + std::string(what)); };
    };
    account.keyed = join(account.keyed, [](Span) {});
    Spans all_sent = join(account.sent, report(": sent twice"));
    all_sent.insert(all_sent.end(), account.sent_again.begin(), account.sent_again.end());
    all_sent = join(all_sent, [](Span) {});
    Spans yes = join(account.confirmed, report(": confirmed twice"));
    Spans no = join(account.rejected, report(": rejected twice"));
    Spans both = yes;
    both.insert(both.end(), no.begin(), no.end());
    Spans answered = join(both, report(": both confirmed and rejected"));
    for (Span span : without(answered, all_sent)) report(": answered, but never sent")(span);
    sent += total(all_sent);
    confirmed += total(yes);
    rejected += total(no);
    unknown += total(without(all_sent, answered));
  }

  // Each job belongs to one sequence, or to any number with the same idempotency key.
  std::map<BrokerId, Spans> own, shared;
  for (const auto& entry : entries.confirmed) {
    const bool has_key = contains(accounts[entry.producer].keyed, entry.seqs.first.value);
    (has_key ? shared : own)[entry.broker].push_back(
        {entry.first_job.value, entry.first_job.value + entry.seqs.count});
  }
  for (auto& [broker, spans] : shared) {
    Spans once = join(spans, [](Span) {});
    own[broker].insert(own[broker].end(), once.begin(), once.end());
  }
  for (auto& [broker, spans] : own) {
    Spans joined = join(spans, [this, id = broker](Span span) {
      hole(fmt::format("{} of broker {:08x}: confirmed for two sequences",
                       text_of("job", "jobs", span), id.value));
    });
    for (Span span : joined) jobs_[broker].push_back({{span.first}, span.end - span.first});
  }
}

std::vector<protocol::JobRange> Reconciliation::jobs_of(BrokerId broker) const {
  auto found = jobs_.find(broker);
  return found == jobs_.end() ? std::vector<protocol::JobRange>() : found->second;
}

void Reconciliation::told(protocol::JobRange jobs, protocol::JobState state) {
  using protocol::JobState;
  switch (state) {
    case JobState::done:
      done += jobs.count;
      return;
    case JobState::dead:
      dead += jobs.count;
      return;
    case JobState::scheduled:
    case JobState::ready:
    case JobState::leased:
    case JobState::retry_wait:
      live += jobs.count;
      return;
    case JobState::cancelled:
      cancelled += jobs.count;
      return;
    case JobState::expired:
      expired += jobs.count;
      return;
    case JobState::ended:
      ended += jobs.count;
      return;
    case JobState::unknown:
      break;
  }
  missing += jobs.count;
  Span span{jobs.first.value, jobs.first.value + jobs.count};
  hole(text_of("job", "jobs", span) + ": confirmed, but the broker does not know of it");
}

void Reconciliation::close(const std::vector<BrokerId>& asked) {
  for (const auto& [broker, ranges] : jobs_) {
    if (std::find(asked.begin(), asked.end(), broker) != asked.end()) continue;
    uint64_t count = 0;
    for (const auto& range : ranges) count += range.count;
    missing += count;
    hole(
        fmt::format("{} jobs were confirmed by broker {:08x}, which was not queried: name all "
                    "brokers of these ledgers in --broker",
                    count, broker.value));
  }
}

std::vector<std::string> Reconciliation::holes() const {
  std::vector<std::string> texts = holes_;
  if (more_holes_ > 0) texts.push_back(fmt::format("and {} more", more_holes_));
  return texts;
}

void Reconciliation::hole(std::string text) {
  if (holes_.size() < kMaxHoles) {
    holes_.push_back(std::move(text));
  } else {
    ++more_holes_;
  }
}

}  // namespace millrace::producer
