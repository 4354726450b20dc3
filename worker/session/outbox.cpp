#include "worker/session/outbox.h"

#include <algorithm>
#include <new>
#include <utility>

#include "common/base/check.h"
#include "common/protocol/codec.h"

namespace millrace::worker {

using protocol::Lease;

namespace {

constexpr size_t kItemOverhead = 24;  // job, epoch and the heads around them, at most

bool earlier(Lease a, Lease b) { return a.job != b.job ? a.job < b.job : a.epoch < b.epoch; }

}  // namespace

void Outbox::done(Lease lease, bool has_result, std::string result) {
  add(kDone, {lease, {}, has_result, std::move(result)});
}
void Outbox::failed(Lease lease, protocol::FailKind kind, std::string error) {
  add(kFail, {lease, kind, false, std::move(error)});
}
void Outbox::released(Lease lease) { add(kRelease, {lease, {}, false, {}}); }

void Outbox::add(Kind kind, Item item) {
  Parcel& parcel = open_[kind];
  size_t bytes = item.text.size() + kItemOverhead;
  bool full =
      parcel.items.size() >= protocol::kTargetJobs || parcel.bytes + bytes > protocol::kTargetFrame;
  if (full && !parcel.items.empty()) full_.push_back(std::exchange(parcel, {}));
  MILLRACE_CHECK(parcel.batch == 0 && (parcel.items.empty() || parcel.kind == kind));
  parcel.kind = kind;
  parcel.bytes += bytes;
  parcel.items.push_back(std::move(item));
  MILLRACE_CHECK(parcel.items.size() <= protocol::kTargetJobs);
}

void Outbox::resend(SessionId session, std::vector<std::string>* frames) {
  std::erase_if(unanswered_, [](const Parcel& parcel) { return parcel.items.empty(); });
  uint64_t last = 0;
  for (Parcel& parcel : unanswered_) {
    MILLRACE_CHECK(parcel.batch > std::exchange(last, parcel.batch));  // under its old number
    frames->push_back(encode_or_release(&parcel, session));
  }
}

void Outbox::flush(SessionId session, std::vector<std::string>* frames) {
  for (; !full_.empty(); full_.pop_front()) send(std::move(full_.front()), session, frames);
  for (Parcel& parcel : open_) {
    if (unanswered_.size() >= kEager) return;
    if (!parcel.items.empty()) send(std::exchange(parcel, {}), session, frames);
  }
}

void Outbox::send(Parcel parcel, SessionId session, std::vector<std::string>* frames) {
  if (parcel.items.empty()) return;  // all of it was dropped
  MILLRACE_CHECK(parcel.batch == 0);
  parcel.batch = ++last_batch_;
  MILLRACE_CHECK(unanswered_.empty() || unanswered_.back().batch < parcel.batch);
  frames->push_back(encode_or_release(&parcel, session));
  unanswered_.push_back(std::move(parcel));
}

std::string Outbox::encode_or_release(Parcel* parcel, SessionId session) {
  try {
    return encode_parcel(*parcel, session);
  } catch (const std::bad_alloc&) {
    ++shortages_;
    parcel->kind = kRelease;
    for (Item& item : parcel->items) std::string().swap(item.text);
    return encode_parcel(*parcel, session);
  }
}

std::string Outbox::encode_parcel(const Parcel& parcel, SessionId session) {
  switch (parcel.kind) {
    case kDone: {
      protocol::Done done{parcel.batch, {}};
      done.jobs.reserve(parcel.items.size());
      for (const Item& item : parcel.items)
        done.jobs.push_back({item.lease, item.has_result, item.text});
      return encode(session, std::move(done));
    }
    case kFail: {
      protocol::Fail fail{parcel.batch, {}};
      fail.jobs.reserve(parcel.items.size());
      for (const Item& item : parcel.items)
        fail.jobs.push_back({item.lease, item.fail_kind, item.text});
      return encode(session, std::move(fail));
    }
    default: {
      protocol::Release release{parcel.batch, {}};
      for (const Item& item : parcel.items) release.jobs.push_back(item.lease);
      return encode(session, std::move(release));
    }
  }
}

std::vector<Lease> Outbox::confirm(uint64_t batch) {
  auto at = std::find_if(unanswered_.begin(), unanswered_.end(),
                         [batch](const Parcel& parcel) { return parcel.batch == batch; });
  std::vector<Lease> leases;
  if (at == unanswered_.end()) return leases;
  MILLRACE_CHECK(batch >= 1 && batch <= last_batch_);
  leases.reserve(at->items.size());
  for (const Item& item : at->items) leases.push_back(item.lease);
  unanswered_.erase(at);
  return leases;
}

void Outbox::drop(std::vector<Lease> leases) {
  if (leases.empty()) return;
  std::sort(leases.begin(), leases.end(), earlier);
  auto drop_from = [&leases](Parcel& parcel) {
    std::erase_if(parcel.items, [&leases](const Item& item) {
      return std::binary_search(leases.begin(), leases.end(), item.lease, earlier);
    });
  };
  std::for_each(open_.begin(), open_.end(), drop_from);
  std::for_each(full_.begin(), full_.end(), drop_from);
  std::for_each(unanswered_.begin(), unanswered_.end(), drop_from);
}

std::vector<Lease> Outbox::unsent() const {
  std::vector<Lease> leases;
  auto take = [&leases](const Parcel& parcel) {
    for (const Item& item : parcel.items) leases.push_back(item.lease);
  };
  std::for_each(full_.begin(), full_.end(), take);
  std::for_each(open_.begin(), open_.end(), take);
  return leases;
}

bool Outbox::has_unsent() const {
  auto filled = [](const Parcel& parcel) { return !parcel.items.empty(); };
  return std::any_of(full_.begin(), full_.end(), filled) ||
         std::any_of(open_.begin(), open_.end(), filled);
}

}  // namespace millrace::worker
