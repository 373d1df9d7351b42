// SPDX-License-Identifier: Apache-2.0
#include "app/terminal/follow.h"

#include <cstdio>
#include <utility>

#include "app/interrupt.h"
#include "attention/error.h"
#include "pipelines/run.h"

namespace sagelab {

std::variant<Finished, Failed> follow(Session& session, JobId job, ProgressLine& line, const Watch& watch) {
  bool cancelled = false;
  for (;;) {
    if (interrupted() && !std::exchange(cancelled, true)) session.cancel(job);
    if (watch.often) watch.often();
    auto progress = session.wait(std::chrono::milliseconds(50));
    if (!progress) continue;
    line.show(*progress);
    if (watch.seen) watch.seen(*progress);
    if (const auto* notice = std::get_if<Notice>(&progress->what)) {
      line.clear();
      std::fprintf(stderr, "sagelab: %s\n", notice->text.c_str());
    }
    if (auto* finished = std::get_if<Finished>(&progress->what)) return std::move(*finished);
    if (auto* failed = std::get_if<Failed>(&progress->what)) return std::move(*failed);
  }
}

Frames frames_of(Session& session, JobId job, ProgressLine& line) {
  auto end = follow(session, job, line);
  line.clear();
  if (auto* finished = std::get_if<Finished>(&end)) return std::move(finished->frames);
  const auto& failed = std::get<Failed>(end);
  if (failed.cancelled) throw Cancelled();
  throw Error(failed.message, failed.hint);
}

}  // namespace sagelab
