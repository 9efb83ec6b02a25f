// What stands behind a product: biases, GELU in the form "tanh", their gradients, sums of columns.

constexpr Acc kScale = 0.7978845608028654f, kCubic = 0.044715f;

// ---- on the rows of a product: a block for each row
#define EACH_COLUMN(j) for (Size j = threadIdx.x; j < columns; j += blockDim.x)

extern "C" __global__ void epilogue_bias(T* out, const T*, const T* bias, Size columns, Size stride, Size) {
  T* row = out + blockIdx.x * stride;
  EACH_COLUMN(j) row[j] = narrow(widen(row[j]) + widen(bias[j]));
}

extern "C" __global__ void epilogue_gelu(T* out, T* aux, const T* bias, Size columns, Size stride, Size aux_stride) {
  T* row = out + blockIdx.x * stride;
  T* kept = aux + blockIdx.x * aux_stride;
  EACH_COLUMN(j) {
    const Acc u = widen(row[j]) + (bias ? widen(bias[j]) : 0.0f);
    kept[j] = narrow(u);
    row[j] = narrow(0.5f * u * (1.0f + tanhf(kScale * (u + kCubic * u * u * u))));
  }
}

extern "C" __global__ void epilogue_dgelu(T* out, const T* aux, const T*, Size columns, Size stride, Size aux_stride) {
  T* row = out + blockIdx.x * stride;
  const T* kept = aux + blockIdx.x * aux_stride;
  EACH_COLUMN(j) {
    const Acc u = widen(kept[j]);
    const Acc square = u * u > 1e30f ? 1e30f : u * u;  // finite, for 1 - t * t is 0 out there
    const Acc t = tanhf(kScale * (u + kCubic * u * square));
    const Acc slope = 0.5f * (1.0f + t) + 0.5f * u * (1.0f - t * t) * kScale * (1.0f + 3.0f * kCubic * square);
    row[j] = narrow(widen(row[j]) * slope);
  }
}

// ---- sums of columns: 32 columns and 8 rows at once in a block, blockIdx.y'th part of the rows
template <typename From>
__device__ __forceinline__ void sum_columns(const From* x, Acc* wide, T* out, Size rows, Size columns, Size stride) {
  __shared__ Acc lanes[8][33];
  const int lane = threadIdx.x & 31, at = threadIdx.x >> 5;
  const Size column = Size(blockIdx.x) * 32 + lane;
  const Size part = (rows + gridDim.y - 1) / gridDim.y;
  const Size first = blockIdx.y * part, stop = first + part < rows ? first + part : rows;
  Acc sum = 0.0f;
  if (column < columns)
    for (Size i = first + at; i < stop; i += 8) sum += static_cast<Acc>(x[i * stride + column]);
  lanes[at][lane] = sum;
  __syncthreads();
  if (at || column >= columns) return;
#pragma unroll
  for (int i = 1; i < 8; ++i) sum += lanes[i][lane];
  if (wide) wide[blockIdx.y * columns + column] = sum;
  if (out) out[blockIdx.y * columns + column] = narrow(sum);
}

// To `wide` or to `out`, whichever is there: a row for each part.
extern "C" __global__ void column_sums(const T* x, Acc* wide, T* out, Size rows, Size columns, Size stride) {
  sum_columns(x, wide, out, rows, columns, stride);
}

extern "C" __global__ void sum_parts(const Acc* x, T* out, Size rows, Size columns, Size stride) {
  sum_columns(x, nullptr, out, rows, columns, stride);
}
