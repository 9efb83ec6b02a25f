// Matrices copied from places of type T to places of type U, many in one launch: blockIdx.y says which.

struct Part {
  const T* from;
  U* to;
  Size rows, columns, from_stride, to_stride;  // strides from one row to the next
};
struct Parts {
  Part at[12];
};

template <int V>
__device__ __forceinline__ void copy(const Part& p) {
  const Size count = p.columns / V;
  const bool one = p.rows == 1;  // then all blocks share the row, else each has rows of its own
  const Size start = one ? Size(blockIdx.x) * blockDim.x + threadIdx.x : threadIdx.x;
  const Size step = one ? Size(gridDim.x) * blockDim.x : blockDim.x;
  for (Size row = one ? 0 : blockIdx.x; row < p.rows; row += gridDim.x) {
    const T* from = p.from + row * p.from_stride;
    U* to = p.to + row * p.to_stride;
#pragma unroll 4
    for (Size i = start; i < count; i += step) {
      Acc found[V];
      load<V>(from + i * V, found);
      store<V>(to + i * V, found);
    }
  }
}

extern "C" __global__ void copy_parts(Parts parts) {
  const Part p = parts.at[blockIdx.y];
  const Size sizes = p.columns | (p.rows == 1 ? 0 : p.from_stride | p.to_stride);
  const bool whole = sizes % 4 == 0 && reinterpret_cast<Size>(p.from) % (4 * sizeof(T)) == 0 &&
                     reinterpret_cast<Size>(p.to) % (4 * sizeof(U)) == 0;
  if (whole) {
    copy<4>(p);
  } else {
    copy<1>(p);
  }
}
