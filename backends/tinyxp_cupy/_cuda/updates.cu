// Update steps and norms of many arrays in one launch. The arrays are found through tables of addresses; block
// number c works on chunk c of kChunk elements, where the chunks of all arrays are counted through.
//   addresses  one address for each array
//   layout     n + 1 numbers of the first chunks, the last being that of all chunks; then n numbers of elements

constexpr Size kChunk = 4096;
constexpr int kWords = 480;  // that a kernel's 4 KiB of arguments hold beside others

struct Words {
  Size at[kWords];
};

// What changes from step to step, or is the same for all elements.
struct Numbers {
  float sign;    // -1 to climb
  float keep;    // factor of the parameter: decoupled decay
  float pull;    // factor of the parameter in the gradient: coupled decay
  float toward;  // 1 - beta1
  float beta2;
  float fresh;  // 1 - beta2
  float eps;    // with the correction of the root
  float rate;   // learning rate with both corrections
};

template <class E>
struct alignas(4 * sizeof(E)) Four {
  E at[4];
};

struct Chunk {
  Size row, begin, end, size;
};

__device__ __forceinline__ Chunk chunk_of(const Size* layout, Size n, Size chunk) {
  Size low = 0, high = n;  // the last array whose first chunk is not behind this one; empty ones have none
  while (high - low > 1) {
    const Size middle = (low + high) / 2;
    if (layout[middle] <= chunk) {
      low = middle;
    } else {
      high = middle;
    }
  }
  const Size begin = (chunk - layout[low]) * kChunk, size = layout[n + 1 + low];
  return {low, begin, begin + kChunk < size ? begin + kChunk : size, size};
}

// Four neighbouring elements from i on, at once where that is allowed; those behind the end are 0 and not written.
template <class E>
__device__ __forceinline__ void take(const E* from, Size i, Size end, bool packed, float (&to)[4]) {
  if (packed) {
    const Four<E> found = *reinterpret_cast<const Four<E>*>(from + i);
#pragma unroll
    for (int k = 0; k < 4; ++k) to[k] = static_cast<float>(found.at[k]);
  } else {
#pragma unroll
    for (int k = 0; k < 4; ++k) to[k] = i + k < end ? static_cast<float>(from[i + k]) : 0.0f;
  }
}

template <class E>
__device__ __forceinline__ void put(E* to, Size i, Size end, bool packed, const float (&from)[4]) {
  if (packed) {
    Four<E> made;
#pragma unroll
    for (int k = 0; k < 4; ++k) made.at[k] = static_cast<E>(from[k]);
    *reinterpret_cast<Four<E>*>(to + i) = made;
  } else {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (i + k < end) to[i + k] = static_cast<E>(from[k]);
    }
  }
}

// `lasting` holds n addresses each of parameters, means, squares, largest squares (0: none) and masters (likewise).
// The gradient is of type G, the means of type M; a float32 master is what is stepped, the parameter its copy.
template <class G, class M>
__device__ __forceinline__ void adamw(const Size* lasting, const Size* gradients, const Size* layout, Size n,
                                      const Numbers& x) {
  const Chunk c = chunk_of(layout, n, blockIdx.x);
  T* parameter = reinterpret_cast<T*>(lasting[c.row]);
  M* mean = reinterpret_cast<M*>(lasting[n + c.row]);
  M* square = reinterpret_cast<M*>(lasting[2 * n + c.row]);
  M* largest = reinterpret_cast<M*>(lasting[3 * n + c.row]);
  float* master = reinterpret_cast<float*>(lasting[4 * n + c.row]);
  const G* gradient = reinterpret_cast<const G*>(gradients[c.row]);
  const Size all = lasting[c.row] | lasting[n + c.row] | lasting[2 * n + c.row] | lasting[3 * n + c.row] |
                   lasting[4 * n + c.row] | gradients[c.row];
  const bool aligned = all % 16 == 0;
  for (Size i = c.begin + 4 * threadIdx.x; i < c.end; i += 4 * blockDim.x) {
    const bool packed = aligned && i + 4 <= c.end;
    float p[4], g[4], m[4], v[4], most[4];
    if (master) {
      take(master, i, c.end, packed, p);
    } else {
      take(parameter, i, c.end, packed, p);
    }
    take(gradient, i, c.end, packed, g);
    take(mean, i, c.end, packed, m);
    take(square, i, c.end, packed, v);
    if (largest) take(largest, i, c.end, packed, most);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      p[k] *= x.keep;
      g[k] = x.sign * g[k] + x.pull * p[k];
      m[k] += (g[k] - m[k]) * x.toward;
      v[k] = v[k] * x.beta2 + g[k] * g[k] * x.fresh;
      most[k] = largest ? larger(most[k], v[k]) : v[k];
      p[k] -= m[k] / (sqrtf(most[k]) + x.eps) * x.rate;
    }
    put(parameter, i, c.end, packed, p);
    put(mean, i, c.end, packed, m);
    put(square, i, c.end, packed, v);
    if (largest) put(largest, i, c.end, packed, most);
    if (master) put(master, i, c.end, packed, p);
  }
}

// Each number by itself: a choice between two places would put both into local memory.
__device__ __forceinline__ Numbers chosen(const Numbers& given, const Numbers* kept) {
  Numbers x = given;
  if (kept) {
    x.sign = kept->sign, x.keep = kept->keep, x.pull = kept->pull, x.toward = kept->toward;
    x.beta2 = kept->beta2, x.fresh = kept->fresh, x.eps = kept->eps, x.rate = kept->rate;
  }
  return x;
}

// Gradient and means like the parameter.
extern "C" __global__ void __launch_bounds__(256)
    adamw_plain(const Size* lasting, const Size* gradients, const Size* layout, Size n, Numbers given, const Numbers* kept,
          const bool* skip) {
  if (skip && *skip) return;
  adamw<T, T>(lasting, gradients, layout, n, chosen(given, kept));
}

// Float32 means and masters.
extern "C" __global__ void __launch_bounds__(256)
    adamw_means(const Size* lasting, const Size* gradients, const Size* layout, Size n, Numbers given, const Numbers* kept,
          const bool* skip) {
  if (skip && *skip) return;
  adamw<T, float>(lasting, gradients, layout, n, chosen(given, kept));
}

// A float32 gradient too.
extern "C" __global__ void __launch_bounds__(256)
    adamw_wide(const Size* lasting, const Size* gradients, const Size* layout, Size n, Numbers given, const Numbers* kept,
          const bool* skip) {
  if (skip && *skip) return;
  adamw<float, float>(lasting, gradients, layout, n, chosen(given, kept));
}

// What `adamw_*` shall find in `kept`: arguments travel with the launch, and nobody waits.
extern "C" __global__ void keep_numbers(Numbers given, Numbers* kept) { *kept = given; }

extern "C" __global__ void __launch_bounds__(kWords)
    keep_words(Words given, Size first, Size n, Size* kept) {
  if (first + threadIdx.x < n) kept[first + threadIdx.x] = given.at[threadIdx.x];
}

// Writes the sum of the squares of each chunk to sums[first + chunk].
extern "C" __global__ void __launch_bounds__(256)
    squares(const Size* addresses, const Size* layout, Size n, float* sums) {
  __shared__ Acc shared[32];
  const Chunk c = chunk_of(layout, n, blockIdx.x);
  const T* x = reinterpret_cast<const T*>(addresses[c.row]);
  const bool aligned = addresses[c.row] % 16 == 0;
  float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  for (Size i = c.begin + 4 * threadIdx.x; i < c.end; i += 4 * blockDim.x) {
    float found[4];
    take(x, i, c.end, aligned && i + 4 <= c.end, found);
#pragma unroll
    for (int k = 0; k < 4; ++k) sum[k] += found[k] * found[k];
  }
  const float total = block_sum((sum[0] + sum[1]) + (sum[2] + sum[3]), shared);
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

// One block: the sum of the chunks' sums in `out[0]`, or, with `most` not negative, its root there, and in
// `out[1]` the factor that brings a norm above `most` down to it.
extern "C" __global__ void __launch_bounds__(1024) total(const float* sums, Size n, float most, float* out) {
  __shared__ double parts[1024];
  double sum = 0.0;
  for (Size i = threadIdx.x; i < n; i += blockDim.x) sum += static_cast<double>(sums[i]);
  parts[threadIdx.x] = sum;
  for (int half = blockDim.x / 2; half; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
  }
  if (threadIdx.x) return;
  if (most < 0.0f) {
    out[0] = static_cast<float>(parts[0]);
    return;
  }
  const float norm = static_cast<float>(sqrt(parts[0]));
  const float factor = most / (norm + 1e-6f);
  out[0] = norm;
  out[1] = factor < 1.0f || factor != factor ? factor : 1.0f;
}

extern "C" __global__ void __launch_bounds__(256)
    scale(const Size* addresses, const Size* layout, Size n, const float* factor) {
  const Chunk c = chunk_of(layout, n, blockIdx.x);
  T* x = reinterpret_cast<T*>(addresses[c.row]);
  const bool aligned = addresses[c.row] % 16 == 0;
  const float by = *factor;
  for (Size i = c.begin + 4 * threadIdx.x; i < c.end; i += 4 * blockDim.x) {
    const bool packed = aligned && i + 4 <= c.end;
    float found[4];
    take(x, i, c.end, packed, found);
#pragma unroll
    for (int k = 0; k < 4; ++k) found[k] *= by;
    put(x, i, c.end, packed, found);
  }
}
