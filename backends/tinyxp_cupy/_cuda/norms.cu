// Normalisation of rows, forward and backward: a row in the registers of one team of threads.
// T is the type of what is normalised and of its parameters, U that of what goes into a product or comes from one.

constexpr int kThreads = 512;  // in a block at most
// Elements of a row that a thread holds in the forward pass, and in the backward pass, where it holds more of
// each; kSingle where they come one by one.
constexpr int kForward = 32, kBackward = 8, kSingle = 8;
constexpr int kWide = 16 / (sizeof(T) < sizeof(U) ? sizeof(T) : sizeof(U));

// A team is one warp of several in a block, or the block.
__device__ __forceinline__ Acc team_sum(Acc x, int lanes, Acc* shared) {
  return lanes == 32 ? warp_sum(x) : block_sum(x, shared);
}

// ---------------------------------------------------------------- forward
struct Forward {
  const T* x;
  const void* y;  // added to x first, if there; of type T if `same`, else of U
  const T *gamma, *beta;
  T* sum;  // x + y
  U* out;
  Acc *mean, *rstd;
  Size rows;
  int n, lanes, same;
  Acc eps;
};

template <int V, bool kCentred>
__device__ __forceinline__ void forward(const Forward& a) {
  constexpr int kParts = V == 1 ? kSingle : kForward / V;
  __shared__ Acc shared[32];
  const int lane = a.lanes == 32 ? threadIdx.x & 31 : threadIdx.x;
  const Size row = Size(blockIdx.x) * (blockDim.x / a.lanes) + threadIdx.x / a.lanes;
  if (row >= a.rows) return;  // a whole team; where others go on, no barrier is in their way
  const Size start = row * a.n;
  // All loads before the first use of one, so that they are under way together.
  Neighbours<T, V> found[kParts], same[kParts];
  Neighbours<U, V> other[kParts];
#pragma unroll
  for (int k = 0; k < kParts; ++k) {
    const int column = (lane + k * a.lanes) * V;
    if (column < a.n) {
      found[k] = at<V>(a.x + start + column);
      if (a.y && a.same) same[k] = at<V>(static_cast<const T*>(a.y) + start + column);
      if (a.y && !a.same) other[k] = at<V>(static_cast<const U*>(a.y) + start + column);
    }
  }
  Acc held[kParts][V];
  Acc total = 0;
#pragma unroll
  for (int k = 0; k < kParts; ++k) {
    const int column = (lane + k * a.lanes) * V;
    if (column < a.n) {
      if (a.y) {
#pragma unroll
        for (int i = 0; i < V; ++i) {
          const Acc more = a.same ? widen(same[k].at[i]) : widen(other[k].at[i]);
          found[k].at[i] = narrow(widen(found[k].at[i]) + more);
        }
        at<V>(a.sum + start + column) = found[k];
      }
#pragma unroll
      for (int i = 0; i < V; ++i) total += held[k][i] = widen(found[k].at[i]);
    }
  }
  const Acc mean = kCentred ? team_sum(total, a.lanes, shared) / a.n : Acc(0);
  total = 0;
#pragma unroll
  for (int k = 0; k < kParts; ++k) {
    if ((lane + k * a.lanes) * V < a.n) {
#pragma unroll
      for (int i = 0; i < V; ++i) {
        held[k][i] -= mean;
        total += held[k][i] * held[k][i];
      }
    }
  }
  const Acc rstd = 1 / sqrtf(team_sum(total, a.lanes, shared) / a.n + a.eps);
  if (lane == 0) {
    if (kCentred) a.mean[row] = mean;
    a.rstd[row] = rstd;
  }
#pragma unroll
  for (int k = 0; k < kParts; ++k) {
    const int column = (lane + k * a.lanes) * V;
    if (column >= a.n) break;
    Acc scale[V], shift[V];
    load<V>(a.gamma + column, scale);
    if (a.beta) load<V>(a.beta + column, shift);
#pragma unroll
    for (int i = 0; i < V; ++i) {
      held[k][i] *= rstd * scale[i];
      if (a.beta) held[k][i] += shift[i];
    }
    store<V>(a.out + start + column, held[k]);
  }
}

// Each kernel in two forms: by 16 bytes, and one by one where arrays do not begin or rows not end so.
extern "C" __global__ void __launch_bounds__(kThreads)
layer_norm(const T* x, const void* y, const T* gamma, const T* beta, T* sum, U* out, Acc* stats, Size rows,
           Size n, Size lanes, int same, Acc eps) {
  forward<kWide, true>({x, y, gamma, beta, sum, out, stats, stats + rows, rows, int(n), int(lanes), same, eps});
}

extern "C" __global__ void __launch_bounds__(kThreads)
rms_norm(const T* x, const T* gamma, U* out, Acc* stats, Size rows, Size n, Size lanes, Acc eps) {
  forward<kWide, false>(
      {x, nullptr, gamma, nullptr, nullptr, out, nullptr, stats, rows, int(n), int(lanes), 0, eps});
}

extern "C" __global__ void __launch_bounds__(kThreads)
layer_norm_by_one(const T* x, const void* y, const T* gamma, const T* beta, T* sum, U* out, Acc* stats, Size rows, Size n,
                  Size lanes, int same, Acc eps) {
  forward<1, true>({x, y, gamma, beta, sum, out, stats, stats + rows, rows, int(n), int(lanes), same, eps});
}

extern "C" __global__ void __launch_bounds__(kThreads)
rms_norm_by_one(const T* x, const T* gamma, U* out, Acc* stats, Size rows, Size n, Size lanes, Acc eps) {
  forward<1, false>(
      {x, nullptr, gamma, nullptr, nullptr, out, nullptr, stats, rows, int(n), int(lanes), 0, eps});
}

// ---------------------------------------------------------------- backward
struct Backward {
  const U* g;
  const T *add, *x, *gamma;  // `add` is added to the cotangent of x, if there
  const Acc *mean, *rstd;
  T* gx;
  U* copy;     // of gx
  Acc* parts;  // (blocks, 2, n) or (blocks, 1, n): each block's share in the cotangents of gamma and beta
  Size rows;
  int n, lanes;
};

// A thread has the same columns in every row, so it adds up their share in the parameters' cotangents as it
// goes. Teams of one block add theirs in order at the end, blocks theirs in the next launch: no atomics.
template <int V, bool kCentred>
__device__ __forceinline__ void backward(const Backward& a) {
  constexpr int kParts = kBackward / V;
  __shared__ Acc shared[2][2][32];
  extern __shared__ Acc columns[];
  const int teams = blockDim.x / a.lanes, team = threadIdx.x / a.lanes, lane = threadIdx.x % a.lanes;
  const int warps = a.lanes / 32, own = threadIdx.x / 32;
  Acc ggamma[kParts][V] = {}, gbeta[kParts][V] = {};
  int turn = 0;
  for (Size first = Size(blockIdx.x) * teams; first < a.rows; first += Size(gridDim.x) * teams) {
    const Size row = first + team, start = row * a.n;
    const bool inside = row < a.rows;
    const Acc mean = inside && kCentred ? a.mean[row] : Acc(0), rstd = inside ? a.rstd[row] : Acc(0);
    Neighbours<T, V> found[kParts], extra[kParts];
    Neighbours<U, V> above[kParts];
#pragma unroll
    for (int k = 0; k < kParts; ++k) {
      const int column = (lane + k * a.lanes) * V;
      if (inside && column < a.n) {
        found[k] = at<V>(a.x + start + column);
        above[k] = at<V>(a.g + start + column);
        if (a.add) extra[k] = at<V>(a.add + start + column);
      }
    }
    Acc normal[kParts][V], slope[kParts][V];
    Acc level = 0, tilt = 0;
#pragma unroll
    for (int k = 0; k < kParts; ++k) {
      const int column = (lane + k * a.lanes) * V;
      if (inside && column < a.n) {
        Acc scale[V];
        load<V>(a.gamma + column, scale);
#pragma unroll
        for (int i = 0; i < V; ++i) {
          const Acc g = widen(above[k].at[i]);
          normal[k][i] = (widen(found[k].at[i]) - mean) * rstd;
          ggamma[k][i] += g * normal[k][i];
          if (kCentred) gbeta[k][i] += g;
          slope[k][i] = g * scale[i];
          level += slope[k][i];
          tilt += slope[k][i] * normal[k][i];
        }
      }
    }
    if (!a.gx) continue;
    level = warp_sum(level);
    tilt = warp_sum(tilt);
    if (warps > 1) {
      // Two buffers in turn, so that one barrier a row is enough.
      if ((lane & 31) == 0) {
        shared[turn][0][own] = level;
        shared[turn][1][own] = tilt;
      }
      __syncthreads();
      level = tilt = 0;
      for (int i = team * warps; i < (team + 1) * warps; ++i) {
        level += shared[turn][0][i];
        tilt += shared[turn][1][i];
      }
      turn ^= 1;
    }
    level = kCentred ? level / a.n : Acc(0);
    tilt /= a.n;
#pragma unroll
    for (int k = 0; k < kParts; ++k) {
      const int column = (lane + k * a.lanes) * V;
      if (inside && column < a.n) {
#pragma unroll
        for (int i = 0; i < V; ++i) {
          slope[k][i] = (slope[k][i] - level - normal[k][i] * tilt) * rstd;
          if (a.add) slope[k][i] += widen(extra[k].at[i]);
        }
        store<V>(a.gx + start + column, slope[k]);
        if (a.copy) store<V>(a.copy + start + column, slope[k]);
      }
    }
  }
  if (!a.parts) return;
  Acc* part = a.parts + Size(blockIdx.x) * a.n * (kCentred ? 2 : 1);
  for (int t = 0; t < teams; ++t) {
    if (team == t) {
      Acc* to = t + 1 < teams ? columns : part;
#pragma unroll
      for (int k = 0; k < kParts; ++k) {
        const int column = (lane + k * a.lanes) * V;
        if (column >= a.n) break;
#pragma unroll
        for (int i = 0; i < V; ++i) {
          const int at = column + i;
          to[at] = ggamma[k][i] + (t ? columns[at] : Acc(0));
          if (kCentred) to[a.n + at] = gbeta[k][i] + (t ? columns[a.n + at] : Acc(0));
        }
      }
    }
    __syncthreads();
  }
}

extern "C" __global__ void __launch_bounds__(kThreads)
layer_norm_vjp(const U* g, const T* add, const T* x, const T* gamma, const Acc* stats, T* gx, U* copy, Acc* parts,
               Size rows, Size n, Size lanes) {
  backward<kWide, true>({g, add, x, gamma, stats, stats + rows, gx, copy, parts, rows, int(n), int(lanes)});
}

extern "C" __global__ void __launch_bounds__(kThreads)
rms_norm_vjp(const U* g, const T* add, const T* x, const T* gamma, const Acc* stats, T* gx, U* copy, Acc* parts,
             Size rows, Size n, Size lanes) {
  backward<kWide, false>({g, add, x, gamma, nullptr, stats, gx, copy, parts, rows, int(n), int(lanes)});
}

extern "C" __global__ void __launch_bounds__(kThreads)
layer_norm_vjp_by_one(const U* g, const T* add, const T* x, const T* gamma, const Acc* stats, T* gx, U* copy, Acc* parts,
                      Size rows, Size n, Size lanes) {
  backward<1, true>({g, add, x, gamma, stats, stats + rows, gx, copy, parts, rows, int(n), int(lanes)});
}

extern "C" __global__ void __launch_bounds__(kThreads)
rms_norm_vjp_by_one(const U* g, const T* add, const T* x, const T* gamma, const Acc* stats, T* gx, U* copy, Acc* parts,
                    Size rows, Size n, Size lanes) {
  backward<1, false>({g, add, x, gamma, nullptr, stats, gx, copy, parts, rows, int(n), int(lanes)});
}

// The sum of each of `width` columns over `count` rows, in blocks of 32 columns and up to 32 warps: the first
// `split` columns to `first`, the others to `second`, where these are there.
extern "C" __global__ void __launch_bounds__(1024)
sum_columns(const Acc* parts, T* first, T* second, Size count, Size width, Size split) {
  __shared__ Acc shared[32][33];
  const int lane = threadIdx.x & 31, group = threadIdx.x >> 5, groups = blockDim.x >> 5;
  const Size start = Size(blockIdx.x) * 32;
  Acc sum = 0;
  if (start + lane < width) {
#pragma unroll 4
    for (Size row = group; row < count; row += groups) sum += parts[row * width + start + lane];
  }
  shared[group][lane] = sum;
  __syncthreads();
  for (int i = group; i < 32; i += groups) {
    sum = warp_sum(lane < groups ? shared[lane][i] : Acc(0));
    const Size column = start + i;
    if (lane || column >= width) continue;
    if (column < split) {
      if (first) first[column] = narrow(sum);
    } else if (second) {
      second[column - split] = narrow(sum);
    }
  }
}
