// SPDX-License-Identifier: Apache-2.0
// What the command line and the window stand on: one worker thread, at most one loaded pipeline, jobs in
// order. Every member may be called from any thread; none but wait() and the destructor blocks on the worker.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "pipelines/footprint.h"
#include "pipelines/measured_mutex.h"
#include "pipelines/progress.h"
#include "pipelines/registry.h"

namespace sagelab {

// save: where finished latents lie before decoding starts; empty: request.latents, or nowhere.
// decode: a file of finished latents; then nothing is denoised. checkpoints: of a run that may be resumed, or
// that is.
struct JobLatents {
  std::string save, decode;
  Checkpoints checkpoints = {};
};

class Session {
 public:
  using Latents = JobLatents;
  using FindFamily = std::function<const Family&(const std::filesystem::path& model)>;
  using MemoryFor = std::function<int64_t(const at::Device&)>;  // bytes that tensors may take
  explicit Session(FindFamily find_family = family_of, MemoryFor memory = memory_for_tensors);
  ~Session();  // cancels every job and waits for the worker
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Each job ends with exactly one Finished or Failed. capture, hooks: called by the worker.
  JobId submit(Request request, Latents latents = {}, attention::Capturing capture = {},
               StepHooks hooks = {});
  // Requests that will be submitted later: where a job's encoders are freed after use, their prompts are
  // encoded together with the next job's. Those of another model, or that cannot be, are left out.
  void expect(std::vector<Request> requests);
  std::optional<Progress> poll();
  std::optional<Progress> wait(std::chrono::milliseconds timeout);
  void cancel(JobId job);
  // For the job that runs; from its next forward (or call, as its request says). Returns false where none
  // runs, or where its last step is done. Throws sagelab::Error for a bad spec, and for a backend that cannot
  // serve this job.
  bool set_attention(std::string_view spec);
  // Throws sagelab::Error where a run would take more memory than is there now; each job asks before it
  // loads.
  void require_memory(const Plan& plan, const at::Device& device) const;

  // Seconds in which the thread that made this session waited for the worker, wait() apart.
  double longest_wait() const;

 private:
  struct Job {
    JobId id = 0;
    Request request;
    Latents latents;
    attention::Capturing capture;
    StepHooks hooks;
    std::stop_source stop;
  };
  // The loaded pipeline, and what of a request it depends on.
  struct Loaded {
    std::string key;
    std::unique_ptr<Pipeline> pipeline;
  };

  void work(const std::stop_token& stop);
  void run(const std::shared_ptr<Job>& job);
  Frames make_frames(Job& job, std::string& saved_latents);
  Pipeline& pipeline_for(const Family& family, const Request& request, const RunContext& run);
  void stop_switching();
  void say(JobId job, decltype(Progress::what) what);

  FindFamily find_family_;
  MemoryFor memory_;
  Loaded loaded_;  // the worker's own

  // Three locks, so that who submits or switches meets the worker at a job's ends alone, not at each thing
  // that it says.
  MeasuredMutex jobs_mutex_;
  std::condition_variable_any jobs_changed_;
  std::deque<std::shared_ptr<Job>> jobs_;
  std::vector<Request> expected_;
  std::shared_ptr<Job> running_;

  MeasuredMutex attention_mutex_;
  std::shared_ptr<attention::Selector> selector_;  // of the running job
  std::vector<attention::Problem> problems_;       // of its attention

  std::mutex progress_mutex_;
  std::condition_variable progress_changed_;
  std::deque<Progress> progress_;

  JobId last_id_ = 0;
  std::jthread worker_;
};

}  // namespace sagelab
