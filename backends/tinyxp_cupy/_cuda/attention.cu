// Attention in blocks: no array is larger than queries, keys and values, and what is hidden by the causal order
// is neither loaded nor computed. The arrangement is that of T. Dao, "FlashAttention-2", arXiv:2307.08691: the
// forward keeps one number for each query, the logarithm of its sum of exponentials, and the backward makes the
// probabilities from it again. Nothing is added atomically, so a result is the same each time.
//
//   HEAD   length of a row in shared memory, a multiple of 32; the columns beyond the head's own are zeros
//   ROWS   rows of a block that belong to a thread
//
// A block of 128 threads holds 16 * ROWS rows and goes through the other side in tiles of 32. A thread is (tx, ty)
// of 8 x 16, and has rows ty + 16 i. Of scores it has the columns tx + 8 j, of results the numbers 4 tx + 32 j
// to 4 tx + 32 j + 3. So what rows exchange, they exchange within eight neighbouring lanes of one warp. All
// products are in float, of numbers that lie in shared memory as float.
#ifndef HEAD
#define HEAD 64
#endif
#ifndef ROWS
#define ROWS (HEAD > 64 ? 2 : 4)
#endif

constexpr int kThreads = 128;
constexpr int kRows = 16 * ROWS;  // of a block
constexpr int kTile = 32;         // of the other side
constexpr int kColumns = 4;       // of a tile that belong to a thread
constexpr int kQuads = HEAD / 4;  // float4 in a row
constexpr int kParts = HEAD / 32; // float4 of a row of results that belong to a thread
constexpr Acc kLog2e = 1.4426950408889634f;

struct Layout {
  Size batch, head, row, column;  // distances in elements; those of numbers in a row are 1, but in a mask
};

struct Sizes {
  Size batch, heads, queries, keys, dim, causal;
  Layout mask, q, k, v, out, g, gq, gk, gv;
};

struct Place {  // what a block works at
  Size b, h, pair;
  int first;
};

// Longest first: blocks that see much start before those that see little.
__device__ __forceinline__ Place place(const Sizes& n, bool last_is_longest) {
  const unsigned pairs = static_cast<unsigned>(n.batch * n.heads);
  const unsigned pair = blockIdx.x % pairs, block = blockIdx.x / pairs;
  const unsigned at = last_is_longest ? gridDim.x / pairs - 1 - block : block;
  return {pair / n.heads, pair % n.heads, pair, static_cast<int>(at) * kRows};
}

template <class E>
__device__ __forceinline__ E* head_of(E* x, const Layout& layout, const Place& at) {
  return x + at.b * layout.batch + at.h * layout.head;
}

struct alignas(4 * sizeof(T)) Quad {
  T at[4];
};

__device__ __forceinline__ float4 read4(const T* from) {
  const Quad x = *reinterpret_cast<const Quad*>(from);
  return make_float4(widen(x.at[0]), widen(x.at[1]), widen(x.at[2]), widen(x.at[3]));
}

__device__ __forceinline__ void write4(T* to, float4 x) {
  const Quad y = {{narrow(x.x), narrow(x.y), narrow(x.z), narrow(x.w)}};
  *reinterpret_cast<Quad*>(to) = y;
}

// In shared memory the float4 of a row lie in the order c ^ (row % 8): eight rows that are read at the same c, or
// one row at eight, are in different banks.
template <int kCount>
__device__ __forceinline__ void load_tile(float4* to, const T* from, Size stride, int first, Size rows, int dim) {
  const int valid = static_cast<int>(rows - first < kCount ? rows - first : kCount);
  const T* start = from + first * stride;
#pragma unroll
  for (int i = 0; i < kCount * kQuads / kThreads; ++i) {
    const int index = i * kThreads + threadIdx.x, row = index / kQuads, c = index % kQuads;
    float4 x = make_float4(0, 0, 0, 0);
    if (row < valid && 4 * c < dim) x = read4(start + row * stride + 4 * c);
    to[row * kQuads + (c ^ (row & 7))] = x;
  }
}

__device__ __forceinline__ Acc number(const float4& x, int j) { return j == 0 ? x.x : j == 1 ? x.y : j == 2 ? x.z : x.w; }

__device__ __forceinline__ Acc dot(float4 a, float4 b, Acc sum) {
  return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

// s[i][j] = row ty + 16 i of a times row tx + 8 j of b
__device__ __forceinline__ void scores(Acc (&s)[ROWS][kColumns], const float4* a, const float4* b, int tx, int ty) {
  const float4 *mine = a + ty * kQuads, *other = b + tx * kQuads;
#pragma unroll
  for (int i = 0; i < ROWS; ++i)
#pragma unroll
    for (int j = 0; j < kColumns; ++j) s[i][j] = 0;
#pragma unroll 1
  for (int c = 0; c < kQuads; ++c) {
    float4 x[ROWS], y[kColumns];
#pragma unroll
    for (int i = 0; i < ROWS; ++i) x[i] = mine[16 * i * kQuads + (c ^ (ty & 7))];
#pragma unroll
    for (int j = 0; j < kColumns; ++j) y[j] = other[8 * j * kQuads + (c ^ tx)];
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
      for (int j = 0; j < kColumns; ++j) s[i][j] = dot(x[i], y[j], s[i][j]);
  }
}

// Writes a thread's part of a tile of scores, for `mix`: float4 number tx of a row holds columns tx + 8 j.
__device__ __forceinline__ void keep(float4* p, const Acc (&s)[ROWS][kColumns], int tx, int ty) {
#pragma unroll
  for (int i = 0; i < ROWS; ++i)
    p[(ty + 16 * i) * (kTile / 4) + (tx ^ (ty & 7))] = make_float4(s[i][0], s[i][1], s[i][2], s[i][3]);
}

__device__ __forceinline__ void add(float4& sum, Acc factor, float4 x) {
  sum.x = fmaf(factor, x.x, sum.x), sum.y = fmaf(factor, x.y, sum.y);
  sum.z = fmaf(factor, x.z, sum.z), sum.w = fmaf(factor, x.w, sum.w);
}

// sum += p x, with the rows of the tile x
__device__ __forceinline__ void mix(float4 (&sum)[ROWS][kParts], const float4* p, const float4* x, int tx, int ty) {
  const float4* mine = p + ty * (kTile / 4);
#pragma unroll 1
  for (int c = 0; c < kTile / 4; ++c) {
    float4 factor[ROWS];
#pragma unroll
    for (int i = 0; i < ROWS; ++i) factor[i] = mine[16 * i * (kTile / 4) + (c ^ (ty & 7))];
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      const float4* row = x + (c + 8 * j) * kQuads;  // (c + 8 j) % 8 == c
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        const float4 y = row[(tx + 8 * part) ^ c];
#pragma unroll
        for (int i = 0; i < ROWS; ++i) add(sum[i][part], number(factor[i], j), y);
      }
    }
  }
}

__device__ __forceinline__ void clear(float4 (&sum)[ROWS][kParts]) {
#pragma unroll
  for (int i = 0; i < ROWS; ++i)
#pragma unroll
    for (int part = 0; part < kParts; ++part) sum[i][part] = make_float4(0, 0, 0, 0);
}

// Writes row ty + 16 i, times a factor.
__device__ __forceinline__ void store_row(T* to, const float4 (&sum)[kParts], Acc factor, int tx, int dim) {
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
    const int at = 4 * tx + 32 * part;
    const float4 x = sum[part];
    if (at < dim) write4(to + at, make_float4(x.x * factor, x.y * factor, x.z * factor, x.w * factor));
  }
}

// Over the eight lanes that share rows.
__device__ __forceinline__ Acc sum8(Acc x) {
#pragma unroll
  for (int lane = 1; lane < 8; lane <<= 1) x += __shfl_xor_sync(kAll, x, lane);
  return x;
}

// A NaN may lose here: it stays in the exponentials.
__device__ __forceinline__ Acc max8(Acc x) {
#pragma unroll
  for (int lane = 1; lane < 8; lane <<= 1) x = fmaxf(x, __shfl_xor_sync(kAll, x, lane));
  return x;
}

struct Sight {  // who sees whom, in one head
  const unsigned char* mask;
  Size row, column;
  int queries, keys, offset;
  bool causal;

  __device__ __forceinline__ Sight(const Sizes& n, const unsigned char* all, const Place& at)
      : mask(all ? head_of(all, n.mask, at) : nullptr),
        row(n.mask.row),
        column(n.mask.column),
        queries(static_cast<int>(n.queries)),
        keys(static_cast<int>(n.keys)),
        offset(static_cast<int>(n.keys - n.queries)),
        causal(n.causal != 0) {}

  // Whether each of these queries sees each of these keys.
  __device__ __forceinline__ bool whole(int query, int query_count, int key, int key_count) const {
    return !mask && query + query_count <= queries && key + key_count <= keys &&
           (!causal || key + key_count - 1 <= query + offset);
  }

  __device__ __forceinline__ bool operator()(int query, int key) const {
    return query < queries && key < keys && (!causal || key <= query + offset) &&
           (!mask || mask[query * row + key * column]);
  }

  // Bit 4 i + j: whether row ty + 16 i of a block of queries sees column tx + 8 j of a tile of keys.
  __device__ __forceinline__ unsigned tile(int query, int key, int tx, int ty) const {
    if (whole(query, kRows, key, kTile)) return ~0u;
    unsigned found = 0;
#pragma unroll 1
    for (int bit = 0; bit < ROWS * kColumns; ++bit)
      found |= static_cast<unsigned>((*this)(query + ty + bit / 4 * 16, key + tx + bit % 4 * 8)) << bit;
    return found;
  }

  // The same for a block of keys and a tile of queries.
  __device__ __forceinline__ unsigned turned_tile(int query, int key, int tx, int ty) const {
    if (whole(query, kTile, key, kRows)) return ~0u;
    unsigned found = 0;
#pragma unroll 1
    for (int bit = 0; bit < ROWS * kColumns; ++bit)
      found |= static_cast<unsigned>((*this)(query + tx + bit % 4 * 8, key + ty + bit / 4 * 16)) << bit;
    return found;
  }
};

__device__ __forceinline__ bool bit(unsigned x, int i, int j) { return x >> (kColumns * i + j) & 1; }

// out (queries, dim), and the binary logarithm of the sum of exponentials, minus infinity where nothing is seen.
// Shared memory: q, k, v, p.
extern "C" __global__ void __launch_bounds__(kThreads, 4)
    attention(const T* q, const T* k, const T* v, const unsigned char* mask, T* out, float* lse, const Sizes n,
              float scale) {
  extern __shared__ float4 memory[];
  float4 *qs = memory, *ks = qs + kRows * kQuads, *vs = ks + kTile * kQuads, *ps = vs + kTile * kQuads;
  const int tx = threadIdx.x & 7, ty = threadIdx.x >> 3, dim = static_cast<int>(n.dim);
  const Place at = place(n, n.causal != 0);
  const Sight sees(n, mask, at);
  k = head_of(k, n.k, at), v = head_of(v, n.v, at);
  load_tile<kRows>(qs, head_of(q, n.q, at), n.q.row, at.first, n.queries, dim);
  scale *= kLog2e;

  float4 sum[ROWS][kParts];
  Acc top[ROWS], total[ROWS];
  clear(sum);
#pragma unroll
  for (int i = 0; i < ROWS; ++i) top[i] = -INFINITY, total[i] = 0;
  const int stop = sees.causal ? min(sees.keys, min(sees.queries, at.first + kRows) + sees.offset) : sees.keys;
  for (int start = 0; start < stop; start += kTile) {
    __syncthreads();  // the tile before is done with
    load_tile<kTile>(ks, k, n.k.row, start, n.keys, dim);
    load_tile<kTile>(vs, v, n.v.row, start, n.keys, dim);
    __syncthreads();
    Acc s[ROWS][kColumns];
    scores(s, qs, ks, tx, ty);
    const unsigned seen = sees.tile(at.first, start, tx, ty);
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
      Acc found = top[i];
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        s[i][j] = bit(seen, i, j) ? s[i][j] * scale : -INFINITY;
        found = fmaxf(found, s[i][j]);
      }
      found = max8(found);
      const Acc zero = found == -INFINITY ? Acc(0) : found;
      const Acc factor = exp2f(top[i] - zero);
      top[i] = found;
      total[i] *= factor;
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        s[i][j] = exp2f(s[i][j] - zero);
        total[i] += s[i][j];
      }
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        float4& x = sum[i][part];
        x.x *= factor, x.y *= factor, x.z *= factor, x.w *= factor;
      }
    }
    keep(ps, s, tx, ty);
    __syncwarp();
    mix(sum, ps, vs, tx, ty);
  }

  out = head_of(out, n.out, at);
  lse += at.pair * n.queries;
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
    const int query = at.first + ty + 16 * i;
    const Acc all = sum8(total[i]);
    if (query >= sees.queries) continue;
    store_row(out + query * n.out.row, sum[i], all == 0 ? Acc(1) : 1 / all, tx, dim);
    if (tx == 0) lse[query] = all == 0 ? -INFINITY : top[i] + log2f(all);
  }
}

// What the backward reads of a query that sees nothing, or only scores of minus infinity, makes exponentials zero.
__device__ __forceinline__ Acc finite_lse(Acc x) { return x == -INFINITY ? Acc(0) : x; }

// gq (queries, dim), and delta (queries,), the inner product of out and its cotangent, which `attention_keys` reads.
// Shared memory: q, g, k, and v or p.
extern "C" __global__ void __launch_bounds__(kThreads, HEAD > 96 ? 3 : 4)
    attention_queries(const T* g, const T* out, const float* lse, const T* q, const T* k, const T* v,
                      const unsigned char* mask, T* gq, float* delta, const Sizes n, float scale) {
  extern __shared__ float4 memory[];
  float4 *qs = memory, *gs = qs + kRows * kQuads, *ks = gs + kRows * kQuads, *vs = ks + kTile * kQuads;
  float4* ps = vs;  // over v, which has been used then
  const int tx = threadIdx.x & 7, ty = threadIdx.x >> 3, dim = static_cast<int>(n.dim);
  const Place at = place(n, n.causal != 0);
  const Sight sees(n, mask, at);
  k = head_of(k, n.k, at), v = head_of(v, n.v, at);
  g = head_of(g, n.g, at), out = head_of(out, n.out, at);
  lse += at.pair * n.queries, delta += at.pair * n.queries;
  load_tile<kRows>(qs, head_of(q, n.q, at), n.q.row, at.first, n.queries, dim);
  load_tile<kRows>(gs, g, n.g.row, at.first, n.queries, dim);

  Acc logarithm[ROWS], inner[ROWS];
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
    const int query = at.first + ty + 16 * i;
    logarithm[i] = inner[i] = 0;
    if (query < sees.queries) {
      logarithm[i] = finite_lse(lse[query]);
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        const int column = 4 * tx + 32 * part;
        if (column >= dim) continue;
        inner[i] = dot(read4(g + query * n.g.row + column), read4(out + query * n.out.row + column), inner[i]);
      }
    }
    inner[i] = sum8(inner[i]);
    if (query < sees.queries && tx == 0) delta[query] = inner[i];
  }

  float4 sum[ROWS][kParts];
  clear(sum);
  scale *= kLog2e;
  const int stop = sees.causal ? min(sees.keys, min(sees.queries, at.first + kRows) + sees.offset) : sees.keys;
  for (int start = 0; start < stop; start += kTile) {
    __syncthreads();
    load_tile<kTile>(ks, k, n.k.row, start, n.keys, dim);
    load_tile<kTile>(vs, v, n.v.row, start, n.keys, dim);
    __syncthreads();
    Acc s[ROWS][kColumns], d[ROWS][kColumns];
    scores(s, qs, ks, tx, ty);
    scores(d, gs, vs, tx, ty);
    const unsigned seen = sees.tile(at.first, start, tx, ty);
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        s[i][j] = bit(seen, i, j) ? exp2f(s[i][j] * scale - logarithm[i]) * (d[i][j] - inner[i]) : Acc(0);
      }
    __syncthreads();  // v has been read
    keep(ps, s, tx, ty);
    __syncwarp();
    mix(sum, ps, ks, tx, ty);
  }

  gq = head_of(gq, n.gq, at);
  scale *= 1 / kLog2e;
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
    const int query = at.first + ty + 16 * i;
    if (query < sees.queries) store_row(gq + query * n.gq.row, sum[i], scale, tx, dim);
  }
}

// gk and gv (keys, dim). Rows are keys here, and tiles are queries. Shared memory: k, v, q, g, p.
extern "C" __global__ void __launch_bounds__(kThreads, 3)
    attention_keys(const T* g, const float* lse, const float* delta, const T* q, const T* k, const T* v,
                   const unsigned char* mask, T* gk, T* gv, const Sizes n, float scale) {
  extern __shared__ float4 memory[];
  float4 *ks = memory, *vs = ks + kRows * kQuads, *qs = vs + kRows * kQuads, *gs = qs + kTile * kQuads;
  float4* ps = gs + kTile * kQuads;
  const int tx = threadIdx.x & 7, ty = threadIdx.x >> 3, dim = static_cast<int>(n.dim);
  const Place at = place(n, false);
  const Sight sees(n, mask, at);
  q = head_of(q, n.q, at), g = head_of(g, n.g, at);
  lse += at.pair * n.queries, delta += at.pair * n.queries;
  load_tile<kRows>(ks, head_of(k, n.k, at), n.k.row, at.first, n.keys, dim);
  load_tile<kRows>(vs, head_of(v, n.v, at), n.v.row, at.first, n.keys, dim);

  float4 sum_k[ROWS][kParts], sum_v[ROWS][kParts];
  clear(sum_k);
  clear(sum_v);
  const Acc binary = scale * kLog2e;
  // The first query that sees a key of this block, at the beginning of a tile.
  const int begin = sees.causal ? max(0, at.first - sees.offset) / kTile * kTile : 0;
  for (int start = begin; start < sees.queries; start += kTile) {
    __syncthreads();
    load_tile<kTile>(qs, q, n.q.row, start, n.queries, dim);
    load_tile<kTile>(gs, g, n.g.row, start, n.queries, dim);
    Acc logarithm[kColumns], inner[kColumns];
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      const int query = start + tx + 8 * j;
      logarithm[j] = query < sees.queries ? finite_lse(lse[query]) : Acc(0);
      inner[j] = query < sees.queries ? delta[query] : Acc(0);
    }
    __syncthreads();
    Acc s[ROWS][kColumns];
    scores(s, ks, qs, tx, ty);
    const unsigned seen = sees.turned_tile(start, at.first, tx, ty);
#pragma unroll
    for (int i = 0; i < ROWS; ++i)
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        s[i][j] = bit(seen, i, j) ? exp2f(s[i][j] * binary - logarithm[j]) : Acc(0);
      }
    keep(ps, s, tx, ty);
    __syncwarp();
    mix(sum_v, ps, gs, tx, ty);
    scores(s, vs, gs, tx, ty);
#pragma unroll
    for (int i = 0; i < ROWS; ++i) {
      const float4 kept = ps[(ty + 16 * i) * (kTile / 4) + (tx ^ (ty & 7))];  // rather than in registers
#pragma unroll
      for (int j = 0; j < kColumns; ++j) {
        s[i][j] = bit(seen, i, j) ? number(kept, j) * (s[i][j] - inner[j]) : Acc(0);
      }
    }
    __syncwarp();  // the probabilities have been read
    keep(ps, s, tx, ty);
    __syncwarp();
    mix(sum_k, ps, qs, tx, ty);
  }

  gk = head_of(gk, n.gk, at), gv = head_of(gv, n.gv, at);
#pragma unroll
  for (int i = 0; i < ROWS; ++i) {
    const int key = at.first + ty + 16 * i;
    if (key >= sees.keys) continue;
    store_row(gk + key * n.gk.row, sum_k[i], scale, tx, dim);
    store_row(gv + key * n.gv.row, sum_v[i], 1, tx, dim);
  }
}
