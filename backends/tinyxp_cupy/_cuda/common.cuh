// What all kernels share. This text stands in front of every .cu file, compiled once for each element type:
//   T      the elements: float, __half or __nv_bfloat16, given by -DELEMENT=...
//   U      what stands beside them where a kernel takes two types, given by -DSECOND=...; else T
//   Acc    what sums and functions are computed in: float
// Sizes and strides are long long, other numbers float or int; plain C++17 for sm_75 and later.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#ifndef INFINITY  // NVRTC has no <math.h>
#define INFINITY __int_as_float(0x7f800000)
#endif
#ifndef NAN
#define NAN __int_as_float(0x7fffffff)
#endif

using T = ELEMENT;
#ifdef SECOND
using U = SECOND;
#else
using U = T;
#endif
using Acc = float;
typedef long long Size;

template <class E>
__device__ __forceinline__ Acc widen(E x) {
  return static_cast<Acc>(x);
}
template <class E = T>
__device__ __forceinline__ E narrow(Acc x) {
  return static_cast<E>(x);
}

// As many neighbouring elements as 16 bytes hold, read and written at once.
constexpr int kPack = 16 / sizeof(T);
struct alignas(16) Pack {
  T at[kPack];
};

// V neighbouring elements of any type; those of 16 bytes and more must begin at a multiple of 16 bytes.
template <class E, int V>
struct alignas(V * sizeof(E) < 16 ? V * sizeof(E) : 16) Neighbours {
  E at[V];
};

template <int V, class E>
__device__ __forceinline__ const Neighbours<E, V>& at(const E* x) {
  return *reinterpret_cast<const Neighbours<E, V>*>(x);
}
template <int V, class E>
__device__ __forceinline__ Neighbours<E, V>& at(E* x) {
  return *reinterpret_cast<Neighbours<E, V>*>(x);
}

template <int V, class E>
__device__ __forceinline__ void load(const E* from, Acc (&to)[V]) {
  const Neighbours<E, V> found = at<V>(from);
#pragma unroll
  for (int i = 0; i < V; ++i) to[i] = widen(found.at[i]);
}
template <int V, class E>
__device__ __forceinline__ void store(E* to, const Acc (&from)[V]) {
  constexpr int kWords = V * sizeof(E) / 16;
  union {
    Neighbours<E, V> made;
    uint4 words[kWords ? kWords : 1];
  };
#pragma unroll
  for (int i = 0; i < V; ++i) made.at[i] = narrow<E>(from[i]);
  if constexpr (kWords > 0) {  // an instruction for each: a copy of `made` may be split by the compiler
#pragma unroll
    for (int i = 0; i < kWords; ++i) __stcg(reinterpret_cast<uint4*>(to) + i, words[i]);
  } else {
    at<V>(to) = made;
  }
}

// A number of elements as a type: code for several and for one is a generic lambda that is handed either.
template <int N>
struct Width {
  static constexpr int value = N;
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
