// A token for each row of logits, without sorting: bounds on the logits are found digit by digit, and the weights are
// whole numbers, whose sums do not depend on their order.

typedef unsigned long long Mass;
typedef unsigned int Key;
constexpr int kSampling = 512;   // threads of a block, which has a row
constexpr int kDigit = 4, kBins = 16;

__device__ __forceinline__ Key key_of(float x) {
  if (x != x) return 0xffffffffu;  // NaN is above all
  const Key bits = __float_as_uint(x + 0.0f);  // -0 is 0
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ __forceinline__ float value_of(Key key) {
  return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

__device__ Mass block_mass(Mass x, Mass* shared) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
  for (int other = 16; other; other >>= 1) x += __shfl_xor_sync(kAll, x, other);
  __syncthreads();
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  x = lane < kSampling / 32 ? shared[lane] : 0;
#pragma unroll
  for (int other = 16; other; other >>= 1) x += __shfl_xor_sync(kAll, x, other);
  return x;
}

__device__ Mass block_largest(Mass x, Mass* shared) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
#pragma unroll
  for (int other = 16; other; other >>= 1) {
    const Mass y = __shfl_xor_sync(kAll, x, other);
    if (y > x) x = y;
  }
  __syncthreads();
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  x = lane < kSampling / 32 ? shared[lane] : 0;
#pragma unroll
  for (int other = 16; other; other >>= 1) {
    const Mass y = __shfl_xor_sync(kAll, x, other);
    if (y > x) x = y;
  }
  return x;
}

// The sum of x over the threads before this one.
__device__ Mass block_before(Mass x, Mass* shared) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  Mass sum = x;
#pragma unroll
  for (int other = 1; other < 32; other <<= 1) {
    const Mass y = __shfl_up_sync(kAll, sum, other);
    if (lane >= other) sum += y;
  }
  __syncthreads();
  if (lane == 31) shared[warp] = sum;
  __syncthreads();
  Mass before = 0;
  for (int w = 0; w < warp; ++w) before += shared[w];
  return before + sum - x;
}

// Half of a warp's exchange: a lane keeps one half of its numbers and gets the other lane's of them.
template <int kept>
__device__ __forceinline__ void exchange(Mass (&bins)[kBins]) {
  const bool upper = threadIdx.x & (2 * kept);
#pragma unroll
  for (int b = 0; b < kept; ++b) {
    const Mass low = bins[b], high = bins[b + kept];
    bins[b] = (upper ? high : low) + __shfl_xor_sync(kAll, upper ? low : high, 2 * kept);
  }
}

// The sums of each of kBins numbers over all threads, in `totals`, by 16 exchanges in a warp instead of 80.
__device__ __forceinline__ void block_bins(Mass (&bins)[kBins], Mass* parts, Mass* totals) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  exchange<8>(bins);
  exchange<4>(bins);
  exchange<2>(bins);
  exchange<1>(bins);
  const Mass sum = bins[0] + __shfl_xor_sync(kAll, bins[0], 1);
  __syncthreads();  // `totals` may still be read
  if (!(lane & 1)) parts[warp * kBins + lane / 2] = sum;
  __syncthreads();
  if (threadIdx.x < kBins) {
    Mass total = 0;
    for (int w = 0; w < kSampling / 32; ++w) total += parts[w * kBins + threadIdx.x];
    totals[threadIdx.x] = total;
  }
  __syncthreads();
}

// Where each element of a row weighs something: 1, or its probability.
struct Counted {
  __device__ Mass operator()(Size) const { return 1; }
};
struct Weighed {
  const Mass* weights;
  __device__ Mass operator()(Size i) const { return weights[i]; }
};

// Walks down the digits of the keys. With `fewest` true it ends at the largest key that, with those above it, weighs
// at least `bound`; otherwise at the smallest key of some weight above which there is less than `bound`. `above`
// becomes what is above it.
template <class Weight>
__device__ Key descend(const T* logits, Size n, Weight weight, double bound, bool fewest, Mass* above) {
  __shared__ Mass totals[kBins], parts[kSampling / 32 * kBins];
  __shared__ Key chosen;
  __shared__ Mass over;
  Key prefix = 0;
  if (threadIdx.x == 0) over = 0;
  for (int shift = 32 - kDigit; shift >= 0; shift -= kDigit) {
    Mass bins[kBins] = {};
    for (Size i = threadIdx.x; i < n; i += kSampling) {
      const Key key = key_of(widen(logits[i]));
      if (shift + kDigit < 32 && key >> (shift + kDigit) != prefix >> (shift + kDigit)) continue;
      const int digit = (key >> shift) & (kBins - 1);
      const Mass own = weight(i);
#pragma unroll
      for (int b = 0; b < kBins; ++b) bins[b] += b == digit ? own : 0;
    }
    block_bins(bins, parts, totals);
    if (threadIdx.x == 0) {
      Mass sum = over, found = over;
      int best = kBins - 1;
      for (int b = kBins - 1; b >= 0; --b) {
        if (fewest) {
          best = b, found = sum;
          if (static_cast<double>(sum + totals[b]) >= bound) break;
        } else if (totals[b]) {
          if (static_cast<double>(sum) >= bound) break;
          best = b, found = sum;
        }
        sum += totals[b];
      }
      over = found;
      chosen = prefix | static_cast<Key>(best) << shift;
    }
    __syncthreads();
    prefix = chosen;
  }
  *above = over;
  __syncthreads();
  return prefix;
}

// Threefry-2x32 with 20 rounds (Salmon and others, 2011).
__device__ void threefry(Key k0, Key k1, Key c0, Key c1, Key* x0, Key* x1) {
  const Key keys[3] = {k0, k1, k0 ^ k1 ^ 0x1BD11BDAu};
  const int turns[8] = {13, 15, 26, 6, 17, 29, 16, 24};
  Key a = c0 + k0, b = c1 + k1;
#pragma unroll
  for (int group = 0; group < 5; ++group) {
#pragma unroll
    for (int r = 0; r < 4; ++r) {
      const int turn = turns[4 * (group % 2) + r];
      a += b;
      b = ((b << turn) | (b >> (32 - turn))) ^ a;
    }
    a += keys[(group + 1) % 3];
    b += keys[(group + 2) % 3] + group + 1;
  }
  *x0 = a, *x1 = b;
}

// `drawing` holds two words of a key and the number of the draw under it; without it `k0` and `k1` are the key of the
// draw itself. Weights are multiples of 2**-bits of the largest.
extern "C" __global__ void __launch_bounds__(512)
    sample(const T* logits, Size n, Size stride, unsigned int k0, unsigned int k1, const Size* drawing,
           double temperature, Size top_k, double top_p, int bits, Mass* weights, Size* tokens) {
  __shared__ Mass shared[32];
  const T* row = logits + blockIdx.x * stride;
  Mass* own = weights + blockIdx.x * n;
  Mass best = 0;  // the key of an element, and in its lower half how far it is from the end
  for (Size i = threadIdx.x; i < n; i += kSampling) {
    const Mass both = static_cast<Mass>(key_of(widen(row[i]))) << 32 | static_cast<Key>(~static_cast<Key>(i));
    if (both > best) best = both;
  }
  best = block_largest(best, shared);
  const Key top = best >> 32;
  const float largest = value_of(top);
  const bool lost = top == 0xffffffffu || largest == INFINITY || largest == -INFINITY;
  if (temperature == 0.0 || lost) {
    if (threadIdx.x == 0) tokens[blockIdx.x] = temperature == 0.0 ? static_cast<Size>(~static_cast<Key>(best)) : 0;
    return;
  }
  const double peak = largest, unit = static_cast<double>(Mass(1) << bits);
  double least = -INFINITY;
  if (top_k > 0 && top_k < n) {
    Mass above;
    const Key last = descend(row, n, Counted(), static_cast<double>(top_k), true, &above);
    least = (static_cast<double>(value_of(last)) - peak) / temperature;
  }
  Mass total = 0;
  for (Size i = threadIdx.x; i < n; i += kSampling) {
    const double scaled = (static_cast<double>(widen(row[i])) - peak) / temperature;
    own[i] = scaled < least ? 0 : static_cast<Mass>(exp(scaled) * unit);
    total += own[i];
  }
  total = block_mass(total, shared);  // has barriers: all weights are there
  const Size width = (n + kSampling - 1) / kSampling, from = threadIdx.x * width;
  const Size to = from + width < n ? from + width : n;
  Key bound = 0;
  Mass ties = 0, before = 0;
  if (top_p < 1.0) {
    Mass above;
    const double wanted = top_p * static_cast<double>(total);
    bound = descend(row, n, Weighed{own}, wanted, false, &above);
    Mass equal = 0, same = 0;  // how many are exactly at the bound, and what one of them weighs
    for (Size i = from; i < to; ++i) {
      if (key_of(widen(row[i])) == bound) ++equal, same = own[i];
    }
    before = block_before(equal, shared);
    same = block_largest(same, shared);
    const Mass all = block_mass(equal, shared);
    while (ties < all && static_cast<double>(above + ties * same) < wanted) {
      const double left = (wanted - static_cast<double>(above + ties * same)) / static_cast<double>(same);
      const Mass more = left > 1.0 ? static_cast<Mass>(left) : 1;
      ties = ties + more < all ? ties + more : all;
    }
  }
  Mass sum = 0, seen = before;
  for (Size i = from; i < to; ++i) {
    if (top_p < 1.0) {
      const Key key = key_of(widen(row[i]));
      if (key < bound || (key == bound && seen++ >= ties)) own[i] = 0;
    }
    sum += own[i];
  }
  Mass reached = block_before(sum, shared);
  total = block_mass(sum, shared);
  if (drawing) {
    const Size index = drawing[2];
    threefry(static_cast<Key>(drawing[0]), static_cast<Key>(drawing[1]), static_cast<Key>(index),
             static_cast<Key>(index >> 32), &k0, &k1);
  }
  Key x0, x1;
  threefry(k0, k1, blockIdx.x, 0, &x0, &x1);
  const double uniform =
      static_cast<double>((static_cast<Mass>(x0 >> 5) << 26) + (x1 >> 6)) * (1.0 / 9007199254740992.0);
  const double mark = uniform * static_cast<double>(total);
  Mass found = 0;  // how far the first element is from the end with which the sum passes the mark
  for (Size i = from; i < to; ++i) {
    reached += own[i];
    if (own[i] && static_cast<double>(reached) > mark) {
      found = n - i;
      break;
    }
  }
  found = block_largest(found, shared);
  if (threadIdx.x == 0) tokens[blockIdx.x] = n - static_cast<Size>(found);
}

// Goes on to the next position and the next draw.
extern "C" __global__ void advance_step(Size* position, Size* drawing) {
  if (threadIdx.x) return;
  *position += 1;
  drawing[2] += 1;
}
