// Rows of a table by their numbers, and sums of rows with equal numbers: without sorting, without atomics, in
// the order of the rows whatever the order of the threads. A warp has one row of 32 packs of columns.

constexpr int kLongest = 1024;  // tokens in a slice at most
constexpr int kTogether = 4;    // entries of the table that are read at once: its rows are padded
__device__ __forceinline__ int padding(int slices) { return (slices + kTogether - 1) / kTogether * kTogether; }

// Numbers of rows in [-size, size), as int or as long long; -1 for what is no row.
struct Numbers {
  const void* at;
  Size size;
  int wide, wraps;  // 64 bits each; whether negative numbers count from the end
  __device__ __forceinline__ Size operator[](Size i) const {
    Size found = wide ? static_cast<const Size*>(at)[i] : static_cast<const int*>(at)[i];
    if (wraps && found < 0) found += size;
    return found >= 0 && found < size ? found : -1;
  }
};

// ---------------------------------------------------------------- rows by number
// A row of NaN for a number that is none: nobody waits to say so.
template <int V>
__device__ __forceinline__ void take(Numbers numbers, const T* weight, T* out, Size count, int width) {
  constexpr int kAhead = 4;
  const Size token = Size(blockIdx.x) * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (token >= count) return;
  const Size row = numbers[token];
  const T* from = weight + row * width;
  T* to = out + token * width;
  for (int first = (threadIdx.x & 31) * V; first < width; first += kAhead * 32 * V) {
    Neighbours<T, V> found[kAhead];
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const int column = first + k * 32 * V;
      if (column >= width) continue;
      if (row >= 0) {
        found[k] = at<V>(from + column);
      } else {
#pragma unroll
        for (int i = 0; i < V; ++i) found[k].at[i] = narrow(NAN);
      }
    }
#pragma unroll
    for (int k = 0; k < kAhead; ++k) {
      const int column = first + k * 32 * V;
      if (column < width) at<V>(to + column) = found[k];
    }
  }
}

extern "C" __global__ void __launch_bounds__(256)
embedding(const void* numbers, const T* weight, T* out, Size count, Size size, Size width, int wide) {
  take<kPack>({numbers, size, wide, 0}, weight, out, count, width);
}
extern "C" __global__ void __launch_bounds__(256)
embedding_by_one(const void* numbers, const T* weight, T* out, Size count, Size size, Size width, int wide) {
  take<1>({numbers, size, wide, 0}, weight, out, count, width);
}

// ---------------------------------------------------------------- sums of rows with equal numbers
// First launch: tokens are cut into slices, a block each. Of the tokens of a slice with the same number, the
// first stands for all: table[number, slice] becomes twice its place, plus 1 if there are others, and then its
// row of `partial` becomes their sum. The table was filled with -1.
template <int V>
__device__ __forceinline__ void add_slice(
    Numbers numbers, const T* rows, int* table, Acc* partial, Size count, int width, int length) {
  constexpr int kAhead = 4;
  __shared__ int ids[kLongest], next[kLongest], later[kLongest];  // the next with that number; whether one is before
  const int lane = threadIdx.x & 31, warps = blockDim.x >> 5;
  const int column = (blockIdx.y * 32 + lane) * V;
  const Size first = Size(blockIdx.x) * length;
  const int size = int(min(Size(length), count - first));
  for (int i = threadIdx.x; i < size; i += blockDim.x) {
    ids[i] = int(numbers[first + i]);
    later[i] = 0;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < size; i += blockDim.x) {
    int j = i + 1;
    while (j < size && ids[j] != ids[i]) ++j;
    next[i] = j;
    if (j < size) later[j] = 1;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < size && blockIdx.y == 0; i += blockDim.x) {
    if (ids[i] >= 0 && !later[i]) {
      table[Size(ids[i]) * padding(gridDim.x) + blockIdx.x] = int(2 * (first + i) + (next[i] < size));
    }
  }
  for (int i = threadIdx.x >> 5; i < size; i += warps) {
    if (ids[i] < 0 || later[i] || next[i] == size || column >= width) continue;
    Acc sum[V] = {};
    for (int j = i; j < size;) {
      Neighbours<T, V> found[kAhead];
      int ready = 0;
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        if (j >= size) continue;
        found[k] = at<V>(rows + (first + j) * width + column);
        j = next[j];
        ready = k + 1;
      }
#pragma unroll
      for (int k = 0; k < kAhead; ++k) {
        if (k >= ready) continue;
#pragma unroll
        for (int n = 0; n < V; ++n) sum[n] += widen(found[k].at[n]);
      }
    }
    store(partial + (first + i) * width + column, sum);
  }
}

// Second launch: each number's row of the result, the sum over the slices, and zeros where there are none.
template <int V>
__device__ __forceinline__ void add_slices(
    const T* rows, const int* table, const Acc* partial, T* out, Size size, int width, int slices) {
  const int lane = threadIdx.x & 31;
  const int column = (blockIdx.y * 32 + lane) * V;
  const Size number = Size(blockIdx.x) * (blockDim.x >> 5) + (threadIdx.x >> 5);
  if (number >= size || column >= width) return;
  const int padded = padding(slices);
  Acc sum[V] = {};
#pragma unroll 2
  for (int first = 0; first < padded; first += kTogether) {
    const int4 found = *reinterpret_cast<const int4*>(table + number * padded + first);
    if ((found.x & found.y & found.z & found.w) == -1) continue;
    const int entries[kTogether] = {found.x, found.y, found.z, found.w};
    Neighbours<T, V> single[kTogether];
    Neighbours<Acc, V> several[kTogether];
#pragma unroll
    for (int k = 0; k < kTogether; ++k) {
      if (entries[k] < 0) continue;
      const Size start = Size(entries[k] >> 1) * width + column;
      if (entries[k] & 1) {
        several[k] = at<V>(partial + start);
      } else {
        single[k] = at<V>(rows + start);
      }
    }
#pragma unroll
    for (int k = 0; k < kTogether; ++k) {
      if (entries[k] < 0) continue;
#pragma unroll
      for (int i = 0; i < V; ++i) sum[i] += entries[k] & 1 ? several[k].at[i] : widen(single[k].at[i]);
    }
  }
  store(out + number * width + column, sum);
}

extern "C" __global__ void __launch_bounds__(512)
sum_slice(const void* numbers, const T* rows, int* table, Acc* partial, Size count, Size size, Size width,
          Size length, int wide, int wraps) {
  add_slice<kPack>({numbers, size, wide, wraps}, rows, table, partial, count, width, length);
}
extern "C" __global__ void __launch_bounds__(512)
sum_slice_by_one(const void* numbers, const T* rows, int* table, Acc* partial, Size count, Size size, Size width,
                 Size length, int wide, int wraps) {
  add_slice<1>({numbers, size, wide, wraps}, rows, table, partial, count, width, length);
}
extern "C" __global__ void __launch_bounds__(256)
sum_slices(const T* rows, const int* table, const Acc* partial, T* out, Size size, Size width, Size slices) {
  add_slices<kPack>(rows, table, partial, out, size, width, slices);
}
extern "C" __global__ void __launch_bounds__(256)
sum_slices_by_one(const T* rows, const int* table, const Acc* partial, T* out, Size size, Size width, Size slices) {
  add_slices<1>(rows, table, partial, out, size, width, slices);
}
