// One more position through a transformer block in five launches, for few sequences: products of some rows with a
// matrix are bound by reading the matrix, which each block does for some of its columns.
//
// The position stands in device memory where `position` is not null, so that a recorded graph can be replayed.

constexpr int kThreads = 256;                        // of all kernels with products
constexpr int kColumns = 32 / sizeof(T);             // of the matrix in a block: 32 bytes of each row
constexpr int kRows = 4;                             // of x in a block
constexpr int kWarps = kThreads / 32;
constexpr int kStride = kThreads / kColumns;         // rows of the matrix that are read at once
constexpr int kKeys = 128;                           // positions in a block of the attention, and its threads

__device__ __forceinline__ Size place(Size start, const Size* position) { return position ? *position : start; }

__device__ __forceinline__ float activated(float x, int form) {
  if (form == 0) return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
  if (form == 1) return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
  return x / (1.0f + expf(-1.702f * x));
}

// Rows of x to shared memory, as they are or normalised.
__device__ void load_rows(const T* x, Size rows, Size width, float* h) {
  for (Size i = threadIdx.x; i < rows * width; i += kThreads) h[i] = widen(x[i]);
  __syncthreads();
}

__device__ void normalise(float* h, Size rows, Size width, const T* gamma, const T* beta, float eps, Acc* shared) {
  for (Size row = 0; row < rows; ++row) {
    float* own = h + row * width;
    float sum = 0.0f;
    for (Size i = threadIdx.x; i < width; i += kThreads) sum += own[i];
    const float mean = block_sum(sum, shared) / width;
    float square = 0.0f;
    for (Size i = threadIdx.x; i < width; i += kThreads) square += (own[i] - mean) * (own[i] - mean);
    const float scale = 1.0f / sqrtf(block_sum(square, shared) / width + eps);
    for (Size i = threadIdx.x; i < width; i += kThreads) own[i] = (own[i] - mean) * scale * widen(gamma[i]) + widen(beta[i]);
  }
  __syncthreads();
}

// Dot products of the rows in h, each of `depth` elements, with column `first + c` of the matrix (depth, width);
// those of row r end in sums[r * kColumns + c].
__device__ void dots(const float* h, Size rows, Size depth, const T* matrix, Size width, Size first, float* parts,
                     float* sums) {
  const int c = threadIdx.x % kColumns, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const bool inside = first + c < width;
  float sum[kRows] = {0.0f, 0.0f, 0.0f, 0.0f};
  if (inside) {
    const T* column = matrix + first + c;
#pragma unroll 4
    for (Size k = threadIdx.x / kColumns; k < depth; k += kStride) {
      const float w = widen(column[k * width]);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (r < rows) sum[r] += h[r * depth + k] * w;
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int other = 16; other >= kColumns; other >>= 1) sum[r] += __shfl_xor_sync(kAll, sum[r], other);
    if (lane < kColumns) parts[(warp * kRows + r) * kColumns + c] = sum[r];
  }
  __syncthreads();
  if (threadIdx.x < kRows * kColumns) {
    float total = 0.0f;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) total += parts[w * kRows * kColumns + threadIdx.x];
    sums[threadIdx.x] = total;
  }
  __syncthreads();
}

extern "C" __global__ void __launch_bounds__(256)
    step_qkv(const T* x, Size batch, Size width, Size rows, const T* gamma, const T* beta, float eps, const T* q_weight,
             const T* q_bias, const T* k_weight, const T* k_bias, const T* v_weight, const T* v_bias, T* queries,
             T* keys, T* values, Size heads, Size capacity, Size start, const Size* position) {
  extern __shared__ float h[];
  __shared__ Acc shared[32];
  __shared__ float parts[kWarps * kRows * kColumns], sums[kRows * kColumns];
  const Size tiles = (width + kColumns - 1) / kColumns;
  const int which = blockIdx.x / tiles;
  const Size first = (blockIdx.x % tiles) * kColumns, row = blockIdx.y * rows;
  rows = row + rows < batch ? rows : batch - row;
  load_rows(x + row * width, rows, width, h);
  normalise(h, rows, width, gamma, beta, eps, shared);
  const T* matrix = which == 0 ? q_weight : which == 1 ? k_weight : v_weight;
  const T* bias = which == 0 ? q_bias : which == 1 ? k_bias : v_bias;
  dots(h, rows, width, matrix, width, first, parts, sums);
  const Size r = threadIdx.x / kColumns, column = first + threadIdx.x % kColumns;
  if (r >= rows || column >= width) return;
  const T found = narrow(sums[threadIdx.x] + widen(bias[column]));
  const Size depth = width / heads, at = place(start, position);
  if (which == 0) {
    queries[(row + r) * width + column] = found;
  } else if (at < capacity) {
    T* cache = which == 1 ? keys : values;
    cache[(((row + r) * heads + column / depth) * capacity + at) * depth + column % depth] = found;
  }
}

// Block (i, s) attends from head i to the positions of split s: their largest score, the sum of their weights, and the
// weighted sum of values go to `partial`.
extern "C" __global__ void __launch_bounds__(128)
    step_attention(const T* queries, const T* keys, const T* values, const bool* mask, Size heads, Size depth,
                   Size capacity, Size start, const Size* position, float* partial) {
  extern __shared__ float mixed[];  // one sum of values for each group of threads
  __shared__ Acc shared[32];
  __shared__ float scores[kKeys];
  const Size i = blockIdx.x, first = blockIdx.y * Size(kKeys);
  const Size all = place(start, position) + 1, most = all < capacity ? all : capacity;
  float* out = partial + (i * gridDim.y + blockIdx.y) * (depth + 2);
  if (first >= most) {
    if (threadIdx.x == 0) out[0] = -INFINITY, out[1] = 0.0f;
    return;
  }
  const int n = most - first < kKeys ? most - first : kKeys;
  const T *q = queries + i * depth, *k = keys + (i * capacity + first) * depth, *v = values + (i * capacity + first) * depth;
  const bool* visible = mask ? mask + (i / heads) * capacity + first : nullptr;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const float scale = 1.0f / sqrtf(static_cast<float>(depth));
  for (int j = warp; j < n; j += kKeys / 32) {
    float sum = 0.0f;
    for (Size d = lane; d < depth; d += 32) sum += widen(q[d]) * widen(k[j * depth + d]);
    sum = warp_sum(sum) * scale;
    if (lane == 0) scores[j] = visible && !visible[j] ? -INFINITY : sum;
  }
  __syncthreads();
  const float own = threadIdx.x < n ? scores[threadIdx.x] : -INFINITY;
  const float largest = block_max(own, shared);
  const float weight = own == -INFINITY ? 0.0f : expf(own - largest);
  __syncthreads();
  if (threadIdx.x < n) scores[threadIdx.x] = weight;
  const float sum = block_sum(weight, shared);
  __syncthreads();
  // As many groups of threads as fit, each with some of the positions; a thread has an element of the values.
  const int lanes = depth < kKeys ? static_cast<int>(depth) : kKeys, groups = kKeys / lanes;
  const int group = threadIdx.x / lanes;
  if (group < groups) {
    for (Size d = threadIdx.x % lanes; d < depth; d += lanes) {
      float total = 0.0f;
      for (int j = group; j < n; j += groups) {
        if (scores[j] != 0.0f) total += scores[j] * widen(v[j * depth + d]);  // a hidden value may be NaN
      }
      mixed[group * depth + d] = total;
    }
  }
  __syncthreads();
  for (Size d = threadIdx.x; d < depth; d += kKeys) {
    float total = 0.0f;
    for (int g = 0; g < groups; ++g) total += mixed[g * depth + d];
    out[2 + d] = total;
  }
  if (threadIdx.x == 0) out[0] = largest, out[1] = sum;
}

// The splits of a head together, in shared memory, for `rows` sequences from `row` on.
__device__ void combine(const float* partial, Size row, Size rows, Size width, Size heads, Size splits, float* h) {
  const Size depth = width / heads;
  for (Size i = threadIdx.x; i < rows * width; i += kThreads) {
    const Size head = (row + i / width) * heads + i % width / depth, d = i % depth;
    const float* own = partial + head * splits * (depth + 2);
    float largest = -INFINITY;
    for (Size s = 0; s < splits; ++s) largest = larger(largest, own[s * (depth + 2)]);
    float sum = 0.0f, total = 0.0f;
    for (Size s = 0; s < splits; ++s) {
      const float* part = own + s * (depth + 2);
      if (part[1] == 0.0f) continue;
      const float factor = expf(part[0] - largest);
      sum += part[1] * factor;
      total += part[2 + d] * factor;
    }
    h[i] = sum == 0.0f ? 0.0f : total / sum;  // nobody to look at: 0
  }
  __syncthreads();
}

__device__ void add_to(const float* h, Size row, Size rows, Size depth, const T* matrix, const T* bias, const T* x,
                       Size width, float* parts, float* sums, T* out) {
  const Size first = blockIdx.x * Size(kColumns);
  dots(h, rows, depth, matrix, width, first, parts, sums);
  const Size r = threadIdx.x / kColumns, column = first + threadIdx.x % kColumns;
  if (r >= rows || column >= width) return;
  const Size i = (row + r) * width + column;
  out[i] = narrow(widen(x[i]) + sums[threadIdx.x] + widen(bias[column]));
}

extern "C" __global__ void __launch_bounds__(256)
    step_out(const float* partial, Size heads, Size splits, Size batch, Size width, Size rows, const T* weight,
             const T* bias, const T* x, T* out) {
  extern __shared__ float h[];
  __shared__ float parts[kWarps * kRows * kColumns], sums[kRows * kColumns];
  const Size row = blockIdx.y * rows;
  rows = row + rows < batch ? rows : batch - row;
  combine(partial, row, rows, width, heads, splits, h);
  add_to(h, row, rows, width, weight, bias, x, width, parts, sums, out);
}

extern "C" __global__ void __launch_bounds__(256)
    step_up(const T* x, Size batch, Size width, Size rows, const T* gamma, const T* beta, float eps, const T* weight,
            const T* bias, Size hidden, int form, T* out) {
  extern __shared__ float h[];
  __shared__ Acc shared[32];
  __shared__ float parts[kWarps * kRows * kColumns], sums[kRows * kColumns];
  const Size row = blockIdx.y * rows, first = blockIdx.x * Size(kColumns);
  rows = row + rows < batch ? rows : batch - row;
  load_rows(x + row * width, rows, width, h);
  normalise(h, rows, width, gamma, beta, eps, shared);
  dots(h, rows, width, weight, hidden, first, parts, sums);
  const Size r = threadIdx.x / kColumns, column = first + threadIdx.x % kColumns;
  if (r >= rows || column >= hidden) return;
  out[(row + r) * hidden + column] = narrow(activated(sums[threadIdx.x] + widen(bias[column]), form));
}

extern "C" __global__ void __launch_bounds__(256)
    step_down(const T* inside, Size batch, Size hidden, Size rows, const T* weight, const T* bias, const T* x,
              Size width, T* out) {
  extern __shared__ float h[];
  __shared__ float parts[kWarps * kRows * kColumns], sums[kRows * kColumns];
  const Size row = blockIdx.y * rows;
  rows = row + rows < batch ? rows : batch - row;
  load_rows(inside + row * hidden, rows, hidden, h);
  add_to(h, row, rows, hidden, weight, bias, x, width, parts, sums, out);
}

// The embeddings of a token and of its position, which counts from behind the padding.
extern "C" __global__ void __launch_bounds__(256)
    embed(const Size* tokens, const T* table, Size vocabulary, const T* positions, Size most, const Size* padding,
          Size width, Size start, const Size* position, T* out) {
  const Size row = blockIdx.x;
  Size token = tokens[row], at = place(start, position) - (padding ? padding[row] : 0);
  if (token < 0) token += vocabulary;
  if (token < 0 || token >= vocabulary) token = 0;
  at = at < 0 ? 0 : at < most ? at : most - 1;
  for (Size i = threadIdx.x; i < width; i += blockDim.x) {
    out[row * width + i] = narrow(widen(table[token * width + i]) + widen(positions[at * width + i]));
  }
}
