// Every maximum of the wire, named once (docs/PROTOCOL.md, section 6).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace millrace::protocol {

inline constexpr uint64_t kVersion = 1;
inline constexpr size_t kDefaultMaxJobSize = 1 << 20;
inline constexpr size_t kFrameSlack = 1 << 20;  // a frame may exceed max_job_size by this
inline constexpr size_t kMaxJobsPerMessage = 4096;
inline constexpr size_t kMaxRangesPerMessage = 4096;
inline constexpr uint64_t kMaxJobsPerQuery = 1 << 20;
// QUERYs and CANCELs of one session that are not answered yet, their ranges together, and those of
// all sessions (16 bytes each).
inline constexpr size_t kMaxPendingQueries = 256;
inline constexpr size_t kMaxPendingRanges = 65536;
inline constexpr size_t kMaxPendingRangesOfAll = 1 << 22;
inline constexpr size_t kMaxClaims = 65536;
inline constexpr size_t kMaxQueueName = 128;
inline constexpr size_t kMaxQueuesPerWorker = 10000;
inline constexpr size_t kMaxWorkerName = 256;
inline constexpr size_t kMaxLabels = 16;  // of a worker; each as long as a queue's name at most
inline constexpr size_t kMaxErrorText = 1024;
inline constexpr size_t kMaxKey = 64;
inline constexpr uint8_t kMaxPriority = 9;
inline constexpr uint8_t kDefaultPriority = 4;
inline constexpr uint64_t kMaxDelayMs = 100ull * 365 * 24 * 3600 * 1000;  // 100 years
inline constexpr size_t kMaxSessions = 16384;
// Between two attempts of a client to come back: 5 s, times up to 1.5.
inline constexpr std::chrono::milliseconds kLongestPause{7500};

// What a sender aims at for one message of many jobs: libzmq sends frames of this size directly
// from the message, without another copy (32 to 256 KiB).
inline constexpr size_t kTargetFrame = 128 << 10;
inline constexpr size_t kTargetJobs = 1024;

}  // namespace millrace::protocol
