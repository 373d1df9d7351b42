// SPDX-License-Identifier: Apache-2.0
// Means of K and V and the largest value of each channel of V, over all tokens or over sampled ones, in an
// order that does not depend on the machine: partial results of chunks of tokens, then their sum.
#include "attention/sage2/prologue/dispatch.cuh"
#include "attention/sage2/prologue/stages.h"

namespace sagelab::attention::sage2 {
namespace {

// Slots of a chunk's statistics, each [D].
enum Slot { kSumK, kSumV, kMaxV, kMinV, kSlots };

__device__ float* slot(const Scratch& s, const AttentionParams& shape, int64_t bh, int64_t chunk, Slot which,
                       int dim) {
  return s.statistics + ((bh * s.chunks + chunk) * kSlots + which) * dim;
}

// Combines a value per thread over the rows of a block; the result is in the threads of row 0.
template <class Source, class Combine>
__device__ void over_rows(float (&x)[kVector], float* shared, Combine combine) {
  constexpr int kDim = Source::kDim;
  __syncthreads();
#pragma unroll
  for (int i = 0; i < kVector; ++i) shared[Source::row() * kDim + Source::column() + i] = x[i];
  __syncthreads();
  if (Source::row() != 0) return;
  for (int row = 1; row < Source::kRowsAtOnce; ++row) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) x[i] = combine(x[i], shared[row * kDim + Source::column() + i]);
  }
}

template <class Source>
__device__ void write(float* to, const float (&x)[kVector]) {
  if (Source::row() != 0) return;
#pragma unroll
  for (int i = 0; i < kVector; ++i) to[Source::column() + i] = x[i];
}

// What to look at: every token, or the sampled one of each block.
struct Visits {
  int64_t first, last, length;
  bool all;

  __device__ Visits(int64_t chunk, int64_t tokens, bool every) : length(tokens), all(every) {
    const int64_t count = all ? length : tiles(length, kSampleStride);
    first = chunk * kStatisticsChunk;
    last = first + kStatisticsChunk < count ? first + kStatisticsChunk : count;
  }
  __device__ int64_t token(int64_t visit) const { return all ? visit : sampled_token(visit, length); }
  __device__ bool counts(int64_t token, Mean mean) const {
    return mean == Mean::Full ||
           (mean == Mean::Sampled && token == sampled_token(token / kSampleStride, length));
  }
};

// f(values, token) for each row of the visits that falls to this thread, several of them on their way at
// once.
template <class From, Stream kStream, class F>
__device__ void each_row(const PrologueParams& p, const Visits& visits, F f) {
  constexpr int kAtOnce = 4;
  Reader<From, kStream> fetch(p, blockIdx.z, blockIdx.x), finish = fetch;
  for (int64_t base = visits.first; base < visits.last; base += kAtOnce * From::kRowsAtOnce) {
    typename From::Packed in[kAtOnce];
    int64_t token[kAtOnce];
#pragma unroll
    for (int n = 0; n < kAtOnce; ++n) {
      const int64_t visit = base + n * From::kRowsAtOnce + From::row();
      token[n] = visit < visits.last ? visits.token(visit) : visits.length;
      in[n] = fetch.fetch(token[n]);
    }
#pragma unroll
    for (int n = 0; n < kAtOnce; ++n) {
      float x[kVector];
      finish.finish(x, in[n], token[n]);
      if (token[n] < visits.length) f(x, token[n]);
    }
  }
}

constexpr auto kAdd = [](float a, float b) { return a + b; };

// blockIdx: kv head, chunk, batch: heads first, since they lie side by side in memory.
template <class T, int kLanes>
__global__ __launch_bounds__(kThreads, 3) void statistics_kernel(const __grid_constant__ PrologueParams p,
                                                                 Scratch scratch) {
  using From = Source<T, kLanes>;
  __shared__ float shared[From::kRowsAtOnce * From::kDim];
  const Settings& settings = p.shape.settings;
  const int64_t bh = int64_t(blockIdx.z) * p.shape.kv_heads + blockIdx.x, chunk = blockIdx.y;
  if (wants_k_mean(settings)) {
    const Visits visits(chunk, p.shape.kv_len, settings.smooth_k == Mean::Full);
    float sum[kVector] = {};
    each_row<From, Stream::K>(p, visits, [&](const float(&x)[kVector], int64_t) {
#pragma unroll
      for (int i = 0; i < kVector; ++i) sum[i] += finite(x[i]) ? x[i] : 0.f;
    });
    over_rows<From>(sum, shared, kAdd);
    write<From>(slot(scratch, p.shape, bh, chunk, kSumK, From::kDim), sum);
  }
  if (wants_v_statistics(settings)) {
    const Visits visits(chunk, p.shape.kv_len,
                        settings.v == VScale::Channel || settings.smooth_v == Mean::Full);
    float sum[kVector] = {}, most[kVector], least[kVector];
#pragma unroll
    for (int i = 0; i < kVector; ++i) most[i] = -FLT_MAX, least[i] = FLT_MAX;
    each_row<From, Stream::V>(p, visits, [&](const float(&x)[kVector], int64_t token) {
      const bool counts = visits.counts(token, settings.smooth_v);
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        if (!finite(x[i])) continue;
        if (counts) sum[i] += x[i];
        most[i] = fmaxf(most[i], x[i]), least[i] = fminf(least[i], x[i]);
      }
    });
    over_rows<From>(sum, shared, kAdd);
    write<From>(slot(scratch, p.shape, bh, chunk, kSumV, From::kDim), sum);
    over_rows<From>(most, shared, [](float a, float b) { return fmaxf(a, b); });
    write<From>(slot(scratch, p.shape, bh, chunk, kMaxV, From::kDim), most);
    over_rows<From>(least, shared, [](float a, float b) { return fminf(a, b); });
    write<From>(slot(scratch, p.shape, bh, chunk, kMinV, From::kDim), least);
  }
}

__device__ int64_t visited(const AttentionParams& shape, Mean mean) {
  return mean == Mean::Full ? shape.kv_len : tiles(shape.kv_len, kSampleStride);
}

// blockIdx: kv head, batch; a thread is a channel.
__global__ void finish_kernel(const __grid_constant__ PrologueParams p, Scratch scratch) {
  const int dim = blockDim.x, channel = threadIdx.x;
  const int64_t bh = int64_t(blockIdx.y) * p.shape.kv_heads + blockIdx.x, at = bh * dim + channel;
  const Settings& settings = p.shape.settings;
  const auto chunks = [&](Mean mean, bool all) {
    return tiles(all ? p.shape.kv_len : visited(p.shape, mean), kStatisticsChunk);
  };
  const auto value = [&](Slot which, int64_t chunk) {
    return slot(scratch, p.shape, bh, chunk, which, dim)[channel];
  };
  if (wants_k_mean(settings)) {
    float sum = 0;
    const int64_t n = chunks(settings.smooth_k, false);
    for (int64_t chunk = 0; chunk < n; ++chunk) sum += value(kSumK, chunk);
    p.x.k_mean[at] = sum / float(visited(p.shape, settings.smooth_k));
  }
  if (!wants_v_statistics(settings)) return;
  float sum = 0, most = -FLT_MAX, least = FLT_MAX;
  const int64_t n = chunks(settings.smooth_v, settings.v == VScale::Channel);
  for (int64_t chunk = 0; chunk < n; ++chunk) {
    sum += value(kSumV, chunk);
    most = fmaxf(most, value(kMaxV, chunk)), least = fminf(least, value(kMinV, chunk));
  }
  float mean = 0;
  if (settings.smooth_v != Mean::Off) {
    mean = sum / float(visited(p.shape, settings.smooth_v));
    p.x.v_mean[at] = mean;
  }
  if (settings.v != VScale::Channel) return;
  // most < least where no value is finite.
  const Step step =
      v_step_of(most < least ? 0.f : fmaxf(fabsf(most - mean), fabsf(least - mean)), settings.pv);
  p.x.v_scale[at] = step.scale;
  scratch.v_inverse[at] = step.inverse;
}

}  // namespace

Scratch scratch_of(const PrologueParams& params) {
  const AttentionParams& shape = params.shape;
  const int64_t dim = padded_head_dim(shape.head_dim), heads = int64_t(shape.batch) * shape.kv_heads;
  const int64_t chunks = tiles(shape.kv_len, kStatisticsChunk);
  return {params.partial, params.partial + heads * chunks * kSlots * dim, chunks};
}

int64_t partial_floats(const AttentionParams& shape) {
  const int64_t dim = padded_head_dim(shape.head_dim), heads = int64_t(shape.batch) * shape.kv_heads;
  return heads * dim * (tiles(shape.kv_len, kStatisticsChunk) * kSlots + 1);
}

cudaError_t launch_statistics(const PrologueParams& params, cudaStream_t stream) {
  const AttentionParams& shape = params.shape;
  const Settings& settings = shape.settings;
  if (!wants_k_mean(settings) && !wants_v_statistics(settings)) return cudaSuccess;
  const Scratch scratch = scratch_of(params);
  const bool all =
      settings.smooth_k == Mean::Full || settings.smooth_v == Mean::Full || settings.v == VScale::Channel;
  const int64_t visits = all ? shape.kv_len : tiles(shape.kv_len, kSampleStride);
  const dim3 grid(shape.kv_heads, unsigned(tiles(visits, kStatisticsChunk)), shape.batch);
  return dispatch(shape, [&]<class T, int kLanes>() {
    statistics_kernel<T, kLanes><<<grid, kThreads, 0, stream>>>(params, scratch);
    const cudaError_t status = cudaGetLastError();
    if (status != cudaSuccess) return status;
    finish_kernel<<<dim3(shape.kv_heads, shape.batch), kLanes * kVector, 0, stream>>>(params, scratch);
    return cudaGetLastError();
  });
}

}  // namespace sagelab::attention::sage2
