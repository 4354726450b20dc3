#include "worker/pool/auto_pool.h"
#include "worker/pool/per_job_pool.h"
#include "worker/pool/single_pool.h"

namespace millrace::worker {

std::unique_ptr<Pool> make_pool(const PoolSpec& spec, PoolSetup setup) {
  switch (spec.kind) {
    case PoolSpec::Kind::single:
      return std::make_unique<SinglePool>(std::move(setup));
    case PoolSpec::Kind::per_job:
      return std::make_unique<PerJobPool>(std::move(setup), spec.max);
    case PoolSpec::Kind::fixed:
      return std::make_unique<FixedPool>(std::move(setup), spec.max);
    case PoolSpec::Kind::automatic:
      return std::make_unique<AutoPool>(std::move(setup), spec.min, spec.max);
  }
  return nullptr;
}

}  // namespace millrace::worker
