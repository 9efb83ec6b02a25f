// Operations that treat each element alone, or pairs of them: activations, dropout, rotary embedding.

// The error of the fast functions, a few units in the last place of float32, is far below half precision.
constexpr bool kFast = sizeof(T) == 2;

// Calls work(Width<N>, i) for the N elements from the i-th on: V of them in each thread, but one by one at the end.
template <int V, class Work>
__device__ __forceinline__ void each(Size count, Work work) {
  const Size first = (Size(blockIdx.x) * blockDim.x + threadIdx.x) * V;
  if (first + V <= count) {
    work(Width<V>{}, first);
  } else {
    for (Size i = first; i < count; ++i) work(Width<1>{}, i);
  }
}

// ---------------------------------------------------------------- gates
// gate(x) grows from 0 to 1; slope(x, gate) is x times its derivative.
__device__ __forceinline__ Acc logistic(Acc x) { return kFast ? __fdividef(1, 1 + __expf(-x)) : 1 / (1 + expf(-x)); }

// Where the gate is 0 or 1 in float32 its derivative is 0, however large x may be; but 0 times infinity is NaN.
__device__ __forceinline__ Acc logistic_slope(Acc x, Acc gate, Acc inner) {
  const Acc rest = gate * (1 - gate);
  return x * (rest == 0 ? Acc(0) : inner * rest);
}

constexpr Acc kScale = 0.7978845608028654f, kCubic = 0.044715f;  // sqrt(2 / pi); arXiv:1606.08415, section 2

struct Tanh {  // (1 + tanh u) / 2 is the logistic function of 2 u
  static __device__ __forceinline__ Acc gate(Acc x) { return logistic(2 * kScale * x * (1 + kCubic * x * x)); }
  static __device__ __forceinline__ Acc slope(Acc x, Acc gate) {
    return logistic_slope(x, gate, 2 * kScale * (1 + 3 * kCubic * x * x));
  }
};

struct Normal {  // the normal distribution function
  static __device__ __forceinline__ Acc gate(Acc x) { return Acc(0.5) + Acc(0.5) * erff(x * 0.7071067811865476f); }
  static __device__ __forceinline__ Acc slope(Acc x, Acc) {
    const Acc power = Acc(-0.5) * x * x;
    return x * (0.3989422804014327f * (kFast ? __expf(power) : expf(power)));
  }
};

struct Sigmoid {
  static __device__ __forceinline__ Acc gate(Acc x) { return logistic(1.702f * x); }
  static __device__ __forceinline__ Acc slope(Acc x, Acc gate) { return logistic_slope(x, gate, 1.702f); }
};

struct Silu {
  static __device__ __forceinline__ Acc gate(Acc x) { return logistic(x); }
  static __device__ __forceinline__ Acc slope(Acc x, Acc gate) { return logistic_slope(x, gate, 1); }
};

// Calls work with the gate of that number: tanh, none, sigmoid, silu.
template <class Work>
__device__ __forceinline__ void with_gate(int form, Work work) {
  switch (form) {
    case 0: return work(Tanh{});
    case 1: return work(Normal{});
    case 2: return work(Sigmoid{});
    default: return work(Silu{});
  }
}

template <int V>
__device__ __forceinline__ void gated(const T* x, T* out, Size count, int form) {
  with_gate(form, [&](auto gate) {
    each<V>(count, [&](auto width, Size i) {
      Acc held[decltype(width)::value];
      load(x + i, held);
#pragma unroll
      for (Acc& y : held) y *= gate.gate(y);
      store(out + i, held);
    });
  });
}

template <int V>
__device__ __forceinline__ void gated_vjp(const T* g, const T* x, T* gx, Size count, int form) {
  with_gate(form, [&](auto gate) {
    each<V>(count, [&](auto width, Size i) {
      Acc above[decltype(width)::value], held[decltype(width)::value];
      load(g + i, above);
      load(x + i, held);
#pragma unroll
      for (int k = 0; k < decltype(width)::value; ++k) {
        const Acc open = gate.gate(held[k]);
        above[k] *= open + gate.slope(held[k], open);
      }
      store(gx + i, above);
    });
  });
}

extern "C" __global__ void gelu(const T* x, T* out, Size count, int form) { gated<kPack>(x, out, count, form); }
extern "C" __global__ void gelu_by_one(const T* x, T* out, Size count, int form) { gated<1>(x, out, count, form); }
extern "C" __global__ void gelu_vjp(const T* g, const T* x, T* gx, Size count, int form) {
  gated_vjp<kPack>(g, x, gx, count, form);
}
extern "C" __global__ void gelu_vjp_by_one(const T* g, const T* x, T* gx, Size count, int form) {
  gated_vjp<1>(g, x, gx, count, form);
}

// ---------------------------------------------------------------- swiglu
template <int V>
__device__ __forceinline__ void swiglu_of(const T* x, const T* y, T* out, Size count) {
  each<V>(count, [&](auto width, Size i) {
    Acc held[decltype(width)::value], other[decltype(width)::value];
    load(x + i, held);
    load(y + i, other);
#pragma unroll
    for (int k = 0; k < decltype(width)::value; ++k) held[k] *= Silu::gate(held[k]) * other[k];
    store(out + i, held);
  });
}

template <int V>
__device__ __forceinline__ void swiglu_vjp_of(const T* g, const T* x, const T* y, T* gx, T* gy, Size count) {
  each<V>(count, [&](auto width, Size i) {
    constexpr int kWidth = decltype(width)::value;
    Acc above[kWidth], held[kWidth], other[kWidth], to[kWidth];
    load(g + i, above);
    load(x + i, held);
    load(y + i, other);
#pragma unroll
    for (int k = 0; k < kWidth; ++k) {
      const Acc gate = Silu::gate(held[k]);
      to[k] = above[k] * held[k] * gate;
      above[k] *= (gate + Silu::slope(held[k], gate)) * other[k];
    }
    if (gx) store(gx + i, above);
    if (gy) store(gy + i, to);
  });
}

extern "C" __global__ void swiglu(const T* x, const T* y, T* out, Size count) { swiglu_of<kPack>(x, y, out, count); }
extern "C" __global__ void swiglu_by_one(const T* x, const T* y, T* out, Size count) { swiglu_of<1>(x, y, out, count); }
extern "C" __global__ void swiglu_vjp(const T* g, const T* x, const T* y, T* gx, T* gy, Size count) {
  swiglu_vjp_of<kPack>(g, x, y, gx, gy, count);
}
extern "C" __global__ void swiglu_vjp_by_one(const T* g, const T* x, const T* y, T* gx, T* gy, Size count) {
  swiglu_vjp_of<1>(g, x, y, gx, gy, count);
}

// ---------------------------------------------------------------- dropout
struct Words {
  unsigned first, second;
};

__device__ __forceinline__ unsigned turned(unsigned x, int by) { return (x << by) | (x >> (32 - by)); }

// Threefry-2x32 with 20 rounds: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11.
__device__ __forceinline__ Words threefry(unsigned key0, unsigned key1, Size counter) {
  constexpr int kTurns[8] = {13, 15, 26, 6, 17, 29, 16, 24};
  const unsigned keys[3] = {key0, key1, key0 ^ key1 ^ 0x1BD11BDAu};
  unsigned a = unsigned(counter) + key0, b = unsigned(counter >> 32) + key1;
#pragma unroll
  for (int group = 0; group < 5; ++group) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      a += b;
      b = turned(b, kTurns[4 * (group % 2) + i]) ^ a;
    }
    a += keys[(group + 1) % 3];
    b += keys[(group + 2) % 3] + group + 1;
  }
  return {a, b};
}

// Element i stays if the i-th random word is not below `least`; block b of the cipher gives words 2 b and 2 b + 1.
// A recorded launch repeats its arguments: there the key stands in memory, in the two words of `drawn`.
template <int V>
__device__ __forceinline__ void dropped(
    const T* x, T* out, Size count, unsigned key0, unsigned key1, const Size* drawn, Size least, Acc scale) {
  if (drawn) {
    key0 = unsigned(drawn[0]);
    key1 = unsigned(drawn[1]);
  }
  each<V>(count, [&](auto width, Size first) {
    constexpr int kWidth = decltype(width)::value;
    Acc held[kWidth];
    load(x + first, held);
    if constexpr (kWidth == 1) {
      const Words words = threefry(key0, key1, first / 2);
      held[0] = Size(first % 2 ? words.second : words.first) >= least ? held[0] * scale : Acc(0);
    } else {
#pragma unroll
      for (int k = 0; k < kWidth; k += 2) {
        const Words words = threefry(key0, key1, (first + k) / 2);
        held[k] = Size(words.first) >= least ? held[k] * scale : Acc(0);
        held[k + 1] = Size(words.second) >= least ? held[k + 1] * scale : Acc(0);
      }
    }
    store(out + first, held);
  });
}

extern "C" __global__ void dropout(
    const T* x, T* out, Size count, unsigned key0, unsigned key1, const Size* drawn, Size least, Acc scale) {
  dropped<kPack>(x, out, count, key0, key1, drawn, least, scale);
}
extern "C" __global__ void dropout_by_one(
    const T* x, T* out, Size count, unsigned key0, unsigned key1, const Size* drawn, Size least, Acc scale) {
  dropped<1>(x, out, count, key0, key1, drawn, least, scale);
}

// ---------------------------------------------------------------- rotary embedding
// x has rows of 2 `half` elements, `positions` of them in turn; cos and sin have `half` for each position. The
// pair x[i], x[i + half] is turned, backwards if `sign` is -1.
template <int V>
__device__ __forceinline__ void turn(
    const T* x, const T* cosine, const T* sine, T* out, Size rows, Size positions, int half, Acc sign) {
  const Size packs = half / V, i = Size(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= rows * packs) return;
  const Size row = i / packs, column = i % packs * V;
  const Size start = row * 2 * half + column, angle = row % positions * half + column;
  Acc a[V], b[V], c[V], s[V];
  load<V>(x + start, a);
  load<V>(x + start + half, b);
  load<V>(cosine + angle, c);
  load<V>(sine + angle, s);
#pragma unroll
  for (int k = 0; k < V; ++k) {
    const Acc left = a[k], right = b[k], up = sign * s[k];
    a[k] = left * c[k] - right * up;
    b[k] = right * c[k] + left * up;
  }
  store(out + start, a);
  store(out + start + half, b);
}

extern "C" __global__ void rotary(const T* x, const T* cosine, const T* sine, T* out, Size rows, Size positions,
                                  Size half, Acc sign) {
  turn<kPack>(x, cosine, sine, out, rows, positions, half, sign);
}
extern "C" __global__ void rotary_by_one(const T* x, const T* cosine, const T* sine, T* out, Size rows,
                                         Size positions, Size half, Acc sign) {
  turn<1>(x, cosine, sine, out, rows, positions, half, sign);
}
