#include "broker/offline/survey.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "broker/offline/record_json.h"
#include "broker/replay/replay.h"

namespace millrace::offline {
namespace {

using core::JobState;
using journal::Finding;
using journal::SegmentReader;

bool is_live(JobState state) {
  return state == JobState::scheduled || state == JobState::ready || state == JobState::leased ||
         state == JobState::retry_wait;
}

class Surveyor final : public records::RecordVisitor {
 public:
  Surveyor(journal::Directory& directory, JournalRepairer::Emit emit,
           const std::function<void(const SurveyProgress&)>& progress, RelocatedJobs ahead)
      : directory_(directory), repairer_(std::move(emit), std::move(ahead)), show_(progress) {}

  Result<Survey> run() {
    auto files = list_journal(directory_);
    if (!files) return files.error();
    survey_.files = *std::move(files);
    progress_.total = survey_.files.segment_bytes();
    if (auto walked = walk(directory_, survey_.files.segments, *this); !walked)
      return walked.error();
    take_oldest();
    repairer_.finish();
    conclude();
    return std::move(survey_);
  }

 private:
  Result<void> on_segment(const journal::SegmentInfo& info,
                          const journal::SegmentHeader* header) override {
    before_ += segment_bytes_;
    segment_bytes_ = info.bytes;
    if (!header) return {};
    survey_.version = header->version;
    broker_ = header->broker;
    if (!survey_.broker) survey_.broker = broker_;
    return {};
  }

  Result<void> on_batch(SegmentId, const SegmentReader::Batch& batch) override {
    repairer_.batch(broker_, batch.header.incarnation);
    ++survey_.batches;
    progress_.bytes = before_ + batch.body_offset + batch.body.size();
    progress_.batches = survey_.batches;
    if (show_) show_(progress_);
    return {};
  }

  Result<void> on_record(const Record& record, size_t, journal::Place place) override {
    ++survey_.records[record.index()];
    ++progress_.records;
    if (const WallMs time = time_of(record); time != WallMs{}) {
      if (survey_.first == WallMs{}) survey_.first = time;
      survey_.last = std::max(survey_.last, time);
    }
    if (const auto* accepted = std::get_if<records::Accepted>(&record)) {
      accepted_.emplace_back(accepted->first_job, accepted->time);
      for (std::string_view payload : accepted->payloads) survey_.payload_bytes += payload.size();
    }
    if (const auto* relocated = std::get_if<records::Relocated>(&record))
      survey_.payload_bytes += relocated->payload.size();
    auto problem = take(record);
    if (!problem || !survey_.findings.empty()) return {};  // behind damage there is no wonder
    survey_.findings.push_back(
        {Finding::Kind::damaged, place.segment, place.offset,
         fmt::format("{}/{} at byte {}: {}", directory_.path(),
                     journal::segment_name(place.segment), place.offset, *problem)});
    return {};
  }

  // The segments' headers say whose journal it is, and a Checkpoint repeats it.
  std::optional<std::string> take(const Record& record) {
    const auto* checkpoint = std::get_if<records::Checkpoint>(&record);
    if (!checkpoint || broker_ == BrokerId{} || checkpoint->broker == broker_)
      return repairer_.take(record);
    records::Checkpoint ours = *checkpoint;
    ours.broker = broker_;
    auto problem = repairer_.take(ours);
    return problem ? problem : "a checkpoint is of another broker than its segment";
  }

  Result<void> on_finding(const Finding& finding) override {
    if (finding.kind == Finding::Kind::torn_tail) {
      survey_.torn_tail = finding;
      return {};
    }
    repairer_.gap(finding.lost_bytes);
    survey_.findings.push_back(finding);
    return {};
  }

  void on_segment_end(SegmentId, const SegmentReader& reader, std::string_view) override {
    survey_.used_bytes += reader.end();
    survey_.sealed += reader.sealed();
  }

  // Before what was lost is cancelled; a job without an Accepted of its own is not looked for.
  void take_oldest() {
    const core::State& state = repairer_.state();
    std::sort(accepted_.begin(), accepted_.end());
    for (size_t i = 0; i < accepted_.size(); ++i) {
      const JobId end = i + 1 < accepted_.size() ? accepted_[i + 1].first : state.next_job();
      for (JobId id = accepted_[i].first; id < end; ++id.value) {
        const core::Job* job = state.find(id);
        if (!job || !is_live(job->state)) continue;
        survey_.oldest = OldestJob{id, job->state, accepted_[i].second};
        return;
      }
    }
  }

  void conclude() {
    const core::State& state = repairer_.state();
    const records::Counts& counts = state.counts();
    survey_.incarnation = state.incarnation();
    survey_.jobs = {counts.accepted,     state.scheduled_jobs(),  state.ready_jobs(),
                    state.leased_jobs(), state.retry_wait_jobs(), state.dead().size(),
                    counts.done,         counts.cancelled,        counts.expired};
    survey_.lost = repairer_.lost();
    survey_.unsaved = repairer_.unsaved();
    survey_.left_out = repairer_.left_out();
  }

  journal::Directory& directory_;
  JournalRepairer repairer_;
  const std::function<void(const SurveyProgress&)>& show_;
  Survey survey_;
  SurveyProgress progress_;
  BrokerId broker_;
  uint64_t before_ = 0, segment_bytes_ = 0;  // of the segments before this one; of this one
  std::vector<std::pair<JobId, WallMs>> accepted_;
};

}  // namespace

uint64_t Survey::record_count() const {
  return std::accumulate(records.begin(), records.end(), uint64_t{0});
}

Result<Survey> survey(journal::Directory& directory, JournalRepairer::Emit emit,
                      const std::function<void(const SurveyProgress&)>& progress,
                      RelocatedJobs ahead) {
  return Surveyor(directory, std::move(emit), progress, std::move(ahead)).run();
}

Result<journal::Listing> list_journal(journal::Directory& directory) {
  auto files = journal::list(directory);
  if (files && files->segments.empty())
    return Error{
        ExitCode::bad_data,
        fmt::format(
            "{} contains no journal (no file segment-*.mrj); give the --data directory of a broker",
            directory.path())};
  return files;
}

}  // namespace millrace::offline
