#include "producer/load/run.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>

#include "common/base/time.h"
#include "producer/load/plot.h"

namespace millrace::producer {
namespace {

constexpr std::chrono::seconds kRow{1};
constexpr Millis kLook{250};

double seconds(Mono::duration duration) { return std::chrono::duration<double>(duration).count(); }

std::string title_of(const LoadFlags& flags, const LoadSummary& summary) {
  std::string queues = flags.queue.value_or("a mix of queues");
  return fmt::format("load on {}: {} jobs, {:.0f} a second, {} producer{}", queues,
                     with_thousands(summary.counts.sent), summary.rate(), summary.clients,
                     summary.clients > 1 ? "s" : "");
}

}  // namespace

LoadRun::LoadRun(const LoadFlags& flags, LoadPlan plan)
    : flags_(flags),
      plan_(std::move(plan)),
      hub_(plan_.clients),
      progress_(Progress::style_for_stderr(flags.quiet), read_clock()) {
  waiter_.watch(hub_.watcher().fd(), true);
}

LoadRun::~LoadRun() {
  hub_.stop(ExitCode::interrupted);
  join();
}

Result<ExitCode> LoadRun::run() {
  if (auto opened = open(); !opened) return opened.error();
  for (LoadClient& load_client : load_clients_)
    threads_.emplace_back([&load_client] { load_client.run(); });
  if (auto watched = watch(); !watched) return watched.error();
  join();
  if (start_) {
    look();
    if (auto closed = close_row(read_clock()); !closed) return closed.error();
  }
  progress_.finish();
  for (const LoadClient& load_client : load_clients_) {
    if (!load_client.outcome()) return load_client.outcome().error();
  }
  return conclude();
}

Result<void> LoadRun::open() {
  auto series = LoadSeries::open(flags_.csv, plan_.waits());
  if (!series) return series.error();
  series_.emplace(*std::move(series));
  for (size_t i = 0; i < plan_.clients; ++i) {
    if (auto opened = load_clients_.emplace_back(plan_, hub_, i).open(); !opened) return opened;
  }
  return {};
}

void LoadRun::join() {
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

// ---- while it runs

Result<void> LoadRun::watch() {
  while (!hub_.all_finished()) {
    wait(std::min(read_clock() + kLook, next_row_));
    if (waiter_.interrupted()) take_interrupt();
    if (!start_ && hub_.start()) next_row_ = *(start_ = hub_.start()) + kRow;
    look();
    const Mono now = read_clock();
    if (now >= next_row_) {
      if (auto closed = close_row(now); !closed) return closed;
      while (next_row_ <= now) next_row_ += kRow;
    }
    show_progress(now);
  }
  return {};
}

// SIGTERM ends the schedule, a second one or SIGINT everything; before the start there is no
// schedule.
void LoadRun::take_interrupt() {
  if (waiter_.terminated() && hub_.start()) {
    hub_.end_schedule();
  } else {
    hub_.stop(ExitCode::interrupted);
  }
}

void LoadRun::wait(Mono until) {
  waiter_.wake_at(until);
  pollfd item{waiter_.fd(), POLLIN, 0};
  ::poll(&item, 1, -1);
  hub_.watcher().drain();
}

void LoadRun::look() {
  for (LoadClient& load_client : load_clients_) {
    const LoadInterval interval = load_client.meter().take();
    sent_ += interval.sent;
    confirmed_ += interval.confirmed;
    ended_ += interval.ended();
    row_.add(interval);
  }
}

Result<void> LoadRun::close_row(Mono now) {
  const double time_s = seconds(now - *start_);
  return series_->add(time_s, std::exchange(row_, LoadInterval{}));
}

void LoadRun::show_progress(Mono now) {
  if (!progress_.due(now)) return;
  ProgressFigures figures{{{"sent", sent_}, {"confirmed", confirmed_}},
                          plan_.waits() ? ended_ : confirmed_,
                          Schedule(plan_.schedule, now).total()};
  if (plan_.waits()) figures.counts.emplace_back("done", ended_);
  progress_.show(now, figures);
}

// ---- at its end

LoadSummary LoadRun::summary() const {
  LoadSummary summary;
  summary.clients = plan_.clients;
  const Mono start = start_.value_or(read_clock());
  Mono submitted = start, ended = start;
  std::vector<uint64_t> sent(plan_.queues.parts().size());
  for (const LoadClient& load_client : load_clients_) {
    summary.counts.add(load_client.counts());
    submitted = std::max(submitted, load_client.submitted_at());
    ended = std::max(ended, load_client.ended_at());
    for (size_t i = 0; i < sent.size(); ++i) sent[i] += load_client.queues().parts()[i].sent;
  }
  const double warm_up = seconds(plan_.schedule.warm_up);
  summary.warm_up_seconds = std::min(warm_up, seconds(ended - start));
  summary.seconds = std::max(seconds(ended - start) - warm_up, 0.0);
  summary.submit_seconds = std::max(seconds(submitted - start) - warm_up, 0.0);
  for (size_t i = 0; flags_.queue_mix && i < sent.size(); ++i)
    summary.queues.emplace_back(plan_.queues.parts()[i].queue, sent[i]);
  return summary;
}

Result<ExitCode> LoadRun::conclude() {
  const LoadSummary all = summary();
  if (flags_.json) {
    fmt::print("{}\n", all.json());
  } else {
    all.print_text();
  }
  std::fflush(stdout);
  if (!flags_.plot.empty()) {
    auto drawn = draw_plot(flags_.plot, title_of(flags_, all), series_->rows());
    if (!drawn) return drawn.error();
  }
  return verdict(all.counts);
}

Result<ExitCode> LoadRun::verdict(const LoadCounts& counts) const {
  const auto stopped = hub_.stopped();
  if (stopped == ExitCode::interrupted)
    return Error{ExitCode::interrupted, "interrupted: " + left_over(counts)};
  if (stopped) {
    return Error{counts.lost() > 0 ? ExitCode::failed : ExitCode::temporary,
                 fmt::format("not finished {} after the last submission: {}; is a worker running "
                             "for {}?",
                             format_duration(flags_.timeout), left_over(counts),
                             flags_.queue ? "queue " + *flags_.queue : "each queue of the mix")};
  }
  return counts.good() ? ExitCode::ok : ExitCode::failed;
}

std::string LoadRun::left_over(const LoadCounts& counts) const {
  return fmt::format("{} confirmed, {} unknown{}, {} without an end yet", counts.confirmed,
                     counts.unknown, counts.unknown ? " (the broker may have them)" : "",
                     counts.outstanding);
}

}  // namespace millrace::producer
