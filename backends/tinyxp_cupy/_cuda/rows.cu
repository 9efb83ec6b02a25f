// Softmax and the loss made of it, over rows of any length. A row belongs to a team of threads: one warp of
// several in a block, or the block. It is read twice at most.

constexpr int kThreads = 512;  // in a block at most

// Of a sum of exponentials: the relative error of __expf, 2 units in the last place and |x| of them, is far
// below half precision.
__device__ __forceinline__ Acc exponential(Acc x) { return sizeof(T) == 2 ? __expf(x) : expf(x); }

// ---------------------------------------------------------------- a row
// Elements before the first and behind the last 16 aligned bytes come one by one. All arrays of a kernel begin
// at a multiple of 16 bytes, so that their rows are split alike.
template <int V>
struct Split {
  int head = 0, packs, n;
  __device__ __forceinline__ Split(const T* row, int size) : n(size) {
    if (V > 1) head = min(n, int((16 - (reinterpret_cast<Size>(row) & 15)) & 15) / int(sizeof(T)));
    packs = (n - head) / V;
  }
  __device__ __forceinline__ int edges() const { return n - packs * V; }
  __device__ __forceinline__ int edge(int i) const { return i < head ? i : i + packs * V; }
  __device__ __forceinline__ int pack(int i) const { return head + i * V; }
};

// Calls work(Width<N>, i) for the N elements from the i-th on, until all are done.
template <int V, class Work>
__device__ __forceinline__ void each(const Split<V>& split, int lane, int lanes, Work work) {
  if (V > 1) {
    for (int i = lane; i < split.edges(); i += lanes) work(Width<1>{}, split.edge(i));
  }
#pragma unroll 2
  for (int i = lane; i < split.packs; i += lanes) work(Width<V>{}, split.pack(i));
}

struct Team {
  int lane, lanes;
  Size row;
  __device__ __forceinline__ explicit Team(int size)
      : lane(size == 32 ? threadIdx.x & 31 : threadIdx.x),
        lanes(size),
        row(Size(blockIdx.x) * (blockDim.x / size) + threadIdx.x / size) {}
  __device__ __forceinline__ Acc sum(Acc x, Acc* shared) const {
    return lanes == 32 ? warp_sum(x) : block_sum(x, shared);
  }
};

// ---------------------------------------------------------------- sums of exponentials
// The largest of some numbers, and the sum of the exponentials of all less the largest. A NaN is in the sum.
struct Exponentials {
  Acc top, sum;
};

__device__ __forceinline__ Acc shift_of(Acc top) { return top == -INFINITY ? Acc(0) : top; }

__device__ __forceinline__ Exponentials merge(Exponentials a, Exponentials b) {
  const Acc top = fmaxf(a.top, b.top), shift = shift_of(top);
  return {top, a.sum * exponential(a.top - shift) + b.sum * exponential(b.top - shift)};
}

__device__ __forceinline__ Exponentials warp_merge(Exponentials x) {
#pragma unroll
  for (int lane = 16; lane; lane >>= 1) {
    x = merge(x, {__shfl_xor_sync(kAll, x.top, lane), __shfl_xor_sync(kAll, x.sum, lane)});
  }
  // Rounding may differ between the lanes; all take the first one's.
  return {__shfl_sync(kAll, x.top, 0), __shfl_sync(kAll, x.sum, 0)};
}

__device__ __forceinline__ Exponentials team_merge(Exponentials x, const Team& team, Acc* shared) {
  x = warp_merge(x);
  if (team.lanes == 32) return x;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  __syncthreads();
  if (lane == 0) {
    shared[warp] = x.top;
    shared[32 + warp] = x.sum;
  }
  __syncthreads();
  x = {lane < warps ? shared[lane] : -INFINITY, lane < warps ? shared[32 + lane] : Acc(0)};
  return warp_merge(x);
}

// What one thread sees of a row; the plain sum goes to `total` where it is asked for.
template <int V, bool kTotal>
__device__ __forceinline__ Exponentials scan(const T* row, const Split<V>& split, const Team& team, Acc& total) {
  constexpr int kAhead = 4;  // loads under way together
  Exponentials seen = {-INFINITY, 0};
  if (V > 1) {
    for (int i = team.lane; i < split.edges(); i += team.lanes) {
      const Acc x = widen(row[split.edge(i)]);
      seen = merge(seen, {x, 1});
      if (kTotal) total += x;
    }
  }
  for (int first = team.lane; first < split.packs; first += kAhead * team.lanes) {
    Neighbours<T, V> found[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const int i = first + k * team.lanes;
      if (i < split.packs) found[k] = at<V>(row + split.pack(i));
    }
    Acc top = seen.top;
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      if (first + k * team.lanes >= split.packs) continue;
#pragma unroll
      for (int i = 0; i < V; ++i) top = fmaxf(top, widen(found[k].at[i]));
    }
    const Acc shift = shift_of(top);
    seen.sum *= exponential(seen.top - shift);
    seen.top = top;
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      if (first + k * team.lanes >= split.packs) continue;
#pragma unroll
      for (int i = 0; i < V; ++i) {
        const Acc x = widen(found[k].at[i]);
        seen.sum += exponential(x - shift);
        if (kTotal) total += x;
      }
    }
  }
  return seen;
}

// ---------------------------------------------------------------- softmax
template <int V>
__device__ __forceinline__ void softmax_rows(const T* x, T* out, Size rows, int n, const Team& team, int logarithm) {
  __shared__ Acc shared[64];
  if (team.row >= rows) return;
  const T* from = x + team.row * n;
  T* to = out + team.row * n;
  const Split<V> split(from, n);
  Acc unused = 0;
  const Exponentials found = team_merge(scan<V, false>(from, split, team, unused), team, shared);
  const Acc scale = 1 / found.sum, less = logf(found.sum);
  each(split, team.lane, team.lanes, [&](auto width, int i) {
    Acc held[decltype(width)::value];
    load(from + i, held);
#pragma unroll
    for (Acc& y : held) y = logarithm ? (y - found.top) - less : exponential(y - found.top) * scale;
    store(to + i, held);
  });
}

extern "C" __global__ void __launch_bounds__(kThreads)
softmax(const T* x, T* out, Size rows, Size n, Size lanes, int logarithm) {
  softmax_rows<kPack>(x, out, rows, n, Team(lanes), logarithm);
}
extern "C" __global__ void __launch_bounds__(kThreads)
softmax_by_one(const T* x, T* out, Size rows, Size n, Size lanes, int logarithm) {
  softmax_rows<1>(x, out, rows, n, Team(lanes), logarithm);
}

// Of softmax out * (g - sum(g * out)), of its logarithm g - exp(out) * sum(g).
template <int V>
__device__ __forceinline__ void softmax_vjp_rows(
    const T* g, const T* out, T* gx, Size rows, int n, const Team& team, int logarithm) {
  __shared__ Acc shared[32];
  if (team.row >= rows) return;
  const Size start = team.row * n;
  const Split<V> split(g + start, n);
  Acc sum = 0;
  each(split, team.lane, team.lanes, [&](auto width, int i) {
    Acc above[decltype(width)::value], y[decltype(width)::value];
    load(g + start + i, above);
    if (!logarithm) load(out + start + i, y);
#pragma unroll
    for (int k = 0; k < decltype(width)::value; ++k) sum += logarithm ? above[k] : above[k] * y[k];
  });
  sum = team.sum(sum, shared);
  each(split, team.lane, team.lanes, [&](auto width, int i) {
    Acc above[decltype(width)::value], y[decltype(width)::value];
    load(g + start + i, above);
    load(out + start + i, y);
#pragma unroll
    for (int k = 0; k < decltype(width)::value; ++k) {
      above[k] = logarithm ? above[k] - exponential(y[k]) * sum : y[k] * (above[k] - sum);
    }
    store(gx + start + i, above);
  });
}

extern "C" __global__ void __launch_bounds__(kThreads)
softmax_vjp(const T* g, const T* out, T* gx, Size rows, Size n, Size lanes, int logarithm) {
  softmax_vjp_rows<kPack>(g, out, gx, rows, n, Team(lanes), logarithm);
}
extern "C" __global__ void __launch_bounds__(kThreads)
softmax_vjp_by_one(const T* g, const T* out, T* gx, Size rows, Size n, Size lanes, int logarithm) {
  softmax_vjp_rows<1>(g, out, gx, rows, n, Team(lanes), logarithm);
}

// Along an axis that is not the last, (outer, n, inner): a thread for each of the other indices, neighbours
// beside each other. It adds up in pieces, to keep the rounding of a long sum small.
template <class Term>
__device__ __forceinline__ Acc sum_in_pieces(Size n, Term term) {
  constexpr Size kPiece = 256;
  Acc total = 0;
  for (Size first = 0; first < n; first += kPiece) {
    Acc sum = 0;
    for (Size i = first; i < min(first + kPiece, n); ++i) sum += term(i);
    total += sum;
  }
  return total;
}

extern "C" __global__ void softmax_columns(const T* x, T* out, Size outer, Size n, Size inner, int logarithm) {
  const Size column = Size(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= outer * inner) return;
  const Size start = column / inner * n * inner + column % inner;
  Acc top = -INFINITY;
  for (Size i = 0; i < n; ++i) top = fmaxf(top, widen(x[start + i * inner]));
  const Acc sum = sum_in_pieces(n, [&](Size i) { return exponential(widen(x[start + i * inner]) - top); });
  const Acc scale = 1 / sum, less = logf(sum);
  for (Size i = 0; i < n; ++i) {
    const Acc y = widen(x[start + i * inner]) - top;
    out[start + i * inner] = narrow(logarithm ? y - less : exponential(y) * scale);
  }
}

extern "C" __global__ void softmax_vjp_columns(
    const T* g, const T* out, T* gx, Size outer, Size n, Size inner, int logarithm) {
  const Size column = Size(blockIdx.x) * blockDim.x + threadIdx.x;
  if (column >= outer * inner) return;
  const Size start = column / inner * n * inner + column % inner;
  const Acc sum = sum_in_pieces(n, [&](Size i) {
    const Size j = start + i * inner;
    return logarithm ? widen(g[j]) : widen(g[j]) * widen(out[j]);
  });
  for (Size i = 0; i < n; ++i) {
    const Size j = start + i * inner;
    const Acc above = widen(g[j]), y = widen(out[j]);
    gx[j] = narrow(logarithm ? above - exponential(y) * sum : y * (above - sum));
  }
}

// ---------------------------------------------------------------- cross-entropy
// The loss of each row, 0 of one that is ignored and NaN of a target that is no class; and for the vjp the
// largest logit and 1 / the sum of the exponentials of all less the largest.
template <int V>
__device__ __forceinline__ void cross_entropy_rows(
    const T* logits, const Size* targets, Acc* tops, Acc* scales, Acc* losses, Size rows, int n, const Team& team,
    Size ignored, Acc smoothing) {
  __shared__ Acc shared[64];
  if (team.row >= rows) return;
  const Size target = targets[team.row];
  if (target == ignored) {
    if (team.lane == 0) losses[team.row] = 0;
    return;
  }
  const T* row = logits + team.row * n;
  const Split<V> split(row, n);
  Acc total = 0;
  Exponentials found;
  if (smoothing != 0) {
    found = team_merge(scan<V, true>(row, split, team, total), team, shared);
    total = team.sum(total, shared);
  } else {
    found = team_merge(scan<V, false>(row, split, team, total), team, shared);
  }
  if (team.lane) return;
  tops[team.row] = found.top;
  scales[team.row] = 1 / found.sum;
  Acc loss = NAN;
  if (target >= 0 && target < n) {
    loss = logf(found.sum) - (1 - smoothing) * (widen(row[target]) - found.top);
    if (smoothing != 0) loss -= smoothing * (total / n - found.top);
  }
  losses[team.row] = loss;
}

extern "C" __global__ void __launch_bounds__(kThreads)
cross_entropy(const T* logits, const Size* targets, Acc* stats, Acc* losses, Size rows, Size n, Size lanes,
              Size ignored, Acc smoothing) {
  cross_entropy_rows<kPack>(logits, targets, stats, stats + rows, losses, rows, n, Team(lanes), ignored, smoothing);
}
extern "C" __global__ void __launch_bounds__(kThreads)
cross_entropy_by_one(const T* logits, const Size* targets, Acc* stats, Acc* losses, Size rows, Size n, Size lanes,
                     Size ignored, Acc smoothing) {
  cross_entropy_rows<1>(logits, targets, stats, stats + rows, losses, rows, n, Team(lanes), ignored, smoothing);
}

// The mean of the losses that count, and how many these are, but at least 1; one block.
extern "C" __global__ void __launch_bounds__(1024)
mean_loss(const Acc* losses, const Size* targets, Acc* out, Acc* count, Size rows, Size ignored) {
  __shared__ Acc shared[32];
  Acc sum = 0, kept = 0;
#pragma unroll 4
  for (Size row = threadIdx.x; row < rows; row += blockDim.x) {
    sum += losses[row];
    kept += targets[row] != ignored;
  }
  sum = block_sum(sum, shared);
  kept = fmaxf(block_sum(kept, shared), 1);
  if (threadIdx.x == 0) {
    out[0] = sum / kept;
    count[0] = kept;
  }
}

// (softmax - target distribution) * g / count; a target that is no class counts as the nearest.
template <int V>
__device__ __forceinline__ void cross_entropy_vjp_rows(
    const T* logits, const Size* targets, const Acc* tops, const Acc* scales, Acc slope, T* gx, Size rows, int n,
    const Team& team, Size ignored, Acc smoothing) {
  if (team.row >= rows) return;
  const T* from = logits + team.row * n;
  T* to = gx + team.row * n;
  const Split<V> split(from, n);
  Size target = targets[team.row];
  const bool kept = target != ignored;
  target = target < 0 ? 0 : target >= n ? n - 1 : target;
  const Acc top = kept ? tops[team.row] : Acc(0), scale = kept ? scales[team.row] : Acc(0);
  const Acc spread = smoothing / n, hit = 1 - smoothing;
  each(split, team.lane, team.lanes, [&](auto width, int i) {
    Acc held[decltype(width)::value];
    if (kept) load(from + i, held);
#pragma unroll
    for (int k = 0; k < decltype(width)::value; ++k) {
      if (kept) {
        held[k] = exponential(held[k] - top) * scale - spread;
        if (i + k == target) held[k] -= hit;
        held[k] *= slope;
      } else {
        held[k] = 0;
      }
    }
    store(to + i, held);
  });
}

extern "C" __global__ void __launch_bounds__(kThreads)
cross_entropy_vjp(const T* logits, const Size* targets, const Acc* stats, const Acc* count, const Acc* g, T* gx,
                  Size rows, Size n, Size lanes, Size ignored, Acc smoothing) {
  cross_entropy_vjp_rows<kPack>(
      logits, targets, stats, stats + rows, g[0] / count[0], gx, rows, n, Team(lanes), ignored, smoothing);
}
extern "C" __global__ void __launch_bounds__(kThreads)
cross_entropy_vjp_by_one(const T* logits, const Size* targets, const Acc* stats, const Acc* count, const Acc* g, T* gx,
                         Size rows, Size n, Size lanes, Size ignored, Acc smoothing) {
  cross_entropy_vjp_rows<1>(
      logits, targets, stats, stats + rows, g[0] / count[0], gx, rows, n, Team(lanes), ignored, smoothing);
}
