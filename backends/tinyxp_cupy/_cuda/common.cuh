// What all kernels share. This text stands in front of every .cu file, compiled once for each element type:
//   T      the elements: float, __half or __nv_bfloat16, given by -DELEMENT=...
//   Acc    what sums and functions are computed in: float
// Sizes and strides are long long, other numbers float or int; plain C++17 for sm_75 and later.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

using T = ELEMENT;
using Acc = float;
typedef long long Size;

__device__ __forceinline__ Acc widen(T x) { return static_cast<Acc>(x); }
__device__ __forceinline__ T narrow(Acc x) { return static_cast<T>(x); }

// As many neighbouring elements as 16 bytes hold, read and written at once.
constexpr int kPack = 16 / sizeof(T);
struct alignas(16) Pack {
  T at[kPack];
};

constexpr unsigned kAll = 0xffffffffu;  // all lanes of a warp

__device__ __forceinline__ Acc warp_sum(Acc x) {
#pragma unroll
  for (int lane = 16; lane; lane >>= 1) x += __shfl_xor_sync(kAll, x, lane);
  return x;
}

// A maximum that a NaN wins, unlike fmaxf.
__device__ __forceinline__ Acc larger(Acc a, Acc b) { return a > b || a != a ? a : b; }

__device__ __forceinline__ Acc warp_max(Acc x) {
#pragma unroll
  for (int lane = 16; lane; lane >>= 1) x = larger(x, __shfl_xor_sync(kAll, x, lane));
  return x;
}

// Reductions over a block of whole warps; every thread gets the result. `shared` holds 32 numbers.
__device__ __forceinline__ Acc block_sum(Acc x, Acc* shared) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  x = warp_sum(x);
  if (warps == 1) return x;
  __syncthreads();  // `shared` may still be read by the reduction before
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  return warp_sum(lane < warps ? shared[lane] : Acc(0));
}

__device__ __forceinline__ Acc block_max(Acc x, Acc* shared) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  x = warp_max(x);
  if (warps == 1) return x;
  __syncthreads();
  if (lane == 0) shared[warp] = x;
  __syncthreads();
  return warp_max(lane < warps ? shared[lane] : -INFINITY);
}
